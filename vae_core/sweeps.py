"""The declared sweeps, whose published results notebooks 01, 02 and 04 load: their points, and any others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from vae_core import fresh
from vae_core.declared import FIELDS, SWEEPS, Images, Point, Row
from vae_core.many import Job, fit_many
from vae_core.model import VAEConfig
from vae_core.provenance import machine
from vae_core.runs import Run
from vae_core.train import TrainConfig

_USUAL = Point({}, Images("mnist"), VAEConfig(), TrainConfig())
SETTINGS = {
    f"{part}.{field}": value
    for part, of in {"data": _USUAL.data._asdict(), "model": vars(_USUAL.model), "train": vars(_USUAL.training)}.items()
    for field, value in of.items()
}  # what can be set of a point, and a usual value of each
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word",
         tuple: "whole numbers such as 256x128"}  # what is None usually, its config checks  # fmt: skip


def points(name: str, data: str | None = None, changes: Mapping[str, Sequence[Any]] | None = None) -> list[Point]:
    """The points of a sweep, on its own data set or another.

    ``changes`` maps paths such as ``model.latent_dim``, ``train.seed`` or ``data.limit`` to values: every point is
    made with each combination of them in place of its own, and what is then there twice is dropped.

    Raises:
        ValueError: on an unknown sweep or setting, no values, a value of another type, or one that a config refuses.
    """
    if name not in SWEEPS:
        raise ValueError(f"no sweep {name!r}: expected one of {', '.join(SWEEPS)}")
    axes = {path: list(values) for path, values in (changes or {}).items()}
    for path, values in axes.items():
        if path not in SETTINGS:
            raise ValueError(f"no setting {path!r}: expected one of {', '.join(SETTINGS)}")
        if not values:
            raise ValueError(f"{path} needs at least one value")
        kind = type(SETTINGS[path])
        for value in values:
            fits = type(value) in (int, float) if kind is float else type(value) is kind  # True is no number
            if kind in KINDS and not fits:
                raise ValueError(f"{path} must be {KINDS[kind]}, not {value!r}")
    made: dict[str, list[Point]] = {}
    found: dict[Any, Point] = {}
    for combination in product(*axes.values()):
        parts: dict[str, Row] = {part: {} for part in FIELDS}
        for path, value in zip(axes, combination, strict=True):
            parts[path.partition(".")[0]][path.partition(".")[2]] = value
        own = parts["data"]
        source = own.pop("name", None) or data or SWEEPS[name].data
        key = repr((source, own))  # anything may have been given, also lists
        made[key] = made.get(key) or SWEEPS[name].make(source, own)
        for one in made[key]:
            point = one._replace(model=replace(one.model, **parts["model"]))
            point = point._replace(training=replace(one.training, **parts["train"]))
            found.setdefault((*point[1:], *point.labels.items()), point)
    return list(found.values())


class Done(NamedTuple):
    """A point that ended, the ``done``-th of ``total``."""

    done: int
    total: int
    number: int  # among the points
    point: Point
    what: str  # tells it from the others
    rows: list[Row]
    run: Run | None
    error: str | None  # one line
    reused: bool
    machine: str  # where it was measured

    @property
    def told(self) -> str:
        """How far it is, and how this point ended, in one line."""
        if self.error or not self.run:
            return f"{self.done} of {self.total}: {self.what} failed: {self.error}"
        last = self.run.records[-1] if self.run.records else None
        ended = f"elbo {last.elbo:.1f}, {last.seconds:.0f} s" if last else "untrained"
        return f"{self.done} of {self.total}: {self.what}, {ended}{', reused' if self.reused else ''}"


def run(
    name: str,
    found: Sequence[Point],
    *,
    changed: Sequence[str] = (),
    executor: Executor | None = None,
    cache: str | Path | None = None,
) -> Iterator[Done]:
    """Train and measure the points ``found`` of a sweep, and yield each as it ends; as :func:`vae_core.fit_many`.

    What varies is said of each point, also at the paths ``changed``.
    """
    measure, paths = SWEEPS[name].measure, list(dict.fromkeys((*SWEEPS[name].names, *changed)))
    paths = [path for path in paths if len({point.value(path) for point in found}) > 1] or paths
    asked = fresh.of_sweeps()
    jobs = [Job(p.model, p.training, p.data.load, partial(_measured, asked, measure, p)) for p in found]
    for done, one in enumerate(fit_many(jobs, executor, cache=cache, quiet=True), start=1):
        point = found[one.index]
        what = " ".join(f"{path.removeprefix('model.').removeprefix('train.')} {point.value(path)}" for path in paths)
        where, rows = one.measured or ("", [])
        yield Done(done, len(found), one.index, point, what, rows, one.run, one.error, one.reused, where)


def _measured(asked: Row, measure: Callable[[Point, Run], list[Row]], point: Point, run: Run) -> tuple[str, list[Row]]:
    """The machine and the rows of a point, measured by the same code and versions as where they were asked for."""
    if told := fresh.changes(asked, fresh.of_sweeps()):
        raise ValueError(f"not measured: {fresh.few(told)} not as where it was asked for")
    return machine(), measure(point, run)


def column(path: str, ended: Sequence[Done]) -> str:
    """The column of a table that holds the setting at a path: one that is measured, else one of its own."""
    field = path.rpartition(".")[2]
    own = all(row.get(field) == one.point.value(path) for one in ended for row in one.rows)
    return field if own else path


def table(ended: Sequence[Done], changed: Iterable[str] = ()) -> list[Row]:
    """The rows of points that ended, in the order given, with a column for each changed setting."""
    columns = {column(path, ended): path for path in changed}
    return [row | {head: one.point.value(path) for head, path in columns.items()} for one in ended for row in one.rows]


def facts(
    name: str,
    data: str | None = None,
    *,
    executor: Executor | None = None,
    cache: str | Path | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """All rows of a sweep, in the order of its points, with source, code, versions and machine, as they are published.

    Raises:
        ValueError: on an unknown sweep.
        RuntimeError: naming the points that failed, after all others are done; what was trained is in the cache.
    """
    found = points(name, data)
    ended = []
    for one in run(name, found, executor=executor, cache=cache):
        tell(one.done, one.total)
        ended.append(one)
    ended.sort(key=lambda one: one.number)
    if failed := [f"{one.what}: {one.error}" for one in ended if one.error]:
        raise RuntimeError(f"{len(failed)} of {len(found)} points of {name} failed: {'; '.join(failed)}")
    source = next(one.run.data.source for one in ended if one.run)
    rows = [row for one in ended for row in one.rows]
    machines = " and ".join(sorted({one.machine for one in ended}))
    code = fresh.of_sweeps()
    own = {"source": source, "machine": machines, "rows": rows}
    return own | {part: code[part] for part in ("package", "versions")}
