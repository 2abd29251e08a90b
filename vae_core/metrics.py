"""What a trained model achieves on images it was not trained on, in nats per image."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_core.likelihood import noise
from vae_core.model import VAE
from vae_core.objective import elbo


class Evaluation(NamedTuple):
    """Means over ``images`` images; ``elbo = reconstruction - kl``, in nats per image."""

    elbo: float
    elbo_error: float  # standard error of that mean over the images
    reconstruction: float
    kl: float
    kl_per_dimension: tuple[float, ...]  # nats, in the model's own order of dimensions
    squared_error: float  # of reconstructions, squared grey levels of [0, 1], mean over pixels
    images: int


@torch.no_grad()
def evaluate(model: VAE, images: Tensor, *, seed: int = 0, chunk: int = 1000) -> Evaluation:
    """The ELBO and its terms on uint8 ``(N, C, H, W)`` images, one posterior sample an image.

    Every image counts once, whatever ``chunk``, the number of images held at a time. The weight of
    the KL is 1, however the model was trained.

    Raises:
        ValueError: when there is no image.
    """
    if len(images) == 0:
        raise ValueError("there is no image to evaluate")
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, not {images.dtype}")
    eps = noise((len(images), model.config.latent_dim), seed, "evaluate")
    reconstruction, kl, squares = [], [], []
    for start in range(0, len(images), chunk):
        x = images[start : start + chunk].to(model.output_bias) / 255
        terms = elbo(model, x, eps[start : start + chunk].to(x))
        reconstruction.append(terms.reconstruction.cpu().double())
        kl.append(terms.kl.cpu().double())
        squares.append((model.reconstruct(x) - x).square().flatten(1).mean(1).cpu().double())
    by_image = torch.cat(reconstruction)
    by_dimension = torch.cat(kl)
    total = by_image - by_dimension.sum(1)
    return Evaluation(
        elbo=total.mean().item(),
        elbo_error=total.std().item() / math.sqrt(len(images)) if len(images) > 1 else math.nan,
        reconstruction=by_image.mean().item(),
        kl=by_dimension.sum(1).mean().item(),
        kl_per_dimension=tuple(by_dimension.mean(0).tolist()),
        squared_error=torch.cat(squares).mean().item(),
        images=len(images),
    )


class PairDistances(NamedTuple):
    """Where n generated images fall, as mean squared distances a pixel in squared grey levels, each ``(n,)``."""

    to_mean: Tensor  # to the arithmetic mean of the two images
    to_nearer: Tensor  # to the nearer of the two

    def share_at_mean(self, ratio: float = 0.1) -> float:
        """The share of images whose distance to the mean is under ``ratio`` of that to the nearer image."""
        return (self.to_mean < ratio * self.to_nearer).double().mean().item()


def pair_distances(generated: Tensor, pair: Tensor) -> PairDistances:
    """Distances of ``generated``, ``(n, C, H, W)`` in [0, 1], to the mean of a ``pair``, uint8 ``(2, C, H, W)``."""
    if len(pair) != 2 or pair.shape[1:] != generated.shape[1:]:
        raise ValueError(f"a pair of images like {tuple(generated.shape[1:])} is needed, not {tuple(pair.shape)}")
    if pair.dtype != torch.uint8:
        raise ValueError(f"a pair of images must be uint8, not {pair.dtype}")
    first, second = pair.to(generated.device).float() / 255

    def distance(image: Tensor) -> Tensor:
        return (generated - image).square().flatten(1).mean(1)

    return PairDistances(distance((first + second) / 2), torch.minimum(distance(first), distance(second)))
