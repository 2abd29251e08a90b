"""Two images and what a model makes of them: the theory, the trainings and the measurements of notebook 03.

Two images at distance D, a Gaussian decoder of effective variance s2: the collapse ratio is ``kappa = D^2 / (4 s2)``.
At ``kappa <= 1`` total collapse is the global optimum, for any encoder and decoder; above 1 it is not.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae_core.likelihood import Likelihood
from vae_core.metrics import Mean, evaluate, kl_decomposition, kl_decomposition_of
from vae_core.model import VAE, Posterior, VAEConfig
from vae_core.noise import noise
from vae_core.objective import elbo, gaussian_kl
from vae_core.parallel.stacked import train_many
from vae_core.train import TrainConfig, train


class Optimum(NamedTuple):
    """The best that one symmetric latent and the ideal decoder do at some kappa."""

    kl: float  # nats
    information: float  # nats, at most log 2
    along: float  # mean of t over latents of the second image, 0 at the mean of the two, 1 at that image
    between: float  # share of prior samples with |t| < 1/2
    slope: float  # the decoder draws t(z) = tanh(slope z)

    def density(self, t: np.ndarray) -> np.ndarray:
        """Of prior samples over ``t`` in (-1, 1); 0 everywhere at collapse, where all are at t = 0."""
        if self.slope == 0:
            return np.zeros_like(t)
        z = np.arctanh(t) / self.slope
        return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / (self.slope * (1 - t**2))


@lru_cache
def optimum(kappa: float) -> Optimum:
    """The optimum at ``kappa``, by quadrature and minimisation.

    The encoder says ``N(-mu, tau^2)`` or ``N(mu, tau^2)``; then the ideal decoder draws the point
    ``t(z) = tanh(mu z / tau^2)`` of the line through the images, and the loss is
    ``KL + 2 kappa E[p (1 - p)]`` nats with ``p = (1 + t) / 2``.
    """
    from scipy.optimize import minimize
    from scipy.special import xlogy

    if kappa <= 1:
        return Optimum(0.0, 0.0, 0.0, 1.0, 0.0)
    points, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = weights / weights.sum()

    def terms(free: np.ndarray) -> tuple[float, np.ndarray]:
        mu, tau = free[0], math.exp(free[1])
        t = np.tanh(mu * (mu + tau * points) / tau**2)
        return (mu**2 + tau**2 - 1) / 2 - free[1], t

    def loss(free: np.ndarray) -> float:
        kl, t = terms(free)
        return kl + kappa / 2 * float(weights @ (1 - t**2))

    starts = ([0.5, -0.3], [1.0, -1.5])
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    found = min((minimize(loss, s, method="Nelder-Mead", options=options) for s in starts), key=lambda r: r.fun)
    kl, t = terms(found.x)
    p = (1 + t) / 2
    entropy = -(xlogy(p, p) + xlogy(1 - p, 1 - p))
    slope = float(found.x[0] * math.exp(-2 * found.x[1]))
    between = math.erf(math.atanh(0.5) / slope / math.sqrt(2))
    return Optimum(float(kl), math.log(2) - float(weights @ entropy), float(weights @ t), between, slope)


class Onset(NamedTuple):
    """Where information sets in: the kappa0 for which ``optimum(kappa / kappa0)`` fits best."""

    kappa: float
    low: float  # 95% interval
    high: float


def onset(kappas: Sequence[float], nats: Sequence[float]) -> Onset:
    """Fit the theory's curve of information to measured values, with kappa0 as the only freedom.

    The interval comes from the residuals, which are taken as independent.

    Raises:
        ValueError: with fewer than three points, or none of them above the onset.
    """
    from scipy.optimize import least_squares

    if len(kappas) < 3 or max(nats) < 0.1:
        raise ValueError("an onset needs three points or more, one of them with information")
    grid = np.geomspace(0.01, 1000, 600)
    curve = np.array([optimum(float(kappa)).information for kappa in grid])

    def residuals(free: np.ndarray) -> np.ndarray:
        return np.interp(np.log(kappas) - free[0], np.log(grid), curve) - np.asarray(nats)

    starts = np.log([0.3, 1.0, 3.0, 10.0, 100.0])
    found = min((least_squares(residuals, [start]) for start in starts), key=lambda result: result.cost)
    slope = float((found.jac**2).sum())
    error = math.sqrt(2 * found.cost / (len(kappas) - 1) / slope) if slope else math.inf
    return Onset(math.exp(found.x[0]), math.exp(found.x[0] - 2 * error), math.exp(found.x[0] + 2 * error))


def squared_distance(pair: Tensor) -> float:
    """``||x1 - x2||^2`` of a uint8 ``pair`` ``(2, C, H, W)``, summed over pixels, squared grey levels of [0, 1]."""
    first, second = pair.cpu().double() / 255
    return (first - second).square().sum().item()


def sigma_at(pair: Tensor, kappa: float) -> float:
    """The Gaussian's sigma that gives a ``pair`` that ``kappa`` at beta = 1."""
    return math.sqrt(squared_distance(pair) / (4 * kappa))


def on_a_line(pair: Tensor) -> Tensor:
    """The pair in the coordinate of the line through it, float ``(2, 1, 1, 1)``; black is nearest to 0.

    Squared error between points of the line is preserved, so kappa is that of the images.
    """
    first, second = (pair.cpu().double() / 255).flatten(1)
    direction = (second - first) / (second - first).norm()
    return torch.stack([first @ direction, second @ direction]).float().reshape(2, 1, 1, 1)


@torch.no_grad()
def on_images(model: VAE, pair: Tensor) -> VAE:
    """A ``model`` of points :func:`on_a_line` as one of images ``(C, H, W)``, which it draws on that line."""
    first, second = (pair.to(model.output_bias.device).float() / 255).flatten(1)
    shape = (pair.shape[1], pair.shape[2], pair.shape[3])
    direction = (second - first) / (second - first).norm()
    whole = VAE(replace(model.config, image_shape=shape))
    onto, back = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
    onto.weight, onto.bias = nn.Parameter(direction[None]), nn.Parameter(torch.zeros(1))
    back.weight = nn.Parameter(direction[:, None].clone())
    whole.encoder = nn.Sequential(nn.Flatten(), onto, *list(model.encoder.children())[1:])
    whole.decoder = nn.Sequential(*list(model.decoder.children())[:-1], back, nn.Unflatten(1, shape))
    at = first + (model.output_bias.flatten() - first @ direction) * direction
    whole.output_bias = nn.Parameter(at.reshape(shape))
    return whole.to(model.output_bias.device)


class Place(NamedTuple):
    """Where n generated images fall, ``(n,)`` each."""

    along: Tensor  # t: -1 at the first image of the pair, 0 at their mean, 1 at the second
    off: Tensor  # distance from the line through them, in halves of their distance


def place(generated: Tensor, pair: Tensor) -> Place:
    """The places, on the CPU, of ``generated`` images ``(n, C, H, W)`` beside a ``pair``, uint8 or floats in [0, 1]."""
    generated, pair = generated.cpu(), pair.cpu()
    first, second = pair.float() / 255 if pair.dtype == torch.uint8 else pair
    half = ((second - first) / 2).flatten()
    from_mean = (generated - (first + second) / 2).flatten(1)
    along = from_mean @ half / half.square().sum()
    return Place(along, (from_mean - along[:, None] * half).norm(dim=1) / half.norm())


class Trained(NamedTuple):
    """A model of a pair, on the CPU, and whether its training had settled."""

    model: VAE
    change: float  # of -ELBO over the last fifth of the steps, nats, at the same noise


def train_pair(
    images: Tensor,
    model_config: VAEConfig,
    *,
    steps: int,
    seed: int,
    noisy: bool = True,
    learning_rate: float = 5e-3,
    warmup: float = 0.2,
    **settings: Any,
) -> Trained:
    """Train a new model for ``steps`` on uint8 ``images`` ``(N, C, H, W)``, in one batch unless ``settings`` differ.

    ``settings`` are those of a TrainConfig. Without noise the latent is the posterior mean: an autoencoder. The rate
    rises slowly: thousands of pixels saturate tanh units in a few large steps, and such units are dead.
    """
    model = VAE(model_config, seed=seed)
    if not noisy:
        quiet(model)
    batch = settings.pop("batch_size", len(images))
    epochs = math.ceil(steps * batch / len(images))
    config = TrainConfig(epochs, batch, learning_rate, warmup, seed=seed, log_every=math.ceil(steps / 5), **settings)
    many = images.repeat(max(1, 100 // len(images)), 1, 1, 1)
    *_, before, after = [evaluate(model, many, seed=seed).elbo for _ in train(model, images, config)]
    return Trained(model.cpu(), before - after)


def quiet(model: VAE) -> None:
    """Make ``model`` ignore the noise of its latents."""
    forward = model.forward

    def without_noise(x: Tensor, noise: Tensor) -> tuple[Posterior, Likelihood]:
        return forward(x, torch.zeros_like(noise))

    model.forward = without_noise  # type: ignore[method-assign]


class Measured(NamedTuple):
    """What a model of a pair does; samples are 1,000 decoder means of the prior."""

    information: Mean  # nats, at most log 2
    at_mean: float  # share of samples at the mean, as PairDistances.share_at_mean has it
    along: float  # mean |t| of samples
    off: float  # median distance of samples from the line, in halves of D
    zero: float  # t of the image of z = 0
    rebuilt: float  # mean |t| of the reconstructions
    alive: float  # share of the encoder's last hidden units that differ between the two images


def measure(model: VAE, pair: Tensor, *, seed: int = 0) -> Measured:
    """Measure a ``model`` of a ``pair``, uint8 ``(2, C, H, W)``, the information with 10,000 draws."""
    samples, x = model.sample(1000, seed=seed), pair.float() / 255
    drawn = place(samples, pair)
    with torch.no_grad():
        zero = model.decode(torch.zeros(1, model.config.latent_dim).to(model.output_bias)).mean
        first, second = nn.Sequential(*list(model.encoder.children())[:-1])(x.to(model.output_bias)).cpu()
    return Measured(
        kl_decomposition(model, pair, samples=5000, seed=seed).mutual_information,
        pair_distances(samples, pair).share_at_mean(),
        drawn.along.abs().mean().item(),
        drawn.off.median().item(),
        place(zero, pair).along.item(),
        place(model.reconstruct(x), pair).along.abs().mean().item(),
        ((first - second).abs() > 0.01).double().mean().item(),
    )


class Point(NamedTuple):
    """One training of a sweep."""

    pair: int
    kappa: float
    seed: int
    kl: float  # nats
    information: float  # nats
    change: float  # of -ELBO over the last fifth of the steps, nats
    model: VAE  # of points of the line; see on_images


def sweep(
    pairs: Sequence[Tensor], kappas: Sequence[float], seeds: Sequence[int], *, steps: int, in_turn: bool = False
) -> list[Point]:
    """Train a small model at every kappa for each uint8 pair ``(2, C, H, W)`` and seed, all at once.

    The images are points of the line through them, the Gaussian's variance is 1/2, and beta makes the kappa. A step
    sees both images, or with ``in_turn`` one after the other, twice as many.
    """
    config = VAEConfig((1, 1, 1), latent_dim=2, hidden=(64,), activation="tanh", likelihood="gaussian", sigma=0.5**0.5)
    grid = [(i, float(kappa), seed) for i in range(len(pairs)) for kappa in kappas for seed in seeds]
    trainings = [
        TrainConfig(epochs=steps, batch_size=1 if in_turn else 2, learning_rate=1e-2, seed=seed, device="cpu",
                    beta=squared_distance(pairs[i]) / (2 * kappa), log_every=max(1, steps // 10))
        for i, kappa, seed in grid
    ]  # fmt: skip
    lines = torch.stack([on_a_line(pairs[i]) for i, _, _ in grid])
    points = []
    for (i, kappa, seed), member, line in zip(grid, train_many(config, trainings, lines), lines, strict=True):
        eps = noise((1000, 2, 2), seed, "settled")
        now, before = (_loss(model, line, eps, member.training.beta) for model in (member.model, member.earlier))
        with torch.no_grad():
            posterior = member.model.encode(line)
        told = kl_decomposition_of(posterior, samples=2000, seed=seed).mutual_information.value
        kl = gaussian_kl(posterior).sum(1).mean().item()
        points.append(Point(i, kappa, seed, kl, told, before - now, member.model))
    return points


@torch.no_grad()
def _loss(model: VAE, x: Tensor, eps: Tensor, beta: float) -> float:
    """The loss over beta, so in nats at effective variance, at the noise ``(k, B, latent_dim)``, up to a constant."""
    terms = elbo(model, x, eps)
    return (terms.kl.sum(1).mean() - terms.reconstruction.mean() / beta).item()


class PairDistances(NamedTuple):
    """Where n generated images fall, as mean squared distances a pixel in squared grey levels, ``(n,)`` on the CPU."""

    to_mean: Tensor  # to the arithmetic mean of the two images
    to_nearer: Tensor  # to the nearer of the two

    def share_at_mean(self, ratio: float = 0.1) -> float:
        """The share of images whose distance to the mean is under ``ratio`` of that to the nearer image."""
        return (self.to_mean < ratio * self.to_nearer).double().mean().item()


def pair_distances(generated: Tensor, pair: Tensor) -> PairDistances:
    """Distances of ``generated``, ``(n, C, H, W)`` in [0, 1], to the mean of a ``pair``, uint8 ``(2, C, H, W)``.

    Raises:
        ValueError: when the pair is not two such images.
    """
    if len(pair) != 2 or pair.shape[1:] != generated.shape[1:]:
        raise ValueError(f"a pair of images like {tuple(generated.shape[1:])} is needed, not {tuple(pair.shape)}")
    if pair.dtype != torch.uint8:
        raise ValueError(f"a pair of images must be uint8, not {pair.dtype}")
    first, second = pair.cpu().float() / 255
    generated = generated.cpu()

    def distance(image: Tensor) -> Tensor:
        return (generated - image).square().flatten(1).mean(1)

    return PairDistances(distance((first + second) / 2), torch.minimum(distance(first), distance(second)))
