"""The declared sweeps, by name."""

from functools import partial

from vae_core.study.cifar_blur import _cifar_blur, _measure_blur
from vae_core.study.latent_dimension import _latent_dimension, _measure_digits
from vae_core.study.sharper_images import _OF_LADDER, _ladder, _measure_ladder
from vae_core.study.sweep import Sweep

_DIGITS = Sweep(
    name="latent_dimension",
    description="33 points on mnist: 11 latent dimensions from 1 to 50, 3 seeds",
    data="mnist",
    points=_latent_dimension,
    measure=_measure_digits,
    across="dim",
    apart=("dim", "epochs", "training_images"),
    numbers={
        "nll": ("NLL", "nats per image"),
        "left": ("Reconstructions", "fraction of variance unexplained"),
        "used": ("Dimensions with 0.1 nats or more", "dimensions"),
        "frechet": ("Generated images, in a classifier's features", "Fréchet distance"),
    },
)
_BLUR = Sweep(
    name="cifar_blur",
    description="44 points on cifar10: 25 to 5,000 images, 4 losses, 2 networks; some with other seeds, steps, latents",
    data="cifar10",
    points=_cifar_blur,
    measure=_measure_blur,
    across="images",
    apart=("loss", "architecture", "steps", "latents", "images"),
    numbers={
        "sharpness, generated": ("Generated images (data: 0)", "log energy ratio"),
        "sharpness, reconstructed": ("Reconstructed images (data: 0)", "log energy ratio"),
        "ssim": ("SSIM, reconstructed", "1 is a copy"),
    },
)
_LADDERS = [
    Sweep(
        name=f"ladder_{data}",
        description=f"18 points on {data}: 6 steps to better images, 3 seeds",
        data=data,
        points=partial(_ladder, latent_dim),
        measure=_measure_ladder,
        across="step",
        apart=("step", "training_steps"),
        numbers=_OF_LADDER,
    )
    for data, latent_dim in (("mnist", 10), ("cifar10", 32))
]
SWEEPS = {sweep.name: sweep for sweep in (_DIGITS, _BLUR, *_LADDERS)}
