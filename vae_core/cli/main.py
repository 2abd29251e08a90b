"""The command line: words to calls. Everything heavy is imported inside the commands."""

import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from vae_core import __version__
from vae_core.cli import runs
from vae_core.cli.runs import FOLDER, engine_options, limit_option, one_line_errors, size_option
from vae_core.cli.sweep import sweep


class Commands(click.Group):
    """Commands whose errors are a line each."""

    invoke = one_line_errors(click.Group.invoke)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """Images from variational autoencoders: regenerate the figures, look at what is there."""
    for number in range(3):  # may have been closed by whoever started this, and must not become a pipe to a child
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        setattr(sys, name, getattr(sys, name) or Path(os.devnull).open("w"))  # noqa: SIM115
    from vae_core.sources.torchvision_files import data_root

    data_root()  # and so what is meant by $VAE_CORE_DATA, here and in kernels that start elsewhere


PRESETS = "fast: seconds, for a look; post: the published figures; full: more seeds and sweeps."
LIKELIHOODS = ["bernoulli", "gaussian", "laplace", "logistic"]
for command in (runs.runs, runs.evaluate, runs.compare, runs.export, sweep):
    main.add_command(command)


@main.command()
@click.argument("figure", required=False, type=FOLDER)
def status(figure: Path | None) -> None:
    """Show each notebook, whether its published figures are those that it would draw now, and where they come from.

    With a FIGURE, such as figures/phase_diagram.png: all that this very file was made from, and the command that
    draws it again.
    """
    from vae_core.regenerate import record
    from vae_core.regenerate.notebook import find_checkout, find_notebooks, left_alone

    root = find_checkout()
    record.check_package(root)
    if figure is not None:
        click.echo("\n".join(record.describe_figure(figure, root)))
        return
    for notebook in find_notebooks(root):
        reasons = record.stale(notebook, root)
        here = "not run in this checkout as it is" if record.to_run(notebook, root) else "it ran in this checkout"
        click.echo(f"{notebook.name}: {'stale' if reasons else 'fresh'}; {here}")
        for reason in reasons:
            click.echo(f"  {reason}")
        for name in notebook.sweeps:
            changes = record.sweep_changes(name, root)
            state = f"not measured by this code: {record.abridge(changes)}" if changes else "measured by this code"
            click.echo(f"  {'sweep ' + name:<28} {state}")
        for name, facts in record.entry(root / "figures", notebook.name).get("outputs", {}).items():
            click.echo(f"  {name:<28} {facts['source']}")
    if others := left_alone(root):
        click.echo(others)


@main.command()
@click.argument("names", nargs=-1)
@engine_options
def verify(names: tuple[str, ...], **where: Any) -> None:
    """Draw the figures of notebooks again, into build/verify/, and compare them with the published ones.

    Where only the machine may differ, a number may by its tolerance, and a picture in 15% of its pixels; with other
    code, parameters, versions or data it is a thousandth and 0.5%. Saved runs are not reused. Exit code 1 where they
    differ. NAMES as for reproduce.
    """
    from vae_core.regenerate.reproduce import verify as run

    sys.exit(0 if run(names, echo=click.echo, **where) else 1)


@main.command()
@click.option("--for-post", "folder", required=True, metavar="DIR", type=FOLDER)
def figures(folder: Path) -> None:
    """Copy the nine published panels, under the post's own file names, ready to be put into it.

    figures.md has ready lines with alt text and caption.
    """
    from vae_core.regenerate.notebook import find_checkout
    from vae_core.regenerate.panels import write_panels

    for path in write_panels(find_checkout(), folder):
        click.echo(path)


@main.command()
@click.argument("name", required=False)
@click.option("--to", "root", type=FOLDER, help="Folder to keep it in, instead of $VAE_CORE_DATA.")
@click.option("--wait", is_flag=True, help="Take as long as it takes; otherwise give up when it would be minutes.")
@size_option
def data(name: str | None, root: Path | None, wait: bool, size: int | None) -> None:
    """Fetch the data set NAME ahead of time, or show what a folder of images holds.

    Without NAME: list the data sets, and which are on disk. A stopped download goes on where it ended.
    """
    from vae_core import data as sets

    if name is None:
        click.echo(f"in {sets.data_root(root)}:")
        for known in sets.TORCHVISION:
            click.echo(f"  {known:<14} {'on disk' if sets.on_disk(known, root) else 'not on disk'}")
        for known, description in sets.EMBEDDED.items():
            click.echo(f"  {known:<14} always there: {description}")
        return
    for split in ("all",) if sets.is_folder(name) else ("train", "test"):
        images = sets.load_images(name, split, root=root, size=size, wait=wait)
        n, channels, height, width = images.images.shape
        click.echo(f"{images.source}: {split}, {n:,} images, {height}x{width}, {'grey' if channels == 1 else 'colour'}")


@main.command()
@click.argument("name")
@click.option("--likelihood", type=click.Choice(LIKELIHOODS), default="gaussian")
@click.option("--sigma", default="0.7071", help="A number, learned, optimal (gaussian only), or mean-of-squares.")
@click.option("--beta", type=float, default=1.0, help="Weight of the KL.")
@limit_option
@size_option
def forecast(name: str, likelihood: Any, sigma: str, beta: float, limit: int | None, size: int | None) -> None:
    """Say before any training whether a VAE on the data set or folder NAME must collapse.

    A collapsed model draws the same average for every latent vector. "certain" is proven for every encoder and
    decoder, "escapes" for the best ones; between the two it is undecided.

    \b
    vae-core forecast cifar10 --limit 25 --sigma mean-of-squares
    vae-core forecast holiday --size 32 --sigma 0.1 --beta 4
    """
    from vae_core.data import is_folder, load_images
    from vae_core.forecast import collapse_forecast, effective_variance
    from vae_core.model import VAEConfig

    images = load_images(name, "all" if is_folder(name) else "train", limit=limit, size=size)
    shape: Any = tuple(images.images.shape[1:])
    scales: Any = {"learned": "learned", "optimal": "optimal", "mean-of-squares": (math.prod(shape) / 2) ** 0.5}
    try:
        scale = None if likelihood == "bernoulli" else scales.get(sigma) or float(sigma)
    except ValueError:
        raise ValueError(f"sigma must be a number or one of {', '.join(scales)}, not {sigma!r}") from None
    config = VAEConfig(image_shape=shape, likelihood=likelihood, sigma=scale)
    variance = effective_variance(config, beta)
    click.echo(f"{images.source}: {len(images.images):,} images")
    click.echo(f"effective variance: {'no single number' if variance is None else f'{variance:.4g}'}")
    click.echo(f"{collapse_forecast(images.images, config, beta)}")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--preset", type=click.Choice(["fast", "post", "full"]), default="post", help=PRESETS)
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a notebook parameter.")
@engine_options
@click.option("--timeout", type=click.FloatRange(1), metavar="SECONDS", help="Stop a notebook that takes longer.")
@click.option("--force", is_flag=True, help="Run also the notebooks that ran here and whose figures are fresh.")
@click.option("--republish", is_flag=True, help="Run all, and replace also the figures that look the same.")
def reproduce(names: tuple[str, ...], **options: Any) -> None:
    """Execute notebooks headlessly and regenerate their figures.

    NAMES are notebooks, such as 01_latent_dimension or just 01; without any, all that have not run in this checkout as
    they are. Only the preset "post" with unchanged parameters and the named data writes to figures/ and notebooks/,
    and only where a number has changed by more than another machine would change it, or a figure looks different;
    anything else stays under build/. The same bytes come out whatever the number of jobs and the engine.

    \b
    vae-core reproduce 01 04            two of them, if they are not fresh
    vae-core reproduce --force --jobs 1 all of them, one after another
    vae-core reproduce --scheduler tcp://10.0.0.5:8786    on the workers of a Dask cluster
    """
    from vae_core.regenerate.reproduce import reproduce as run

    outcomes = run(names, echo=click.echo, **options)
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)
