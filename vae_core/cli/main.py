"""The command line: words to calls. Everything heavy is imported inside the commands."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from vae_core import __version__
from vae_core.cli.runs import compare, engine_options, evaluate, export, one_line_errors, runs
from vae_core.cli.sweep import sweep


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Images from variational autoencoders: regenerate the figures, look at what is there.

    \b
    vae-core reproduce            all notebooks, all published figures
    vae-core reproduce 03 --preset fast
                                  one notebook, in seconds, into build/figures/
    vae-core status               which figures there are, and from what; what is stale
    vae-core verify 03            make a notebook's figures again, and compare them with the published ones
    vae-core figures --for-post DIR
                                  the nine panels, as the post names its files
    vae-core data                 which data sets there are, and where
    vae-core forecast cifar10 --limit 25 --sigma mean-of-squares
                                  whether a loss must make the model collapse
    vae-core sweep latent_dimension --set model.latent_dim=2,4,10
                                  many trainings, measured, as a table and a chart
    vae-core evaluate FOLDER/RUN  all that is measured of a training that was kept
    vae-core export FOLDER/RUN -o page.html
                                  its latent sliders as a page without a server
    """
    for name in ("stdout", "stderr"):  # either may have been closed by whoever started this
        setattr(sys, name, getattr(sys, name) or Path(os.devnull).open("w"))  # noqa: SIM115
    from vae_core.sources.torchvision_files import data_root

    data_root()  # and so what is meant by $VAE_CORE_DATA, here and in kernels that start elsewhere
    # a grammar of addresses, most of a second to load, which jsonschema takes if it is there and no notebook needs
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


for about_runs in (runs, evaluate, compare, export, sweep):
    main.add_command(about_runs)


@main.command()
@click.argument("figure", required=False, type=click.Path(path_type=Path))
@one_line_errors
def status(figure: Path | None) -> None:
    """Show each notebook, whether its published figures are those that it would make now, and where they come from.

    With a FIGURE, such as figures/phase_diagram.png: all that this very file was made from, and the command that
    remakes it.
    """
    from vae_core import files
    from vae_core.regenerate import record as fresh
    from vae_core.regenerate.notebook import find_checkout, find_notebooks, left_alone

    root = find_checkout()
    fresh.check_package(root)
    if figure is not None:
        click.echo("\n".join(fresh.story(figure, root)))
        return
    manifest = files.read_json(root / "figures" / "manifest.json")
    for notebook in find_notebooks(root):
        reasons = fresh.stale(notebook, root)
        here = "it ran in this checkout" if not fresh.to_run(notebook, root) else "not run in this checkout as it is"
        click.echo(f"{notebook.name}: {'stale: ' + fresh.few(reasons) if reasons else 'fresh'}; {here}")
        for name in notebook.sweeps:
            otherwise = fresh.measured_otherwise(name, root)
            state = f"not measured by this code: {fresh.few(otherwise)}" if otherwise else "measured by this code"
            click.echo(f"  {'sweep ' + name:<28} {state}")
        for name in notebook.figures(notebook.parameters):
            path = root / "figures" / f"{name}.png"
            entry = manifest.get(path.name)
            if not path.exists():
                state = "missing: run vae-core reproduce " + notebook.name
            elif entry is None:
                state = "not in the manifest"
            elif entry["sha256"] != files.sha256(path):
                state = "not the file of the manifest"
            else:
                state = f"from {entry['source']}"
            click.echo(f"  {name:<28} {state}")
    if others := left_alone(root):
        click.echo(others)


@main.command()
@click.argument("names", nargs=-1)
@engine_options
@one_line_errors
def verify(names: tuple[str, ...], **where: Any) -> None:
    """Make the figures of notebooks again, into build/verify/, and compare them with the published ones.

    With the recorded inputs, where only the machine may be another, numbers are the same within a thousandth where one
    seed determines them, over several seeds within twice the standard error of their difference, and within a
    tolerance where one is stated; a picture while at most 15% of its pixels differ by more than 32 of 255 levels. With
    other code, parameters, versions or data it is a thousandth and 0.5%. Trainings that were kept are not reused. Exit
    code 1 where they differ. NAMES as for reproduce.
    """
    from vae_core.regenerate.verify import verify as run

    sys.exit(0 if run(names, say=click.echo, **where) else 1)


@main.command()
@click.option("--for-post", "folder", required=True, metavar="DIR", type=click.Path(path_type=Path))
@one_line_errors
def figures(folder: Path) -> None:
    """Write the nine published panels under the post's own file names, ready to be put into it.

    PNG and lossless WebP, 720 and 1440 pixels wide; figures.md has ready lines with alt text and caption.
    """
    from vae_core.regenerate.notebook import find_checkout
    from vae_core.regenerate.panels import write_panels

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
    for split in ("all",) if sets.is_folder(name) else ("train", "test"):
        found = sets.load_images(name, split, root=root, size=size, wait=wait)
        n, channels, height, width = found.images.shape
        click.echo(f"{found.source}: {split}, {n:,} images, {height}x{width}, {'grey' if channels == 1 else 'colour'}")


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
    from vae_core.data import is_folder, load_images
    from vae_core.forecast import collapse_forecast, effective_variance
    from vae_core.model import VAEConfig

    found = load_images(name, "all" if is_folder(name) else "train", limit=limit, size=size)
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
@engine_options
@click.option("--timeout", type=click.FloatRange(1), metavar="SECONDS", help="Stop a notebook that takes longer.")
@click.option("--force", is_flag=True, help="Run also the notebooks that ran here and whose figures are fresh.")
@click.option("--republish", is_flag=True, help="Run all, and replace also the figures that look the same.")
@one_line_errors
def reproduce(
    names: tuple[str, ...],
    preset: str,
    parameters: tuple[tuple[str, str], ...],
    force: bool,
    republish: bool,
    timeout: float | None,
    **where: Any,
) -> None:
    """Execute notebooks headlessly and regenerate their figures.

    NAMES are notebooks, such as 01_latent_dimension or just 01; without any, all of them. Only the
    preset "post" with unchanged parameters and the named data writes to figures/; anything else
    stays under build/figures/. Executed notebooks are kept in build/notebooks/. A notebook is fresh, and not run
    again, while its code cells, parameters, the package, versions, data and figures are those of its last success in
    this checkout. A published figure is replaced only if a number of its notebook has changed by more than another
    machine would change it, or if it looks different. The same bytes come out whatever the number of jobs and the
    engine.

    \b
    vae-core reproduce 01 04            two of them, if they are not fresh
    vae-core reproduce --force --jobs 1 all of them, one after another
    vae-core reproduce --scheduler tcp://10.0.0.5:8786
                                        on the workers of a Dask cluster
    """
    from vae_core.regenerate.reproduce import reproduce as run

    outcomes = run(
        names, preset=preset, parameters=parameters, force=force, republish=republish, timeout=timeout, echo=click.echo,
        **where,
    )  # fmt: skip
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)
