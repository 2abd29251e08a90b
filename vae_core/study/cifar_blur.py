"""Claim 2: trained on few colour images, generations are blurry."""

import math
from collections.abc import Mapping, Sequence
from math import isnan, nan, sqrt
from statistics import stdev
from typing import Any, NamedTuple

from vae_core import quality
from vae_core.model import VAEConfig
from vae_core.runs import Run
from vae_core.scores import detail
from vae_core.study.sweep import AWAY, Images, Point, Row, _given
from vae_core.train import TrainConfig


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


def cifar_blur(naive: Mapping[int, float], scaled: Mapping[int, float], *, posts_setting: bool) -> str:
    """Claim 2, from the sharpness of prior samples by number of training images.

    ``naive`` is the mean of squares, ``scaled`` the sum; both are log ratios to the training images, where
    0 is right. "Blurry" is a ratio of energies under 1/4.
    """
    if not posts_setting:
        return AWAY
    if any(isnan(value) for value in (*naive.values(), *scaled.values())):
        return "No verdict: a sharpness is not a number."
    blurry = -1.386  # log(1/4)
    if max(naive.values()) >= blurry:
        return "The claim fails: with the naive loss the samples are not blurry for at least one number of images."
    if min(scaled.values()) >= blurry:
        return (
            "The claim holds for the naive loss, but not because the images are few: "
            "the same network on the same images is not that blurry once the loss is scaled."
        )
    if max(scaled.values()) < blurry:
        return "The claim holds, with the naive loss and with the scaled one: the scale alone does not undo the blur."
    return "The claim holds for the naive loss; for the scaled one it depends on the number of images."


class Part(NamedTuple):
    """What one change does to the sharpness of images, nats of log energy: above 0 it sharpens."""

    value: float  # mean over the settings in which it was made with all else the same
    error: float  # its standard error: by chance, or by how far the settings differ, whichever is larger
    low: float  # the least and the most over those settings
    high: float

    def __str__(self) -> str:
        ranging = f", {self.low:+.2f} to {self.high:+.2f} by setting" if self.low < self.high else ""
        return f"{self.value:+.2f} ± {self.error:.2f} nats{ranging}"


SCALED = "sum of squares"  # where one change is made between others, it is made at this loss
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "scale of the loss": ("loss", "mean of squares", SCALED),
    "learned width": ("loss", SCALED, "learned sigma"),  # scale again
    "shape of the error": ("loss", "learned sigma", "logistic"),  # both at a width of their own
    "architecture": ("architecture", "mlp", "conv"),
    "number of images": ("images", min, max),
}


def repeated(rows: Sequence[Mapping[str, Any]], value: str) -> tuple[dict[tuple, list[float]], float]:
    """The ``value`` of each training by images, loss and architecture, and its variance among repetitions.

    The variance, nan where nothing is repeated, is pooled over all that is: it stands for the chance in every setting.
    """
    cells: dict[tuple, list[float]] = {}
    for row in rows:
        cells.setdefault((row["images"], row["loss"], row["architecture"]), []).append(row[value])
    squares = sum((one - sum(found) / len(found)) ** 2 for found in cells.values() for one in found)
    free = len(rows) - len(cells)
    return cells, squares / free if free else nan


def blur_parts(rows: Sequence[Mapping[str, Any]], value: str) -> dict[str, Part]:
    """What each of ``CHANGES`` does to the column ``value``, a sharpness, by its name; a row is a training."""
    cells, variance = repeated(rows, value)
    means = {key: sum(found) / len(found) for key, found in cells.items()}
    parts = {}
    for name, (column, *ends) in CHANGES.items():
        at = ("images", "loss", "architecture").index(column)
        before, after = (end(key[at] for key in cells) if callable(end) else end for end in ends)
        starts = [key for key in cells if key[at] == before and (column == "loss" or key[1] == SCALED)]
        pairs = [(a, b) for a in starts if (b := (*a[:at], after, *a[at + 1 :])) in cells and a != b]
        if pairs:
            gains = [means[b] - means[a] for a, b in pairs]
            shares = [1 / len(cells[a]) + 1 / len(cells[b]) for a, b in pairs]
            chance = sqrt(variance * sum(shares)) / len(pairs)
            unlike = stdev(gains) / sqrt(len(pairs)) if len(pairs) > 1 else 0.0
            parts[name] = Part(sum(gains) / len(gains), max(chance, unlike), min(gains), max(gains))
    return parts


def blur_sources(parts: Mapping[str, Part], *, posts_setting: bool) -> str:
    """What the blur of claim 2 comes from, by the ``parts`` of :func:`blur_parts` for generated images."""
    if not posts_setting:
        return AWAY
    if set(parts) != set(CHANGES) or any(isnan(number) for part in parts.values() for number in part):
        return "No verdict: a change was not made, or nothing was repeated, so that chance is unknown."
    scale, images = parts["scale of the loss"], parts["number of images"]
    others = [name for name in CHANGES if name not in ("scale of the loss", "learned width")]
    rivals = [name for name in others if parts[name].value > 2 * parts[name].error]  # what sharpens could be a remedy
    if scale.value <= 2 * scale.error:
        told = [f"The scale of the loss is no cause of the blur ({scale})."]
    elif not rivals:
        told = [
            f"Of the suspects only the scale of the loss is shown to blur: its sum instead of its mean gives {scale}."
        ]
    else:
        name = max(rivals, key=lambda rival: parts[rival].value)
        lead, noise = scale.value - parts[name].value, 2 * sqrt(scale.error**2 + parts[name].error ** 2)
        how = "no larger for certain than" if abs(lead) <= noise else "larger than" if lead > 0 else "smaller than"
        told = [f"The scale of the loss is a part of the blur ({scale}), {how} the {name} ({parts[name]})."]
    if abs(images.value) <= 2 * images.error:
        told.append(f"The number of images makes no difference beyond chance ({images}).")
    elif images.value > 0:
        told.append(f"More images make samples sharper ({images}): scarcity is a cause.")
    else:
        told.append(f"More images make samples blurrier, not sharper ({images}): scarcity is not the cause.")
    changes = {
        "learned width": "A learned width, which is scale again,",
        "shape of the error": "Another error than squares, each at a width of its own,",
        "architecture": "The convolutional network",
    }
    for change, words in changes.items():
        part = parts[change]
        way = "sharpens" if part.value > 0 else "blurs"
        way += " on average, not everywhere" if part.low < 0 < part.high else ""
        if abs(part.value) <= 2 * part.error:
            both = min(-part.low, part.high) > 2 * part.error
            way = "sharpens in some settings and blurs in others" if both else "changes nothing beyond chance"
        told.append(f"{words} {way} ({part}).")
    return " ".join(told)
