"""What to do instead: a ladder from the post's recipe to sharper images, a change a rung."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import isfinite
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from vae_core import quality
from vae_core.metrics import evaluate
from vae_core.model import VAE, VAEConfig
from vae_core.noise import generator, noise
from vae_core.runs import Run
from vae_core.scores import Yardsticks, meaning
from vae_core.study.sweep import AWAY, Images, Point, Row, _against, _t95
from vae_core.train import TrainConfig

RUNGS: dict[str, Row] = {
    "mean of squares": {},
    "sum of squares": {"sigma": math.sqrt(1 / 2)},
    "learned sigma": {"sigma": "learned"},
    "convolution": {"architecture": "conv", "hidden": (16, 32, 64)},
    "logistic": {"likelihood": "logistic"},
    "warm-up of beta": {"beta_warmup": 1 / 3},
}


DRAWN = 1000  # images a step, and test images


def _ladder(latents: int, name: str, own: Row) -> list[Point]:
    data = Images(name, 5000)._replace(**own)
    images = data.load().images
    shape: Any = tuple(images.shape[1:])
    n, sigma, found = len(images), math.sqrt(math.prod(shape) / 2), []
    batch = min(16, n)
    for seed in (0, 1, 2):
        model = VAEConfig(shape, latents, hidden=(256, 128), likelihood="gaussian", sigma=sigma)
        recipe = TrainConfig(epochs=math.ceil(2000 * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
        for step, change in RUNGS.items():
            if "beta_warmup" in change:
                recipe = replace(recipe, **change)
            else:
                model = replace(model, **change)
            found.append(Point({"step": step}, data, model, recipe))
    return found


def ladder_row(model: VAE, drawn: Tensor, against: Yardsticks) -> Row:
    """What is measured after a step of the ladder, of the model and of images ``drawn``, ``(N, C, H, W)`` in [0, 1]."""
    test = against.test.images.float() / 255
    rebuilt, held = model.reconstruct(test).clip(0, 1), evaluate(model, against.test.images)
    row = {"sharpness": quality.sharpness(drawn, test), "sharpness_reconstructed": quality.sharpness(rebuilt, test),
           "ssim": quality.ssim(rebuilt, test).mean().item(), "squared_error": held.squared_error, "kl": held.kl,
           "elbo": held.elbo, "elbo_error": held.elbo_error, "nats": meaning(model.measure, model.config)}  # fmt: skip
    for kind in ("pca", "classifier") if against.classifier else ("pca",):
        found, name = against.frechet(kind, drawn), "frechet" if kind == "pca" else f"frechet_{kind}"
        row |= {name: found.distance, f"{name}_floor": found.floor}
    return row


def _measure_ladder(point: Point, run: Run) -> list[Row]:
    against = _against(point.data, run.data.sha256, DRAWN)
    images, model, seed = against.training.images, run.model, run.train_config.seed
    drawn = {point.labels["step"]: model.sample(DRAWN, seed=seed)}
    if point.labels["step"] == list(RUNGS)[-1]:
        drawn["mixture for z"] = sample_mixture(model, images, DRAWN, components=min(20, len(images)), seed=seed)
    own = {"seed": seed, "training_steps": run.train_config.steps(len(images))}
    return [{"step": step} | own | ladder_row(model, x.clip(0, 1), against) for step, x in drawn.items()]


_OF_LADDER = {
    "frechet": ("Fréchet distance, drawn", "squared grey levels"),
    "sharpness": ("Sharpness, drawn (data: 0)", "log energy ratio"),
    "ssim": ("SSIM, reconstructed", "1 is a copy"),
}


@torch.no_grad()
def sample_mixture(model: VAE, images: Tensor, n: int, *, components: int = 20, seed: int = 0) -> Tensor:
    """``n`` images from a Gaussian mixture instead of N(0, I): decoder means, ``(n, C, H, W)``, on the CPU.

    The mixture, of full covariances, is fitted to one posterior sample of each of the uint8 ``images``, which follow
    the aggregated posterior. It is another model of z, for drawing only: the ELBO stays under N(0, I).

    Raises:
        ValueError: for fewer images than components.
    """
    from sklearn.mixture import GaussianMixture  # here: it takes a second to import

    if len(images) < components:
        raise ValueError(f"a mixture of {components} components needs as many images, not {len(images)}")
    posteriors = [model.encode(part.to(model.output_bias) / 255) for part in images.split(1000)]
    mean, deviation = (torch.cat(parts).cpu() for parts in zip(*posteriors, strict=True))  # (N, latent_dim)
    z = mean + deviation * noise(tuple(mean.shape), seed, "mixture")
    start = int(generator(seed, "mixture start").integers(2**32))
    mixture = GaussianMixture(components, random_state=start, reg_covar=1e-4, max_iter=300, tol=1e-2)
    drawn, _ = mixture.fit(z.double().numpy()).sample(n)
    order = generator(seed, "mixture order").permutation(n)  # they come component by component
    return model.decode(torch.from_numpy(drawn[order]).to(model.output_bias)).mean.cpu()


def ladder(scores: Mapping[str, Sequence[float]], what: str, *, posts_setting: bool) -> str:
    """Which step of a ladder bought the most and which bought nothing or hurt.

    ``scores`` is, for each step in order, a distance from the ideal, 0 or more, a number a seed, the same seeds at
    every step: what a step bought is the mean fall over the seeds. Its sign counts as known where the 95% interval
    of that mean leaves out 0.
    """
    if not posts_setting:
        return AWAY
    seeds = {len(values) for values in scores.values()}
    if len(scores) < 2 or len(seeds) != 1 or min(seeds) < 2:
        return "No verdict: it takes two steps, and two seeds of each."
    if not all(isfinite(value) for values in scores.values() for value in values):
        return "No verdict: a score is not a number."
    bought: dict[str, list[str]] = {"helped": [], "nothing": [], "hurt": []}
    falls: dict[str, float] = {}
    for (_, before), (step, after) in pairwise(scores.items()):
        each = [b - a for b, a in zip(before, after, strict=True)]
        falls[step] = fmean(each)
        unsure = abs(falls[step]) <= _t95(len(each) - 1) * stdev(each) / len(each) ** 0.5
        bought["nothing" if unsure else "helped" if falls[step] > 0 else "hurt"].append(step)
    first, *_, last = (fmean(values) for values in scores.values())
    told = [f"{what} goes from {first:.2f} to {last:.2f}."]
    best = max(bought["helped"], key=lambda step: falls[step], default="")
    told.append(
        f"Of the certain steps {best} bought the most ({falls[best]:+.2f})." if best else "No step helped for certain."
    )
    for key, words in (("helped", "Helped too"), ("nothing", "Undecided"), ("hurt", "Hurt")):
        named = [f"{step} ({falls[step]:+.2f})" for step in bought[key] if step != best]
        told += [f"{words}: {', '.join(named)}."] if named else []
    return " ".join(told)
