"""Charts: numbers on axes, in the style of :mod:`vae_core.figures`. Never sees a model.

Every chart is 720 pixels wide, has one message as its title, labels its lines and points directly, and gives units.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_core.figures import COLOURS, DPI, MARGIN, STYLE, TEXT, WIDTH, text_at, to_pixels, wrap


def frame(title: str, height: float, *, left: float, foot: float = 84, right: float = 0.04) -> tuple[Figure, Axes]:
    """A figure with a wrapped title and axes of ``height`` pixels under it, to be drawn on in ``rc_context(STYLE)``.

    ``left`` and ``right`` are the shares of the width that stay free beside the axes, ``foot`` the pixels under them.
    """
    lines = wrap(title, 46)
    head = 24 + 34 * len(lines)
    whole = head + height + foot
    figure = Figure(figsize=(WIDTH / DPI, whole / DPI), dpi=DPI, facecolor="white")
    for i, text in enumerate(lines):
        text_at(figure, MARGIN, MARGIN + i * (TEXT + 12), text, whole, size=TEXT + 3, weight="bold")
    return figure, figure.add_axes((left, foot / whole, 1 - left - right, height / whole))


class Spread(NamedTuple):
    """One row of :func:`spreads`: many positive numbers under a name."""

    name: str
    values: np.ndarray
    colour: int = 0


def spreads(title: str, rows: Sequence[Spread], *, label: str, mark: float, mark_label: str) -> Figure:
    """Medians and the range of the middle 90% on a log axis, with a marked value."""
    with matplotlib.rc_context(STYLE):
        figure, axes = frame(title, 46 * len(rows) + 30, left=0.36)
        for at, row in enumerate(rows):
            low, middle, high = np.quantile(row.values, [0.05, 0.5, 0.95])
            colour = COLOURS[row.colour]
            axes.plot([low, high], [at, at], color=colour, linewidth=5, alpha=0.5, solid_capstyle="round")
            axes.plot([middle], [at], "o", color=colour, markersize=9)
        axes.axvline(mark, color="black", linestyle="--", linewidth=1.5)
        axes.annotate(mark_label, (mark, -0.75), (-6, 0), textcoords="offset points", ha="right", va="center")
        axes.set(xscale="log", xlabel=label, ylim=(len(rows) - 0.5, -1.2))
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", length=0)
    return figure


class Dot(NamedTuple):
    """One row of :func:`dots`: a number under a name."""

    name: str
    value: float
    colour: int = 0


def dots(title: str, rows: Sequence[Dot], *, label: str) -> Figure:
    """Numbers side by side on one axis, each written beside its dot."""
    with matplotlib.rc_context(STYLE):
        figure, axes = frame(title, 46 * len(rows), left=0.42)
        for at, row in enumerate(rows):
            axes.plot([row.value], [at], "o", color=COLOURS[row.colour], markersize=10)
            axes.annotate(f"{row.value:.2f}", (row.value, at), (10, 0), textcoords="offset points", va="center")
        low, high = min(row.value for row in rows), max(row.value for row in rows)
        room = max(high - low, 0.5)
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.6), xlim=(low - 0.1 * room, high + 0.35 * room))
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", length=0)
    return figure


def curve(title: str, x: Sequence[float], y: Sequence[float], *, across: str, up: str) -> Figure:
    """One line through a few measured points, each with its value, on a logarithmic axis."""
    with matplotlib.rc_context(STYLE):
        figure, axes = frame(title, 380, left=0.16)
        axes.plot(x, y, "o-", color=COLOURS[0], markersize=9)
        for at, value in zip(x, y, strict=True):
            axes.annotate(f"{value:.1f}", (at, value), (8, 8), textcoords="offset points")
        room = max(max(y) - min(y), 0.5)
        axes.set(xscale="log", xlabel=across, ylabel=up, ylim=(min(y) - 0.1 * room, max(y) + 0.2 * room))
        axes.margins(x=0.08)
        axes.set_xticks(list(x), [f"{value:,}" for value in x])
        axes.minorticks_off()
    return figure


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
    with matplotlib.rc_context(STYLE):
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
    with matplotlib.rc_context(STYLE):
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


def lines(title: str, curves: Sequence[tuple[str, np.ndarray, np.ndarray]], *, across: str, up: str) -> Figure:
    """Smooth curves over one axis, each with its name at its right end."""
    with matplotlib.rc_context(STYLE):
        figure, axes = frame(title, 340, left=0.16, right=0.26)
        for i, (name, x, y) in enumerate(curves):
            axes.plot(x, y, color=COLOURS[i], linewidth=2.5)
            axes.annotate(name, (x[-1], y[-1]), (8, 0), textcoords="offset points", va="center", color=COLOURS[i])
        axes.set(xlabel=across, ylabel=up)
    return figure
