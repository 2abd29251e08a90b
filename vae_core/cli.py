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
    vae-core figures --for-post DIR
                                  the nine panels, as the post names its files
    vae-core data                 which data sets there are, and where
    vae-core forecast cifar10 --limit 25 --sigma mean-of-squares
                                  whether a loss must make the model collapse
    vae-core evaluate FOLDER/RUN  all that is measured of a training that was kept
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
@click.option("--for-post", "folder", required=True, metavar="DIR", type=click.Path(path_type=Path))
@one_line_errors
def figures(folder: Path) -> None:
    """Write the nine published panels under the post's own file names, ready to be put into it.

    PNG and lossless WebP, 720 and 1440 pixels wide; figures.md has ready lines with alt text and caption.
    """
    from vae_core.notebook import find_checkout
    from vae_core.post import write_panels

    for path in write_panels(find_checkout(), folder):
        click.echo(path)


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
@click.argument("folder", type=click.Path(path_type=Path))
@one_line_errors
def runs(folder: Path) -> None:
    """List the trainings kept in FOLDER by ``fit(..., cache=FOLDER)``, oldest first."""
    from vae_core.runs import find_runs, load_run
    from vae_core.scores import meaning

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected the one given to fit(..., cache=...)")
    for path in find_runs(folder):
        run = load_run(path)
        last = (
            f"elbo {run.records[-1].elbo:.2f} nats after {run.records[-1].step} steps" if run.records else "untrained"
        )
        model, training = run.model_config, run.train_config
        what = f"{model.architecture} latent_dim {model.latent_dim} {model.likelihood} beta {training.beta:g}"
        click.echo(f"{path.name}  {what} seed {training.seed}: {last}; {meaning(run.model.measure, model)}")


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


def measured(paths: tuple[Path, ...], name: str | None, limit: int | None, size: int | None, samples: int) -> tuple:
    """The runs in ``paths`` and their scores."""
    from vae_core.data import EMBEDDED, TORCHVISION, binarise, load_images
    from vae_core.runs import digest, load_run
    from vae_core.scores import Yardsticks, check_comparable, score

    found = [load_run(path) for path in paths]
    check_comparable(found)
    if name is None:
        name = (found[0].data.source or "").split(":")[0]
        if name not in (*TORCHVISION, *EMBEDDED):
            raise ValueError(f"{paths[0]} does not say on which data set it was trained: give --data")
    training, test = load_images(name, "train", limit=limit, size=size), load_images(name, "test", size=size)
    if found[0].model_config.binarisation == "once":
        training, test = (sets._replace(images=binarise(sets.images, 0, "once")) for sets in (training, test))
    if digest(training.images) != found[0].data.sha256:
        click.echo(
            f"note: trained on {found[0].data.images:,} other images than these {len(training.images):,} of {name}; "
            "distances to training images and Fréchet distances are to these",
            err=True,
        )
    click.echo(f"a small classifier for the Fréchet distance, then the measuring of {len(found)} run(s)", err=True)
    against = Yardsticks(test, training)
    return found, [score(run.model, against, samples=samples) for run in found]


@main.command()
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


@main.command()
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


@main.command()
@click.argument("name")
@click.option(
    "--likelihood",
    type=click.Choice(["bernoulli", "gaussian", "laplace", "logistic"]),
    default="gaussian",
    show_default=True,
)
@click.option(
    "--sigma",
    default="0.7071",
    show_default="0.7071, the sum of squares",
    help="A number, learned, optimal (gaussian only), or mean-of-squares.",
)
@click.option("--beta", type=float, default=1.0, show_default=True, help="Weight of the KL.")
@click.option("--limit", type=int, help="That many of the images.")
@click.option("--size", type=int, help="For a folder of images: height and width to bring them to.")
@one_line_errors
def forecast(name: str, likelihood: str, sigma: str, beta: float, limit: int | None, size: int | None) -> None:
    """Say before any training whether a VAE on the data set or folder NAME must collapse.

    A model that has collapsed draws the same average for every latent vector. "certain" is proven for
    every encoder and decoder, "escapes" for the best ones; between the two it is undecided.

    \b
    vae-core forecast cifar10 --limit 25 --sigma mean-of-squares
    vae-core forecast holiday --size 32 --sigma 0.1 --beta 4
    """
    from vae_core.data import load_images
    from vae_core.model import VAEConfig
    from vae_core.objective import collapse_forecast, effective_variance

    found = load_images(name, "all" if Path(name).is_dir() else "train", limit=limit, size=size)
    shape = (found.images.shape[1], found.images.shape[2], found.images.shape[3])
    width: Any = None
    if likelihood != "bernoulli":
        pixels = shape[0] * shape[1] * shape[2]
        words = {"learned": "learned", "optimal": "optimal", "mean-of-squares": (pixels / 2) ** 0.5}
        try:
            width = words[sigma] if sigma in words else float(sigma)
        except ValueError:
            raise ValueError(f"sigma must be a number or one of {', '.join(words)}, not {sigma!r}") from None
    config = VAEConfig(image_shape=shape, likelihood=likelihood, sigma=width)  # type: ignore[arg-type]
    variance = effective_variance(config, beta)
    click.echo(f"{found.source}: {len(found.images):,} images")
    click.echo(f"effective variance: {'no single number' if variance is None else f'{variance:.4g}'}")
    click.echo(f"{collapse_forecast(found.images, config, beta)}")


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
