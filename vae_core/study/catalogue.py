"""The declared sweeps, by name."""

from functools import partial

from vae_core.study.cifar_blur import _cifar_blur, _measure_blur
from vae_core.study.latent_dimension import _latent_dimension, _measure_digits
from vae_core.study.sharper_images import _OF_LADDER, _ladder, _measure_ladder
from vae_core.study.sweep import Declared

SWEEPS = {sweep.name: sweep for sweep in (
    Declared(
        "latent_dimension",
        "33 points on mnist: 11 latent dimensions from 1 to 50, 3 seeds", "mnist", _latent_dimension, _measure_digits,
        ("model.latent_dim", "train.seed"), "dim", ("dim", "epochs", "training_images"),
        {"nll": ("NLL", "nats per image"), "left": ("Reconstructions", "variance left"),
         "used": ("Dimensions with 0.1 nats or more", "dimensions"),
         "frechet": ("Generated images, in a classifier's features", "Fréchet distance")},
    ),
    Declared(
        "cifar_blur",
        "44 points on cifar10: 25 to 5,000 images, 4 losses, 2 networks; some with more seeds, steps or latents",
        "cifar10", _cifar_blur, _measure_blur,
        ("data.limit", "model.likelihood", "model.sigma", "model.architecture", "train.seed"),
        "images", ("loss", "architecture", "steps", "latents", "images"),
        {"sharpness, generated": ("Generated images (data: 0)", "log energy ratio"),
         "sharpness, reconstructed": ("Reconstructed images (data: 0)", "log energy ratio"),
         "ssim": ("SSIM, reconstructed", "1 is a copy")},
    ),
    Declared(
        "ladder_mnist",
        "18 points on mnist: 6 steps to better images, 3 seeds", "mnist", partial(_ladder, 10), _measure_ladder,
        ("step", "train.seed"), "step", ("step", "training_steps"), _OF_LADDER,
    ),
    Declared(
        "ladder_cifar10",
        "18 points on cifar10: 6 steps to better images, 3 seeds", "cifar10", partial(_ladder, 32), _measure_ladder,
        ("step", "train.seed"), "step", ("step", "training_steps"), _OF_LADDER,
    ),
)}  # fmt: skip


def find_sweep(name: str) -> Declared:
    """The declared sweep of that name.

    Raises:
        ValueError: on an unknown one.
    """
    if name not in SWEEPS:
        raise ValueError(f"no sweep {name!r}: expected one of {', '.join(SWEEPS)}")
    return SWEEPS[name]
