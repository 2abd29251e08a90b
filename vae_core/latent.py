"""Walks through the latent space: which dimensions a model uses and what they draw. Numbers only."""

import torch
from torch import Tensor

from vae_core.model import VAE
from vae_core.objective import gaussian_kl


@torch.no_grad()
def encode_means(model: VAE, images: Tensor) -> Tensor:
    """The posterior means of uint8 ``(N, C, H, W)`` images, ``(N, latent_dim)``, on the CPU."""
    return torch.cat([model.encode(part.to(model.output_bias) / 255).mean.cpu() for part in images.split(1000)])


@torch.no_grad()
def kl_by_dimension(model: VAE, images: Tensor) -> Tensor:
    """How much the model uses each latent dimension, ``(latent_dim,)``: the mean KL in nats over the images."""
    parts = [gaussian_kl(model.encode(part.to(model.output_bias) / 255)).cpu() for part in images.split(1000)]
    return torch.cat(parts).mean(0)


@torch.no_grad()
def traverse(model: VAE, dimensions: list[int], values: Tensor, start: Tensor | None = None) -> Tensor:
    """Decoder means along one dimension at a time, ``(len(dimensions), len(values), C, H, W)``.

    Every other dimension stays at ``start``, ``(latent_dim,)``, which is the prior mean, 0, unless given.
    """
    start = torch.zeros(model.config.latent_dim) if start is None else start
    z = start.repeat(len(dimensions), len(values), 1)
    for row, dimension in enumerate(dimensions):
        z[row, :, dimension] = values
    means = model.decode(z.flatten(0, 1).to(model.output_bias)).mean.cpu()
    return means.unflatten(0, (len(dimensions), len(values)))


@torch.no_grad()
def plane(model: VAE, columns: int, extent: float) -> Tensor:
    """Decoder means over a square of a two-dimensional latent space, ``(columns**2, C, H, W)``.

    Row by row from the top: z[1] falls from ``extent`` to ``-extent``, z[0] rises along a row.

    Raises:
        ValueError: for a model of another latent dimension.
    """
    if model.config.latent_dim != 2:
        raise ValueError(f"the latent plane needs a model with latent_dim 2, not {model.config.latent_dim}")
    values = torch.linspace(-extent, extent, columns)
    z = torch.stack([values.repeat(columns), values.flip(0).repeat_interleave(columns)], dim=1)
    return model.decode(z.to(model.output_bias)).mean.cpu()
