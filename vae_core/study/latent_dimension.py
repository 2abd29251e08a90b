"""Claim 1: digits improve as the latent dimension goes 2, 4, 10."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite, isnan, nan
from statistics import fmean, stdev
from typing import Any, NamedTuple

from torch import Tensor

from vae_core.data import binarise
from vae_core.metrics import active_units, evaluate, importance_weighted_bound
from vae_core.model import VAEConfig
from vae_core.runs import Run
from vae_core.study.sweep import AWAY, Images, Point, Row, _against, _given, _t95
from vae_core.train import TrainConfig


def _latent_dimension(name: str, own: Row) -> list[Point]:
    data = Images(name, 60000)._replace(**own)
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
    against = _against(point.data, run.data.sha256, classify=True)
    model, d, seed = run.model, run.model_config.latent_dim, run.train_config.seed
    training, images = against.training.images, against.test.images
    test = images.float() / 255
    few = _given(point.data._replace(limit=2000, seed=0), "test", run.data.sha256).images
    spread = (test - (training.float() / 255).mean(0)).square().flatten(1).sum(1).mean()

    def left(rebuilt: Tensor) -> float:
        return ((rebuilt - test).square().flatten(1).sum(1).mean() / spread).item()

    found = evaluate(model, images)
    bound = importance_weighted_bound(model, few, samples=200)
    rebuilt = model.reconstruct(binarise(images, 0, "reconstruct").float() / 255)
    drawn = model.sample(len(test), seed=seed)
    of_drawn, of_rebuilt = (against.frechet("classifier", x) for x in (drawn, rebuilt))
    pca, pca_test = against.frechet("pca", drawn), against.pca(test)
    return [{
        "dim": d, "seed": seed, "epochs": run.train_config.epochs,
        "training_images": len(training), "test_images": len(test),
        "negative_elbo": -found.elbo, "elbo_error": found.elbo_error, "kl": found.kl,
        "nll": -bound.value, "nll_error": bound.error, "nll_images": len(few), "importance_samples": 200,
        "active": active_units(model, images), "used": sum(kl >= 0.1 for kl in found.kl_per_dimension),
        "left": left(rebuilt), "left_from_grey": left(model.reconstruct(test)),
        "pca_left": 1 - (pca_test[:, :d].square().sum(1).mean() / spread).item(),
        "frechet": of_drawn.distance, "frechet_rebuilt": of_rebuilt.distance, "floor": of_drawn.floor,
        "frechet_pca": pca.distance, "floor_pca": pca.floor, "source": run.data.source,
    }]  # fmt: skip


def latent_dimension(elbo: Mapping[int, float], error: Mapping[int, float], *, posts_setting: bool) -> str:
    """Claim 1, from the mean test ELBO and its standard error by latent dimension, nats per image."""
    if not posts_setting:
        return AWAY
    dims = sorted(elbo)
    if len(dims) < 2:
        return "No verdict: it takes two latent dimensions to compare."
    if not all(map(isfinite, (*elbo.values(), *error.values()))):
        return "No verdict: a number is not finite."
    steps = [(elbo[high] - elbo[low], 2 * (error[low] ** 2 + error[high] ** 2) ** 0.5) for low, high in pairwise(dims)]
    told = f"The test ELBO goes {', '.join(f'{elbo[d]:.1f}' for d in dims)} nats at {', '.join(map(str, dims))}."
    if all(gain > noise for gain, noise in steps):
        return f"The claim holds: every step up in latent dimension helps. {told}"
    if any(gain < -noise for gain, noise in steps):
        return f"The claim fails: a step up in latent dimension hurts. {told}"
    return f"Undecided: for at least one step chance may be all. {told}"


class Level(NamedTuple):
    """A mean over seeds with its standard error, which is nan for one seed."""

    value: float
    error: float
    seeds: int

    def beats(self, other: "Level") -> bool:
        """Whether it is lower by more than chance: the 95% interval of the difference leaves out 0."""
        t = _t95(self.seeds + other.seeds - 2) if self.seeds > 1 else nan
        return other.value - self.value > t * (self.error**2 + other.error**2) ** 0.5


def over_seeds(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, Level]:
    """The numbers ``key`` of a sweep, a row a training with its "dim", as one level a latent dimension."""
    by_dim: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["dim"]):
        by_dim.setdefault(row["dim"], []).append(row[key])
    return {d: Level(fmean(v), stdev(v) / len(v) ** 0.5 if len(v) > 1 else nan, len(v)) for d, v in by_dim.items()}


def enough(levels: Mapping[int, Level]) -> int:
    """The smallest dimension that no other one beats; lower levels are better."""
    return next(d for d in sorted(levels) if not any(other.beats(levels[d]) for other in levels.values()))


def latent_sweep(measures: Mapping[str, Mapping[int, Level]], *, posts_setting: bool) -> str:
    """Claim 1 beyond 10 dimensions: "likelihood", "reconstructions" and "samples" by dimension, lower is better.

    "rebuilt", if there, is the samples' measure taken of reconstructions.
    """
    if not posts_setting:
        return AWAY
    if any(isnan(number) for levels in measures.values() for level in levels.values() for number in level):
        return "No verdict: it takes two seeds or more, and numbers."
    found: dict[str, list[str]] = {"holds": [], "fails": [], "is undecided": []}
    for name, levels in measures.items():
        if name == "rebuilt":
            continue
        steps = [(levels[low], levels[high]) for low, high in pairwise((2, 4, 10))]
        holds, fails = all(b.beats(a) for a, b in steps), any(a.beats(b) for a, b in steps)
        found["holds" if holds else "fails" if fails else "is undecided"].append(name)
    lists = {how: " and ".join(", ".join(names).rsplit(", ", 1)) for how, names in found.items() if names}
    told = [f"From 2 to 4 to 10 the claim {how} for {names}." for how, names in lists.items()]

    nll, samples, seen = (measures[name] for name in ("likelihood", "samples", "reconstructions"))
    stop, most = enough(nll), max(nll)
    if stop == most:
        told.append(f"The likelihood still improves at {most} dimensions, the most that were tried.")
    else:
        worse = f", and {most} are worse" if nll[stop].beats(nll[most]) else ""
        told.append(f"Beyond chance no likelihood beats that of {stop} dimensions{worse}.")
    drawn, rebuilt = enough(samples), enough(seen)
    best = f"beyond chance none beats {drawn} dimensions for samples, and {rebuilt} for reconstructions"
    if drawn == rebuilt:
        told.append(f"Samples and reconstructions do not part: beyond chance none beats {drawn} dimensions for either.")
    elif samples[drawn].beats(samples[rebuilt]) and seen[rebuilt].beats(seen[drawn]):
        told.append(f"They part: {best}, and each is worse at the other's.")
    else:
        told.append(f"Whether they part is undecided: {best}, but the difference may be chance.")
    if rebuilt_too := measures.get("rebuilt"):
        times = [f"{samples[d].value / rebuilt_too[d].value:.1f} at {d}" for d in sorted({2, 10, drawn})]
        told.append(f"The distance of samples over that of reconstructions: {', '.join(times)}.")
    return " ".join(told)
