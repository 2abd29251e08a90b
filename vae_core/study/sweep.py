"""The declared sweeps, whose published results notebooks 01, 02 and 04 load: their points, and any others."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from vae_core.data import ImageSet, load_images
from vae_core.environment import libraries, machine, package_digest
from vae_core.files import read_json
from vae_core.model import VAEConfig
from vae_core.parallel.many import Job, fit_many
from vae_core.runs import Run
from vae_core.scores import Yardsticks
from vae_core.train import TrainConfig

Row = dict[str, Any]  # plain numbers and words


class Images(NamedTuple):
    """Which images: arguments of :func:`vae_core.data.load_images`."""

    name: str
    limit: int | None = None  # at most so many
    seed: int = 0  # of the draw
    size: int | None = None

    def load(self, split: str = "train") -> ImageSet:
        """Load them, or the embedded stand-in for a set that is not to be had."""
        given = partial(load_images, self.name, split, seed=self.seed, size=self.size, substitute=True)
        try:
            return given(limit=self.limit)
        except ValueError:
            there = len(given().images)
            if not isinstance(self.limit, int) or there >= self.limit:
                raise
            return given(limit=there)


class Point(NamedTuple):
    """One training of a sweep."""

    labels: Row  # what its rows say besides what is measured and what the configs say
    data: Images
    model: VAEConfig
    training: TrainConfig

    def value(self, path: str) -> Any:
        """The setting at a path such as ``train.seed``, or a label."""
        part, _, field = path.partition(".")
        return self.labels.get(path) if not field else getattr(self[list(FIELDS).index(part) + 1], field)


class Declared(NamedTuple):
    """What a sweep is."""

    name: str
    about: str
    data: str  # unless another set is named
    make: Callable[[str, Row], list[Point]]  # from the name of a data set and what is to differ in its Images
    measure: Callable[[Point, Run], list[Row]]
    names: tuple[str, ...]  # the paths that tell points apart
    across: str  # the column of its horizontal axis
    apart: tuple[str, ...]  # columns that tell its other lines apart
    numbers: dict[str, tuple[str, str]]  # headline columns: what it is, its unit


FIELDS = {"data": Images, "model": VAEConfig, "train": TrainConfig}  # in the order of Point


@lru_cache(maxsize=4)
def _given(data: Images, split: str, sha256: str) -> ImageSet:
    """Loaded once a process, for a training on images of that digest."""
    return data.load(split)


@lru_cache(maxsize=2)
def _against(data: Images, sha256: str, limit: int | None = None, classify: bool | None = None) -> Yardsticks:
    """Yardsticks made once a process, for a training on images of that digest, with at most so many test images."""
    return Yardsticks(data._replace(limit=limit, seed=0).load("test"), data.load(), classify=classify)


def items(parameter: Any) -> list[Any]:
    """The items of a notebook parameter: of "2,4,10", or of 4 or [2, 4, 10], as papermill may hand it over."""
    if isinstance(parameter, str):
        return [word.strip() for word in parameter.split(",")]
    return list(parameter) if isinstance(parameter, list | tuple) else [parameter]


def whole_numbers(parameter: Any) -> list[int]:
    """The :func:`items` of a notebook parameter as whole numbers.

    Raises:
        ValueError: where one is none.
    """
    try:
        return [int(str(item)) for item in items(parameter)]
    except ValueError:
        raise ValueError(f"whole numbers between commas are needed, such as 2,4,10, not {parameter!r}") from None


class Sweep(NamedTuple):
    """The published results of a long sweep."""

    rows: list[dict[str, Any]]
    told: str  # from what, by which command: one line


def load_sweep(name: str) -> Sweep:
    """The rows of ``sweep_NAME.json`` in ``$VAE_CORE_SWEEPS``, else those that this checkout has in ``figures/data``.

    Raises:
        ValueError: when there is no such file, or it is damaged, with the command that makes it.
    """
    file, given = f"sweep_{name}.json", os.environ.get("VAE_CORE_SWEEPS")
    path = Path(given or "").expanduser() / file
    if not given or not path.exists():
        path = Path(__file__).parents[2] / "figures" / "data" / file
    facts = read_json(path)
    if "rows" not in facts:
        raise ValueError(f"{path} does not hold the results of a sweep: vae-core reproduce --preset full makes it")
    told = f"loaded from {path.name}: {len(facts['rows'])} results on {facts['source']}, by {facts.get('command')}"
    return Sweep(facts["rows"], told)


AWAY = "Not the post's setting: no verdict."
T95 = (12.7, 4.3, 3.2, 2.8, 2.6, 2.4, 2.4, 2.3)  # Student's: standard errors that hold 95%, from 1 degree of freedom on


def _t95(freedom: int) -> float:
    return T95[min(freedom, len(T95)) - 1]


_USUAL = Point({}, Images("mnist"), VAEConfig(), TrainConfig())
SETTINGS = {
    f"{part}.{field}": value
    for part, of in {"data": _USUAL.data._asdict(), "model": vars(_USUAL.model), "train": vars(_USUAL.training)}.items()
    for field, value in of.items()
}  # what can be set of a point, and a usual value of each


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word",
         tuple: "whole numbers such as 256x128"}  # what is None usually, its config checks  # fmt: skip


def points(
    declared: Declared, data: str | None = None, changes: Mapping[str, Sequence[Any]] | None = None
) -> list[Point]:
    """The points of a sweep, on its own data set or another.

    ``changes`` maps paths such as ``model.latent_dim``, ``train.seed`` or ``data.limit`` to values: every point is
    made with each combination of them in place of its own, and what is then there twice is dropped.

    Raises:
        ValueError: on an unknown setting, no values, a value of another type, or one that a config refuses.
    """
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
        source = own.pop("name", None) or data or declared.data
        key = repr((source, own))  # anything may have been given, also lists
        made[key] = made.get(key) or declared.make(source, own)
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
    declared: Declared,
    found: Sequence[Point],
    *,
    changed: Sequence[str] = (),
    executor: Executor | None = None,
    cache: str | Path | None = None,
) -> Iterator[Done]:
    """Train and measure the points ``found`` of a sweep, and yield each as it ends; as :func:`vae_core.fit_many`.

    What varies is said of each point, also at the paths ``changed``.
    """
    measure, paths = declared.measure, list(dict.fromkeys((*declared.names, *changed)))
    paths = [path for path in paths if len({point.value(path) for point in found}) > 1] or paths
    jobs = [Job(p.model, p.training, p.data.load, partial(_measured, measure, p)) for p in found]
    for done, one in enumerate(fit_many(jobs, executor, cache=cache, quiet=True), start=1):
        point = found[one.index]
        what = " ".join(f"{path.removeprefix('model.').removeprefix('train.')} {point.value(path)}" for path in paths)
        where, rows = one.measured or ("", [])
        yield Done(done, len(found), one.index, point, what, rows, one.run, one.error, one.reused, where)


def _measured(measure: Callable[[Point, Run], list[Row]], point: Point, run: Run) -> tuple[str, list[Row]]:
    """The machine and the rows of a point."""
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
    declared: Declared,
    data: str | None = None,
    *,
    executor: Executor | None = None,
    cache: str | Path | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """All rows of a sweep, in the order of its points, with source, code, versions and machine, as they are published.

    Raises:
        RuntimeError: naming the points that failed, after all others are done; what was trained is in the cache.
    """
    found = points(declared, data)
    ended = []
    for one in run(declared, found, executor=executor, cache=cache):
        tell(one.done, one.total)
        ended.append(one)
    ended.sort(key=lambda one: one.number)
    if failed := [f"{one.what}: {one.error}" for one in ended if one.error]:
        raise RuntimeError(f"{len(failed)} of {len(found)} points of {declared.name} failed: {'; '.join(failed)}")
    source = next(one.run.data.source for one in ended if one.run)
    rows = [row for one in ended for row in one.rows]
    machines = " and ".join(sorted({one.machine for one in ended}))
    return {
        "source": source, "machine": machines, "rows": rows, "package": package_digest(), "versions": libraries()
    }  # fmt: skip
