"""The panels of the blog post, under its own file names, ready to be put into it."""

import html
import re
from pathlib import Path

from vae_core.files import read_json, sha256, write_bytes
from vae_core.regenerate.notebook import find_notebooks

# the post's file, in its order, and the published figure that takes its place
PANELS = {
    **{f"VAE_4_{d}": f"latent_dim_{d}" for d in (2, 4, 10)},
    **{"VAE_cifar10": "cifar_200", "VAE_cifar101": "cifar_100", "VAE_cifar102": "cifar_25"},
    **{"VAE_cifar103": "batch_average_1", "VAE_cifar105": "batch_average_2", "VAE_cifar104": "batch_average_3"},
}


def write_panels(checkout: Path, folder: Path) -> list[Path]:
    """Copy the published panels into ``folder``; ``figures.md`` has their lines of HTML and Markdown, with alt texts.

    Raises:
        ValueError: when a panel is missing or not the file of the record, with the command that draws it.
        OSError: when ``folder`` cannot be written.
    """
    published = checkout / "figures"
    if folder.resolve() == published.resolve():
        raise ValueError(f"{folder} holds the published figures: choose another folder")
    outputs = {
        f: facts for each in read_json(published / "record.json").values() for f, facts in each["outputs"].items()
    }
    paths = {name: published / f"{figure}.png" for name, figure in PANELS.items()}
    bad = [
        path.stem
        for path in paths.values()
        if not path.exists() or sha256(path) != outputs.get(path.name, {}).get("sha256")
    ]
    if bad:
        owners = [n.name for n in find_notebooks(checkout) if set(bad) & set(n.figures(n.parameters))]
        raise ValueError(
            f"missing in {published}, or not the file of its record: {', '.join(bad)}; "
            f"vae-core reproduce {' '.join(owners)} draws them"
        )
    lines = ["# The post's figures", ""]
    for name, path in paths.items():
        write_bytes(folder / f"{name}.png", path.read_bytes())
        lines += [f"## {name}", "", *_lines(name, outputs[path.name]["alt"], outputs[path.name]["caption"]), ""]
    write_bytes(folder / "figures.md", "\n".join(lines).encode())
    return [*(folder / f"{name}.png" for name in paths), folder / "figures.md"]


def _lines(name: str, alt: str, caption: str) -> list[str]:
    """The panel as a line of HTML and as one of Markdown."""
    alt, caption = " ".join(alt.split()), " ".join(caption.split())
    plain = [re.sub(r'([\\\[\]"])', r"\\\1", words) for words in (alt, caption)]
    return [
        f'<figure><img src="{name}.png" width="720" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>",
        "",
        f'![{plain[0]}]({name}.png "{plain[1]}")',
    ]
