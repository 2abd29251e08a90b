"""The evidence lower bound (ELBO), its two terms, and the one number that hides in every loss.

Source: Kingma and Welling, arXiv 1312.6114, equation 10 and appendix B; for beta, Higgins et al.,
2017, equation 4.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from vae_core.likelihood import Likelihood
from vae_core.model import Posterior

Forward = Callable[[Tensor, Tensor], tuple[Posterior, Likelihood]]


class Elbo(NamedTuple):
    """The two terms of the bound for B images, in nats: ``elbo = reconstruction - kl.sum(-1)``."""

    reconstruction: Tensor  # (B,), log p(x given z) at one sample z
    kl: Tensor  # (B, latent_dim), KL(q(z given x) || N(0, 1)) of each dimension
    weighted: Tensor | None = None  # (B,), the importance-weighted bound, where there are several samples z an image

    @property
    def total(self) -> Tensor:
        """The bound on log p(x) itself, ``(B,)``, nats per image."""
        return self.reconstruction - self.kl.sum(-1)

    def loss(self, beta: float | Tensor = 1.0, free_bits: float = 0.0) -> Tensor:
        """What training makes small: ``mean over images of (beta * kl - reconstruction)``, a scalar.

        With ``free_bits``, in nats a dimension, the mean KL of a dimension counts as no less than that, so that
        making it smaller gains nothing. Source: Kingma et al., arXiv 1606.04934, appendix C.8.
        With several samples an image it is the importance-weighted bound, which has no beta and no free bits.
        """
        if self.weighted is not None:
            return -self.weighted.mean()
        if free_bits == 0:
            return (beta * self.kl.sum(-1) - self.reconstruction).mean()
        return beta * self.kl.mean(0).clamp(min=free_bits).sum() - self.reconstruction.mean()


def gaussian_kl(posterior: Posterior) -> Tensor:
    """KL of independent normals to N(0, I), one number a dimension, ``(B, latent_dim)``, nats.

    ``(mean^2 + deviation^2 - 1) / 2 - log(deviation)``: arXiv 1312.6114, appendix B.
    """
    mean, deviation = posterior
    return (mean.square() + deviation.square() - 1) / 2 - deviation.log()


def elbo(forward: Forward, x: Tensor, noise: Tensor) -> Elbo:
    """Both terms of the ELBO of each image, at the one sample that ``noise`` picks.

    ``forward`` is a model, or any function of ``(x, noise)`` with a model's result. ``x`` is
    ``(B, C, H, W)`` in [0, 1], ``noise`` ``(B, latent_dim)``. From noise ``(k, B, latent_dim)`` the reconstruction
    is the mean over k samples, and ``weighted`` the bound from all of them.
    """
    posterior, likelihood = forward(x, noise)
    kl = gaussian_kl(posterior)
    if noise.ndim == 2:
        return Elbo(likelihood.log_prob(x), kl)
    log_probs = likelihood.log_prob(x.repeat(len(noise), 1, 1, 1)).unflatten(0, noise.shape[:2])  # (k, B)
    return Elbo(log_probs.mean(0), kl, importance_weighted(log_probs + log_ratio(posterior, noise)))


def log_ratio(posterior: Posterior, noise: Tensor) -> Tensor:
    """``log p(z) - log q(z given x)`` at the samples z that ``noise``, ``(k, B, latent_dim)``, picks, ``(k, B)``, nats.

    With log p(x given z) it makes the log weights of importance sampling, whose exponentials have the mean p(x).
    Source: Burda et al., arXiv 1509.00519, equation 8.
    """
    z = posterior.mean + posterior.deviation * noise
    return ((noise.square() - z.square()) / 2 + posterior.deviation.log()).sum(-1)


def importance_weighted(weights: Tensor) -> Tensor:
    """The importance-weighted bound on log p(x), ``(B,)``, from k log weights an image, ``(k, B)``: ``log mean_k exp``.

    In nats; between the ELBO, k = 1, and log p(x), on average no smaller for a larger k. Source: arXiv 1509.00519,
    theorem 1.
    """
    return weights.logsumexp(0) - math.log(len(weights))
