"""Arrays to figures. Never sees a model.

Every figure is 720 pixels wide with text that is still legible at half that width, on opaque white. Images are enlarged
by whole factors without smoothing: each pixel of an image is a square block of equal pixels in the file. Figures are
made without pyplot, so nothing depends on a backend and a notebook shows exactly the file that was saved.
"""

import io
import json
import os
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_core.files import write_bytes

WIDTH = 720  # pixels
DPI = 100
MARGIN = 12
TEXT = 20  # pixels; 10 on a narrow phone
# distinguishable under the common colour-vision deficiencies (Paul Tol's muted scheme and black)
COLOURS = ("#332288", "#CC6677", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#DDCC77", "#000000")
STYLE: dict[Any, Any] = {
    "font.size": TEXT * 72 / DPI,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.2,
    "lines.linewidth": 2.0,
    "svg.hashsalt": "vae_core",
    "svg.fonttype": "none",
}


def styled() -> AbstractContextManager[None]:
    """Where figures are drawn and saved: STYLE on matplotlib's own defaults, whatever the user's are."""
    return matplotlib.style.context(STYLE, after_reset=True)


class Section(NamedTuple):
    """Images under one line of text in an image grid."""

    label: str
    images: Tensor  # (n, C, H, W) in [0, 1]; values outside are clipped
    names: Sequence[str] = ()  # a word under each image


class Saved(NamedTuple):
    """A figure on disk; a notebook shows it as the file that was saved."""

    path: Path
    alt: str
    caption: str

    def __repr__(self) -> str:
        return self.alt  # a path would be that of one machine

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        return self.path.read_bytes(), {"alt": self.alt}


class _Shown(Figure):
    """A figure that a notebook shows as it is, without a backend."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        with styled():
            self.savefig(drawn, format="png", metadata={"Software": None})
        return drawn.getvalue()


def titled(title: str, height: float, *, gap: int) -> tuple[Figure, int]:
    """A white figure: a wrapped title, ``gap`` pixels and ``height`` pixels; and where these begin, from the top."""
    lines = wrap(title, 46)
    top = MARGIN + (TEXT + 12) * len(lines) + gap
    figure = _Shown(figsize=(WIDTH / DPI, (top + height) / DPI), dpi=DPI, facecolor="white")
    for i, line in enumerate(lines):
        text_at(figure, MARGIN, MARGIN + (TEXT + 12) * i, line, top + height, size=TEXT + 3, weight="bold")
    return figure, top


def image_sections(title: str, sections: Sequence[Section], *, columns: int = 8) -> Figure:
    """Rows of images, each section under its label; all are enlarged by the same whole factor."""
    gap, line = 2, TEXT + 8
    side = max(section.images.shape[-1] for section in sections)
    factor = max(1, (WIDTH - 2 * MARGIN - (columns - 1) * gap) // (columns * side))
    blocks = []  # each section with the lines of its label and the heights of a row of it and of all
    for section in sections:
        label = wrap(section.label, 54)
        row = section.images.shape[-2] * factor + gap + (line if section.names else 0)
        blocks.append((section, label, row, len(label) * line - (-len(section.images) // columns) * row + MARGIN))
    with styled():
        figure, top = titled(title, sum(tall for *_, tall in blocks), gap=4)
        height = round(figure.get_figheight() * DPI)
        for section, label, row, tall in blocks:
            for i, text in enumerate(label):
                text_at(figure, MARGIN, top + i * line, text, height)
            for i, image in enumerate(to_pixels(section.images, factor)):
                down, across = divmod(i, columns)
                left, below = MARGIN + across * (image.shape[1] + gap), top + len(label) * line + down * row
                figure.figimage(image, left, height - below - len(image), origin="upper")
                if section.names:
                    middle = left + image.shape[1] / 2
                    text_at(figure, middle, below + len(image) + 2, section.names[i], height, ha="center")
            top += tall
    return figure


def to_pixels(images: Tensor, factor: int = 1) -> np.ndarray:
    """Images ``(n, C, H, W)`` in [0, 1] as uint8 ``(n, H * factor, W * factor, 3)``, every pixel a square block."""
    array = (images.detach().cpu().float().clip(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    array = array.repeat(3, axis=3) if array.shape[3] == 1 else array
    return array.repeat(factor, axis=1).repeat(factor, axis=2)


def latent_plane(title: str, means: Tensor, labels: Tensor, decoded: Tensor, extent: float) -> Figure:
    """The posterior means of labelled images in the plane, above what a square of that plane decodes to.

    ``means`` ``(N, 2)``, ``labels`` ``(N,)`` with at most ten classes, ``decoded`` ``(columns**2, C, H, W)`` over
    ``-extent`` to ``extent``, row by row from the top.
    """
    columns = round(len(decoded) ** 0.5)
    factor = max(1, (WIDTH - MARGIN - 80) // (columns * decoded.shape[-1]))
    tiles = to_pixels(decoded, factor)
    side, wide = columns * tiles.shape[1], columns * tiles.shape[2]
    square = tiles.reshape(columns, columns, *tiles.shape[1:]).swapaxes(1, 2).reshape(side, wide, 3)
    left, between, foot = WIDTH - MARGIN - wide, 116, 66
    reach = float(np.quantile(np.abs(means.numpy()), 0.998)) * 1.08
    classes = {label: means[labels == label].T.numpy() for label in labels.unique().tolist()}
    places = _apart(np.array([np.median(of_class, axis=1) for of_class in classes.values()]), reach / 9)
    with styled():
        figure, _ = titled(title, side + between + side + foot, gap=16)
        height = round(figure.get_figheight() * DPI)

        def plane(bottom: float, limit: float) -> Axes:
            axes = figure.add_axes((left / WIDTH, bottom / height, wide / WIDTH, side / height))
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="z[0]", ylabel="z[1]")
            return axes

        axes = plane(foot + side + between, reach)
        for i, (label, (x, y)) in enumerate(classes.items()):
            axes.scatter(x, y, s=5, color=COLOURS[i], linewidths=0, alpha=0.6, rasterized=True)
            disc = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": COLOURS[i], "linewidth": 2}
            axes.text(places[i, 0], places[i, 1], str(label), ha="center", va="center", weight="bold", bbox=disc)
        corners = extent * np.array([-1, 1, 1, -1, -1])
        axes.plot(corners, np.roll(corners, 1), "--", color="black", linewidth=1.5)
        text_at(figure, left, height - foot - side - TEXT - 14, "What the dashed square decodes to", height)
        plane(foot, extent).patch.set_alpha(0)
        figure.figimage(square, left, foot, origin="upper", zorder=-1)
    return figure


def _apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Points ``(n, 2)`` moved as little as keeps any two of them ``distance`` apart, more or less."""
    places = places.copy()
    for _ in range(50):
        for i, j in combinations(range(len(places)), 2):
            away = places[j] - places[i] + [1e-9, 0]  # two at one place part to the sides
            push = away * max(distance / np.hypot(*away) - 1, 0) / 2
            places[i], places[j] = places[i] - push, places[j] + push
    return places


def figures_folder() -> Path:
    """Where figures go: ``$VAE_CORE_BUILD/figures``, else ``build/figures``."""
    return Path(os.environ.get("VAE_CORE_BUILD") or "build").expanduser() / "figures"


def save(
    figure: Figure, name: str, *, alt: str, caption: str, source: str, svg: bool = False, folder: Path | None = None
) -> Saved:
    """Write ``name.png`` (and ``name.svg``) into ``folder``, else into :func:`figures_folder`.

    The file carries its own alt text, caption and data ``source`` as PNG text.

    Raises:
        OSError: when the folder cannot be written.
    """
    path = (folder or figures_folder()) / f"{name}.png"
    png, vector = {"Comment": caption, "Source": source, "Software": None}, {"Date": None}
    for kind, facts in {"png": png, "svg": vector}.items() if svg else [("png", png)]:
        drawn = io.BytesIO()
        with styled():
            figure.savefig(drawn, format=kind, metadata={"Title": name, "Description": alt, **facts})  # type: ignore
        write_bytes(path.with_suffix(f".{kind}"), drawn.getvalue())
    return Saved(path, alt, caption)


def save_results(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write the numbers of notebook ``name`` as JSON into the ``data`` folder beside its figures.

    A row says: claim, value, unit, standard_error, seeds, images, source; and, where neither its error nor a thousandth
    says how far the value may be from that of another machine, the tolerance.

    Raises:
        OSError: when the folder cannot be written.
    """
    write_bytes(figures_folder() / "data" / f"{name}.json", (json.dumps(list(rows), indent=1) + "\n").encode())


def text_at(figure: Figure, left: float, top: float, text: str, height: float, size: float = TEXT, **more: Any) -> None:
    """Write at a place in pixels from the top left corner of a figure of that ``height`` in pixels."""
    figure.text(left / WIDTH, 1 - top / height, text, va="top", fontsize=size * 72 / DPI, **more)


def wrap(text: str, characters: int) -> list[str]:
    """Lines of at most so many characters; line breaks are kept."""
    return [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, characters)]
