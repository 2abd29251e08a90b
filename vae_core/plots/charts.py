"""Charts: numbers on axes, in the style of :mod:`vae_core.figures`. Never sees a model.

Every chart is 720 pixels wide, has one message as its title, labels its lines and points directly, and gives units.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vae_core.plots.figures import COLOURS, DPI, MARGIN, STYLE, TEXT, WIDTH, styled, text_at, wrap


def frame(title: str, height: float, *, left: float, foot: float = 84, right: float = 0.04) -> tuple[Figure, Axes]:
    """A figure with a wrapped title and axes of ``height`` pixels under it, to be drawn on where it is ``styled``.

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
    with styled():
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
    with styled():
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
    with styled():
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

    ``parts`` stand under each other, each under its name, with the same rows. ``first`` is the share of the width that
    the names of the rows take.
    """
    line, head = 44, 56  # pixels: of a row, and of the measures' names
    block = head + line * len(names) + 40
    with styled():
        figure, whole = frame(title, block * len(parts), left=first, foot=0)
        pixels, top = figure.get_figheight() * DPI, 0.0
        start = pixels * (1 - whole.get_position().y1) - 8
        whole.remove()
        for at, (heading, measures) in enumerate(parts.items()):
            top, share = start + at * block + head, (0.99 - first) / len(measures)
            text_at(figure, MARGIN, top - head + 2, heading, pixels, weight="bold")
            for row, name in enumerate(names):
                text_at(figure, MARGIN, top + line * row + 10, name, pixels)
            for i, part in enumerate(measures):
                height = line * len(names) / pixels
                axes = figure.add_axes((first + i * share, 1 - top / pixels - height, share * 0.5, height))
                rows, ink = range(len(names)), COLOURS[i]
                axes.axvline(part.mark, color="black", linestyle="--", linewidth=1.5)
                axes.plot(part.values, rows, "-", color=ink, alpha=0.4)
                axes.errorbar(part.values, rows, xerr=part.errors, fmt="o", color=ink, markersize=8, capsize=4)
                axes.set(xscale="log" if part.log else "linear", ylim=(len(names) - 0.5, -0.5))
                axes.margins(x=0.12)
                for row, value in enumerate(part.values):
                    told = f"{value:.{part.digits}f}".replace("-", "\N{MINUS SIGN}")
                    axes.text(1.82, row, told, transform=axes.get_yaxis_transform(), ha="right", va="center", color=ink)
                axes.set_title(part.name, loc="left", fontsize=STYLE["font.size"], color=ink)
                axes.text(part.mark, len(names) - 0.45, part.mark_label, ha="center", va="top")
                axes.minorticks_off()
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
    return figure


def lines(title: str, curves: Sequence[tuple[str, np.ndarray, np.ndarray]], *, across: str, up: str) -> Figure:
    """Smooth curves over the same points of one axis, each with its name above it, where they are furthest apart."""
    apart = np.diff(np.sort(np.stack([y for _, _, y in curves]), axis=0), axis=0)
    at = int(apart.min(axis=0).argmax()) if len(curves) > 1 else len(curves[0][1]) // 2
    with styled():
        figure, axes = frame(title, 340, left=0.16)
        for i, (name, x, y) in enumerate(curves):
            axes.plot(x, y, color=COLOURS[i], linewidth=2.5)
            axes.annotate(
                name, (x[at], y[at]), (0, 6), textcoords="offset points", ha="center", va="bottom", color=COLOURS[i]
            )
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
    title: str,
    parts: Sequence[Panel],
    *,
    across: str,
    ticks: Sequence[float],
    height: float = 230,
    right: float = 0.27,
    log: bool = True,
) -> Figure:
    """Charts of ``height`` pixels under each other, each under its message, over the same axis, logarithmic if ``log``.

    ``right`` is the share of the width that the names of the lines take.
    """
    step = height + 84
    with styled():
        figure, whole = frame(title, step * len(parts) - 30, left=0.14, right=right)
        box, tall = whole.get_position(), figure.get_figheight() * DPI
        whole.remove()
        for i, part in enumerate(parts):
            bottom = box.y0 + (len(parts) - 1 - i) * step / tall
            axes = figure.add_axes((box.x0, bottom, box.width, height / tall))
            text_at(figure, MARGIN, tall * (1 - bottom) - height - 42, part.message, tall, color="#333333")
            axes.set(xscale="log" if log else "linear", yscale="log" if part.log else "linear", ylabel=part.up)
            for line in part.lines:
                ink = COLOURS[line.colour]
                bars = [np.subtract(line.y, line.low), np.subtract(line.high, line.y)] if len(line.low) else None
                inside = "white" if "--" in line.style else ink
                axes.errorbar(line.x, line.y, bars, fmt=line.style, color=ink, mfc=inside, markersize=7, capsize=4)
            _name_ends(axes, part.lines, height)
            axes.set_xticks(list(ticks), [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
            if part.log:
                axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(across)
    return figure


def _name_ends(axes: Axes, lines: Sequence[Line], height: float) -> None:
    """Each line's name to the right of its end, as near to it as leaves room for the others."""
    low, high = axes.get_ylim()
    scale = axes.transData
    ends = [scale.transform((line.x[-1], line.y[-1])) for line in lines]
    (_, floor), (_, roof) = (scale.transform((lines[0].x[-1], end)) for end in (low, high))
    spaced = _spaced([y for _, y in ends], (roof - floor) * (TEXT + 6) / height, floor, roof)
    for line, at in zip(lines, spaced, strict=True):
        ink = COLOURS[line.colour]
        axes.annotate(
            line.name,
            (line.x[-1], line.y[-1]),
            (1.07, (at - floor) / (roof - floor)),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": ink, "linewidth": 0.8, "shrinkB": 6, "relpos": (0, 0.5)},
            color=ink,
            va="center",
            annotation_clip=False,
        )
    axes.set_ylim(low, high)


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
