"""Walks through the latent space: which dimensions a model uses and what they draw. Numbers only."""

import torch
from torch import Tensor

from vae_core.likelihood import generator, noise
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


@torch.no_grad()
def sample_mixture(model: VAE, images: Tensor, n: int, *, components: int = 20, seed: int = 0) -> Tensor:
    """``n`` images from a Gaussian mixture instead of N(0, I): decoder means, ``(n, C, H, W)``, on the CPU.

    The mixture, of full covariances, is fitted to one posterior sample of each of the uint8 ``images``, which follow
    the aggregated posterior. It is another model of z, for drawing only: the ELBO stays under N(0, I).

    Raises:
        ValueError: for fewer images than components.
    """
    from sklearn.mixture import GaussianMixture  # here: it takes a second to import

    if len(images) < components:
        raise ValueError(f"a mixture of {components} components needs as many images, not {len(images)}")
    posteriors = [model.encode(part.to(model.output_bias) / 255) for part in images.split(1000)]
    mean, deviation = (torch.cat(parts).cpu() for parts in zip(*posteriors, strict=True))  # (N, latent_dim)
    z = mean + deviation * noise(tuple(mean.shape), seed, "mixture")
    start = int(generator(seed, "mixture start").integers(2**32))
    mixture = GaussianMixture(components, random_state=start, reg_covar=1e-4, max_iter=300, tol=1e-2)
    drawn, _ = mixture.fit(z.double().numpy()).sample(n)
    order = generator(seed, "mixture order").permutation(n)  # they come component by component
    return model.decode(torch.from_numpy(drawn[order]).to(model.output_bias)).mean.cpu()
