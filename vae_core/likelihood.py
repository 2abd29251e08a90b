"""p(x given z): what a decoder says about an image.

A decoder returns one of these objects, not a bare tensor, so that the ELBO in the code is the
equation on the page and nobody draws logits as if they were pixels. Every ``log_prob`` is in nats
per image: summed over channels, rows and columns, one number an image.

Randomness is derived, never stored: :func:`generator` turns a key such as (seed, step, "noise")
into a fresh generator, so the same key gives the same numbers in any order of calls.
"""

import math
import zlib
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LIKELIHOODS = ("bernoulli", "gaussian")


def generator(*key: int | str) -> np.random.Generator:
    """A random generator that depends on ``key`` alone: integers of any size and words, the last a word.

    (A final 0 would be lost: numpy's ``SeedSequence`` pads with zeros.)
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    return np.random.default_rng(np.random.SeedSequence(words))


def noise(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Standard normal numbers, float32, of the given shape, that depend on ``key`` alone."""
    return torch.from_numpy(generator(*key).standard_normal(shape, dtype=np.float32))


class Likelihood(Protocol):
    """p(x given z) of a batch of B images: independent pixels of one family."""

    @property
    def mean(self) -> Tensor:
        """The expected image, ``(B, C, H, W)``."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x given z), ``(B,)``, in nats per image, for ``x`` of shape ``(B, C, H, W)``."""

    def sample(self, *key: int | str) -> Tensor:
        """One image a row, ``(B, C, H, W)``, pixel noise included, that depends on ``key`` alone."""


class Bernoulli(NamedTuple):
    """Pixels that are on with probability ``sigmoid(logits)``.

    On grey pixels ``log_prob`` is the negative cross-entropy, which is not a likelihood: it cannot
    be compared with numbers for binary images, and everything that shows it says so.
    """

    logits: Tensor  # (B, C, H, W)

    @property
    def mean(self) -> Tensor:
        """The probability of an on pixel, ``(B, C, H, W)``."""
        return torch.sigmoid(self.logits)

    def log_prob(self, x: Tensor) -> Tensor:
        """``sum_i x_i log p_i + (1 - x_i) log(1 - p_i)``, ``(B,)``, nats per image."""
        return -F.binary_cross_entropy_with_logits(self.logits, x, reduction="none").flatten(1).sum(1)

    def sample(self, *key: int | str) -> Tensor:
        """Black and white images, ``(B, C, H, W)``."""
        uniform = torch.from_numpy(generator(*key).random(tuple(self.logits.shape), dtype=np.float32))
        return (uniform.to(self.logits) < self.mean).to(self.logits.dtype)


class Gaussian(NamedTuple):
    """Pixels with independent normal noise of one standard deviation ``sigma``, in grey levels of [0, 1].

    The usual squared-error losses are this likelihood under another name: the sum of squares is
    ``sigma**2 = 1/2``, the mean of squares over P pixels is ``sigma**2 = P/2``.
    """

    mean: Tensor  # (B, C, H, W)
    sigma: float

    def log_prob(self, x: Tensor) -> Tensor:
        """``-||x - mean||^2 / (2 sigma^2) - P/2 log(2 pi sigma^2)``, ``(B,)``, nats per image."""
        squares = (x - self.mean).square().flatten(1)
        variance = self.sigma**2
        return -squares.sum(1) / (2 * variance) - squares.shape[1] / 2 * math.log(2 * math.pi * variance)

    def sample(self, *key: int | str) -> Tensor:
        """Images with pixel noise, ``(B, C, H, W)``, not clipped to [0, 1]."""
        return self.mean + self.sigma * noise(tuple(self.mean.shape), *key).to(self.mean)
