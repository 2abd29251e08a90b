"""Commands about trainings that were kept. Everything heavy is imported inside them."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _stop(number: int, _: Any) -> None:
    raise KeyboardInterrupt(number)


def one_line_errors(command: Callable) -> Callable:
    """What went wrong in one line, with the file's name, and exit code 2; Ctrl-C is 130 and SIGTERM 143."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        before = signal.signal(signal.SIGTERM, _stop)
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # whoever read our words has heard enough; click knows what to do
        except (ValueError, OSError, RuntimeError) as error:
            words = str(getattr(error, "strerror", None) or error)
            files = [str(getattr(error, name, None) or "") for name in ("filename", "filename2")]
            told = [*(file for file in files if file not in words), words]
            click.echo(f"vae-core: {' '.join(': '.join(told).split())}", err=True)
            sys.exit(2)
        except KeyboardInterrupt as stop:
            click.echo("vae-core: stopped; finished work is kept", err=True)
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


def engine_options(command: Callable) -> Callable:
    """Where jobs run. Where Ctrl-C does nothing, as under nohup, the command first says how to stop it."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            click.echo(f"vae-core: Ctrl-C is ignored here; to stop: kill {os.getpid()}", err=True)
        return command(*args, **kwargs)

    for option in (
        click.option("--scheduler", metavar="ADDRESS", help="Run on the Dask cluster of tcp://HOST:PORT."),
        click.option(
            "--engine",
            type=click.Choice(["local", "dask"]),
            default="local",
            show_default=True,
            help="dask: a cluster started on this machine, with --jobs workers.",
        ),
        click.option("--jobs", type=click.IntRange(1), help="At once; as many as cores and memory carry if not given."),
    ):
        run = option(run)
    return run


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@one_line_errors
def runs(folder: Path) -> None:
    """List the trainings kept in FOLDER by ``fit(..., cache=FOLDER)``, oldest first.

    One that cannot be read is marked, with the reason. Exit code 2 where none can be read, though there are some.
    """
    from vae_core.runs import find_runs, load_run
    from vae_core.scores import meaning

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected the one given to fit(..., cache=...)")
    found, unread = list(find_runs(folder)), 0
    for path in found:
        try:
            run = load_run(path)
            model, training, records = run.model_config, run.train_config, run.records
            line = f"{model.architecture} latent_dim {model.latent_dim} {model.likelihood} beta {training.beta:g} seed "
            last = f"elbo {records[-1].elbo:.2f} nats after {records[-1].step} steps" if records else "untrained"
            line += f"{training.seed}: {last}; {meaning(run.model.measure, model)}"
        except (ValueError, OSError) as error:
            line, unread = f"CANNOT BE READ: {error}", unread + 1
        click.echo(f"{path.name}  {line}")
    if found and unread == len(found):
        raise ValueError(f"no run in {folder} can be read")


def data_options(command: Callable) -> Callable:
    """Which images a kept run is measured on."""
    for option in (
        click.option("--samples", type=click.IntRange(1), default=500, show_default=True, help="Of the bound."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
        click.option("--size", type=int, help="For a folder of images: height and width to bring them to."),
        click.option("--limit", type=int, help="That many of the training images, as fit was given."),
        click.option("--data", "name", help="Data set or folder; that of the run if it was given as an ImageSet."),
    ):
        command = option(command)
    return command


def data_name(run: Any, path: Path, name: str | None) -> str:
    """The data set of a kept run, unless another was named."""
    from vae_core.data import EMBEDDED, TORCHVISION

    known = name or (run.data.source or "").split(":")[0]
    if name is None and known not in (*TORCHVISION, *EMBEDDED):
        raise ValueError(f"{path} does not say on which data set it was trained: give --data")
    return known


def measured(paths: tuple[Path, ...], name: str | None, limit: int | None, size: int | None, samples: int) -> tuple:
    """The runs in ``paths`` and their scores."""
    from vae_core.data import binarise, load_images
    from vae_core.runs import images_digest, load_run
    from vae_core.scores import Yardsticks, check_comparable, score

    found = [load_run(path) for path in paths]
    check_comparable(found)
    name = data_name(found[0], paths[0], name)
    training, test = load_images(name, "train", limit=limit, size=size), load_images(name, "test", size=size)
    if found[0].model_config.binarisation == "static":
        training, test = (sets._replace(images=binarise(sets.images, 0, "once")) for sets in (training, test))
    if images_digest(training.images) != found[0].data.sha256:
        click.echo(
            f"note: trained on {found[0].data.images:,} other images than these {len(training.images):,} of {name}; "
            "distances to training images and Fréchet distances are to these",
            err=True,
        )
    click.echo(f"a small classifier for the Fréchet distance, then the measuring of {len(found)} run(s)", err=True)
    against = Yardsticks(test, training)
    return found, [score(run.model, against, samples=samples) for run in found]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_options
@one_line_errors
def evaluate(run: Path, name: str | None, limit: int | None, size: int | None, as_json: bool, samples: int) -> None:
    """Measure the training kept in the folder RUN on test images: likelihoods, latents, image quality.

    \b
    vae-core evaluate runs/0123456789abcdef0123
    vae-core evaluate runs/0123456789abcdef0123 --data holiday --size 32 --json
    """
    from vae_core.scores import meaning, table, to_json

    (found,), (scores,) = measured((run,), name, limit, size, samples)
    if as_json:
        click.echo(to_json(scores))
        return
    click.echo(f"{scores.images:,} test images; in nats: {meaning(scores.measure, found.model_config)}")
    click.echo(table([scores], [""]))


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN RUN...", type=click.Path(path_type=Path))
@data_options
@one_line_errors
def compare(
    paths: tuple[Path, ...], name: str | None, limit: int | None, size: int | None, as_json: bool, samples: int
) -> None:
    """Show in which settings kept trainings differ, and their measurements side by side.

    Refused where the numbers cannot be compared: other images, or log probabilities of different things,
    such as grey pixels under Bernoulli against anything that is a likelihood.
    """
    from vae_core.scores import differences, meaning, run_name, table, to_json

    if len(paths) < 2:
        raise ValueError("compare needs two runs or more")
    found, scores = measured(paths, name, limit, size, samples)
    settings = differences(found)
    if as_json:
        both = {"runs": [run_name(run) for run in found], "settings": settings, "scores": scores}
        click.echo(to_json(both))
        return
    for key, values in settings.items():
        click.echo(f"{key}: {' | '.join(map(str, values))}")
    click.echo(f"{scores[0].images:,} test images; in nats: {meaning(scores[0].measure, found[0].model_config)}")
    click.echo(table(scores, [run_name(run) for run in found]))


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="PAGE.html", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--no-images", is_flag=True, help="Put no images into the page, and so nothing to encode.")
@click.option("--data", "name", help="Data set or folder; that of the run if it was given as an ImageSet.")
@click.option("--size", type=int, help="For a folder of images: height and width to bring them to.")
@one_line_errors
def export(run: Path, output: Path, no_images: bool, name: str | None, size: int | None) -> None:
    """Write the latent sliders of the training kept in the folder RUN as one HTML file.

    The page needs no network and no server. It holds the decoder's weights and, unless told otherwise, a few test
    images: mind who may see them.

    \b
    vae-core export runs/0123456789abcdef0123 -o page.html
    vae-core export runs/0123456789abcdef0123 -o page.html --no-images
    """
    from vae_core.data import binarise, is_folder, load_images
    from vae_core.explorer.page import export_page
    from vae_core.runs import load_run

    found = load_run(run)
    images = None
    if not no_images:
        name = data_name(found, run, name)
        images = load_images(name, "all" if is_folder(name) else "test", size=size)
        if found.model_config.binarisation == "static":
            images = images._replace(images=binarise(images.images, 0, "once"))
    page = export_page(found.model, output, images, title=f"Latent explorer, {run.name}")
    click.echo(f"{page}: {page.stat().st_size / 1e6:.1f} MB, the decoder{'' if no_images else ' and sample images'}")
