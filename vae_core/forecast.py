"""Whether a loss lets a model say anything of its images, before it is trained."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vae_core.model import VAEConfig
from vae_core.noise import noise


class Forecast(NamedTuple):
    """Whether a model collapses: draws the same image whatever z, with KL 0, at the best that its loss allows.

    ``certain``: proven that nothing is better, for any encoder and decoder. ``escapes``: proven that even a
    linear encoder and decoder do better. ``undecided``: neither.
    """

    answer: Literal["certain", "undecided", "escapes"]
    diameter_ratio: float  # max ||x_i - x_j||^2 / (4 s2), or a bound from above; certain if 1 or less; nan: unknown
    eigenvalue_ratio: float  # largest eigenvalue of the covariance / s2; escapes if above 1

    def __str__(self) -> str:
        words = {
            "certain": "collapse is certain: no encoder is worth its KL",
            "undecided": "whether the model collapses is undecided",
            "escapes": "the model need not collapse",
        }[self.answer]
        return f"{words} (diameter ratio {self.diameter_ratio:.3g}, eigenvalue ratio {self.eigenvalue_ratio:.3g})"


def collapse_forecast(images: Tensor, config: VAEConfig, beta: float = 1.0) -> Forecast:
    """What the loss of ``config`` and ``beta`` asks for on uint8 ``(N, C, H, W)`` images, before any training.

    For a Gaussian of effective variance ``s2`` total collapse is the global optimum if the squared diameter of
    the set is at most ``4 s2`` (Cauchy-Schwarz and Popoviciu), and is not if the covariance has an eigenvalue
    above ``s2`` (probabilistic PCA; Lucas et al., arXiv 1911.02469). For Bernoulli only the second test exists,
    locally, with the covariance whitened by the Fisher information at the mean; of dynamically binarised pixels it
    sees the grey levels, a bound from below. A learned or optimal sigma shrinks to the error, so collapse is never a
    resting place. A Laplace or logistic of fixed width has no test. For more than 4,000 images the diameter is bounded
    by twice the largest distance to the mean.

    Raises:
        ValueError: on an empty set, or a beta that is not a positive number.
    """
    if len(images) == 0:
        raise ValueError("a forecast needs at least one image")
    if not (math.isfinite(beta) and beta > 0):
        raise ValueError(f"beta must be a number above 0, not {beta!r}")
    images = images.cpu()  # not every device has float64
    mean = sum(part.double().sum(0) for part in images.flatten(1).split(1000)) / len(images) / 255  # (P,)
    s2 = effective_variance(config, beta)
    if config.likelihood == "bernoulli":
        fisher = (mean * (1 - mean)).clamp(min=1e-12)
        ratio = _largest_eigenvalue(images, mean, fisher.sqrt()) / beta
        return Forecast("escapes" if ratio > 1 else "undecided", math.nan, ratio)
    if config.sigma in ("learned", "optimal"):
        varies = bool((images != images[:1]).any())
        return Forecast("escapes" if varies else "certain", math.nan, math.inf if varies else 0.0)
    if s2 is None:
        return Forecast("undecided", math.nan, math.nan)
    diameter = _squared_diameter(images, mean) / (4 * s2)
    ratio = _largest_eigenvalue(images, mean) / s2
    return Forecast("certain" if diameter <= 1 else "escapes" if ratio > 1 else "undecided", diameter, ratio)


def _squared_diameter(images: Tensor, mean: Tensor) -> float:
    parts = images.flatten(1).split(500)
    if len(images) > 4000:
        return 4 * max((part.double() / 255 - mean).square().sum(1).max().item() for part in parts)
    x = images.flatten(1).double() / 255
    return max(torch.cdist(part.double() / 255, x).square().max().item() for part in parts)


def _largest_eigenvalue(images: Tensor, mean: Tensor, scale: float | Tensor = 1.0) -> float:
    """Of the covariance with 1/N of pixels over ``scale``, by Lanczos: from below, so "escapes" is proven."""
    from scipy.sparse.linalg import eigsh

    n, pixels = images.flatten(1).shape
    centred = (((part.double() / 255 - mean) / scale) for part in images.flatten(1).split(4000))
    if n <= pixels:  # the smaller of the two matrices that share their eigenvalues
        rows = torch.cat(list(centred))
        matrix = rows @ rows.T / n
    else:
        matrix = sum((part.float().T @ part.float()).double() for part in centred) / n
    if not matrix.any():
        return 0.0
    start = noise((len(matrix),), 0, "eigenvalue").double().numpy()
    return eigsh(matrix.numpy(), 1, v0=start, return_eigenvectors=False)[0].item()


def effective_variance(config: VAEConfig, beta: float) -> float | None:
    """The variance of the Gaussian decoder that a loss amounts to, ``beta * sigma**2``, squared grey levels.

    Any loss ``a * ||error||^2 + b * KL`` per image trains like a Gaussian of variance ``b / (2 a)`` with beta = 1.
    Directions in which the data varies by less are not worth encoding, and collapse. ``None`` where no single number
    exists: a sigma that is learned or optimal, and every likelihood but the Gaussian.
    """
    if config.likelihood != "gaussian" or not isinstance(config.sigma, int | float):
        return None
    return beta * config.sigma**2
