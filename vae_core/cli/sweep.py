"""The command about sweeps: words to points, to a table and a chart. Everything heavy is imported inside it."""

import contextlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vae_core.cli.runs import engine_options, one_line_errors

SEEDS = ("train.seed", "data.seed")  # what chance is; never an axis of its own where there is another


@click.command()
@click.argument("name", required=False)
@click.option(
    "--set", "given", multiple=True, metavar="SETTING=VALUES", help="Values between commas; 0:5 is 0,1,2,3,4."
)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Folder, instead of build/sweeps/NAME.")
@engine_options
@one_line_errors
def sweep(name: str | None, given: tuple[str, ...], folder: Path | None, jobs: int | None, **where: Any) -> None:
    """Train and measure the points of the sweep NAME, into one table and a chart.

    Without NAME: list the sweeps. Each --set puts its values, in all combinations with those of the others, in place
    of every point's own. A SETTING is one of model.*, train.* (the fields of VAEConfig and TrainConfig) and data.name,
    data.limit, data.seed, data.size; whole numbers joined by x are several, as in model.hidden=256x128.

    Trainings are kept in build/runs and reused: a sweep that was stopped goes on. sweep.parquet, sweep.csv and
    sweep.png go into the folder. Points that fail are named, with exit code 1, and the table holds the others.

    \b
    vae-core sweep latent_dimension --set model.latent_dim=2,4,10 --set train.seed=0:5
    vae-core sweep latent_dimension --set data.name=digits-sample --set model.hidden=50,256x128 --jobs 2
    """
    from vae_core.study.catalogue import SWEEPS, find_sweep

    if name is None:
        for known, each in SWEEPS.items():
            click.echo(f"{known:<18} {each.about}")
        return
    from tqdm import tqdm

    from vae_core.parallel.engine import open_engine, usable
    from vae_core.runs import runs_folder
    from vae_core.study import sweep as sweeps

    changes = read_changes(given)
    declared = find_sweep(name)
    found = sweeps.points(declared, changes=changes)
    folder = folder or Path("build/sweeps") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another with -o") from None
    ended = []
    plain = not sys.stderr.isatty()
    many = jobs or min(len(found), usable())
    with (
        open_engine(many, compute=True, **where) as engine,
        tqdm(total=len(found), unit="run", disable=plain) as bar,
    ):
        for one in sweeps.run(declared, found, changed=list(changes), executor=engine, cache=runs_folder()):
            ended.append(one)
            bar.update()
            if plain:
                click.echo(one.told)
            elif one.error:
                bar.write(one.told)
    ended.sort(key=lambda one: one.number)
    if rows := sweeps.table(ended, changes):
        for path in save(name, rows, changes, folder, ended):
            click.echo(path)
    if failed := [one for one in ended if one.error]:
        click.echo(f"vae-core: {len(failed)} of {len(found)} points failed:", err=True)
        for one in failed:
            click.echo(f"  {one.what}: {one.error}", err=True)
        sys.exit(1)


def read_changes(given: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of each setting in words such as ``train.seed=0:5``.

    Raises:
        ValueError: on other words, or a setting that is given twice.
    """
    from vae_core.study.sweep import SETTINGS

    changes: dict[str, list[Any]] = {}
    for words in given:
        path, equals, values = words.partition("=")
        if not equals:
            raise ValueError(f"--set needs SETTING=VALUES, such as model.latent_dim=2,4,10, not {words!r}")
        if path in changes:
            raise ValueError(f"--set {path} is given twice: put its values between commas")
        changes[path] = []
        for word in values.split(","):
            ends = re.fullmatch(r"(\d+):(\d+)", word)
            numbers = ends and not isinstance(SETTINGS.get(path), str | tuple)
            changes[path] += range(int(ends[1]), int(ends[2])) if ends and numbers else [_value(path, word)]
    return changes


def _value(path: str, word: str) -> Any:
    """A word as its setting has it, where it can be read so."""
    from vae_core.study.sweep import SETTINGS

    readings: tuple[Callable[[str], Any], ...] = ({"none": None, "true": True, "false": False}.__getitem__, int, float)
    if isinstance(SETTINGS.get(path), str):
        readings = ()
    elif isinstance(SETTINGS.get(path), tuple):
        readings = (lambda word: tuple(map(int, word.split("x"))),)
    for reading in readings:
        with contextlib.suppress(KeyError, ValueError):
            return reading(word)
    return word


def save(name: str, rows: list[dict[str, Any]], changes: dict[str, list[Any]], folder: Path, ended: list) -> list[Path]:
    """Write the table and the chart of a sweep; their paths."""
    from vae_core.plots import figures
    from vae_core.study import tables
    from vae_core.study.catalogue import SWEEPS
    from vae_core.study.sweep import column

    declared, rows = SWEEPS[name], tables.tidy(rows)
    axes = [path for path, values in changes.items() if path not in SEEDS and len(values) > 1]
    path = next((path for path in axes if tables.numeric(rows, column(path, ended))), None)
    across, label = declared.across, declared.across
    if path:
        across, label = column(path, ended), path.partition(".")[2].replace("_", " ")
    others = [column(path, ended) for path in changes if path not in SEEDS]
    columns = [one for one in dict.fromkeys((*others, *declared.apart)) if one != across and one in rows[0]]
    paths = tables.write_tables(rows, folder)
    sources = dict.fromkeys(one.run.data.source for one in ended if one.run)
    title = f"{name}: {', '.join(source.split(':')[0] for source in sources)}, {len(rows)} results"
    figure, alt, caption = tables.chart(title, rows, across, columns, declared.numbers, label)
    saved = figures.save(figure, "sweep", alt=alt, caption=caption, source="; ".join(sources), folder=folder)
    return [*paths, saved.path]
