"""All that is measured of a trained model at once, and whether two models' numbers may stand side by side."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_core import quality
from vae_core.data import ImageSet, as_meant
from vae_core.likelihood import Measure
from vae_core.metrics import Mean, active_units, bits_per_dimension, evaluate, importance_weighted_bound, information
from vae_core.model import VAE, VAEConfig
from vae_core.runs import Run

FEW = 1000  # images for what grows with their square, or is measured one by one


class Scores(NamedTuple):
    """What a model achieves on test images; likelihoods in nats per image, a standard error beside each mean.

    Reconstructions and samples are decoder means without pixel noise, and are held against the images as they were
    given, also where the model sees them binarised. Those marked * are of up to 1,000 images, drawn by the seed.
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
    mismatch: Mean  # * KL of the aggregated posterior to the prior, nats
    psnr: Mean  # * of reconstructions, decibels
    ssim: Mean  # * of reconstructions
    reconstruction_sharpness: float  # log ratio of Laplacian energy to the test images'; 0 is right, below is blur
    reconstruction_high_frequency: float
    sample_sharpness: float
    sample_high_frequency: float
    frechet_pca: quality.FrechetDistances | None  # of as many samples as test images, with the floor
    frechet_classifier: quality.FrechetDistances | None  # None without two classes, or for images under 8 pixels
    sample_nearest: Mean  # * squared distance a pixel to the nearest training image
    test_nearest: Mean  # * the same of test images, which cannot be copies


class Yardsticks:
    """What models are measured against: test and training images, and a classifier trained on the latter."""

    def __init__(self, test: ImageSet, training: ImageSet, *, seed: int = 0) -> None:
        """``test`` and ``training`` are sets of images of one shape.

        Raises:
            ValueError: when one is empty, or the shapes differ.
        """
        for images in (test.images, training.images):
            if len(images) == 0 or images.shape[1:] != test.images.shape[1:]:
                raise ValueError(
                    f"test and training images of one shape are needed, not {tuple(test.images.shape)} "
                    f"and {tuple(training.images.shape)}"
                )
        self.test, self.training, self.seed = test.images, training.images, seed
        self.few = torch.from_numpy(np.random.default_rng(seed).permutation(len(test.images))[:FEW])
        self.classifier = None
        if len(training.labels.unique()) > 1 and min(training.images.shape[2:]) >= 8:
            self.classifier = quality.train_classifier(training.images, training.labels, seed=seed)


@torch.no_grad()
def score(model: VAE, against: Yardsticks, *, samples: int = 500) -> Scores:
    """Measure ``model``; ``samples`` is the number of importance samples of the bound.

    Raises:
        ValueError: when the images are not of the model's shape, or ``samples`` is below 1.
    """
    if samples < 1:
        raise ValueError(f"samples must be 1 or more, not {samples}")
    shape = tuple(against.test.shape[1:])
    if shape != model.config.image_shape:
        raise ValueError(f"the images are {shape}, the model takes {model.config.image_shape}")
    seed, config = against.seed, model.config
    found = evaluate(model, against.test, seed=seed)
    few = against.test[against.few]
    held = information(model, few, seed=seed)
    bound = bits = None
    if config.sigma != "optimal":
        bound = importance_weighted_bound(model, against.test, samples=samples, seed=seed)
        if config.likelihood == "logistic":
            nats = math.prod(config.image_shape) * math.log(2)
            bits = Mean(bits_per_dimension(bound.value, config), bound.error / nats)

    seen = as_meant(few, config.binarisation, seed, "reconstruct").float() / 255
    given = few.float() / 255
    reconstructions = model.reconstruct(seen).float()
    drawn = model.sample(len(against.test), seed=seed).float()
    training, test = against.training.float() / 255, against.test.float() / 255
    return Scores(
        measure=model.measure,
        images=found.images,
        elbo=Mean(found.elbo, found.elbo_error),
        reconstruction=Mean(found.reconstruction, found.reconstruction_error),
        kl=Mean(found.kl, found.kl_error),
        kl_per_dimension=found.kl_per_dimension,
        bound=bound,
        bound_samples=samples,
        bits_per_dimension=bits,
        active_units=active_units(model, against.test, seed=seed),
        mutual_information=held.mutual_information,
        mismatch=held.mismatch,
        psnr=Mean.of(quality.psnr(reconstructions, given)),
        ssim=Mean.of(quality.ssim(reconstructions, given, window=min(7, (min(shape[1:]) - 1) // 2 * 2 + 1))),
        reconstruction_sharpness=quality.sharpness(reconstructions, test),
        reconstruction_high_frequency=quality.high_frequency_sharpness(reconstructions, test),
        sample_sharpness=quality.sharpness(drawn, test),
        sample_high_frequency=quality.high_frequency_sharpness(drawn, test),
        frechet_pca=_frechet_pca(drawn, training, test, seed),
        frechet_classifier=None
        if against.classifier is None or len(test) < 2
        else quality.frechet_against_floor(
            *(quality.classifier_features(against.classifier, images) for images in (drawn, training, test)), seed=seed
        ),
        sample_nearest=Mean.of(quality.nearest(drawn[:FEW], training).distance),
        test_nearest=Mean.of(quality.nearest(given, training).distance),
    )


def _frechet_pca(
    drawn: torch.Tensor, training: torch.Tensor, test: torch.Tensor, seed: int
) -> quality.FrechetDistances | None:
    dimensions = min(50, len(training) - 1, training[:1].numel())
    if dimensions < 1 or len(test) < 2:
        return None
    parts = quality.pca_features(torch.cat([drawn, training, test]), training, dimensions)
    return quality.frechet_against_floor(*parts.split([len(drawn), len(training), len(test)]), seed=seed)


class Detail(NamedTuple):
    """What became of the training images and of the detail in them: of the first 1,000, and of 1,000 prior samples.

    Sharpness is a log ratio of energies to the training images' (0 is right, below is blur); its error is the standard
    error over images of the logarithm. Images drawn are decoder means, without pixel noise.
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
def detail(model: VAE, training: torch.Tensor, *, seed: int = 0) -> Detail:
    """Hold the samples and the reconstructions of ``model`` against its uint8 ``training`` images, apart."""
    few = training[:FEW].cpu()
    given, drawn = few.float() / 255, model.sample(FEW, seed=seed)
    rebuilt = model.reconstruct(given)

    def sharp(images: torch.Tensor) -> Mean:
        energy = Mean.of(quality.laplacian_energy(images))
        return Mean(quality.sharpness(images, given), energy.error / energy.value)

    return Detail(
        sample_sharpness=sharp(drawn),
        sample_high_frequency=quality.high_frequency_sharpness(drawn, given),
        sample_nearest=quality.nearest(drawn[:200], training.float() / 255).distance.mean().item(),
        reconstruction_sharpness=sharp(rebuilt),
        reconstruction_high_frequency=quality.high_frequency_sharpness(rebuilt, given),
        squared_error=(rebuilt - given).square().mean().item(),
        ssim=quality.ssim(rebuilt, given).mean().item(),
        mutual_information=information(model, few, samples=4, seed=seed).mutual_information.value,
        active_units=active_units(model, few, seed=seed),
    )


def meaning(measure: Measure, config: VAEConfig) -> str:
    """What the numbers in nats of a model are, in words."""
    if measure == "neither":
        return "not a likelihood: grey pixels under Bernoulli"
    if config.binarisation != "none":
        return f"log probability of images binarised {config.binarisation}"
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
            told = (f"{one.data.images:,} images of {one.data.source or 'unknown source'}" for one in (first, run))
            raise ValueError(f"{names}: they were trained on different images ({' and '.join(told)})")
        what = [meaning(one.model.measure, one.model_config) for one in (first, run)]
        if what[0] != what[1]:
            raise ValueError(f"{names}: {what[0]}, against {what[1]}")


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings in which runs differ, by name, with the value of each run."""
    settings = [asdict(run.model_config) | asdict(run.train_config) for run in runs]
    return {
        key: [one[key] for one in settings]
        for key in settings[0]
        if any(one[key] != settings[0][key] for one in settings)
    }


def run_name(run: Run) -> str:
    """The name of a run's folder."""
    return run.path.name if run.path else "a run that was not kept"


UNITS = {
    "elbo": "nats",
    "reconstruction": "nats",
    "kl": "nats",
    "bound": "nats",
    "bits_per_dimension": "bits",
    "mutual_information": "nats",
    "mismatch": "nats",
    "psnr": "dB",
    "sample_nearest": "grey levels squared a pixel",
    "test_nearest": "grey levels squared a pixel",
}


def table(found: Sequence[Scores], heads: Sequence[str]) -> str:
    """Scores side by side as text: a row a score, a column a model, standard errors behind ±."""
    rows = [["", *heads]]
    for name in Scores._fields:
        values = [getattr(scores, name) for scores in found]
        if all(value is None for value in values):
            continue
        unit = f" ({UNITS[name]})" if name in UNITS else ""
        label = name.replace("_", " ") + unit
        if name == "bound":
            label = f"importance-weighted bound, {found[0].bound_samples} samples (nats)"
        if name != "bound_samples":
            rows.append([label, *(_told(value) for value in values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _told(value: Any) -> str:
    match value:
        case None:
            return "-"
        case Mean():
            digits = 2 if abs(value.value) >= 1 or value.value == 0 else 4
            return f"{value.value:.{digits}f} ± {value.error:.{digits}f}"
        case quality.FrechetDistances():
            return f"{value.distance:.2f} (floor {value.floor:.2f})"
        case tuple():
            return " ".join(f"{one:.2f}" for one in sorted(value, reverse=True)[:8]) + (" …" if len(value) > 8 else "")
        case float():
            return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def to_json(value: Any) -> str:
    """Scores, or a dictionary of them, as JSON; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if hasattr(value, "_asdict"):
            return plain(value._asdict())
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(value), indent=1)


class _Yardsticks(NamedTuple):
    """Images and their features, to hold a model against."""

    training: ImageSet
    test: ImageSet
    kinds: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, Tensor]]  # features of any, training and test images

    def frechet(self, kind: str, images: Tensor) -> quality.FrechetDistances:
        features, training, test = self.kinds[kind]
        return quality.frechet_against_floor(features(images), training, test)


def yardsticks(training: ImageSet, test: ImageSet, classify: bool | None = None) -> _Yardsticks:
    """What the Fréchet distances need, found once: 50 principal components and, else of grey images only, a classifier.

    Raises:
        ValueError: when there are fewer than two training images, or a classifier is wanted and they have no classes.
    """
    grey, x = (one.images.float() / 255 for one in (training, test))
    pca = quality.components(grey, min(50, len(grey) - 1))
    found = {"pca": (pca, pca(grey), pca(x))}
    if classify or (classify is None and grey.shape[1] == 1 and len(training.labels.unique()) > 1):
        of = partial(quality.classifier_features, quality.train_classifier(training.images, training.labels))
        found["classifier"] = (of, of(grey), of(x))
    return _Yardsticks(training, test, found)
