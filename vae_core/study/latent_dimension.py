"""Claim 1: digits improve as the latent dimension goes 2, 4, 10."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from scipy import stats

from vae_core.data import ImageSet, binarise
from vae_core.latent import encode_means, plane
from vae_core.metrics import active_units, evaluate, importance_weighted_bound
from vae_core.model import VAE, VAEConfig
from vae_core.plots.charts import Line, Panel, panels
from vae_core.plots.figures import Saved, Section, image_sections, latent_plane, save, save_results
from vae_core.runs import Run, fit, runs_folder
from vae_core.study.likelihood_table import traversals
from vae_core.study.sweep import Images, Point, Row, load_sweep, loaded, yardsticks_of
from vae_core.train import TrainConfig

Decision = Literal["holds", "fails", "undecided", "no verdict"]
NATS, SHARE, FEATURES = "nats per image (dynamic binarisation)", "share of the test variance", "squared feature units"
MEASURES = {  # columns of the sweep: their names in the record and their units
    "nll": ("NLL", NATS),
    "used": ("dimensions of 0.1 nats or more", "dimensions"),
    "unexplained": ("fraction of variance unexplained", SHARE),
    "unexplained_pca": ("fraction of variance unexplained by PCA", SHARE),
    "frechet": ("Fréchet distance, generated", FEATURES),
    "frechet_rebuilt": ("Fréchet distance, rebuilt", FEATURES),
    "floor": ("Fréchet floor", FEATURES),
}


def train(training: ImageSet, latent_dim: int, *, epochs: int, seed: int) -> VAE:
    """Train, or load if that has been done, the VAE 784-256-256-``latent_dim`` of the post's figures on grey pixels."""
    shape: Any = tuple(training.images.shape[1:])
    config = VAEConfig(shape, latent_dim, hidden=(256, 256), activation="silu", output_bias="data_mean")
    # of ten recipes a cheap one that on 5,000 held-out training images is as good as 12 epochs with relu and 2e-3
    recipe = TrainConfig(epochs, min(125, len(training.images)), learning_rate=6e-3, warmup=0.1, seed=seed)
    return fit(config, recipe, training, cache=runs_folder()).model


def _latent_dimension(name: str, changes: Row) -> list[Point]:
    """The points of the sweep: 784-200-d on binarised digits, for d from 1 to 50, three seeds each."""
    data = Images(name, 60000)._replace(**changes)
    images = data.load().images
    shape: Any = tuple(images.shape[1:])
    config = VAEConfig(image_shape=shape, hidden=(200,), output_bias="data_mean", binarisation="dynamic")
    recipe = TrainConfig(epochs=8, batch_size=min(250, len(images)), learning_rate=4e-3)
    return [
        Point({}, data, replace(config, latent_dim=d), replace(recipe, seed=seed))
        for d in (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50)
        for seed in (0, 1, 2)
    ]


def _measure_digits(point: Point, run: Run) -> list[Row]:
    """One row: likelihood, reconstructions, dimensions in use and Fréchet distances of one training."""
    yardsticks = yardsticks_of(point.data, run.data.sha256, classify=True)
    model, d, seed = run.model, run.model_config.latent_dim, run.train_config.seed
    training, images = yardsticks.training.images, yardsticks.test.images
    test = images.float() / 255
    subset = loaded(point.data._replace(limit=2000, seed=0), "test", run.data.sha256).images
    spread = (test - (training.float() / 255).mean(0)).square().flatten(1).sum(1).mean()

    def unexplained(reconstructions: torch.Tensor) -> float:
        return ((reconstructions - test).square().flatten(1).sum(1).mean() / spread).item()

    evaluation, bound = evaluate(model, images), importance_weighted_bound(model, subset, samples=200)
    reconstructions = model.reconstruct(binarise(images, 0, "reconstruct").float() / 255)
    samples = model.sample(len(test), seed=seed)
    drawn, rebuilt = (yardsticks.frechet("classifier", x) for x in (samples, reconstructions))
    in_pca, pca = yardsticks.frechet("pca", samples), yardsticks.pca(test)[:, :d]
    row: Row = {"dim": d, "seed": seed, "epochs": run.train_config.epochs, "source": run.data.source}
    row |= {"training_images": len(training), "test_images": len(images), "nll_images": len(subset)}
    row |= {"negative_elbo": -evaluation.elbo, "elbo_error": evaluation.elbo_error, "kl": evaluation.kl}
    row |= {"nll": -bound.value, "nll_error": bound.error, "importance_samples": 200}
    row |= {"active": active_units(model, images), "used": sum(kl >= 0.1 for kl in evaluation.kl_per_dimension)}
    row |= {"left": unexplained(reconstructions), "left_from_grey": unexplained(model.reconstruct(test))}
    row |= {"pca_left": 1 - (pca.square().sum(1).mean() / spread).item()}
    row |= {"frechet": drawn.distance, "frechet_rebuilt": rebuilt.distance, "floor": drawn.floor}
    return [row | {"frechet_pca": in_pca.distance, "floor_pca": in_pca.floor}]


class Level(NamedTuple):
    """A mean, over seeds or images, with its standard error, which is nan for one; lower is better."""

    value: float
    error: float
    size: int  # of how many

    def beats(self, other: "Level") -> bool:
        """Whether it is lower by more than chance: Student's 95% interval of the difference leaves out 0."""
        t = stats.t.ppf(0.975, self.size + other.size - 2)
        return bool(other.value - self.value > t * (self.error**2 + other.error**2) ** 0.5)


def published() -> pd.DataFrame:
    """The published sweep, a row a training: "dim" its latent dimension, "seed", and what was measured."""
    names = {"left": "unexplained", "left_from_grey": "unexplained_grey", "pca_left": "unexplained_pca"}
    return load_sweep("latent_dimension").rename(columns=names)


def over_seeds(sweep: pd.DataFrame, column: str) -> dict[int, Level]:
    """The numbers in a column of a sweep as one level for each latent dimension "dim"."""
    groups = sweep.groupby("dim")[column]
    return {int(d): Level(float(of.mean()), float(of.sem()), len(of)) for d, of in groups}


def enough(levels: Mapping[int, Level]) -> int | None:
    """The smallest dimension that no other one beats; None where a level is not finite or has no error."""
    if not all(isfinite(number) for level in levels.values() for number in level):
        return None
    return next(d for d in sorted(levels) if not any(other.beats(levels[d]) for other in levels.values()))


class Claim(NamedTuple):
    """Whether every step up in latent dimension helps by more than chance, and up to where any does."""

    decision: Decision
    gains: tuple[float, ...]  # of the steps, in the order of the dimensions
    enough: int | None  # the smallest dimension that no other one beats


def decide(levels: Mapping[int, Level], dims: Sequence[int] = ()) -> Claim:
    """Claim 1 from a level for each latent dimension, by the steps through ``dims``, else through all of them."""
    dims, best = dims or sorted(levels), enough(levels)
    if best is None or len(dims) < 2 or not set(dims) <= levels.keys():
        return Claim("no verdict", (), best)
    steps = [(levels[low], levels[high]) for low, high in pairwise(dims)]
    holds, fails = all(b.beats(a) for a, b in steps), any(a.beats(b) for a, b in steps)
    gains = tuple(round(a.value - b.value, 2) for a, b in steps)
    return Claim("holds" if holds else "fails" if fails else "undecided", gains, best)


def parted(samples: Mapping[int, Level], reconstructions: Mapping[int, Level]) -> Decision:
    """Whether the two are best at different dimensions, and each is worse at the other's by more than chance."""
    a, b = enough(samples), enough(reconstructions)
    if a is None or b is None:
        return "no verdict"
    both = samples[a].beats(samples[b]) and reconstructions[b].beats(reconstructions[a])
    return "fails" if a == b else "holds" if both else "undecided"


def save_numbers(results: pd.DataFrame, sweep: pd.DataFrame, source: str) -> None:
    """Write the record of the notebook: the evaluation of its models by latent dimension, and the sweep's measures."""
    record, unit = [], "nats per image (Bernoulli, grey pixels)"
    for d, elbo, error, images in results[["elbo", "elbo_error", "images"]].itertuples():
        row = {"claim": f"test ELBO at {d} latent dimensions", "value": elbo, "unit": unit, "standard_error": error}
        record.append(row | {"seeds": 1, "images": images, "source": source, "tolerance": 2.0})
    for column, (name, unit) in MEASURES.items():
        of = {"images": int(sweep["nll_images" if column == "nll" else "test_images"][0]), "source": sweep["source"][0]}
        for d, (value, error, seeds) in over_seeds(sweep, column).items():
            row = {"claim": f"sweep: {name} at {d} latent dimensions", "value": value, "unit": unit}
            record.append(row | {"standard_error": error, "seeds": seeds} | of)
    save_results("01_latent_dimension", record)


def draw_samples(samples: torch.Tensor, latent_dim: int, training: ImageSet) -> Saved:
    """Save prior samples ``(n, C, H, W)`` of the model with ``latent_dim`` dimensions, a figure of the post."""
    of, title = f"a VAE with {latent_dim} latent dimensions", f"Generated with {latent_dim} latent dimensions"
    figure = image_sections(title, [Section(f"Prior samples, {training.title}, Bernoulli on grey pixels", samples)])
    alt = f"A grid of {len(samples)} images generated by {of} trained on {training.title}."
    caption = f"Prior samples of {of}; Bernoulli likelihood on grey pixels."
    return save(figure, f"latent_dim_{latent_dim}", alt=alt, caption=caption, source=training.source)


def draw_reconstructions(images: torch.Tensor, through: Mapping[int, torch.Tensor], test: ImageSet) -> Saved:
    """Save test ``images`` ``(n, C, H, W)`` over their reconstructions ``through`` each number of dimensions."""
    rows = {f"Test images ({test.title})": images} | {f"Through {d} dimensions": x for d, x in through.items()}
    figure = image_sections("Test images and their reconstructions", [Section(*row) for row in rows.items()])
    alt = f"{len(images)} test images, and their reconstructions through {', '.join(map(str, through))} dimensions."
    caption = "Reconstructions of test images: the decoder's mean at the encoder's mean."
    return save(figure, "latent_dim_reconstructions", alt=alt, caption=caption, source=test.source)


def draw_plane(model: VAE, test: ImageSet) -> Saved:
    """Save the plane of a model with two latent dimensions: test images by class, and what it decodes to."""
    means, classes = encode_means(model, test.images), len(test.labels.unique())
    figure = latent_plane(f"Two latent dimensions, {test.title}", means, test.labels, plane(model, 11, 2.5), 2.5)
    alt = f"{len(means):,} test images in the plane, coloured by {classes} classes; an 11 by 11 grid of decoded images."
    return save(figure, "latent_plane", alt=alt, caption="Two latent dimensions, drawn whole.", source=test.source)


def draw_traversals(model: VAE, test: ImageSet) -> Saved:
    """Save a walk from -2 to 2 along each of the six latent dimensions that ``model`` uses most, all others at 0."""
    title = f"The most used of {model.config.latent_dim} dimensions, from -2 to 2"
    return traversals(model, test, "latent_dim_traversals", title=title, dimensions=6)


def page_facts(test: ImageSet, dims: Sequence[int]) -> dict[str, str]:
    """Title, alt text, caption and source of the explorer's page."""
    alt = "Latent sliders beside the digits that they decode to, for each number of latent dimensions."
    title = f"{test.title}: {', '.join(map(str, dims))} latent dimensions"
    return {"title": title, "alt": alt, "caption": "A page without a server.", "source": test.source}


def draw_curves(sweep: pd.DataFrame) -> Saved:
    """Save likelihood, reconstructions, dimensions in use and samples over the latent dimension, a panel each."""
    by_dim, facts = sweep.groupby("dim"), sweep.iloc[0]
    mean, low, high = (of.to_dict("list") for of in (by_dim.mean(numeric_only=True), by_dim.min(), by_dim.max()))
    dims = list(by_dim.groups)

    def lines(**names: str) -> list[Line]:
        return [Line(name, dims, mean[c], i, "o-", low[c], high[c]) for i, (c, name) in enumerate(names.items())]

    nll, samples = (enough(over_seeds(sweep, column)) for column in ("nll", "frechet"))
    behind = zip(dims, mean["unexplained_pca"], mean["unexplained"], strict=True)
    ahead = next((f"ahead from {d} dimensions on" for d, pca, vae in behind if pca < vae), "behind everywhere")
    unexplained = [*lines(unexplained="VAE"), Line("PCA", dims, mean["unexplained_pca"], 9, ":")]
    used = [*lines(used="0.1 nats", active="active"), Line("all", dims, dims, 9, ":")]
    frechet = [*lines(frechet="generated", frechet_rebuilt="reconstructed"), Line("floor", dims, mean["floor"], 9, ":")]
    parts = [
        Panel(f"Likelihood: beyond chance none beats {nll}", "nats per image", lines(nll="NLL", negative_elbo="-ELBO")),
        Panel(f"Reconstructions: PCA is {ahead}", "fraction unexplained", unexplained),
        Panel(f"Used: {mean['used'][-1]:.0f} of {dims[-1]} carry 0.1 nats or more", "dimensions", used),
        Panel(f"Generated digits: beyond chance none beats {samples}", "Fréchet distance", frechet, log=True),
    ]
    title = f"From {dims[0]} to {dims[-1]} latent dimensions, {facts['source'].split(':')[0].upper()} binarised"
    figure = panels(title, parts, across="latent dimensions", ticks=[d for d in (1, 2, 4, 10, 20, 50) if d in dims])
    alt = f"Four charts over {dims[0]} to {dims[-1]} latent dimensions. {'. '.join(part.message for part in parts)}."
    caption = f"Means over seeds, bars from least to most. NLL: {facts['importance_samples']} importance samples of "
    caption += f"{facts['nll_images']:,} test images. Fréchet distances of decoder means, in a classifier's features."
    return save(figure, "latent_dim_curves", alt=alt, caption=caption, source=facts["source"], svg=True)
