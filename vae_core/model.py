"""The variational autoencoder: an encoder, a decoder and the step between them.

The encoder gives two vectors for an image, the mean and the deviation of independent normals. A
sample from them is decoded into a likelihood over images. Source: Kingma and Welling, 2013,
arXiv 1312.6114, section 3 and appendix C.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from vae_core.likelihood import (
    LIKELIHOODS,
    SIGMA_RANGE,
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    Measure,
    OptimalGaussian,
)
from vae_core.noise import generator, noise

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


@dataclass(frozen=True)
class VAEConfig:
    """What a model is, apart from its weights. Goes to JSON with ``dataclasses.asdict`` and back."""

    image_shape: tuple[int, int, int] = (1, 28, 28)  # channels, height, width
    latent_dim: int = 2
    hidden: tuple[int, ...] = (400,)  # mlp: widths from image to latent; conv: channels, halving the size at each
    architecture: Literal["mlp", "conv"] = "mlp"
    activation: Literal["relu", "tanh", "silu"] = "relu"
    likelihood: Literal["bernoulli", "gaussian", "laplace", "logistic"] = "bernoulli"
    # width of the pixels' noise, in grey levels of [0, 1]: the standard deviation of a gaussian, the scale of a
    # laplace or logistic; "learned": one weight of the model; "optimal" (gaussian): the best for each batch
    sigma: float | Literal["learned", "optimal"] | None = None
    output_bias: Literal["zero", "data_mean"] = "zero"  # where the decoder's output starts
    # what a pixel is: "none": a grey level; "dynamic": on with its grey level as probability, drawn anew at every use;
    # "static": black or white in the data already (see data.binarise). Black and white pixels need the bernoulli
    binarisation: Literal["none", "dynamic", "static"] = "none"

    def __post_init__(self) -> None:
        for name in ("image_shape", "hidden"):  # JSON has lists only
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{name} must be a list of whole numbers, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if not _whole(self.latent_dim) or self.latent_dim < 1:
            raise ValueError(f"latent_dim must be a whole number, 1 or more, not {self.latent_dim!r}")
        if len(self.image_shape) != 3 or not all(_whole(n) and n > 0 for n in self.image_shape):
            raise ValueError(f"image_shape must be (channels, height, width), not {self.image_shape}")
        if self.image_shape[0] not in (1, 3):
            raise ValueError(f"images have 1 or 3 channels, not {self.image_shape[0]}")
        if not self.hidden or not all(_whole(n) and n > 0 for n in self.hidden):
            raise ValueError(f"hidden must be one or more whole numbers above 0, not {self.hidden}")
        for name, known in (
            ("architecture", ("mlp", "conv")),
            ("activation", tuple(ACTIVATIONS)),
            ("likelihood", LIKELIHOODS),
            ("output_bias", ("zero", "data_mean")),
            ("binarisation", ("none", "dynamic", "static")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if (self.likelihood == "bernoulli") != (self.sigma is None):
            raise ValueError("sigma goes with every likelihood but bernoulli: give one of gaussian, laplace, logistic")
        if self.binarisation != "none" and self.likelihood != "bernoulli":
            raise ValueError(f"binarisation {self.binarisation!r} makes pixels black or white: take the bernoulli")
        if self.sigma == "optimal" and self.likelihood != "gaussian":
            raise ValueError('sigma="optimal" has a closed form for the gaussian only; use "learned"')
        number = isinstance(self.sigma, int | float) and not isinstance(self.sigma, bool)
        if self.sigma not in (None, "learned", "optimal") and not (number and 1e-6 <= float(self.sigma) <= 1e6):
            raise ValueError(f'sigma must be a number from 1e-6 to 1e6, "learned" or "optimal", not {self.sigma!r}')


class Posterior(NamedTuple):
    """q(z given x): the post's two vectors, each ``(B, latent_dim)``."""

    mean: Tensor
    deviation: Tensor


class VAE(nn.Module):
    """Encoder, sampling and decoder of ``config``, with weights that depend on ``seed`` alone.

    ``data_mean``, ``(C, H, W)`` in [0, 1], is needed for ``output_bias="data_mean"`` only: the
    decoder then draws it before any training.
    """

    def __init__(self, config: VAEConfig, *, seed: int = 0, data_mean: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "weights").integers(2**32)))
            build = _mlp if config.architecture == "mlp" else _conv
            self.encoder, self.decoder = build(config)
        start = torch.zeros(config.image_shape)
        if config.output_bias == "data_mean":
            if data_mean is None:
                raise ValueError('output_bias="data_mean" needs data_mean, the mean image of the training set')
            if tuple(data_mean.shape) != config.image_shape:
                raise ValueError(f"data_mean must be ({_by(config.image_shape)}), not ({_by(tuple(data_mean.shape))})")
            start = data_mean.detach().to(start, copy=True)  # a weight of its own, not the caller's tensor
            if config.likelihood == "bernoulli":
                start = torch.logit(start, eps=1e-3)
        self.output_bias = nn.Parameter(start)
        if config.sigma == "learned":
            self.log_sigma = nn.Parameter(torch.zeros(()))

    @property
    def sigma(self) -> float | Tensor | None:
        """The width of the pixels' noise, within SIGMA_RANGE if learned; ``None`` where there is no one number.

        A learned one that wants out of the range is held at its end; its gradient still flows, so it can come back.
        """
        if self.config.sigma == "learned":
            held = self.log_sigma.detach().clamp(math.log(SIGMA_RANGE[0]), math.log(SIGMA_RANGE[1]))
            return (held + (self.log_sigma - self.log_sigma.detach())).exp()  # adds 0, and the gradient
        return self.config.sigma if isinstance(self.config.sigma, int | float) else None

    @property
    def measure(self) -> Measure:
        """What the exponentials of its log probabilities are; those of different measures must not be compared."""
        return self.decode(torch.zeros(1, self.config.latent_dim).to(self.output_bias)).measure

    def encode(self, x: Tensor) -> Posterior:
        """q(z given x) for images ``x`` of shape ``(B, C, H, W)`` with values in [0, 1].

        Raises:
            ValueError: on images of another shape than ``config.image_shape``.
        """
        if x.shape[1:] != self.config.image_shape:
            raise ValueError(f"images must be (B, {_by(self.config.image_shape)}), not ({_by(tuple(x.shape))})")
        mean, log_deviation = self.encoder(x).chunk(2, dim=1)  # (B, 2 * latent_dim) -> twice (B, latent_dim)
        return Posterior(mean, log_deviation.exp())

    def decode(self, z: Tensor) -> Likelihood:
        """p(x given z) for latents ``z`` of shape ``(B, latent_dim)``.

        Raises:
            ValueError: on latents of another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.config.latent_dim:
            raise ValueError(f"latents must be (B, {self.config.latent_dim}), not ({_by(tuple(z.shape))})")
        output = self.decoder(z) + self.output_bias  # (B, C, H, W)
        sigma = self.sigma
        if self.config.likelihood == "bernoulli":
            return Bernoulli(output, self.config.binarisation != "none")
        if sigma is None:
            return OptimalGaussian(output)
        if self.config.likelihood == "laplace":
            return Laplace(output, sigma)
        return Gaussian(output, sigma) if self.config.likelihood == "gaussian" else DiscretisedLogistic(output, sigma)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Posterior, Likelihood]:
        """Encode ``x``, take the sample that ``noise`` picks, decode it.

        ``x`` is ``(B, C, H, W)`` in [0, 1]; ``noise`` is ``(B, latent_dim)``, standard normal, or zeros for
        the posterior mean. From noise ``(k, B, latent_dim)`` the likelihood is of ``k * B`` images, k rounds of B.
        Source: arXiv 1312.6114, section 2.4 (the reparameterisation).
        """
        posterior = self.encode(x)
        z = posterior.mean + posterior.deviation * noise  # (B, latent_dim) or (k, B, latent_dim)
        return posterior, self.decode(z.flatten(0, -2))

    @torch.no_grad()
    def sample(self, n: int, *, seed: int) -> Tensor:
        """``n`` images decoded from the prior N(0, I), on the CPU: decoder means, ``(n, C, H, W)``, no pixel noise."""
        return self.decode(noise((n, self.config.latent_dim), seed, "prior").to(self.output_bias)).mean.cpu()

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The decoder's mean at the posterior mean of each image, ``(B, C, H, W)`` like ``x``, on the CPU."""
        return self.decode(self.encode(x.to(self.output_bias)).mean).mean.cpu()


def _mlp(config: VAEConfig) -> tuple[nn.Module, nn.Module]:
    """Fully connected layers, mirrored."""
    pixels = math.prod(config.image_shape)
    widths = (pixels, *config.hidden)
    encoder: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in pairwise(widths):
        encoder += [nn.Linear(wide, narrow), ACTIVATIONS[config.activation]()]
    encoder.append(nn.Linear(widths[-1], 2 * config.latent_dim))
    back = (config.latent_dim, *reversed(config.hidden))
    decoder: list[nn.Module] = []
    for narrow, wide in pairwise(back):
        decoder += [nn.Linear(narrow, wide), ACTIVATIONS[config.activation]()]
    decoder += [nn.Linear(back[-1], pixels, bias=False), nn.Unflatten(1, config.image_shape)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _conv(config: VAEConfig) -> tuple[nn.Module, nn.Module]:
    """3x3 convolutions that halve the size, rounding up; their mirror doubles it back to any odd or even size.

    The decoder enlarges by repeating pixels before it convolves: a strided transposed convolution
    covers its output unevenly, and the checkerboard that leaves would pass for sharpness.
    """
    channels, height, width = config.image_shape
    sizes = [(height, width)]
    encoder: list[nn.Module] = []
    for before, after in zip((channels, *config.hidden), config.hidden, strict=False):
        encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), ACTIVATIONS[config.activation]()]
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    smallest = (config.hidden[-1], *sizes[-1])
    encoder += [nn.Flatten(), nn.Linear(math.prod(smallest), 2 * config.latent_dim)]
    decoder: list[nn.Module] = [nn.Linear(config.latent_dim, math.prod(smallest)), nn.Unflatten(1, smallest)]
    back = (*reversed(config.hidden), channels)
    for layer, (before, after) in enumerate(pairwise(back), start=1):
        last = layer == len(config.hidden)  # its bias is the model's output_bias
        decoder += [ACTIVATIONS[config.activation](), nn.Upsample(size=sizes[-1 - layer])]
        decoder.append(nn.Conv2d(before, after, 3, padding=1, bias=not last))
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _by(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
