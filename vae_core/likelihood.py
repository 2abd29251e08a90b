"""p(x given z): what a decoder says about an image.

A decoder returns one of these objects, not a bare tensor, so that the ELBO in the code is the
equation on the page and nobody draws logits as if they were pixels. Every ``log_prob`` is in nats
per image: summed over channels, rows and columns, one number an image.

Randomness is derived, never stored: :func:`generator` turns a key such as (seed, step, "noise")
into a fresh generator, so the same key gives the same numbers in any order of calls.
"""

import math
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_core.noise import generator, noise

Measure = Literal["probability", "density", "neither"]
LIKELIHOODS = ("bernoulli", "gaussian", "laplace", "logistic")
SIGMA_RANGE = (1e-3, 10.0)  # of a learned or optimal sigma or scale; a quarter of a grey level, ten times the range
LEVELS = 256  # of an 8-bit pixel; x = level / 255


class Likelihood(Protocol):
    """p(x given z) of a batch of B images: independent pixels of one family."""

    @property
    def measure(self) -> Measure:
        """What exp(log_prob) is. Numbers of different measures must not be compared."""

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
    binary: bool = False  # whether the images that it is asked about are black and white

    @property
    def measure(self) -> Measure:
        """A probability of black and white images; of grey ones, neither."""
        return "probability" if self.binary else "neither"

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
    sigma: float | Tensor  # a number, or a scalar tensor that is learned

    @property
    def measure(self) -> Measure:
        """A density over pixels in [0, 1]."""
        return "density"

    def log_prob(self, x: Tensor) -> Tensor:
        """``-||x - mean||^2 / (2 sigma^2) - P/2 log(2 pi sigma^2)``, ``(B,)``, nats per image."""
        squares = (x - self.mean).square().flatten(1)
        variance = self.sigma**2
        return -squares.sum(1) / (2 * variance) - squares.shape[1] / 2 * _log(2 * math.pi * variance)

    def sample(self, *key: int | str) -> Tensor:
        """Images with pixel noise, ``(B, C, H, W)``, not clipped to [0, 1]."""
        return self.mean + self.sigma * noise(tuple(self.mean.shape), *key).to(self.mean)


class OptimalGaussian(NamedTuple):
    """A :class:`Gaussian` whose one ``sigma`` is the best for the batch at hand, in closed form.

    ``sigma**2`` is the mean squared error over the batch, so that the squares contribute P/2 nats to each
    image's loss on average, whatever the data. Source: Rybkin et al., arXiv 2006.13202, section 3.2.
    """

    mean: Tensor  # (B, C, H, W)

    @property
    def measure(self) -> Measure:
        """A density over pixels in [0, 1]."""
        return "density"

    def best_for(self, x: Tensor) -> Gaussian:
        """The Gaussian that is best for images ``x``, ``(B, C, H, W)``, with ``sigma`` at least SIGMA_RANGE[0]."""
        return Gaussian(self.mean, (x - self.mean).square().mean().sqrt().clamp(min=SIGMA_RANGE[0]))

    def log_prob(self, x: Tensor) -> Tensor:
        """That of :meth:`best_for`, ``(B,)``, nats per image; depends on which images share the batch."""
        return self.best_for(x).log_prob(x)

    def sample(self, *key: int | str) -> Tensor:
        """Not to be had: without images there is no sigma.

        Raises:
            ValueError: always, with the way on.
        """
        raise ValueError("the optimal sigma is known only beside images: use mean, or best_for(images).sample(...)")


class Laplace(NamedTuple):
    """Pixels with independent Laplace noise of one ``scale``, in grey levels: absolute instead of squared error.

    Where one output must stand for several images, the best is their median, pixel by pixel.
    """

    mean: Tensor  # (B, C, H, W)
    scale: float | Tensor

    @property
    def measure(self) -> Measure:
        """A density over pixels in [0, 1]."""
        return "density"

    def log_prob(self, x: Tensor) -> Tensor:
        """``-|x - mean|_1 / scale - P log(2 scale)``, ``(B,)``, nats per image."""
        absolute = (x - self.mean).abs().flatten(1)
        return -absolute.sum(1) / self.scale - absolute.shape[1] * _log(2 * self.scale)

    def sample(self, *key: int | str) -> Tensor:
        """Images with pixel noise, ``(B, C, H, W)``, not clipped to [0, 1]."""
        drawn = generator(*key).laplace(size=tuple(self.mean.shape)).astype(np.float32)
        return self.mean + self.scale * torch.from_numpy(drawn).to(self.mean)


class DiscretisedLogistic(NamedTuple):
    """Pixels that take one of 256 values, by a logistic curve of one ``scale`` cut into 256 bins.

    ``P(k / 255) = s((k + 1/2) / 255) - s((k - 1/2) / 255)`` with ``s(v) = sigmoid((v - location) / scale)``;
    the first and the last bin take the tails. Source: Salimans et al., arXiv 1701.05517, section 2.1.
    """

    location: Tensor  # (B, C, H, W)
    scale: float | Tensor

    @property
    def measure(self) -> Measure:
        """A probability of 8-bit images, so bits per dimension exist."""
        return "probability"

    @property
    def mean(self) -> Tensor:
        """The centre of the curve within [0, 1], ``(B, C, H, W)``: the mean but for the cut tails."""
        return self.location.clamp(0, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """The log probability of 8-bit images, ``(B,)``, nats per image; ``x`` in multiples of 1/255."""
        half = 0.5 / (LEVELS - 1)
        low = (x - half - self.location) / self.scale
        high = (x + half - self.location) / self.scale
        # log(sigmoid(high) - sigmoid(low)), exact in both tails: log of s(high) s(-low) (1 - exp(low - high))
        inside = F.logsigmoid(high) + F.logsigmoid(-low) + torch.log(-torch.expm1(low - high))
        logs = torch.where(x < half, F.logsigmoid(high), torch.where(x > 1 - half, F.logsigmoid(-low), inside))
        return logs.flatten(1).sum(1)

    def sample(self, *key: int | str) -> Tensor:
        """8-bit images as multiples of 1/255, ``(B, C, H, W)``."""
        uniform = torch.from_numpy(generator(*key).random(tuple(self.location.shape))).clamp(1e-12, 1 - 1e-12)
        drawn = self.location + self.scale * torch.logit(uniform).to(self.location)
        return (drawn * (LEVELS - 1)).round().clamp(0, LEVELS - 1) / (LEVELS - 1)


def _log(value: float | Tensor) -> float | Tensor:
    return value.log() if isinstance(value, Tensor) else math.log(value)
