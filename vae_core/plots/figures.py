"""Arrays to figures. Never sees a model.

Every figure is 720 pixels wide with text that is still legible at half that width, on opaque
white. Images are enlarged by whole factors without smoothing: each pixel of an image is a square
block of equal pixels in the file. Figures are made without pyplot, so nothing depends on a backend
and a notebook shows exactly the file that was saved.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
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
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1.2,
    "lines.linewidth": 2.0,
    "savefig.facecolor": "white",
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

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        return {"image/png": self.path.read_bytes(), "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def image_sections(title: str, sections: Sequence[Section], *, columns: int = 8) -> Figure:
    """Rows of images, each section under its label; all are enlarged by the same whole factor."""
    gap, line = 2, TEXT + 8
    side = max(section.images.shape[-1] for section in sections)
    factor = max(1, (WIDTH - 2 * MARGIN - (columns - 1) * gap) // (columns * side))
    title_lines = wrap(title, 46)
    labels = [wrap(section.label, 54) if section.label else [] for section in sections]
    heights = []
    for section, label in zip(sections, labels, strict=True):
        rows = -(-len(section.images) // columns)
        tile = section.images.shape[-2] * factor + gap + (line if section.names else 0)
        heights.append(len(label) * line + rows * tile + MARGIN)
    height = MARGIN + len(title_lines) * (line + 4) + 4 + sum(heights)
    with styled():
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
        top = MARGIN
        for text in title_lines:
            text_at(figure, MARGIN, top, text, height, size=TEXT + 3, weight="bold")
            top += line + 4
        top += 4
        for section, label, section_height in zip(sections, labels, heights, strict=True):
            below = top
            for text in label:
                text_at(figure, MARGIN, below, text, height)
                below += line
            pixels = to_pixels(section.images, factor)
            tall, wide = pixels.shape[1:3]
            for i, image in enumerate(pixels):
                row, column = divmod(i, columns)
                left = MARGIN + column * (wide + gap)
                at = below + row * (tall + gap + (line if section.names else 0))
                figure.figimage(image, left, height - at - tall, origin="upper")
                if section.names:
                    text_at(figure, left + wide / 2, at + tall + 2, section.names[i], height, ha="center")
            top += section_height
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
    square = mosaic(to_pixels(decoded, factor), columns)
    side = square.shape[0]
    left, head, between, foot = WIDTH - MARGIN - square.shape[1], 60, 116, 66
    height = head + side + between + side + foot
    with styled():
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")
        text_at(figure, MARGIN, MARGIN, title, height, size=TEXT + 3, weight="bold")
        box = (left / WIDTH, 1 - (head + side) / height, square.shape[1] / WIDTH, side / height)
        axes = figure.add_axes(box)
        reach = float(np.quantile(np.abs(means.numpy()), 0.998)) * 1.08
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="z[0]", ylabel="z[1]")
        classes = [means[labels == label].numpy() for label in labels.unique()]
        places = _apart(np.array([np.median(of_class, axis=0) for of_class in classes]), reach / 9)
        for i, of_class in enumerate(classes):
            axes.scatter(
                of_class[:, 0], of_class[:, 1], s=5, color=COLOURS[i % 10], linewidths=0, alpha=0.6, rasterized=True
            )
        for i, label in enumerate(labels.unique().tolist()):
            disc = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": COLOURS[i % 10], "linewidth": 2}
            axes.text(places[i, 0], places[i, 1], str(label), ha="center", va="center", weight="bold", bbox=disc)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * extent
        axes.plot(*corners.T, color="black", linewidth=1.5, linestyle="--")
        text_at(figure, left, height - foot - side - TEXT - 14, "What the dashed square decodes to", height)
        below = figure.add_axes((left / WIDTH, foot / height, square.shape[1] / WIDTH, side / height))
        below.set(xlim=(-extent, extent), ylim=(-extent, extent), xlabel="z[0]", ylabel="z[1]")
        below.patch.set_alpha(0)
        figure.figimage(square, left, foot, origin="upper", zorder=-1)
    return figure


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Equal tiles ``(rows * columns, h, w, 3)`` as one picture without gaps, ``(rows * h, columns * w, 3)``."""
    rows = tiles.reshape(-1, columns, *tiles.shape[1:]).swapaxes(1, 2)
    return rows.reshape(-1, columns * tiles.shape[2], 3)


def _apart(places: np.ndarray, distance: float) -> np.ndarray:
    """Points moved as little as keeps any two of them ``distance`` apart, more or less."""
    places = places.copy()
    for _ in range(50):
        for i in range(len(places)):
            for j in range(i):
                away = places[i] - places[j]
                far = float(np.hypot(*away))
                if far < distance:
                    push = (away / far if far else np.array([1.0, 0.0])) * (distance - far) / 2
                    places[i] += push
                    places[j] -= push
    return places


def figures_folder() -> Path:
    """Where figures go: ``$VAE_CORE_FIGURES``, else ``build/figures``."""
    return Path(os.environ.get("VAE_CORE_FIGURES") or "build/figures").expanduser()


def save(
    figure: Figure, name: str, *, alt: str, caption: str, source: str, svg: bool = False, folder: Path | None = None
) -> Saved:
    """Write ``name.png`` (and ``name.svg``) into a folder; without one into :func:`figures_folder`, and print the path.

    The file carries its own alt text, caption and data ``source`` as PNG text.

    Raises:
        OSError: when the folder cannot be written.
    """
    said, folder = folder is None, folder or figures_folder()
    facts = {"Title": name, "Description": alt, "Comment": caption, "Source": source}
    with styled():
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={**facts, "Software": None})
        write_bytes(folder / f"{name}.png", drawn.getvalue())
        if svg:
            drawn = io.BytesIO()
            figure.savefig(drawn, format="svg", metadata={"Title": name, "Description": alt, "Date": None})
            write_bytes(folder / f"{name}.svg", drawn.getvalue())
    if said:
        print(folder / f"{name}.png")
    return Saved(folder / f"{name}.png", alt, caption)


class Table(NamedTuple):
    """Rows that a notebook shows as a table."""

    rows: Sequence[dict[str, Any]]

    def _repr_markdown_(self) -> str:
        def cell(value: Any) -> str:
            return f"{value:.4g}" if isinstance(value, float) else str(value)

        heads = list(self.rows[0])
        lines = [heads, ["---"] * len(heads), *([cell(row[head]) for head in heads] for row in self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A table of rows with the same keys, floats to four digits, for the end of a notebook cell."""
    return Table(rows)


def save_results(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write the numbers of notebook ``name`` as JSON and CSV into the ``data`` folder beside its figures.

    A row says: claim, value, unit, standard_error, seeds, images, source; and, where neither its error nor a thousandth
    says how far the value may be from that of another machine, the tolerance.
    """
    folder = figures_folder() / "data"
    write_bytes(folder / f"{name}.json", (json.dumps(list(rows), indent=1) + "\n").encode())
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(folder / f"{name}.csv", text.getvalue().encode())
    print(folder / f"{name}.csv")


def text_at(figure: Figure, left: float, top: float, text: str, height: float, size: float = TEXT, **more: Any) -> None:
    """Write at a place in pixels from the top left corner of a figure of that ``height`` in pixels."""
    figure.text(left / WIDTH, 1 - top / height, text, va="top", fontsize=size * 72 / DPI, **more)


def wrap(text: str, characters: int) -> list[str]:
    """Lines of at most so many characters; line breaks are kept."""
    import textwrap

    return [line for paragraph in text.split("\n") for line in textwrap.wrap(paragraph, characters)]
