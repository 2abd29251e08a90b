"""The panels of the blog post, under its own file names, ready to be put into it."""

import html
import io
import re
from pathlib import Path

from vae_core.files import figure_facts, read_json, sha256, write_bytes
from vae_core.regenerate.notebook import find_notebooks

# the post's file, in its order, and the published figure that takes its place
PANELS = {
    **{f"VAE_4_{d}": f"latent_dim_{d}" for d in (2, 4, 10)},
    **{"VAE_cifar10": "cifar_200", "VAE_cifar101": "cifar_100", "VAE_cifar102": "cifar_25"},
    **{"VAE_cifar103": "batch_average_1", "VAE_cifar105": "batch_average_2", "VAE_cifar104": "batch_average_3"},
}


def write_panels(checkout: Path, folder: Path) -> list[Path]:
    """Write the published panels into ``folder``, PNG and lossless WebP, 720 and 1440 pixels wide, and ``figures.md``.

    The smaller PNG is the published file itself. The larger images have every pixel four times: no browser then
    smooths what the figure shows in blocks. Their letters have steps for it, as nothing is drawn anew.
    ``figures.md`` has for each panel a line of HTML and one of Markdown, with alt text and caption.

    Raises:
        ValueError: when a panel is missing or not the file of the manifest, with the command that makes it.
        OSError: when ``folder`` cannot be written.
    """
    published = checkout / "figures"
    if folder.resolve() == published.resolve():
        raise ValueError(f"{folder} holds the published figures: choose another folder")
    _check(checkout, published)
    written, lines = [], ["# The post's figures", ""]
    for name, figure in PANELS.items():
        path = published / f"{figure}.png"
        files = _sizes(path)
        for ending, content in files.items():
            write_bytes(folder / f"{name}{ending}", content)
            written.append(folder / f"{name}{ending}")
        facts = figure_facts(path.name, path.read_bytes())
        lines += [f"## {name}", "", *_lines(name, facts["alt"], facts["caption"], *_size(path)), ""]
    write_bytes(folder / "figures.md", "\n".join(lines).encode())
    return [*written, folder / "figures.md"]


def _check(checkout: Path, published: Path) -> None:
    manifest = read_json(published / "manifest.json")
    bad = []
    for figure in PANELS.values():
        path = published / f"{figure}.png"
        if not path.exists() or manifest.get(path.name, {}).get("sha256") != sha256(path):
            bad.append(figure)
    if bad:
        makers = [n.name for n in find_notebooks(checkout) if set(bad) & set(n.figures(n.parameters))]
        raise ValueError(
            f"missing in {published}, or not the file of its manifest: {', '.join(bad)}; "
            f"vae-core reproduce {' '.join(makers)} makes them"
        )


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def _sizes(path: Path) -> dict[str, bytes]:
    """The contents of the four files of one panel, by what follows its name."""
    from PIL import Image, PngImagePlugin

    with Image.open(path) as opened:
        text, small = dict(getattr(opened, "text", {})), opened.convert("RGB")
    large = small.resize((2 * small.width, 2 * small.height), Image.Resampling.NEAREST)
    told = PngImagePlugin.PngInfo()
    for key, value in text.items():
        told.add_itxt(key, value)
    files = {".png": path.read_bytes()}
    for ending, image, options in (
        ("@2x.png", large, {"pnginfo": told, "optimize": True}),
        (".webp", small, {"lossless": True}),
        ("@2x.webp", large, {"lossless": True}),
    ):
        out = io.BytesIO()
        image.save(out, ending.rpartition(".")[2], **options)
        files[ending] = out.getvalue()
    return files


def _lines(name: str, alt: str, caption: str, width: int, height: int) -> list[str]:
    """The panel as a line of HTML, which picks the file that fits a screen, and as one of plain Markdown."""
    alt, caption = " ".join(alt.split()), " ".join(caption.split())
    plain = [re.sub(r'([\\\[\]"])', r"\\\1", words) for words in (alt, caption)]
    return [
        f'<figure><picture><source type="image/webp" srcset="{name}.webp 1x, {name}@2x.webp 2x">'
        f'<img src="{name}.png" srcset="{name}@2x.png 2x" width="{width}" height="{height}" alt="{html.escape(alt)}">'
        f"</picture><figcaption>{html.escape(caption)}</figcaption></figure>",
        "",
        f'![{plain[0]}]({name}.png "{plain[1]}")',
    ]
