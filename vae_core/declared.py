"""What the sweeps of notebooks 01, 02 and 04 are: the trainings at their points, and what is measured of each."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

from torch import Tensor

from vae_core import quality
from vae_core.data import ImageSet, binarise, load_images
from vae_core.latent import sample_mixture
from vae_core.metrics import active_units, evaluate, importance_weighted_bound
from vae_core.model import VAE, VAEConfig
from vae_core.runs import Run
from vae_core.scores import detail, meaning
from vae_core.train import TrainConfig

Row = dict[str, Any]  # plain numbers and words


class Images(NamedTuple):
    """Which images: arguments of :func:`vae_core.data.load_images`."""

    name: str
    limit: int | None = None  # at most so many
    seed: int = 0  # of the draw
    size: int | None = None

    def load(self, split: str = "train") -> ImageSet:
        """Load them, or the embedded stand-in for a set that is not to be had."""
        given = partial(load_images, self.name, split, seed=self.seed, size=self.size, substitute=True)
        try:
            return given(limit=self.limit)
        except ValueError:
            there = len(given().images)
            if not isinstance(self.limit, int) or there >= self.limit:
                raise
            return given(limit=there)


class Point(NamedTuple):
    """One training of a sweep."""

    labels: Row  # what its rows say besides what is measured and what the configs say
    data: Images
    model: VAEConfig
    training: TrainConfig

    def value(self, path: str) -> Any:
        """The setting at a path such as ``train.seed``, or a label."""
        part, _, field = path.partition(".")
        return self.labels.get(path) if not field else getattr(self[list(FIELDS).index(part) + 1], field)


class Sweep(NamedTuple):
    """What a sweep is."""

    about: str
    data: str  # unless another set is named
    make: Callable[[str, Row], list[Point]]  # from the name of a data set and what is to differ in its Images
    measure: Callable[[Point, Run], list[Row]]
    names: tuple[str, ...]  # the paths that tell points apart
    across: str  # the column of its horizontal axis
    apart: tuple[str, ...]  # columns that tell its other lines apart
    numbers: dict[str, tuple[str, str]]  # headline columns: what it is, its unit


FIELDS = {"data": Images, "model": VAEConfig, "train": TrainConfig}  # in the order of Point


# --- notebook 01


def _latent_dimension(name: str, own: Row) -> list[Point]:
    data = Images(name, 60000)._replace(**own)
    images = data.load().images
    shape: Any = tuple(images.shape[1:])
    config = VAEConfig(image_shape=shape, hidden=(200,), output_bias="data_mean", binarisation="afresh")
    recipe = TrainConfig(epochs=8, batch_size=min(250, len(images)), learning_rate=4e-3)
    return [
        Point({}, data, replace(config, latent_dim=d), replace(recipe, seed=seed))
        for d in (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50)
        for seed in (0, 1, 2)
    ]


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


@lru_cache(maxsize=4)
def _given(data: Images, split: str, sha256: str) -> ImageSet:
    """Loaded once a process, for a training on images of that digest."""
    return data.load(split)


@lru_cache(maxsize=2)
def _against(data: Images, sha256: str, limit: int | None = None, classify: bool | None = None) -> _Yardsticks:
    """Yardsticks made once a process, for a training on images of that digest, with at most so many test images."""
    return yardsticks(data.load(), data._replace(limit=limit, seed=0).load("test"), classify)


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
    pca, pca_test = against.frechet("pca", drawn), against.kinds["pca"][2]
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


# --- notebook 02


def _losses(shape: tuple[int, int, int]) -> dict[str, Row]:
    return {
        "mean of squares": {"likelihood": "gaussian", "sigma": math.sqrt(math.prod(shape) / 2)},
        "sum of squares": {"likelihood": "gaussian", "sigma": math.sqrt(1 / 2)},
        "learned sigma": {"likelihood": "gaussian", "sigma": "learned"},
        "logistic": {"likelihood": "logistic", "sigma": "learned"},
    }


def _cifar_blur(name: str, own: Row) -> list[Point]:
    networks, sizes = {"mlp": (256, 128), "conv": (16, 32, 64)}, (25, 100, 200, 5000)
    shape: Any = tuple(Images(name, 25)._replace(**own).load().images.shape[1:])
    losses, squares = _losses(shape), "sum of squares"
    plan: list[tuple] = [(n, loss, network) for n in sizes for loss in losses for network in networks]
    plan += [(25, loss, "mlp", seed) for seed in (1, 2) for loss in losses]
    plan += [(n, squares, "mlp", 0, 6000) for n in sizes[-2:]] + [(25, squares, "conv", 0, 6000)]
    plan += [(5000, squares, "mlp", 0, 3000, 64)]

    def point(n: int, loss: str, network: str, seed: int = 0, steps: int = 3000, latents: int = 10) -> Point:
        data = Images(name, n, seed)._replace(**own)
        n = there[data] = there.get(data) or len(data.load().images)
        model = VAEConfig(shape, latents, networks[network], network, **losses[loss])  # type: ignore[arg-type]
        batch = min(25, n)
        recipe = TrainConfig(epochs=math.ceil(steps * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
        return Point({}, data._replace(limit=n), model, recipe)

    there: dict[Images, int] = {}
    return [point(*given) for given in plan]


def _measure_blur(point: Point, run: Run) -> list[Row]:
    images, model, last = _given(point.data, "train", run.data.sha256).images, run.model_config, run.records[-1]
    x, kinds = images.float() / 255, _losses(run.model_config.image_shape)
    found = detail(run.model, images, seed=run.train_config.seed)
    own = {"likelihood": model.likelihood, "sigma": model.sigma}
    fifth = max(1, len(run.records) // 5)
    return [{
        "images": len(images),
        "loss": next((name for name, kind in kinds.items() if kind == own), f"{model.likelihood}, sigma {model.sigma}"),
        "architecture": model.architecture, "seed": run.train_config.seed,
        "steps": run.train_config.steps(len(images)), "latents": model.latent_dim,
        "sigma": last.sigma or model.sigma, "elbo": last.elbo, "kl": last.kl,
        "elbo gained in the last fifth": last.elbo - run.records[-1 - min(fifth, len(run.records) - 1)].elbo,
        "sharpness, generated": found.sample_sharpness.value, "error, generated": found.sample_sharpness.error,
        "sharpness, reconstructed": found.reconstruction_sharpness.value,
        "error, reconstructed": found.reconstruction_sharpness.error,
        "high frequency, generated": found.sample_high_frequency,
        "high frequency, reconstructed": found.reconstruction_high_frequency,
        "squared error": found.squared_error, "ssim": found.ssim, "nearest": found.sample_nearest,
        "information": found.mutual_information, "active units": found.active_units,
        "mean image": quality.sharpness(x.mean(0, keepdim=True), x), "data": run.data.source,
    }]  # fmt: skip


# --- notebook 04
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


def ladder_row(model: VAE, drawn: Tensor, against: _Yardsticks) -> Row:
    """What is measured after a step of the ladder, of the model and of images ``drawn``, ``(N, C, H, W)`` in [0, 1]."""
    test = against.test.images.float() / 255
    rebuilt, held = model.reconstruct(test).clip(0, 1), evaluate(model, against.test.images)
    row = {"sharpness": quality.sharpness(drawn, test), "sharpness_reconstructed": quality.sharpness(rebuilt, test),
           "ssim": quality.ssim(rebuilt, test).mean().item(), "squared_error": held.squared_error, "kl": held.kl,
           "elbo": held.elbo, "elbo_error": held.elbo_error, "nats": meaning(model.measure, model.config)}  # fmt: skip
    for kind in against.kinds:
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
SWEEPS = {
    "latent_dimension": Sweep(
        "33 points on mnist: 11 latent dimensions from 1 to 50, 3 seeds", "mnist", _latent_dimension, _measure_digits,
        ("model.latent_dim", "train.seed"), "dim", ("dim", "epochs", "training_images"),
        {"nll": ("NLL", "nats per image"), "left": ("Reconstructions", "variance left"),
         "used": ("Dimensions with 0.1 nats or more", "dimensions"),
         "frechet": ("Generated images, in a classifier's features", "Fréchet distance")},
    ),
    "cifar_blur": Sweep(
        "44 points on cifar10: 25 to 5,000 images, 4 losses, 2 networks; some with more seeds, steps or latents",
        "cifar10", _cifar_blur, _measure_blur,
        ("data.limit", "model.likelihood", "model.sigma", "model.architecture", "train.seed"),
        "images", ("loss", "architecture", "steps", "latents", "images"),
        {"sharpness, generated": ("Generated images (data: 0)", "log energy ratio"),
         "sharpness, reconstructed": ("Reconstructed images (data: 0)", "log energy ratio"),
         "ssim": ("SSIM, reconstructed", "1 is a copy")},
    ),
    "ladder_mnist": Sweep(
        "18 points on mnist: 6 steps to better images, 3 seeds", "mnist", partial(_ladder, 10), _measure_ladder,
        ("step", "train.seed"), "step", ("step", "training_steps"), _OF_LADDER,
    ),
    "ladder_cifar10": Sweep(
        "18 points on cifar10: 6 steps to better images, 3 seeds", "cifar10", partial(_ladder, 32), _measure_ladder,
        ("step", "train.seed"), "step", ("step", "training_steps"), _OF_LADDER,
    ),
}  # fmt: skip
