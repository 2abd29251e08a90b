"""The evidence lower bound (ELBO), its two terms, and the one number that hides in every loss.

Source: Kingma and Welling, arXiv 1312.6114, equation 10 and appendix B; for beta, Higgins et al.,
2017, equation 4.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from vae_core.likelihood import Likelihood
from vae_core.model import Posterior, VAEConfig


class Elbo(NamedTuple):
    """The two terms of the bound for B images, in nats: ``elbo = reconstruction - kl.sum(-1)``."""

    reconstruction: Tensor  # (B,), log p(x given z) at one sample z
    kl: Tensor  # (B, latent_dim), KL(q(z given x) || N(0, 1)) of each dimension

    @property
    def total(self) -> Tensor:
        """The bound on log p(x) itself, ``(B,)``, nats per image."""
        return self.reconstruction - self.kl.sum(-1)

    def loss(self, beta: float | Tensor = 1.0) -> Tensor:
        """What training makes small: ``mean over images of (beta * kl - reconstruction)``, a scalar."""
        return (beta * self.kl.sum(-1) - self.reconstruction).mean()


def gaussian_kl(posterior: Posterior) -> Tensor:
    """KL of independent normals to N(0, I), one number a dimension, ``(B, latent_dim)``, nats.

    ``(mean^2 + deviation^2 - 1) / 2 - log(deviation)``: arXiv 1312.6114, appendix B.
    """
    mean, deviation = posterior
    return (mean.square() + deviation.square() - 1) / 2 - deviation.log()


def elbo(forward: Callable[[Tensor, Tensor], tuple[Posterior, Likelihood]], x: Tensor, noise: Tensor) -> Elbo:
    """Both terms of the ELBO of each image, at the one sample that ``noise`` picks.

    ``forward`` is a model, or any function of ``(x, noise)`` with a model's result. ``x`` is
    ``(B, C, H, W)`` in [0, 1], ``noise`` ``(B, latent_dim)``.
    """
    posterior, likelihood = forward(x, noise)
    return Elbo(likelihood.log_prob(x), gaussian_kl(posterior))


def effective_variance(config: VAEConfig, beta: float) -> float | None:
    """The variance of the Gaussian decoder that a loss amounts to, ``beta * sigma**2``, squared grey levels.

    Any loss ``a * ||error||^2 + b * KL`` per image trains like a Gaussian of variance
    ``b / (2 a)`` with beta = 1. Directions in which the data varies by less are not worth
    encoding, and collapse. ``None`` where no single number exists (Bernoulli).
    """
    return None if config.sigma is None else beta * config.sigma**2
