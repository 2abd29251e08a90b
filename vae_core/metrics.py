"""What a trained model achieves on images it was not trained on, in nats per image."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_core.data import as_seen
from vae_core.likelihood import SIGMA_RANGE, Bernoulli, Gaussian, Likelihood
from vae_core.model import VAE, Posterior, VAEConfig
from vae_core.noise import noise
from vae_core.objective import Forward, elbo, log_ratio


class Evaluation(NamedTuple):
    """Means over ``images`` images; ``elbo = reconstruction - kl``, in nats per image."""

    elbo: float
    elbo_error: float  # standard error of that mean over the images
    reconstruction: float
    reconstruction_error: float
    kl: float
    kl_error: float
    kl_per_dimension: tuple[float, ...]  # nats, in the model's own order of dimensions
    squared_error: float  # of reconstructions, squared grey levels of [0, 1], mean over pixels
    images: int


@torch.no_grad()
def evaluate(model: VAE, images: Tensor, *, seed: int = 0, chunk: int = 1000) -> Evaluation:
    """The ELBO and its terms on uint8 ``(N, C, H, W)`` images, ``chunk`` at a time, one posterior sample an image.

    The weight of the KL is 1, however the model was trained. An optimal sigma is the best for all images together.

    Raises:
        ValueError: when there is no image.
    """
    images = _as_seen(model, images, seed)
    eps = noise((len(images), model.config.latent_dim), seed, "evaluate")
    forward = _with_one_sigma(model, images, eps, chunk)
    reconstruction, kl, squares = [], [], []
    for start in range(0, len(images), chunk):
        x = images[start : start + chunk].to(model.output_bias) / 255
        terms = elbo(forward, x, eps[start : start + chunk].to(x))
        reconstruction.append(terms.reconstruction.cpu().double())
        kl.append(terms.kl.cpu().double())
        squares.append((model.reconstruct(x) - x.cpu()).square().flatten(1).mean(1).double())
    by_image, by_dimension = torch.cat(reconstruction), torch.cat(kl)
    divergence = by_dimension.sum(1)
    total, reconstructed, diverged = map(Mean.of, (by_image - divergence, by_image, divergence))
    per_dimension, squared_error = tuple(by_dimension.mean(0).tolist()), torch.cat(squares).mean().item()
    return Evaluation(*total, *reconstructed, *diverged, per_dimension, squared_error, len(images))


class Mean(NamedTuple):
    """A mean over images with its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, by_image: Tensor) -> "Mean":
        """The mean of one number an image, ``(N,)``; the error is nan for one image."""
        error = by_image.std().item() / math.sqrt(len(by_image)) if len(by_image) > 1 else math.nan
        return cls(by_image.mean().item(), error)


@torch.no_grad()
def importance_weighted_bound(
    model: VAE, images: Tensor, *, samples: int = 5000, seed: int = 0, rows: int = 1000
) -> Mean:
    """The importance-weighted bound on log p(x), nats per image, from ``samples`` draws of each uint8 image.

    It rises with ``samples`` towards log p(x); its negative is the NLL that papers report. ``rows`` is the number of
    images decoded at a time: a thousand small ones stay in a processor's cache. Each image's noise depends on (seed,
    its place) alone. Source: Burda et al., arXiv 1509.00519, section 5.

    Raises:
        ValueError: when there is no image, ``samples`` or ``rows`` is below 1, or sigma is "optimal".
    """
    images = _as_seen(model, images, seed)
    if model.config.sigma == "optimal":
        raise ValueError('sigma="optimal" depends on the batch: use a model with a learned or fixed sigma')
    if samples < 1 or rows < 1:
        raise ValueError(f"samples and rows must be 1 or more, not {samples} and {rows}")
    from tqdm import tqdm

    by_image = torch.empty(len(images), dtype=torch.float64)
    for i in tqdm(range(len(images)), desc="importance-weighted bound", unit="image", delay=2, leave=False):
        x = images[i : i + 1].to(model.output_bias) / 255
        posterior = model.encode(x)
        eps = noise((samples, model.config.latent_dim), seed, i, "importance").to(x)
        z = posterior.mean + posterior.deviation * eps  # (samples, latent_dim)
        seen = [_log_prob_of_one(x.expand(len(part), -1, -1, -1), model.decode(part)) for part in z.split(rows)]
        by_image[i] = (torch.cat(seen) + log_ratio(posterior, eps)).cpu().double().logsumexp(0) - math.log(samples)
    return Mean.of(by_image)


def _log_prob_of_one(x: Tensor, likelihood: Likelihood) -> Tensor:
    """``likelihood.log_prob(x)`` where ``x``, ``(B, C, H, W)``, is one image B times.

    For a Bernoulli in cheaper steps, as accurate in both tails: with logits l it is the sum over pixels of
    ``(x - 1/2) l - log(2 cosh(l/2))``, and ``log(2 cosh(l/2)) = |l|/2 - log sigmoid(|l|)``.
    """
    if not isinstance(likelihood, Bernoulli):
        return likelihood.log_prob(x)
    logits = likelihood.logits.flatten(1)  # (B, pixels)
    size = logits.abs()
    return logits @ (x[0].flatten() - 0.5) - size.sum(1) / 2 + size.sigmoid().log().sum(1)


@torch.no_grad()
def active_units(model: VAE, images: Tensor, *, threshold: float = 0.01, seed: int = 0) -> int:
    """The number of latent dimensions whose posterior mean has a variance over the uint8 images above ``threshold``.

    Source: arXiv 1509.00519, section 5.2, whose threshold is 0.01.
    """
    means = _posteriors(model, _as_seen(model, images, seed)).mean
    return int((means.var(0, correction=0) > threshold).sum())


def _posteriors(model: VAE, images: Tensor) -> Posterior:
    """q(z given x) of all uint8 ``images``, a thousand at a time."""
    parts = [model.encode(part.to(model.output_bias) / 255) for part in images.split(1000)]
    return Posterior(*map(torch.cat, zip(*parts, strict=True)))


class KLDecomposition(NamedTuple):
    """Where the KL goes: ``kl = mutual_information + marginal_kl``, nats; means over images and draws."""

    mutual_information: Mean  # between an image of the set and its latent; at most log N
    marginal_kl: Mean  # KL of the aggregated posterior to N(0, I)


@torch.no_grad()
def kl_decomposition(model: VAE, images: Tensor, *, samples: int = 16, seed: int = 0) -> KLDecomposition:
    """How much a latent says of which of these N uint8 images it came from, and how far all latents are from the prior.

    ``I = E[log q(z given x) - log (1/N sum_j q(z given x_j))]`` with ``samples`` draws an image, over the whole
    set: N^2 densities. Source: Hoffman and Johnson, "ELBO surgery", 2016.
    """
    posterior = _posteriors(model, _as_seen(model, images, seed))
    return kl_decomposition_of(posterior, samples=samples, seed=seed)


def kl_decomposition_of(posterior: Posterior, *, samples: int = 16, seed: int = 0) -> KLDecomposition:
    """:func:`kl_decomposition` of N posteriors, each ``(N, latent_dim)``, wherever they come from."""
    mean, deviation = (rows.detach().cpu().double() for rows in posterior)
    n, latent_dim = mean.shape
    mutual, marginal = [], []
    at_once = max(1, 10**6 // (n * n * latent_dim))
    for first in range(0, samples, at_once):
        eps = noise((min(at_once, samples - first), n, latent_dim), seed, first, "information").double()
        z = mean + deviation * eps
        log_q = (-eps.square() / 2 - deviation.log()).sum(-1)  # log q(z given x), but for a constant
        aggregated = torch.cat(
            [
                (-((part[:, None] - mean) / deviation).square() / 2 - deviation.log()).sum(-1).logsumexp(1)
                for part in z.flatten(0, 1).split(max(1, 10**7 // (n * latent_dim)))
            ]
        ) - math.log(n)
        mutual.append(log_q.flatten() - aggregated)
        marginal.append(aggregated + z.square().sum(-1).flatten() / 2)
    return KLDecomposition(Mean.of(torch.cat(mutual)), Mean.of(torch.cat(marginal)))


def bits_per_dimension(elbo: float, config: VAEConfig) -> float:
    """A bound in nats per image as bits per pixel value: ``-elbo / (pixels log 2)``.

    Raises:
        ValueError: unless the likelihood gives probabilities of 8-bit images.
    """
    if config.likelihood != "logistic":
        raise ValueError(f"bits per dimension need probabilities of 8-bit values; {config.likelihood} has none")
    return -elbo / (math.prod(config.image_shape) * math.log(2))


def _with_one_sigma(model: VAE, images: Tensor, eps: Tensor, chunk: int) -> Forward:
    """The model; if its sigma is the best for each batch, with the one that is best for all these images."""
    if model.config.sigma != "optimal":
        return model
    total = 0.0
    for start in range(0, len(images), chunk):
        x = images[start : start + chunk].to(model.output_bias) / 255
        _, likelihood = model(x, eps[start : start + chunk].to(x))
        total += (x - likelihood.mean).square().cpu().double().sum().item()
    sigma = max(SIGMA_RANGE[0], math.sqrt(total / images.numel()))

    def forward(x: Tensor, noise: Tensor) -> tuple[Posterior, Likelihood]:
        posterior, likelihood = model(x, noise)
        return posterior, Gaussian(likelihood.mean, sigma)

    return forward


def _as_seen(model: VAE, images: Tensor, seed: int) -> Tensor:
    """The uint8 images, binarised where the model takes them so: by ``seed``, the same for every metric."""
    if len(images) == 0:
        raise ValueError("there is no image to evaluate")
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    return as_seen(images, model.config.binarisation, seed, "evaluate")
