"""The command line: words to calls. Everything heavy is imported inside the commands."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vae_core import __version__


def one_line_errors(command: Callable) -> Callable:
    """What went wrong in one line and exit code 2; Ctrl-C is 130."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # whoever read our words has heard enough; click knows what to do
        except (ValueError, OSError, RuntimeError) as error:
            message = " ".join(str(getattr(error, "strerror", None) or error).split())
            click.echo(f"vae-core: {message}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("vae-core: stopped; finished work is kept", err=True)
            sys.exit(130)

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Images from variational autoencoders: regenerate the figures, look at what is there.

    \b
    vae-core reproduce            all notebooks, all published figures
    vae-core reproduce 03 --preset fast
                                  one notebook, in seconds, into build/figures/
    vae-core status               which figures there are, and from what
    vae-core data                 which data sets there are, and where
    """


@main.command()
@one_line_errors
def status() -> None:
    """Show each notebook, its figures, and whether they are the ones of the manifest."""
    from vae_core import provenance
    from vae_core.notebook import find_checkout, find_notebooks

    root = find_checkout()
    manifest = provenance.read_json(root / "figures" / "manifest.json")
    for notebook in find_notebooks(root):
        click.echo(notebook.name)
        for name in notebook.figures(notebook.parameters):
            path = root / "figures" / f"{name}.png"
            entry = manifest.get(path.name)
            if not path.exists():
                state = "missing: run vae-core reproduce " + notebook.name
            elif entry is None:
                state = "not in the manifest"
            elif entry["sha256"] != provenance.sha256(path):
                state = "not the file of the manifest"
            else:
                state = f"from {entry['source']}"
            click.echo(f"  {name:<28} {state}")


@main.command()
@click.argument("name", required=False)
@click.option("--to", "root", type=click.Path(path_type=Path), help="Folder to keep it in, instead of $VAE_CORE_DATA.")
@click.option("--wait", is_flag=True, help="Take as long as it takes; otherwise give up when it would be minutes.")
@click.option("--size", type=int, help="For a folder of images: height and width to bring them to.")
@one_line_errors
def data(name: str | None, root: Path | None, wait: bool, size: int | None) -> None:
    """Fetch the data set NAME ahead of time, or show what a folder of images holds.

    Without NAME: list the data sets, and which are on disk. A stopped download goes on where it ended.
    """
    from vae_core import data as sets

    if name is None:
        click.echo(f"in {sets.data_root(root)}:")
        for known in sets.TORCHVISION:
            click.echo(f"  {known:<14} {'on disk' if sets.on_disk(known, root) else 'not on disk'}")
        for known, what in sets.EMBEDDED.items():
            click.echo(f"  {known:<14} always there: {what}")
        return
    for split in ("train", "test") if not Path(name).is_dir() else ("all",):
        found = sets.load_images(name, split, root=root, size=size, wait=wait)
        n, channels, height, width = found.images.shape
        click.echo(f"{found.source}: {split}, {n:,} images, {height}x{width}, {'grey' if channels == 1 else 'colour'}")


@main.command()
@click.argument("names", nargs=-1)
@click.option(
    "--preset",
    type=click.Choice(["fast", "post", "full"]),
    default="post",
    show_default=True,
    help="fast: seconds, for a look; post: the published figures; full: more seeds and sweeps.",
)
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a notebook parameter.")
@click.option("--jobs", type=click.IntRange(1), help="Notebooks at once; as many as cores if not given.")
@one_line_errors
def reproduce(names: tuple[str, ...], preset: str, parameters: tuple[tuple[str, str], ...], jobs: int | None) -> None:
    """Execute notebooks headlessly and regenerate their figures.

    NAMES are notebooks, such as 01_latent_dimension or just 01; without any, all of them. Only the
    preset "post" with unchanged parameters and the named data writes to figures/; anything else
    stays under build/figures/. Executed notebooks are kept in build/notebooks/.
    """
    from vae_core.reproduce import reproduce as run

    outcomes = run(names, preset=preset, parameters=parameters, jobs=jobs, say=click.echo)
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)
