"""The two charts of notebook 03: information against kappa, and where generated images fall between two."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vae_core.plots.charts import frame
from vae_core.plots.figures import COLOURS, DPI, WIDTH, styled, text_at, to_pixels


class Series(NamedTuple):
    """Points of one kind: its name, where they are, their colour and marker, and their size in points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int
    marker: str = "o"
    size: float = 5


def phase_diagram(
    title: str,
    series: Sequence[Series],
    theory: tuple[np.ndarray, np.ndarray],
    onsets: Sequence[tuple[str, int, float, float, float]],
    images: dict[float, Tensor],
) -> Figure:
    """Information against kappa: points, the ``theory`` as a line, ``images`` ``(n, C, H, W)`` under their kappas.

    ``onsets`` are (name, colour, kappa0, low, high), drawn in an inset.
    """
    rows, side = max(map(len, images.values())), next(iter(images.values())).shape[-1]
    factor = max(1, 66 // side)
    strip = rows * (side * factor + 4) + 34
    with styled():
        figure, axes = frame(title, 400, left=0.13, foot=84 + strip)
        whole = round(figure.get_figheight() * DPI)
        axes.plot(*theory, color="black", linewidth=1.5, zorder=1)
        for one in series:
            colour = COLOURS[one.colour]
            axes.plot(one.x, one.y, one.marker, color=colour, markersize=one.size, alpha=0.75, zorder=2)
        axes.set(xscale="log", xlim=(0.07, 160), ylim=(-0.03, 0.76), ylabel="information (nats)")
        axes.axhline(math.log(2), color="grey", linewidth=1, linestyle=":")
        axes.annotate("log 2: all there is", (150, math.log(2)), (0, 5), textcoords="offset points", ha="right")
        axes.axvline(1, color="grey", linewidth=1, linestyle=":")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        place = axes.get_position()
        text_at(figure, WIDTH * (place.x0 + place.x1) / 2, whole - strip - 46, "kappa", whole, ha="center")
        text_at(figure, WIDTH * place.x0, whole - strip - 8, "Generated at that kappa, first pair:", whole)
        for kappa, drawn in images.items():
            at = WIDTH * place.x0 + WIDTH * place.width * (math.log(kappa / 0.07) / math.log(160 / 0.07))
            for row, image in enumerate(to_pixels(drawn, factor)):
                down = strip - 26 - (row + 1) * (side * factor + 4)
                figure.figimage(image, round(at - side * factor / 2), down, origin="upper")
        for i, named in enumerate(one for one in series if one.name):
            text_at(figure, WIDTH * 0.56, whole - strip - 290 + 60 * i, named.name, whole, color=COLOURS[named.colour])
        inset = axes.inset_axes((0.04, 0.48, 0.3, 0.4))
        for row, (_, ink, middle, low, high) in enumerate(onsets):
            inset.plot([low, high], [row, row], color=COLOURS[ink], linewidth=3, alpha=0.6)
            inset.plot([middle], [row], "o", color=COLOURS[ink], markersize=5)
        inset.axvline(1, color="grey", linewidth=1, linestyle=":")
        inset.set(xlim=(0.8, 1.2), ylim=(len(onsets), -1), title="fitted onset")
        inset.set_yticks([])
        inset.set_xticks([0.8, 1, 1.2], ["0.8", "1", "1.2"])
    return figure


def ridges(title: str, rows: Sequence[tuple[str, np.ndarray, np.ndarray, str]], *, label: str) -> Figure:
    """Histograms between -1 and 1 under each other, each with a name, a theory's density and a remark.

    A row is (name, values, density at 201 points from -1 to 1, remark).
    """
    tall = 74
    with styled():
        figure, axes = frame(title, tall * len(rows) + 20, left=0.16, right=0.27)
        points, edges = np.linspace(-1, 1, 201), np.linspace(-1.2, 1.2, 61)
        for row, (_, values, density, remark) in enumerate(rows):
            counts, _ = np.histogram(values, edges, density=True)
            high = max(counts.max(), 1e-9)
            base = -row
            axes.fill_between(edges[:-1], base, base + 0.8 * counts / high, step="post", color=COLOURS[0], alpha=0.5)
            axes.plot(points, base + 0.8 * np.minimum(density / high, 1), color="black", linewidth=1.5)
            axes.annotate(remark, (1.27, base + 0.12), annotation_clip=False)
            axes.axhline(base, color="grey", linewidth=0.8)
        axes.set(xlim=(-1.2, 1.2), ylim=(1 - len(rows) - 0.1, 1), xlabel=label)
        axes.set_yticks([0.15 - row for row in range(len(rows))], [name for name, *_ in rows])
        axes.set_xticks([-1, 0, 1], ["image A", "their mean", "image B"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure
