"""Charts: numbers on axes, in the style of :mod:`vae_core.figures`. Never sees a model.

Every chart is 720 pixels wide, has one message as its title, labels its lines and points directly, and gives units.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_core.figures import COLOURS, DPI, MARGIN, STYLE, TEXT, WIDTH, text_at, wrap


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


class Line(NamedTuple):
    """One line of :func:`lines`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    style: str = "o-"
    spread: float = 0.0  # of each point, drawn up and down from it


def lines(title: str, panels: Mapping[str, Sequence[Line]], *, across: str, up: str, right: float = 0.355) -> Figure:
    """Panels under each other with the same logarithmic axis, each under its name; lines are named at their ends.

    ``right`` is the share of the width that the names take.
    """
    height, step = 350, 424  # pixels: of a panel, and with its name and ticks
    with matplotlib.rc_context(STYLE):
        figure, whole = frame(title, len(panels) * step - 44, left=0.12, right=right)
        box = whole.get_position()
        whole.remove()
        pixel = box.height / (len(panels) * step - 44)
        for i, (name, drawn) in enumerate(panels.items()):
            bottom = box.y0 + (len(panels) - 1 - i) * step * pixel
            axes = figure.add_axes((box.x0, bottom, box.width, height * pixel))
            axes.set_title(name, loc="left")
            for line in drawn:
                ink = COLOURS[line.colour]
                inside = "white" if "--" in line.style else ink
                bars = [line.spread or np.nan] * len(line.x)
                axes.errorbar(line.x, line.y, bars, fmt=line.style, color=ink, markerfacecolor=inside, markersize=8)
            low, high = axes.get_ylim()
            ends = _spaced([line.y[-1] for line in drawn], (high - low) * (TEXT + 6) / height, low, high)
            for line, end in zip(drawn, ends, strict=True):
                ink = COLOURS[line.colour]
                axes.annotate(
                    line.name,
                    (line.x[-1], line.y[-1]),
                    (1.06, end),
                    textcoords=("axes fraction", "data"),
                    arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 0.8, "shrinkB": 6, "relpos": (0, 0.5)},
                    color=ink,
                    va="center",
                    annotation_clip=False,
                )
            ticks = sorted({x for line in drawn for x in line.x})
            axes.set(xscale="log", ylabel=up, ylim=(low, high))
            axes.set_xticks(ticks, [f"{x:,}" for x in ticks])
            axes.minorticks_off()
        axes.set_xlabel(across)
    return figure


def _spaced(values: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Values moved as little as keeps neighbours ``distance`` apart, in their order, and all within the bounds."""
    order = np.argsort(values, kind="stable")
    shift = distance * np.arange(len(values))
    blocks: list[list[float]] = []
    for value in np.asarray(values, dtype=float)[order] - shift:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    free = np.repeat([np.mean(b) for b in blocks], [len(b) for b in blocks])  # an isotonic regression
    placed = np.clip(free, low, high - shift[-1]) + shift
    return placed[np.argsort(order)].tolist()
