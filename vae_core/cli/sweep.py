"""The command about sweeps: words to points, to a table and a chart. Everything heavy is imported inside it."""

import contextlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from vae_core.cli.runs import FOLDER, engine_options

WORDS = {"none": None, "true": True, "false": False}


@click.command()
@click.argument("name", required=False)
@click.option("--set", "settings", multiple=True, metavar="SETTING=VALUES", help="Between commas; 0:5 is 0,1,2,3,4.")
@click.option("-o", "--output", "folder", type=FOLDER, help="Folder, instead of build/sweeps/NAME.")
@engine_options
def sweep(name: str | None, settings: tuple[str, ...], folder: Path | None, jobs: int | None, **where: Any) -> None:
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
    from vae_core.study.catalogue import SWEEPS

    if name is None:
        return click.echo("\n".join(f"{known:<18} {each.description}" for known, each in SWEEPS.items()))
    from tqdm import tqdm

    from vae_core.files import write_bytes
    from vae_core.parallel.engine import open_engine, usable
    from vae_core.plots import figures
    from vae_core.runs import runs_folder
    from vae_core.study import sweep as sweeps

    if name not in SWEEPS:
        raise ValueError(f"no sweep {name!r}: expected one of {', '.join(SWEEPS)}")
    changes = read_changes(settings)
    points = sweeps.points(SWEEPS[name], changes=changes)
    folder = folder or Path("build/sweeps") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{folder} cannot be written ({error.strerror}): choose another with -o") from None
    outcomes, plain, jobs = [], not sys.stderr.isatty(), jobs or min(len(points), usable())
    here = jobs == 1 and where == {"engine": "local", "scheduler": None}  # a process more would only start
    engine = contextlib.nullcontext() if here else open_engine(jobs, compute=True, **where)
    with engine as executor, tqdm(total=len(points), unit="run", disable=plain) as bar:
        for outcome in sweeps.run(SWEEPS[name], points, executor=executor, cache=runs_folder()):
            outcomes.append(outcome)
            bar.update()
            if plain or outcome.error:
                bar.write(f"{len(outcomes)} of {len(points)}: {outcome.description}")
    outcomes.sort(key=lambda outcome: outcome.number)
    failed = [outcome for outcome in outcomes if outcome.error]
    if len(failed) < len(outcomes):
        frame = sweeps.table(outcomes, changes)
        tables = {"sweep.parquet": frame.to_parquet(index=False), "sweep.csv": frame.to_csv(index=False).encode()}
        for file, content in tables.items():
            write_bytes(folder / file, content)
            click.echo(folder / file)
        sources = dict.fromkeys(str(outcome.run.data.source) for outcome in outcomes if outcome.run)
        title = f"{name}: {', '.join(part.split(':')[0] for part in sources)}, {len(frame)} results"
        figure, alt, caption = sweeps.chart(SWEEPS[name], frame, title, changes)
        source = "; ".join(sources)
        click.echo(figures.save(figure, "sweep", alt=alt, caption=caption, source=source, folder=folder).path)
    if failed:
        reasons = [f"  {outcome.label}: {outcome.error}" for outcome in failed]
        click.echo("\n".join([f"vae-core: {len(failed)} of {len(points)} points failed:", *reasons]), err=True)
        sys.exit(1)


def read_changes(settings: tuple[str, ...]) -> dict[str, list[Any]]:
    """The values of each setting in words such as ``train.seed=0:3``."""
    from vae_core.study.sweep import SETTINGS

    changes: dict[str, list[Any]] = {}
    for words in settings:
        path, equals, values = words.partition("=")
        if not equals:
            raise ValueError(f"--set needs SETTING=VALUES, such as model.latent_dim=2,4,10, not {words!r}")
        for word in values.split(","):
            changes.setdefault(path, []).extend(_values(SETTINGS.get(path), word))
    return changes


def _values(default: Any, word: str) -> list[Any]:
    """A word as the values of a setting with that ``default``, where it can be read so."""
    if isinstance(default, tuple):
        sizes = word.split("x")
        return [tuple(map(int, sizes)) if all(map(str.isdecimal, sizes)) else word]
    if not isinstance(default, str):
        if ends := re.fullmatch(r"(\d+):(\d+)", word):
            return [*range(int(ends[1]), int(ends[2]))]
        for read in (WORDS.__getitem__, int, float):
            with contextlib.suppress(KeyError, ValueError):
                return [read(word)]
    return [word]
