"""Charts: numbers on axes, in the style of :mod:`vae_core.figures`. Never sees a model.

Every chart is 720 pixels wide, has one message as its title, labels its lines and points directly, and gives units.
"""

from collections.abc import Sequence
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
    """A line of a :class:`Panel`, with its name written at one of its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    low: Sequence[float] = ()  # the ends of an error bar at each point; none: a plain line without points
    high: Sequence[float] = ()
    at: int = -1  # the point that bears the name
    lift: float = 12  # of the name over that point, in points; below it where negative
    align: str = "right"  # which side of the name is at the point


class Panel(NamedTuple):
    """One message with its lines; ``up`` says what the axis is."""

    message: str
    up: str
    lines: Sequence[Line]
    log: bool = False


def panels(title: str, parts: Sequence[Panel], *, across: str, ticks: Sequence[int], height: float = 230) -> Figure:
    """Small charts under one another over the same logarithmic axis, each under its message."""
    step = height + 84
    with matplotlib.rc_context(STYLE):
        figure, axes = frame(title, step * len(parts) - 30, left=0.15)
        box, whole = axes.get_position(), figure.get_figheight() * DPI
        axes.remove()
        for i, part in enumerate(parts):
            below = box.y0 + (len(parts) - 1 - i) * step / whole
            axes = figure.add_axes((box.x0, below, box.width, height / whole))
            text_at(figure, MARGIN, whole * (1 - below) - height - 42, part.message, whole, color="#333333")
            for line in part.lines:
                colour = COLOURS[line.colour]
                if len(line.low):
                    bars = [np.subtract(line.y, line.low), np.subtract(line.high, line.y)]
                    axes.errorbar(line.x, line.y, bars, fmt="o-", color=colour, markersize=6, capsize=4)
                else:
                    axes.plot(line.x, line.y, "--", color=colour)
                place = (line.x[line.at], line.y[line.at])
                axes.annotate(line.name, place, (0, line.lift), textcoords="offset points", color=colour,
                              ha=line.align, va="center")  # fmt: skip
            axes.set(xscale="log", yscale="log" if part.log else "linear", ylabel=part.up)
            axes.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
            if part.log:
                axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(across)
    return figure
