"""Charts: numbers on axes, in the style of :mod:`vae_core.plots.figures`. Never sees a model.

Every chart is 720 pixels wide, has one message as its title, labels its lines and points directly, and gives units.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, FixedLocator, LogLocator
from scipy.optimize import isotonic_regression

from vae_core.plots.figures import COLOURS, DPI, MARGIN, STYLE, TEXT, styled, text_at, titled


def frame(title: str, height: float, *, left: float, foot: float = 84, right: float = 0.04) -> tuple[Figure, Axes]:
    """Axes of ``height`` pixels under a title, over ``foot`` pixels; ``left`` and ``right`` are shares of the width."""
    figure, top = titled(title, height + foot, gap=14)
    whole = top + height + foot
    return figure, figure.add_axes((left, foot / whole, 1 - left - right, height / whole))


class Spread(NamedTuple):
    """One row of :func:`spreads`: many positive numbers under a name."""

    name: str
    values: np.ndarray
    colour: int = 0


def spreads(title: str, rows: Sequence[Spread], *, label: str, mark: float, mark_label: str) -> Figure:
    """Medians and the range of the middle 90% on a log axis, with a marked value."""
    with styled():
        figure, axes = frame(title, 46 * len(rows) + 30, left=0.36)
        for at, row in enumerate(rows):
            low, middle, high = np.quantile(row.values, [0.05, 0.5, 0.95])
            axes.plot([low, high], [at, at], color=COLOURS[row.colour], linewidth=5, alpha=0.5, solid_capstyle="round")
            axes.plot([middle], [at], "o", color=COLOURS[row.colour], markersize=9)
        axes.axvline(mark, color="black", linestyle="--", linewidth=1.5)
        axes.annotate(mark_label, (mark, -0.75), (-6, 0), textcoords="offset points", ha="right", va="center")
        axes.set(xscale="log", xlabel=label, ylim=(len(rows) - 0.5, -1.2))
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
    return figure


class Dot(NamedTuple):
    """One row of :func:`dots`: a number under a name."""

    name: str
    value: float
    colour: int = 0


def dots(title: str, rows: Sequence[Dot], *, label: str) -> Figure:
    """Numbers side by side on one axis, each written beside its dot."""
    with styled():
        figure, axes = frame(title, 46 * len(rows), left=0.42)
        for at, row in enumerate(rows):
            axes.plot([row.value], [at], "o", color=COLOURS[row.colour], markersize=10)
            axes.annotate(f"{row.value:.2f}", (row.value, at), (10, 0), textcoords="offset points", va="center")
        axes.margins(x=0.35)
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.6))
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
    return figure


def curve(title: str, x: Sequence[float], y: Sequence[float], *, across: str, up: str) -> Figure:
    """One line through a few measured points, each with its value, on a logarithmic axis."""
    with styled():
        figure, axes = frame(title, 380, left=0.16)
        axes.plot(x, y, "o-", color=COLOURS[0], markersize=9)
        for at, value in zip(x, y, strict=True):
            axes.annotate(f"{value:.1f}", (at, value), (8, 8), textcoords="offset points")
        axes.margins(x=0.08, y=0.2)
        axes.set(xscale="log", xlabel=across, ylabel=up)
        axes.set_xticks(list(x), [f"{value:,}" for value in x])
        axes.minorticks_off()
    return figure


class Column(NamedTuple):
    """One measure of :func:`columns`, a number a row."""

    name: str  # with its unit; a line break is kept
    values: Sequence[float]
    errors: Sequence[float]  # drawn to both sides; 0: none
    mark: float  # a value to compare with
    mark_label: str
    log: bool = False
    digits: int = 2


def columns(title: str, names: Sequence[str], parts: Mapping[str, Sequence[Column]], *, first: float = 0.29) -> Figure:
    """Named rows from top to bottom, several measures of each side by side, and every number beside its point.

    ``parts`` stand under each other with the same rows, whose names take the share ``first`` of the width.
    """
    line, height, rows = 44, 44 * len(names), range(len(names))  # pixels: of a row, of all
    with styled():
        figure, top = titled(title, (height + 96) * len(parts) - 56, gap=62)
        whole = figure.get_figheight() * DPI
        for heading, measures in parts.items():
            text_at(figure, MARGIN, top - 54, heading, whole, weight="bold")
            for row, name in enumerate(names):
                text_at(figure, MARGIN, top + line * row + 10, name, whole)
            share = (0.99 - first) / len(measures)
            for i, (part, ink) in enumerate(zip(measures, COLOURS, strict=False)):
                axes = figure.add_axes((first + i * share, 1 - (top + height) / whole, share / 2, height / whole))
                axes.axvline(part.mark, color="black", linestyle="--", linewidth=1.5)
                axes.plot(part.values, rows, "-", color=ink, alpha=0.4)
                axes.errorbar(part.values, rows, xerr=part.errors, fmt="o", color=ink, markersize=8, capsize=4)
                axes.set(xscale="log" if part.log else "linear", ylim=(len(rows) - 0.5, -0.5))
                axes.margins(x=0.12)
                for row, value in enumerate(part.values):
                    number, place = (
                        f"{value:.{part.digits}f}".replace("-", "\N{MINUS SIGN}"),
                        axes.get_yaxis_transform(),
                    )
                    axes.text(1.82, row, number, transform=place, ha="right", va="center", color=ink)
                axes.set_title(part.name, loc="left", fontsize=STYLE["font.size"], color=ink)
                axes.text(part.mark, len(rows) - 0.45, part.mark_label, ha="center", va="top")
                axes.set_axis_off()
            top += height + 96
    return figure


def lines(title: str, curves: Sequence[tuple[str, np.ndarray, np.ndarray]], *, across: str, up: str) -> Figure:
    """Smooth curves over the same points of one axis, each with its name above it, where they are furthest apart."""
    gaps = np.diff(np.sort(np.stack([y for _, _, y in curves]), axis=0), axis=0)
    at = int(gaps.min(axis=0).argmax()) if len(curves) > 1 else len(curves[0][1]) // 2
    with styled():
        figure, axes = frame(title, 340, left=0.16)
        for (name, x, y), ink in zip(curves, COLOURS, strict=False):
            axes.plot(x, y, color=ink, linewidth=2.5)
            axes.annotate(name, (x[at], y[at]), (0, 6), textcoords="offset points", ha="center", color=ink)
        axes.margins(y=0.12)
        axes.set(xlabel=across, ylabel=up)
    return figure


class Line(NamedTuple):
    """A line of a :class:`Panel`, named at its end."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    style: str = "o-"
    low: Sequence[float] = ()  # the ends of an error bar at each point
    high: Sequence[float] = ()


class Panel(NamedTuple):
    """One message with its lines; ``up`` says what the axis is."""

    message: str
    up: str
    lines: Sequence[Line]
    log: bool = False


def panels(
    title: str, parts: Sequence[Panel], across: str, ticks: Sequence = (), height: int = 230, right: float = 0.27
) -> Figure:
    """Charts under each other, each under its message, over the same axis, which is logarithmic beyond a decade.

    Each is ``height`` pixels tall, or as much as its lines' names need; ``right`` is the share of the width that these
    take. Without ``ticks`` the axis has round numbers.
    """
    height = max(height, 29 * max(len(part.lines) for part in parts))
    places = np.concatenate([line.x for part in parts for line in part.lines])
    log = 0 < 10 * min(places) <= max(places)
    with styled():
        figure, top = titled(title, (height + 84) * len(parts) + 54, gap=14)
        whole = figure.get_figheight() * DPI
        for part in parts:
            text_at(figure, MARGIN, top + 12, part.message, whole, color="#333333")
            axes = figure.add_axes((0.14, 1 - (top + 54 + height) / whole, 0.86 - right, height / whole))
            axes.set(xscale="log" if log else "linear", yscale="log" if part.log else "linear", ylabel=part.up)
            for line in part.lines:
                ink, inside = COLOURS[line.colour], "white" if "--" in line.style else COLOURS[line.colour]
                bars = [np.subtract(line.y, line.low), np.subtract(line.high, line.y)] if len(line.low) else None
                axes.errorbar(line.x, line.y, bars, fmt=line.style, color=ink, mfc=inside, markersize=7, capsize=4)
            _name_ends(axes, part.lines, height)
            round_numbers = LogLocator(subs=(1, 2, 5)) if log else AutoLocator()
            axes.xaxis.set_major_locator(FixedLocator(ticks) if ticks else round_numbers)
            axes.xaxis.set_major_formatter("{x:,g}")
            if part.log:
                axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            top += height + 84
        axes.set_xlabel(across)
    return figure


def _name_ends(axes: Axes, lines: Sequence[Line], height: float) -> None:
    """Each line's name to the right of its end, as near to it as leaves room for the others."""
    axes.set_ylim(axes.get_ylim())  # as they will be drawn
    ends = axes.transAxes.inverted().transform(axes.transData.transform([(line.x[-1], line.y[-1]) for line in lines]))
    for line, at in zip(lines, _spaced(ends[:, 1], (TEXT + 6) / height, 0, 1), strict=True):
        ink, end = COLOURS[line.colour], (line.x[-1], line.y[-1])
        arrow = {"arrowstyle": "-", "color": ink, "linewidth": 0.8, "shrinkB": 6, "relpos": (0, 0.5)}
        axes.annotate(line.name, end, (1.07, at), "data", "axes fraction", arrow, False, color=ink, va="center")


def _spaced(values: Sequence[float] | np.ndarray, distance: float, low: float, high: float) -> list[float]:
    """Values moved as little as keeps neighbours ``distance`` apart, in their order, and all within the bounds."""
    order = np.argsort(values, kind="stable")
    shift = distance * np.arange(len(values))
    free = isotonic_regression(np.asarray(values, dtype=float)[order] - shift).x
    return (np.clip(free, low, high - shift[-1]) + shift)[np.argsort(order)].tolist()
