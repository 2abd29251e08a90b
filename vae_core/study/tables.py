"""Rows of a sweep as one table on disk, and as a chart of what varies. Never sees a model."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vae_core.files import write_bytes
from vae_core.plots.charts import Line, Panel, panels
from vae_core.plots.figures import COLOURS

Rows = Sequence[dict[str, Any]]


def tidy(rows: Rows) -> list[dict[str, Any]]:
    """Rows with the same keys, and one type in each column: words where numbers and words are mixed."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    columns = {}
    for head in heads:
        values = [row.get(head) for row in rows]
        values = ["x".join(map(str, value)) if isinstance(value, tuple) else value for value in values]
        kinds = {type(value) for value in values if value is not None}
        kind = float if kinds == {int, float} else str
        columns[head] = [value if value is None or len(kinds) == 1 else kind(value) for value in values]
    return [dict(zip(heads, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_tables(rows: Rows, folder: Path) -> list[Path]:
    """Write tidy rows as ``sweep.parquet`` and ``sweep.csv``, each whole or not at all.

    Raises:
        OSError: when one cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    packed, text = io.BytesIO(), io.StringIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), packed)
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(folder / "sweep.parquet", packed.getvalue())
    write_bytes(folder / "sweep.csv", text.getvalue().encode())
    return [folder / "sweep.parquet", folder / "sweep.csv"]


def numeric(rows: Rows, column: str) -> bool:
    """Whether a column holds numbers in all rows."""
    return all(type(row[column]) in (int, float) for row in rows)


def apart(rows: Rows, across: str, columns: Sequence[str]) -> list[str]:
    """The fewest of ``columns``, first ones first, that tell apart what varies besides ``across``."""
    chosen: list[str] = []
    for column in columns:
        seen: dict[tuple, Any] = {}
        if any(seen.setdefault(_at(row, [across, *chosen]), row[column]) != row[column] for row in rows):
            chosen.append(column)
    return chosen


def chart(
    title: str, rows: Rows, across: str, columns: Sequence[str], numbers: dict[str, tuple[str, str]], label: str
) -> tuple[Figure, str, str]:
    """Tidy ``rows`` over one column, a line for each value of those that vary besides: figure, alt text and caption.

    ``numbers`` are columns with what they are and their unit, a panel each. Rows that differ in none of ``columns``
    are repetitions: their mean is drawn, with a bar from the least to the most. Words along the axis are numbered.

    Raises:
        ValueError: when no number is finite.
    """
    by = apart(rows, across, columns)
    words = [] if numeric(rows, across) else list(dict.fromkeys(str(row[across]) for row in rows))
    names = list(dict.fromkeys(_at(row, by) for row in rows))
    shown = names[: len(COLOURS)]
    x = {id(row): words.index(str(row[across])) + 1 if words else row[across] for row in rows}
    parts, told, repeats = [], [], set()
    for number, (what, unit) in numbers.items():
        lines = []
        for colour, name in enumerate(shown):
            found: dict[float, list[float]] = {}
            for row in rows:
                if _at(row, by) == name and row[number] is not None and math.isfinite(row[number]):
                    found.setdefault(x[id(row)], []).append(row[number])
            if found:
                at = sorted(found)
                means = [sum(found[one]) / len(found[one]) for one in at]
                ends = [min(found[one]) for one in at], [max(found[one]) for one in at]
                lines.append(Line(", ".join(name) or "mean", at, means, colour, "o-", *ends))
                repeats |= {len(values) for values in found.values()}
                told.append(f"{what}, {lines[-1].name}: {means[0]:.3g} at {at[0]:g}, {means[-1]:.3g} at {at[-1]:g}")
        if lines:
            parts.append(Panel(what, unit, lines))
    if not parts:
        raise ValueError(f"there is no chart: nothing of {', '.join(numbers)} is finite")
    places = sorted(set(x.values()))
    log = not words and places[0] > 0 and places[-1] > 3 * places[0]
    right = min(0.5, 0.09 + 0.0165 * max(len(line.name) for part in parts for line in part.lines))
    figure = panels(
        title,
        parts,
        across=label,
        ticks=_thin(places, log, 0.085 / (0.86 - right)),
        height=max(230, 29 * len(shown)),
        right=right,
        log=log,
    )
    most = f"{min(repeats)} to {max(repeats)}" if len(repeats) > 1 else str(max(repeats))
    caption = "One training a point." if most == "1" else f"Means of {most} trainings a point, bars from least to most."
    if by:
        caption += f" Lines: {', '.join(by)}."
    if any(not math.isfinite(row[number] or 0) for row in rows for number in numbers):
        caption += " What is not finite is not drawn."
    if words:
        caption += f" {label.capitalize()}: {', '.join(f'{i} {word}' for i, word in enumerate(words, start=1))}."
    if len(names) > len(shown):
        caption += f" The first {len(shown)} of {len(names)} lines; the table holds all."
    return figure, f"Line charts over {label}. {'; '.join(told)}.", caption


def _at(row: dict[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in columns)


def _thin(places: Sequence[float], log: bool, room: float) -> list[float]:
    """Of sorted places as many as leave ``room`` for their names, a share of the axis."""
    scale = [math.log(place) if log else place for place in places]
    kept: list[int] = []
    for i, at in enumerate(scale):
        if not kept or at - scale[kept[-1]] >= room * (scale[-1] - scale[0]):
            kept.append(i)
    return [places[i] for i in kept]
