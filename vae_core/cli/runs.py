"""Commands about saved runs, and what commands share. Everything heavy is imported inside them."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path)


def one_line_errors(command: Callable) -> Callable:
    """What went wrong in one line, with the file's name, and exit code 2; Ctrl-C is 130 and SIGTERM 143."""

    def stop(number: int, _: Any) -> None:
        raise KeyboardInterrupt(number)

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        before = signal.signal(signal.SIGTERM, stop)
        try:
            return command(*args, **kwargs)
        except (BrokenPipeError, click.exceptions.Exit, click.Abort):
            raise  # click knows what to do
        except (ValueError, OSError, RuntimeError) as error:
            file = getattr(error, "filename", None)
            line = f"{file}: {error.strerror}" if isinstance(error, OSError) and file else str(error)
            click.echo(f"vae-core: {' '.join(line.split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            click.echo("vae-core: stopped; finished work is kept", err=True)
            sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def options(*decorators: Callable) -> Callable:
    """Several options as one decorator."""
    return lambda command: functools.reduce(lambda inner, option: option(inner), reversed(decorators), command)


def check_interrupt(_: click.Context, __: click.Parameter, jobs: int | None) -> int | None:
    """Where Ctrl-C does nothing, as under nohup: how to stop it. The value of the option is left alone."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        click.echo(f"vae-core: Ctrl-C is ignored here; to stop: kill {os.getpid()}", err=True)
    return jobs


JOBS = "At once; as many as cores and memory carry if not given."
ENGINES = click.Choice(["local", "dask"])
engine_options = options(
    click.option("--jobs", type=click.IntRange(1), callback=check_interrupt, help=JOBS),
    click.option("--engine", type=ENGINES, default="local", help="dask: a cluster started here."),
    click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster of tcp://HOST:PORT."),
)
limit_option = click.option("--limit", type=int, help="That many of the training images.")
size_option = click.option("--size", type=int, help="For a folder of images: height and width to bring them to.")
data_option = click.option("--data", "name", help="Data set or folder; that of the run if it was trained by name.")
measure_options = options(
    data_option,
    limit_option,
    size_option,
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
    click.option("--samples", type=click.IntRange(1), default=500, help="Of the bound."),
)


@click.command()
@click.argument("folder", type=FOLDER)
def runs(folder: Path) -> None:
    """List the runs saved in FOLDER by ``fit(..., cache=FOLDER)``, oldest first.

    One that cannot be read is marked, with the reason. Exit code 2 where none can be read, though there are some.
    """
    from vae_core.runs import find_runs, load_run
    from vae_core.scores import meaning

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected the one of fit(..., cache=...)")
    paths, unread = list(find_runs(folder)), 0
    for path in paths:
        try:
            run = load_run(path)
        except (ValueError, OSError) as error:
            click.echo(f"{path.name}  CANNOT BE READ: {error}")
            unread += 1
            continue
        model, training, records = run.model_config, run.train_config, run.records
        line = f"{model.architecture} latent_dim {model.latent_dim} {model.likelihood} beta {training.beta:g} seed "
        last = f"elbo {records[-1].elbo:.2f} nats after {records[-1].step} steps" if records else "untrained"
        click.echo(f"{path.name}  {line}{training.seed}: {last}; {meaning(run.model.measure, model)}")
    if paths and unread == len(paths):
        raise ValueError(f"no run in {folder} can be read")


def data_name(run: Any, path: Path, name: str | None) -> str:
    """The data set of a saved run, unless another was named."""
    from vae_core.data import EMBEDDED, TORCHVISION

    source = (run.data.source or "").split(":")[0]
    if not name and source not in (*TORCHVISION, *EMBEDDED):
        raise ValueError(f"{path} does not say on which data set it was trained: give --data")
    return name or source


def seen_images(run: Any, name: str, split: str, **options: Any) -> Any:
    """The images of a data set as a saved run is to see them."""
    from vae_core.data import binarise, load_images

    images = load_images(name, split, **options)
    static = run.model_config.binarisation == "static"
    return images._replace(images=binarise(images.images, 0, "once")) if static else images


def measured(paths: tuple[Path, ...], name: str | None, limit: int | None, size: int | None, samples: int) -> tuple:
    """The runs in ``paths``, their scores, and a line that says of what."""
    from vae_core.runs import images_digest, load_run
    from vae_core.scores import Yardsticks, check_comparable, meaning, score

    saved = [load_run(path) for path in paths]
    check_comparable(saved)
    name = data_name(saved[0], paths[0], name)
    training = seen_images(saved[0], name, "train", limit=limit, size=size)
    if images_digest(training.images) != saved[0].data.sha256:
        note = f"note: trained on {saved[0].data.images:,} other images than these {len(training.images):,} of {name}; "
        click.echo(note + "distances to training images and Fréchet distances are to these", err=True)
    click.echo(f"a small classifier for the Fréchet distance, then the measuring of {len(saved)} run(s)", err=True)
    against = Yardsticks(seen_images(saved[0], name, "test", size=size), training)
    scores = [score(run.model, against, samples=samples) for run in saved]
    units = meaning(scores[0].measure, saved[0].model_config)
    return saved, scores, f"{scores[0].images:,} test images; in nats: {units}"


@click.command()
@click.argument("run", type=FOLDER)
@measure_options
def evaluate(run: Path, as_json: bool, **options: Any) -> None:
    """Measure the run saved in the folder RUN on test images: likelihoods, latents, image quality.

    For example: vae-core evaluate runs/0123456789abcdef0123 --data holiday --size 32 --json
    """
    from vae_core.scores import table, to_json

    _, [scores], head = measured((run,), **options)
    click.echo(to_json(scores) if as_json else f"{head}\n{table([scores], [''])}")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN RUN...", type=FOLDER)
@measure_options
def compare(paths: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Show in which settings saved runs differ, and their measurements side by side.

    Refused where the numbers cannot be compared: other images, or log probabilities of different things,
    such as grey pixels under Bernoulli against anything that is a likelihood.
    """
    from vae_core.scores import differences, run_name, table, to_json

    if len(paths) < 2:
        raise ValueError("compare needs two runs or more")
    saved, scores, head = measured(paths, **options)
    names, settings = [run_name(run) for run in saved], differences(saved)
    lines = [f"{key}: {' | '.join(map(str, values))}" for key, values in settings.items()]
    text = "\n".join([*lines, head, str(table(scores, names))])
    click.echo(to_json({"runs": names, "settings": settings, "scores": scores}) if as_json else text)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("-o", "--output", required=True, metavar="PAGE.html", type=FOLDER)
@click.option("--no-images", is_flag=True, help="Put no images into the page, and so nothing to encode.")
@data_option
@size_option
def export(run: Path, output: Path, no_images: bool, name: str | None, size: int | None) -> None:
    """Write the latent sliders of the run saved in the folder RUN as one HTML file.

    The page needs no network and no server. It holds the decoder's weights and, without --no-images, a few test
    images: mind who may see them.
    """
    from vae_core.data import is_folder
    from vae_core.explorer.page import export_page
    from vae_core.runs import load_run

    saved, images = load_run(run), None
    if not no_images:
        name = data_name(saved, run, name)
        images = seen_images(saved, name, "all" if is_folder(name) else "test", size=size)
    page = export_page(saved.model, output, images, title=f"Latent explorer, {run.name}")
    click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB, the decoder{'' if no_images else ' and sample images'}")
