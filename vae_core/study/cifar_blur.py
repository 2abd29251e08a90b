"""Claim 2: trained on few photographs, a model generates blurry ones."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import pandas as pd

from vae_core.data import ImageSet
from vae_core.model import VAE, VAEConfig
from vae_core.plots.charts import Line, Panel, panels
from vae_core.plots.figures import Saved, Section, image_sections, save, save_results
from vae_core.quality import laplacian_energy, sharpness
from vae_core.runs import Run, fit, runs_folder
from vae_core.scores import detail
from vae_core.study import likelihood_table
from vae_core.study.sweep import Images, Point, Row, load_sweep, loaded
from vae_core.train import TrainConfig

MEAN, SUM = "mean of squares", "sum of squares"
SETTING = ["images", "loss", "architecture"]  # the columns of a sweep that tell its trainings apart, but for the seed
LOOKS = ("generated", "reconstructed")
NETWORKS = {"mlp": (256, 128), "conv": (16, 32, 64)}


def losses(shape: tuple[int, ...]) -> dict[str, Row]:
    """The four losses by name, each as the likelihood of images of ``shape`` that it is."""
    gaussian = {MEAN: math.sqrt(math.prod(shape) / 2), SUM: math.sqrt(1 / 2), "learned sigma": "learned"}
    kinds: dict[str, Row] = {name: {"likelihood": "gaussian", "sigma": sigma} for name, sigma in gaussian.items()}
    return kinds | {"logistic": {"likelihood": "logistic", "sigma": "learned"}}


def configure(
    shape: Any, n: int, loss: Row, network: str = "mlp", *, steps: int, latents: int, seed: int, live: bool = False
) -> tuple[VAEConfig, TrainConfig]:
    """The model and the training on ``n`` images, under a likelihood such as :func:`losses` names; ``live``: smaller.

    What is trained while somebody waits has layers half as wide and learns faster, so that it needs fewer steps.
    """
    hidden, rate, batch = NETWORKS[network], 3e-3, min(25, n)
    if live:  # compared on the images and weights of seed 1
        hidden, rate = tuple(width // 2 for width in hidden), 6e-3
    epochs = math.ceil(steps * batch / n)
    model = VAEConfig(shape, latents, hidden, network, **loss)  # type: ignore[arg-type]
    return model, TrainConfig(epochs=epochs, batch_size=batch, learning_rate=rate, seed=seed)


def _cifar_blur(name: str, changes: Row) -> list[Point]:
    """Everything with everything, and a few points with other seeds, more steps or more latent dimensions."""
    kinds = losses(Images(name, 25)._replace(**changes).load().images.shape[1:])
    plan: list[tuple] = [(n, loss, network) for n in (25, 100, 200, 5000) for loss in kinds for network in NETWORKS]
    plan += [(25, loss, "mlp", seed) for seed in (1, 2) for loss in kinds]
    plan += [(n, SUM, "mlp", 0, 6000) for n in (200, 5000)] + [(25, SUM, "conv", 0, 6000)]
    plan += [(5000, SUM, "mlp", 0, 3000, 64)]
    load = cache(Images.load)

    def point(n: int, loss: str, network: str, seed: int = 0, steps: int = 3000, latents: int = 10) -> Point:
        data = Images(name, n, seed)._replace(**changes)
        n, *shape = load(data).images.shape
        recipe = configure(tuple(shape), n, kinds[loss], network, steps=steps, latents=latents, seed=seed)
        return Point({}, data._replace(limit=n), *recipe)

    return [point(*settings) for settings in plan]


def _measure_blur(point: Point, run: Run) -> list[Row]:
    """The row of one training of the sweep."""
    images, model, last = loaded(point.data, "train", run.data.sha256).images, run.model_config, run.records[-1]
    x, likelihood = images.float() / 255, {"likelihood": model.likelihood, "sigma": model.sigma}
    names = [name for name, loss in losses(model.image_shape).items() if loss == likelihood]
    result = detail(run.model, images, seed=run.train_config.seed)
    earlier = run.records[max(0, len(run.records) - 1 - max(1, len(run.records) // 5))]
    row = {"images": len(images), "loss": (names or [f"{model.likelihood}, sigma {model.sigma}"])[0]}
    row |= {"architecture": model.architecture, "seed": run.train_config.seed, "latents": model.latent_dim}
    row |= {"steps": run.train_config.steps(len(images)), "sigma": last.sigma or model.sigma, "kl": last.kl}
    row |= {"elbo": last.elbo, "elbo gained in the last fifth": last.elbo - earlier.elbo, "data": run.data.source}
    for look, sharp in zip(LOOKS, (result.sample_sharpness, result.reconstruction_sharpness), strict=True):
        row |= {f"sharpness, {look}": sharp.value, f"error, {look}": sharp.error}
    row |= {"high frequency, generated": result.sample_high_frequency, "nearest": result.sample_nearest}
    row |= {"high frequency, reconstructed": result.reconstruction_high_frequency, "ssim": result.ssim}
    row |= {"information": result.mutual_information, "active units": result.active_units}
    return [row | {"squared error": result.squared_error, "mean image": sharpness(x.mean(0, keepdim=True), x)}]


BLURRY = math.log(1 / 4)  # sharpness under it: a quarter of the energy of the training images


class Blur(NamedTuple):
    """Whether generated images are blurry, and whether that takes the mean of squares."""

    holds: bool | None  # under the mean of squares they are, at every number of images; None: a number is missing
    blurry_when_summed: list[int]  # the numbers of images at which they are under the sum of squares


def verdict(measured: pd.DataFrame) -> Blur:
    """Claim 2, from the table of :func:`measure`."""
    naive, summed = (measured[measured["loss"] == loss] for loss in (MEAN, SUM))
    known = len(naive) > 0 and not measured["generated"].isna().any()
    blurry = summed[summed["generated"] < BLURRY]["training images"].tolist()
    return Blur(bool((naive["generated"] < BLURRY).all()) if known else None, blurry)


CHANGES: dict[str, tuple[str, Any, Any]] = {  # a column of the sweep, and what is before and after
    "scale of the loss": ("loss", MEAN, SUM),
    "learned width": ("loss", SUM, "learned sigma"),  # scale again
    "shape of the error": ("loss", "learned sigma", "logistic"),  # both at a width of their own
    "architecture": ("architecture", "mlp", "conv"),
    "number of images": ("images", min, max),
}


def variance(grid: pd.DataFrame, column: str) -> float:
    """The variance of a column among repeated trainings, pooled over all that is repeated; nan where nothing is."""
    cells = grid.groupby(SETTING)[column]
    free = len(grid) - cells.ngroups
    return ((grid[column] - cells.transform("mean")) ** 2).sum() / free if free else math.nan


def parts(grid: pd.DataFrame, look: str) -> pd.DataFrame:
    """What each of ``CHANGES`` does to the sharpness of images, nats of log energy: above 0 it sharpens.

    ``value`` is the mean over all settings in which the rest can stay the same (the loss: at the sum of squares), from
    ``low`` to ``high``. ``error`` is its standard error: by chance, or by how the settings differ, if that is more.
    """
    column, rows = f"sharpness, {look}", {}
    cells, chance = grid.groupby(SETTING)[column], variance(grid, column)
    for name, (changed, *ends) in CHANGES.items():
        means, shares = (cell.unstack(changed) for cell in (cells.mean(), 1 / cells.size()))
        before, after = (end(means.columns) if callable(end) else end for end in ends)
        if before == after or not {before, after} <= set(means.columns):
            continue
        gains = (means[after] - means[before]).dropna()
        gains = gains if changed == "loss" else gains.xs(SUM, level="loss", drop_level=False)
        luck = math.sqrt(chance * shares.loc[gains.index, [before, after]].to_numpy().sum()) / len(gains)
        error = luck if len(gains) == 1 else max(luck, gains.sem())
        part = (gains.mean(), error, gains.min(), gains.max())
        rows[name] = (*part, effect(*part))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "error", "low", "high", "effect"])


def effect(value: float, error: float, low: float, high: float) -> str:
    """What a change does beyond two standard errors, in words."""
    if math.isnan(value) or math.isnan(error):
        return "unknown"
    if abs(value) <= 2 * error:
        return "both ways, by setting" if min(-low, high) > 2 * error else "nothing beyond chance"
    return ("sharpens" if value > 0 else "blurs") + (", on average" if low < 0 < high else "")


def train(images: ImageSet, loss: Row, network: str = "mlp", *, steps: int, latents: int = 10, seed: int = 0) -> Run:
    """A live training under a likelihood, or the kept one."""
    n, *shape = images.images.shape
    recipe = configure(tuple(shape), n, loss, network, steps=steps, latents=latents, seed=seed, live=True)
    return fit(*recipe, images, cache=runs_folder())


def measure(sets: Mapping[int, ImageSet], runs: Mapping[tuple[int, str], Run], seed: int = 0) -> pd.DataFrame:
    """The sharpness of 1,000 samples of each run, with its standard error, and of its reconstructions."""
    rows = []
    for (n, loss), run in runs.items():
        x, drawn = sets[n].images.float() / 255, run.model.sample(1000, seed=seed)
        energy = laplacian_energy(drawn)
        row = {"training images": n, "loss": loss, "KL": run.records[-1].kl, "generated": sharpness(drawn, x)}
        row["error"] = (energy.std() / energy.mean()).item() / math.sqrt(len(energy))
        row["reconstructed"] = sharpness(run.model.reconstruct(x), x)
        rows.append(row | {"mean image": sharpness(x.mean(0, keepdim=True), x)})
    return pd.DataFrame(rows)


def draw(images: ImageSet, models: Mapping[str, VAE], seed: int = 0, remedies: bool = False) -> Saved:
    """Some training images, and what each model generates and reconstructs, by the name of its loss."""
    x, numbers = images.images.float() / 255, []
    sections = [Section("Training images", x[:7])]
    for loss, model in models.items():
        rebuilt, drawn = model.reconstruct(x), model.sample(1000, seed=seed)
        numbers.append(f"{sharpness(drawn, x):.1f} with the {loss}")
        label = f"{loss.capitalize()}:\ngenerated, sharpness {sharpness(drawn, x):+.1f}"
        sections.append(Section(label, drawn[:7]))
        sections.append(Section(f"reconstructed, sharpness {sharpness(rebuilt, x):+.1f}", rebuilt[:7]))
    alt = f"Rows of seven images after training on {len(x)} images of {images.title}: training images, then generated "
    alt += "and reconstructed ones for each loss. The sharpness of generated images (0: as the data) is "
    title = f"{images.title}: remedies, {len(x)} images" if remedies else f"{images.title}, trained on {len(x)} images"
    name, caption = "cifar_remedies" if remedies else f"cifar_{len(x)}", "Decoder means, without pixel noise."
    figure, alt = image_sections(title, sections, columns=7), f"{alt}{', '.join(numbers)}."
    return save(figure, name, alt=alt, caption=caption, source=images.source)


def traversals(model: VAE, images: ImageSet) -> Saved:
    """The five dimensions that a model uses most, each drawn from -2 to 2."""
    title = f"{len(images.images)} images: most used dimensions, -2 to 2"
    return likelihood_table.traversals(model, images, "cifar_traversals", title=title, dimensions=5, steps=7)


def published() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sweep in two: the trainings with the steps and the latent dimensions of the first, and those with more."""
    sweep = load_sweep("cifar_blur")
    usual = (sweep["steps"] == sweep["steps"][0]) & (sweep["latents"] == sweep["latents"][0])
    return sweep[usual], sweep[~usual]


def chart(grid: pd.DataFrame) -> Saved:
    """Sharpness over the number of training images, a line a loss and network."""
    first = grid.drop_duplicates(SETTING).sort_values("images", kind="stable")
    sizes, average = first["images"].unique().tolist(), first.drop_duplicates("images")["mean image"].tolist()
    level = [Line("their mean image", sizes, average, 9, ":"), Line("training images", sizes, [0] * len(sizes), 9, ":")]
    shown, numbers = [], []
    for column in (f"sharpness, {look}" for look in LOOKS):
        lines, spread = [], 2 * math.sqrt(variance(grid, column))
        for (loss, network), rows in first.groupby(["loss", "architecture"], sort=False):
            y, colour = rows[column].to_numpy(), (0, 1, 2, 6)[list(losses(())).index(loss)]
            name, style = (f"{loss}, conv", "o--") if network == "conv" else (loss, "o-")
            lines.append(Line(name, sizes, y, colour, style, y - spread, y + spread))
            numbers.append(f"{loss}, {network}: {', '.join(f'{value:.1f}' for value in y)}")
        shown.append(Panel(f"{column.split()[1].capitalize()} images", "log energy ratio", lines + level))
    title = "Sharpness by loss, network and number of training images"
    figure = panels(title, shown, across="training images", ticks=sizes, height=350, right=0.355)
    alt = f"Sharpness of generated images (0: as the data) after {', '.join(map(str, sizes))} images. "
    alt += "; ".join(numbers[: len(numbers) // 2]) + "."
    caption = f"{grid['steps'].iloc[0]:,} steps; bars: twice the deviation of trainings repeated at {sizes[0]} images."
    return save(figure, "cifar_sharpness", alt=alt, caption=caption, source=grid["data"].iloc[0], svg=True)


def record(measured: pd.DataFrame, source: str, grid: pd.DataFrame) -> None:
    """Keep the numbers of the panels and of the parts."""
    about, rows = {"unit": "log ratio of Laplacian energy", "images": 1000, "seeds": 1, "source": source}, []
    for row in measured.to_dict("records"):
        claim = f"sharpness of generated images, {row['loss']}, {row['training images']} training images"
        numbers = {"claim": claim, "value": row["generated"], "standard_error": row["error"]}
        rows.append(about | numbers | {"tolerance": 0.1 if row["loss"] == MEAN else 0.6})
    about |= {"seeds": grid["seed"].nunique(), "source": grid["data"].iloc[0]}
    for look in LOOKS:
        for change, part in parts(grid, look).iterrows():
            claim = f"sharpness of {look} images gained by: {change}"
            rows.append(about | {"claim": claim, "value": part["value"], "standard_error": part["error"]})
    save_results("02_cifar_blur", rows)
