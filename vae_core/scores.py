"""All that is measured of a trained model at once, and whether two models' numbers may stand side by side."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae_core import quality
from vae_core.data import ImageSet, as_seen
from vae_core.likelihood import Measure
from vae_core.metrics import (
    Mean,
    active_units,
    bits_per_dimension,
    evaluate,
    importance_weighted_bound,
    kl_decomposition,
)
from vae_core.model import VAE, VAEConfig
from vae_core.runs import Run

TERMS = ("elbo", "reconstruction", "kl")
SUBSET = 1000  # images for what grows with their square, or is measured one by one


class Scores(NamedTuple):
    """What a model achieves on test images; likelihoods in nats per image, a standard error beside each mean.

    Reconstructions and samples are decoder means without pixel noise, and are held against the images as they are
    in the set, also where the model sees them binarised. Those marked * are of up to 1,000 images, drawn by the seed.
    """

    measure: Measure  # what the likelihoods are; "neither": of grey pixels under Bernoulli, to compare with none
    images: int
    elbo: Mean
    reconstruction: Mean
    kl: Mean
    kl_per_dimension: tuple[float, ...]
    bound: Mean | None  # importance-weighted; None for an optimal sigma, which has none
    bound_samples: int
    bits_per_dimension: Mean | None  # of the bound, where the likelihood is of 8-bit values
    active_units: int
    mutual_information: Mean  # * nats, at most log of the number of images
    marginal_kl: Mean  # * KL of the aggregated posterior to the prior, nats
    psnr: Mean  # * of reconstructions, decibels
    ssim: Mean  # * of reconstructions
    reconstruction_sharpness: float  # log ratio of Laplacian energy to the test images'; 0 is right, below is blur
    reconstruction_high_frequency: float
    sample_sharpness: float
    sample_high_frequency: float
    # of as many samples as test images, with the floor; None for one image, or yardsticks without a classifier
    frechet_pca: quality.FrechetDistances | None
    frechet_classifier: quality.FrechetDistances | None
    sample_nearest: Mean  # * squared distance a pixel to the nearest training image
    test_nearest: Mean  # * the same of test images, which cannot be copies


class Yardsticks:
    """What models are measured against: test and training images, and features that the latter are described by."""

    def __init__(self, test: ImageSet, training: ImageSet, *, seed: int = 0, classify: bool | None = None) -> None:
        """``seed`` is that of every draw and measurement. ``classify``: whether there is a classifier of the training
        images; unless stated, there is one of grey images of 8x8 or more with two classes or more.

        Raises:
            ValueError: when a set is empty, the shapes differ, or a classifier is wanted and there are no classes.
        """
        for images in (test.images, training.images):
            if len(images) == 0 or images.shape[1:] != test.images.shape[1:]:
                shapes = f"{tuple(test.images.shape)} and {tuple(training.images.shape)}"
                raise ValueError(f"test and training images of one shape are needed, not {shapes}")
        channels, *size = training.images.shape[1:]
        classes = len(training.labels.unique())
        if classify and classes < 2:
            raise ValueError(f"a classifier needs two classes or more, the training images have {classes}")
        self.test, self.training, self.seed = test, training, seed
        self.subset = torch.from_numpy(np.random.default_rng(seed).permutation(len(test.images))[:SUBSET])
        self._classify = (channels == 1 and classes > 1 and min(size) >= 8) if classify is None else classify
        self._features: dict[str, tuple[Tensor, Tensor]] = {}  # of training and test images, by kind

    @cached_property
    def pca(self) -> Callable[[Tensor], Tensor]:
        """Coordinates of float images along up to 50 principal components of the training images."""
        x = self.training.images.float() / 255
        return quality.components(x, min(50, len(x) - 1, x[0].numel()))

    @cached_property
    def classifier(self) -> nn.Sequential | None:
        """A classifier of the training images, see :func:`vae_core.quality.train_classifier`; None without."""
        labels = self.training.labels
        return quality.train_classifier(self.training.images, labels, seed=self.seed) if self._classify else None

    def frechet(self, kind: Literal["pca", "classifier"], images: Tensor) -> quality.FrechetDistances:
        """Fréchet distances of float images ``(N, C, H, W)``, and of as many test images, to all training images.

        Raises:
            ValueError: when there is no such classifier, or one image only on any side.
        """
        features = self.pca
        if kind == "classifier":
            if self.classifier is None:
                raise ValueError("there is no classifier of these training images: classify=True asks for one")
            features = partial(quality.classifier_features, self.classifier)
        if kind not in self._features:
            training, test = (features(images.images.float() / 255) for images in (self.training, self.test))
            self._features[kind] = training, test
        return quality.frechet_against_floor(features(images), *self._features[kind], seed=self.seed)


@torch.no_grad()
def score(model: VAE, against: Yardsticks, *, samples: int = 500) -> Scores:
    """Measure ``model``; ``samples`` is the number of importance samples of the bound.

    Raises:
        ValueError: when the images are not of the model's shape, or ``samples`` is below 1.
    """
    images, training = against.test.images, against.training.images.float() / 255
    seed, config, smaller_side = against.seed, model.config, min(images.shape[2:])
    evaluation = evaluate(model, images, seed=seed)
    bound = bits = None
    if config.sigma != "optimal":
        bound = importance_weighted_bound(model, images, samples=samples, seed=seed)
        if config.likelihood == "logistic":
            nats = math.prod(config.image_shape) * math.log(2)
            bits = Mean(bits_per_dimension(bound.value, config), bound.error / nats)

    subset = images[against.subset]
    decomposition = kl_decomposition(model, subset, seed=seed)
    seen = as_seen(subset, config.binarisation, seed, "reconstruct").float() / 255
    rebuilt, drawn = model.reconstruct(seen).float(), model.sample(len(images), seed=seed).float()
    test, originals = images.float() / 255, subset.float() / 255
    several = len(images) > 1 and len(training) > 1
    return Scores(
        measure=model.measure,
        images=evaluation.images,
        **{term: Mean(getattr(evaluation, term), getattr(evaluation, f"{term}_error")) for term in TERMS},
        kl_per_dimension=evaluation.kl_per_dimension,
        bound=bound,
        bound_samples=samples,
        bits_per_dimension=bits,
        active_units=active_units(model, images, seed=seed),
        **decomposition._asdict(),
        psnr=Mean.of(quality.psnr(rebuilt, originals)),
        ssim=Mean.of(quality.ssim(rebuilt, originals, window=min(7, (smaller_side - 1) // 2 * 2 + 1))),
        reconstruction_sharpness=quality.sharpness(rebuilt, test),
        reconstruction_high_frequency=quality.sharpness(rebuilt, test, quality.high_frequency_energy),
        sample_sharpness=quality.sharpness(drawn, test),
        sample_high_frequency=quality.sharpness(drawn, test, quality.high_frequency_energy),
        frechet_pca=against.frechet("pca", drawn) if several else None,
        frechet_classifier=against.frechet("classifier", drawn) if several and against.classifier else None,
        sample_nearest=Mean.of(quality.nearest(drawn[:SUBSET], training).distance),
        test_nearest=Mean.of(quality.nearest(originals, training).distance),
    )


class Detail(NamedTuple):
    """Decoder means held against training images: reconstructions of the first 1,000, and 1,000 prior samples.

    Sharpness is a log ratio of energies (0 is right, below is blur), with the standard error of the logarithm.
    """

    sample_sharpness: Mean  # by the Laplacian
    sample_high_frequency: float
    sample_nearest: float  # of 200 samples, squared distance a pixel to the nearest of all training images
    reconstruction_sharpness: Mean
    reconstruction_high_frequency: float
    squared_error: float  # of reconstructions, a pixel
    ssim: float  # of reconstructions
    mutual_information: float  # nats
    active_units: int


@torch.no_grad()
def detail(model: VAE, training: Tensor, *, seed: int = 0) -> Detail:
    """Hold the samples and the reconstructions of ``model`` against its uint8 ``training`` images, apart."""
    subset = training[:SUBSET].cpu()
    originals, drawn = subset.float() / 255, model.sample(SUBSET, seed=seed)
    rebuilt = model.reconstruct(originals)

    def sharpness(images: Tensor) -> Mean:
        energy = Mean.of(quality.laplacian_energy(images))
        return Mean(quality.sharpness(images, originals), energy.error / energy.value)

    return Detail(
        sample_sharpness=sharpness(drawn),
        sample_high_frequency=quality.sharpness(drawn, originals, quality.high_frequency_energy),
        sample_nearest=quality.nearest(drawn[:200], training.float() / 255).distance.mean().item(),
        reconstruction_sharpness=sharpness(rebuilt),
        reconstruction_high_frequency=quality.sharpness(rebuilt, originals, quality.high_frequency_energy),
        squared_error=(rebuilt - originals).square().mean().item(),
        ssim=quality.ssim(rebuilt, originals).mean().item(),
        mutual_information=kl_decomposition(model, subset, samples=4, seed=seed).mutual_information.value,
        active_units=active_units(model, subset, seed=seed),
    )


def meaning(measure: Measure, config: VAEConfig) -> str:
    """What the numbers in nats of a model are, in words."""
    if measure == "neither":
        return "not a likelihood: grey pixels under Bernoulli"
    if config.binarisation != "none":
        return f"log probability of images with {config.binarisation} binarisation"
    return "log probability of 8-bit images" if measure == "probability" else "log density of grey levels in [0, 1]"


def check_comparable(runs: Sequence[Run]) -> None:
    """Nothing, if the numbers of these runs may stand side by side.

    Raises:
        ValueError: when two were trained on other images, or their log probabilities are of different things.
    """
    first = runs[0]
    for run in runs[1:]:
        names = f"{run_name(first)} and {run_name(run)} cannot be compared"
        if run.data.sha256 != first.data.sha256:
            sets = [f"{r.data.images:,} images of {r.data.source or 'unknown source'}" for r in (first, run)]
            raise ValueError(f"{names}: they were trained on different images ({' and '.join(sets)})")
        what, other = (meaning(r.model.measure, r.model_config) for r in (first, run))
        if what != other:
            raise ValueError(f"{names}: {what}, against {other}")


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, by name, with the value of each run."""
    settings = [asdict(run.model_config) | asdict(run.train_config) for run in runs]
    columns = {name: [values[name] for values in settings] for name in settings[0]}
    return {name: values for name, values in columns.items() if any(value != values[0] for value in values)}


def run_name(run: Run) -> str:
    """The name of a run's folder."""
    return run.path.name if run.path else "a run without a folder"


UNITS = {
    **dict.fromkeys((*TERMS, "bound", "mutual_information", "marginal_kl"), "nats"),
    **dict.fromkeys(("sample_nearest", "test_nearest"), "grey levels squared a pixel"),
    "bits_per_dimension": "bits",
    "psnr": "dB",
}


def table(scores: Sequence[Scores], heads: Sequence[str]) -> str:
    """Scores side by side as text: a row a score, a column a model, standard errors behind ±."""
    from pandas import DataFrame

    rows = DataFrame(scores, index=heads).drop(columns="bound_samples").dropna(axis="columns", how="all").map(_text).T
    labels = {name: name.replace("_", " ") for name in rows.index}
    labels["bound"] = f"importance-weighted bound, {scores[0].bound_samples} samples"
    return rows.rename(lambda name: labels[name] + (f" ({UNITS[name]})" if name in UNITS else "")).to_string()


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case Mean():
            digits = 2 if abs(value.value) >= 1 or value.value == 0 else 4
            return f"{value.value:.{digits}f} ± {value.error:.{digits}f}"
        case quality.FrechetDistances():
            return f"{value.distance:.2f} (floor {value.floor:.2f})"
        case tuple():
            return " ".join(f"{kl:.2f}" for kl in sorted(value, reverse=True)[:8]) + (" …" if len(value) > 8 else "")
        case float():
            return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def to_json(value: Any) -> str:
    """Scores, or a dictionary of them, as JSON; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        value = value._asdict() if hasattr(value, "_asdict") else value
        match value:
            case dict():
                return {key: plain(item) for key, item in value.items()}
            case list() | tuple():
                return [plain(item) for item in value]
            case float() if not math.isfinite(value):
                return None
        return value

    return json.dumps(plain(value), indent=1)
