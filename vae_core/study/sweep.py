"""Sweeps: the points that a claim declares, trained and measured; their tables and charts; what is published."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import infer_dtype

from vae_core.data import ImageSet, load_images
from vae_core.environment import libraries, machine, package_digest
from vae_core.files import read_json
from vae_core.model import VAEConfig
from vae_core.parallel.many import Job, fit_many
from vae_core.plots.charts import Line, Panel, panels
from vae_core.plots.figures import COLOURS
from vae_core.runs import Run
from vae_core.scores import Yardsticks
from vae_core.train import TrainConfig

Row = dict[str, Any]  # plain numbers and words
SEEDS = ("train.seed", "data.seed")  # what chance is: never an axis, nor a line of its own


class Images(NamedTuple):
    """Which images: arguments of :func:`vae_core.data.load_images`."""

    name: str
    limit: int | None = None  # at most so many
    seed: int = 0  # of the draw
    size: int | None = None

    def load(self, split: str = "train") -> ImageSet:
        """Load them, or the embedded stand-in for a set that is not to be had; all where ``limit`` is more."""
        load = partial(load_images, self.name, split, seed=self.seed, size=self.size, substitute=True)
        try:
            return load(limit=self.limit)
        except ValueError:
            if not isinstance(self.limit, int):
                raise
            return load(limit=min(self.limit, len(load().images)))


class Point(NamedTuple):
    """One training of a sweep."""

    labels: Row  # what its rows say besides what is measured and what the configs say
    data: Images
    model: VAEConfig
    training: TrainConfig

    def value(self, path: str) -> Any:
        """The setting at a path such as ``train.seed``, or a label."""
        part, _, field = path.partition(".")
        parts = {"data": self.data, "model": self.model, "train": self.training}
        return getattr(parts[part], field) if field else self.labels.get(path)


class Sweep(NamedTuple):
    """What a claim trains and measures beyond its notebook."""

    name: str
    description: str
    data: str  # unless another set is named
    points: Callable[[str, Row], list[Point]]  # from the name of a data set and what is to differ in its Images
    measure: Callable[[Point, Run], list[Row]]
    across: str  # the column of its horizontal axis
    apart: tuple[str, ...]  # columns that tell its other lines apart
    numbers: dict[str, tuple[str, str]]  # headline columns: what it is, its unit


@lru_cache(maxsize=4)
def loaded(data: Images, split: str, sha256: str) -> ImageSet:
    """Images, loaded once a process, for a training on images of that digest."""
    return data.load(split)


@lru_cache(maxsize=2)
def yardsticks_of(data: Images, sha256: str, limit: int | None = None, classify: bool | None = None) -> Yardsticks:
    """Yardsticks, once a process, for a training on images of that digest, with at most ``limit`` test images."""
    return Yardsticks(data._replace(limit=limit, seed=0).load("test"), data.load(), classify=classify)


def items(parameter: Any) -> list[Any]:
    """The items of a notebook parameter: of "2,4,10", or of 4 or [2, 4, 10], as papermill may hand it over."""
    if isinstance(parameter, str):
        return [word.strip() for word in parameter.split(",")]
    return list(parameter) if isinstance(parameter, list | tuple) else [parameter]


def whole_numbers(parameter: Any) -> list[int]:
    """The :func:`items` of a notebook parameter as whole numbers.

    Raises:
        ValueError: if an item is not a whole number.
    """
    try:
        return [int(str(item)) for item in items(parameter)]
    except ValueError:
        raise ValueError(f"whole numbers between commas are needed, such as 2,4,10, not {parameter!r}") from None


def load_sweep(name: str) -> pd.DataFrame:
    """The rows of ``sweep_NAME.json`` in ``$VAE_CORE_SWEEPS``, else those that this checkout has in ``figures/data``.

    Raises:
        ValueError: when there is no such file, or it is damaged, with the command that makes it.
    """
    published = Path(__file__).parents[2] / "figures" / "data" / f"sweep_{name}.json"
    path = Path(os.environ.get("VAE_CORE_SWEEPS") or published.parent).expanduser() / published.name
    path = path if path.exists() else published
    facts = read_json(path)
    if "rows" not in facts:
        raise ValueError(f"{path} does not hold the results of a sweep: vae-core reproduce --preset full makes it")
    return pd.DataFrame(facts["rows"])


_DEFAULTS = {"data": Images("mnist")._asdict(), "model": vars(VAEConfig()), "train": vars(TrainConfig())}
SETTINGS = {f"{part}.{field}": value for part, fields in _DEFAULTS.items() for field, value in fields.items()}


def points(sweep: Sweep, data: str | None = None, changes: Mapping[str, Sequence[Any]] | None = None) -> list[Point]:
    """The points of a sweep, on its usual data set or another.

    ``changes`` maps paths such as ``model.latent_dim``, ``train.seed`` or ``data.limit`` to values: every point is
    taken with each combination of them, and what is then there twice is dropped.

    Raises:
        ValueError: on an unknown setting, no values, or a value that a config or a data set refuses.
    """
    axes: dict[str, dict[str, list[Any]]] = {part: {} for part in _DEFAULTS}
    for path, values in (changes or {}).items():
        if path not in SETTINGS:
            raise ValueError(f"no setting {path!r}: expected one of {', '.join(SETTINGS)}")
        if not len(values):
            raise ValueError(f"{path} needs at least one value")
        part, _, field = path.partition(".")
        axes[part][field] = list(values)
    data_sets, models, trainings = (
        [dict(zip(fields, values, strict=True)) for values in product(*fields.values())] for fields in axes.values()
    )
    unique: dict[Any, Point] = {}
    for images in data_sets:
        base = sweep.points(images.pop("name", data or sweep.data), images)
        for model, training, point in product(models, trainings, base):
            point = point._replace(model=replace(point.model, **model), training=replace(point.training, **training))
            unique.setdefault((*point[1:], *point.labels.items()), point)
    return list(unique.values())


class Outcome(NamedTuple):
    """How a point ended."""

    number: int  # among the points
    point: Point
    label: str  # tells it from the others
    rows: list[Row]
    run: Run | None
    error: str | None  # one line
    reused: bool
    machine: str  # where it was measured

    @property
    def description(self) -> str:
        """How it ended, in one line."""
        if self.error or not self.run:
            return f"{self.label} failed: {self.error}"
        last = self.run.records[-1] if self.run.records else None
        ended = f"elbo {last.elbo:.1f}, {last.seconds:.0f} s" if last else "untrained"
        return f"{self.label}, {ended}{', reused' if self.reused else ''}"


def run(sweep: Sweep, points: Sequence[Point], **where: Any) -> Iterator[Outcome]:
    """Train and measure points of a sweep, and yield each as it ends; ``where`` as in :func:`vae_core.fit_many`."""
    paths = [*dict.fromkeys(label for point in points for label in point.labels), *SETTINGS]
    paths = telling(pd.DataFrame([{path: str(point.value(path)) for path in paths} for point in points]), paths)
    jobs = [Job(p.model, p.training, p.data.load, partial(_measure, sweep.measure, p)) for p in points]
    for fitted in fit_many(jobs, quiet=True, **where):
        point, (host, rows) = points[fitted.index], fitted.measured or ("", [])
        label = " ".join(f"{path.removeprefix('model.').removeprefix('train.')} {point.value(path)}" for path in paths)
        yield Outcome(fitted.index, point, label or sweep.name, rows, fitted.run, fitted.error, fitted.reused, host)


def _measure(measure: Callable[[Point, Run], list[Row]], point: Point, run: Run) -> tuple[str, list[Row]]:
    """The machine and the rows of a point."""
    return machine(), measure(point, run)


def facts(sweep: Sweep, data: str | None, *, on_event: Callable[[int, int], Any], **where: Any) -> dict[str, Any]:
    """All rows of a sweep, in the order of its points, with source, code, versions and machine, as they are published.

    ``on_event`` is called with the number of points that ended and of all; ``where`` as in :func:`vae_core.fit_many`.

    Raises:
        RuntimeError: naming the points that failed, after all others are done; what was trained is in the cache.
    """
    wanted, outcomes = points(sweep, data), list[Outcome]()
    for outcome in run(sweep, wanted, **where):
        outcomes.append(outcome)
        on_event(len(outcomes), len(wanted))
    outcomes.sort(key=lambda outcome: outcome.number)
    if failed := [f"{outcome.label}: {outcome.error}" for outcome in outcomes if outcome.error]:
        raise RuntimeError(f"{len(failed)} of {len(wanted)} points of {sweep.name} failed: {'; '.join(failed)}")
    return {
        "source": next(outcome.run.data.source for outcome in outcomes if outcome.run),
        "rows": [row for outcome in outcomes for row in outcome.rows],
        "machine": " and ".join(sorted({outcome.machine for outcome in outcomes})),
        "package": package_digest(),
        "versions": libraries(),
    }


def table(outcomes: Sequence[Outcome], changed: Iterable[str] = ()) -> pd.DataFrame:
    """The rows of outcomes, with a column for each setting ``changed``; words where numbers and words are mixed."""
    changed = list(changed)
    rows = [row | {at: outcome.point.value(at) for at in changed} for outcome in outcomes for row in outcome.rows]
    frame = pd.DataFrame(rows, dtype=object)
    for name in frame:
        kind = infer_dtype(frame[name], skipna=True)
        if kind in ("mixed", "mixed-integer"):  # also tuples
            frame[name] = frame[name].map(lambda x: "x".join(map(str, x)) if type(x) is tuple else str(x), "ignore")
        elif kind == "integer":
            frame[name] = frame[name].astype("Int64")  # also where some are missing
    return frame.infer_objects()


def telling(frame: pd.DataFrame, columns: Iterable[str], across: Sequence[str] = ()) -> list[str]:
    """The fewest of ``columns``, first ones first, that tell apart what varies besides ``across``."""
    keys: list[Any] = [np.zeros(len(frame)), *across]
    for column in columns:
        if frame.groupby([*keys, column], dropna=False).ngroups > frame.groupby(keys, dropna=False).ngroups:
            keys.append(column)
    return keys[1 + len(across) :]


def chart(sweep: Sweep, frame: pd.DataFrame, title: str, changed: Iterable[str] = ()) -> tuple[Figure, str, str]:
    """A table over the first of the paths ``changed`` that is a number, else over the sweep's axis.

    A panel for each headline number, a line for each value of what else varies but seeds. Rows that differ in none of
    it are repetitions: their mean is drawn, with a bar from the least to the most. Figure, alt text and caption.

    Raises:
        ValueError: when no number is finite.
    """
    varied = [path for path in changed if path not in SEEDS]
    numeric = frame.select_dtypes("number").dropna(axis=1)
    across = next((path for path in varied if path in numeric and numeric[path].nunique() > 1), sweep.across)
    label = across.partition(".")[2].replace("_", " ") or across
    by = telling(frame, [column for column in (*varied, *sweep.apart) if column in frame], [across])
    names = frame[by].astype(str).agg(", ".join, axis=1) if by else pd.Series("mean", frame.index)
    places, words = pd.factorize(frame[across].astype(str))
    steps = {} if across in numeric else dict(enumerate(words, start=1))
    x = pd.Series(places + 1.0, frame.index) if steps else frame[across].astype(float)
    y = frame[[*sweep.numbers]].astype(float).replace([np.inf, -np.inf], np.nan)
    shown = list(names.unique()[: len(COLOURS)])
    parts, alt, counts = list[Panel](), list[str](), set[int]()
    for number, (what, unit) in sweep.numbers.items():
        stats, lines = y[number].dropna().groupby([names, x]).agg(["min", "mean", "max", "size"]), list[Line]()
        for name in [name for name in shown if name in stats.index]:
            line = stats.loc[name]
            low, mean, high = (line[of].tolist() for of in ("min", "mean", "max"))
            lines.append(Line(name, line.index.tolist(), mean, shown.index(name), "o-", low, high))
            ends = ", ".join(f"{value:.3g} at {at:g}" for at, value in line["mean"].iloc[[0, -1]].items())
            alt.append(f"{what}, {name}: {ends}")
            counts |= {*line["size"].tolist()}
        parts += [Panel(what, unit, lines)] if lines else []
    if not parts:
        raise ValueError(f"there is no chart: nothing of {', '.join(sweep.numbers)} is finite")
    figure = panels(title, parts, label, list(steps), right=min(0.5, 0.09 + 0.0165 * max(map(len, shown))))
    many = " to ".join(map(str, sorted({min(counts), max(counts)})))
    remarks = {
        "One training a point.": many == "1",
        f"Means of {many} trainings a point, bars from least to most.": many != "1",
        f"Lines: {', '.join(by)}.": by,
        "What is not finite is not drawn.": y.isna().any(axis=None),
        f"{label.capitalize()}: {', '.join(f'{i} {word}' for i, word in steps.items())}.": steps,
        f"The first {len(shown)} of {names.nunique()} lines; the table holds all.": names.nunique() > len(shown),
    }
    caption = " ".join(remark for remark, holds in remarks.items() if holds)
    return figure, f"Line charts over {label}. {'; '.join(alt)}.", caption
