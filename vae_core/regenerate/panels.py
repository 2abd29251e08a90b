"""The panels of the blog post, under its own file names, ready to be put into it."""

import html
import re
from pathlib import Path

from vae_core.files import read_json, sha256, write_bytes
from vae_core.regenerate.notebook import find_notebooks

# the post's file, in its order, and the published figure that takes its place
PANELS = {f"VAE_4_{d}": f"latent_dim_{d}" for d in (2, 4, 10)}
PANELS |= {"VAE_cifar10": "cifar_200", "VAE_cifar101": "cifar_100", "VAE_cifar102": "cifar_25"}
PANELS |= {f"VAE_cifar10{n}": f"batch_average_{pair}" for n, pair in ((3, 1), (5, 2), (4, 3))}


def write_panels(checkout: Path, folder: Path) -> list[Path]:
    """Copy the published panels into ``folder``; ``figures.md`` has their lines of HTML and Markdown, with alt texts.

    Raises:
        ValueError: when a panel is missing or not the file of the record, with the command that draws it.
    """
    published = checkout / "figures"
    if folder.resolve() == published.resolve():
        raise ValueError(f"{folder} holds the published figures: choose another folder")
    entries = read_json(published / "record.json").values()
    outputs = {name: facts for entry in entries for name, facts in entry["outputs"].items()}
    paths = {name: published / f"{figure}.png" for name, figure in PANELS.items()}
    good = {p.stem for p in paths.values() if p.exists() and sha256(p) == outputs.get(p.name, {}).get("sha256")}
    if bad := [path.stem for path in paths.values() if path.stem not in good]:
        owners = [n.name for n in find_notebooks(checkout) if {*bad} & {*n.figures(n.parameters)}]
        what = f"missing in {published}, or not the file of its record: {', '.join(bad)}"
        raise ValueError(f"{what}; vae-core reproduce {' '.join(owners)} draws them")
    text = "# The post's figures\n"
    for name, path in paths.items():
        write_bytes(folder / f"{name}.png", path.read_bytes())
        text += f"\n## {name}\n\n{_lines(name, outputs[path.name]['alt'], outputs[path.name]['caption'])}\n"
    write_bytes(folder / "figures.md", text.encode())
    return [*(folder / f"{name}.png" for name in paths), folder / "figures.md"]


def _lines(name: str, alt: str, caption: str) -> str:
    """The panel as a line of HTML and as one of Markdown."""
    alt, caption = " ".join(alt.split()), " ".join(caption.split())
    image = f'<img src="{name}.png" width="720" alt="{html.escape(alt)}">'
    plain = [re.sub(r'([\\\[\]"])', r"\\\1", words) for words in (alt, caption)]
    page = f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"
    return f'{page}\n\n![{plain[0]}]({name}.png "{plain[1]}")'
