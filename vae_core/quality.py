"""How images look, by number: next to the original, in detail, as a set, and whether they were seen in training.

Unless said otherwise images are floats ``(N, C, H, W)`` in [0, 1]. Numbers an image come as float64 on the CPU.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_core.noise import generator

CHUNK = 1000  # images at a time as float64, or through a classifier


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image to its original, ``(N,)``, decibels.

    ``-10 log10`` of the squared error a pixel, infinite for a perfect copy. The peak is 1.

    Raises:
        ValueError: unless both are floats of one shape ``(N, C, H, W)``.
    """
    images, originals = _pairs(images, originals)
    return -10 * (images - originals).square().flatten(1).mean(1).log10()


def ssim(images: Tensor, originals: Tensor, *, window: int = 7) -> Tensor:
    """Structural similarity of each image to its original, ``(N,)``: 1 for a copy, the most there is.

    Over square windows, ``window`` pixels wide, all weights equal; channels are averaged. Numbers of different windows
    must not be compared. Source: Wang et al., 2004; scikit-image's default.

    Raises:
        ValueError: unless both are floats of one shape ``(N, C, H, W)``, and ``window`` is odd and fits.
    """
    from skimage.metrics import structural_similarity

    images, originals = _pairs(images, originals)
    if window < 3 or window % 2 == 0 or window > min(images.shape[2:]):
        raise ValueError(f"the window must be odd, 3 or more and fit in images of {_size(images)}, not {window}")
    settings = {"win_size": window, "data_range": 1, "channel_axis": 0}
    pairs = zip(images.numpy(), originals.numpy(), strict=True)
    return torch.tensor([structural_similarity(x, y, **settings) for x, y in pairs], dtype=torch.float64)


def laplacian_energy(images: Tensor) -> Tensor:
    """The mean squared Laplacian of each image, ``(N,)``: large where there are edges, 0 for a flat image.

    ``images`` is ``(N, C, H, W)`` in [0, 1]; the kernel has -4 in the middle and 1 on four sides.
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=images.dtype)
    channels = images.shape[1]
    filtered = F.conv2d(images, kernel.to(images.device).expand(channels, 1, 3, 3), groups=channels)
    return filtered.square().flatten(1).mean(1).cpu()


def high_frequency_energy(images: Tensor) -> Tensor:
    """The mean power of each image above half the Nyquist frequency, ``(N,)``; 0 for a flat image, but for rounding.

    Of the orthonormal 2-D Fourier transform of each channel, the mean squared modulus over the coefficients with
    ``hypot(row, column) > 1/4`` cycles a pixel, so white noise has its variance. Images are taken as periodic.
    """
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in images.shape[-2:])
    high = torch.hypot(rows[:, None], columns) > 0.25 + 1e-9  # a quarter itself is out, however it is rounded
    power = torch.fft.fft2(images.detach().cpu().double(), norm="ortho").abs().square()
    return power[..., high].flatten(1).mean(1)


def sharpness(images: Tensor, reference: Tensor, energy: Callable[[Tensor], Tensor] = laplacian_energy) -> float:
    """``log(mean energy of images / that of reference)``: 0 is right, below is blur, above is artefact.

    Both are ``(N, C, H, W)`` in [0, 1] with the same C. The mean of N unlike images has about 1/N of an image's
    energy, so its sharpness is about ``-log(N)``. :func:`high_frequency_energy` as ``energy`` sees finer detail alone.

    Raises:
        ValueError: when one side has no image.
    """
    if len(images) == 0 or len(reference) == 0:
        raise ValueError("sharpness needs at least one image on each side")
    ratio = energy(images).mean() / energy(reference).mean()
    return -math.inf if ratio == 0 else math.log(ratio.item())


def components(reference: Tensor, dimensions: int = 50) -> Callable[[Tensor], Tensor]:
    """A function from images to their coordinates along principal components of ``reference``, ``(N, dimensions)``.

    The first column varies most; signs are arbitrary. Nothing is rescaled: distances are those of pixels.

    Raises:
        ValueError: unless it holds floats, and has that many components; by the function, on images of another size.
    """
    _check_images(reference)
    most = min(len(reference) - 1, reference[:1].numel())
    if not 1 <= dimensions <= most:
        raise ValueError(f"{len(reference)} images of {_size(reference)} have 1 to {most} components, not {dimensions}")
    mean, covariance = _moments(reference.detach().flatten(1))
    axes = torch.linalg.eigh(covariance).eigenvectors[:, -dimensions:].flip(1)
    like = torch.empty(0, *reference.shape[1:])

    def features(images: Tensor) -> Tensor:
        _check_images(images, like)
        return torch.cat([(part.cpu().double() - mean) @ axes for part in images.detach().flatten(1).split(CHUNK)])

    return features


@torch.enable_grad()
def train_classifier(images: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 2) -> nn.Sequential:
    """A small convolutional classifier of uint8 ``(N, C, H, W)`` images, on the CPU; for :func:`classifier_features`.

    It depends on the arguments alone and leaves torch's generator as it was. ``labels`` are int64 ``(N,)``, counted
    from 0; the last of its layers gives their logits.

    Raises:
        ValueError: on images that are not uint8 or under 8 pixels wide or high.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or min(images.shape[-2:]) < 8:
        raise ValueError(f"images must be uint8 (N, C, H, W) of 8x8 or more, not {images.dtype} {tuple(images.shape)}")
    rng = generator(seed, "classifier")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**32)))  # torch.manual_seed would seed GPUs too
        classifier = nn.Sequential(
            *(nn.Conv2d(images.shape[1], 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveMaxPool2d(4)),
            *(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU()),
            nn.Linear(64, int(labels.max()) + 1),
        )
    images, labels = images.cpu(), labels.cpu()
    orders = [torch.from_numpy(rng.permutation(len(images))).split(16) for _ in range(epochs)]
    optimizer = torch.optim.Adam(classifier.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=sum(map(len, orders)))
    for chosen in (batch for order in orders for batch in order):
        optimizer.zero_grad()
        F.cross_entropy(classifier(images[chosen].float() / 255), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


@torch.no_grad()
def classifier_features(classifier: nn.Sequential, images: Tensor) -> Tensor:
    """What the last layer of a classifier by :func:`train_classifier` is given for each image, float64 ``(N, 64)``."""
    _check_images(images)
    return torch.cat([classifier[:-1](part.cpu().float()).double() for part in images.split(CHUNK)])


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians with the means and covariances of two sets of features.

    ``|m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))``, in squared units of the features. Both are ``(N, F)`` with the
    same F; N may differ. Few rows make it large even for two sets of one kind (see :func:`frechet_against_floor`).
    Source: Heusel et al., arXiv 1706.08500.

    Raises:
        ValueError: unless both are finite, have the same F and two rows or more.
    """
    if features.ndim != 2 or features.shape[1:] != reference.shape[1:] or min(len(features), len(reference)) < 2:
        shapes = f"{tuple(features.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"features must be (N, F) with N > 1 and one F, not {shapes}")
    if not (features.isfinite().all() and reference.isfinite().all()):
        raise ValueError("features must be finite")
    (mean1, covariance1), (mean2, covariance2) = _moments(features.detach()), _moments(reference.detach())
    values, vectors = torch.linalg.eigh(covariance1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * shared
    return max(0.0, distance.item())


class FrechetDistances(NamedTuple):
    """Fréchet distances of two sets of ``images`` images each to the training images."""

    distance: float  # of samples
    floor: float  # of test images, "real against real": what perfect samples would have
    images: int


def frechet_against_floor(
    samples_features: Tensor, train_features: Tensor, test_features: Tensor, *, seed: int = 0
) -> FrechetDistances:
    """Fréchet distances of samples, and of as many test images, to all training images, each ``(N, F)``.

    As many of each are drawn with ``seed`` as the smaller set has: the distance depends on the number.
    """
    n = min(len(samples_features), len(test_features))
    rng = generator(seed, "floor")
    sets = (samples_features.cpu(), test_features.cpu())
    samples, real = (rows[torch.from_numpy(rng.permutation(len(rows))[:n])] for rows in sets)
    return FrechetDistances(frechet_distance(samples, train_features), frechet_distance(real, train_features), n)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(F,)`` and unbiased covariance ``(F, F)`` of ``(N, F)``, float64, without a float64 copy of all rows."""
    mean = torch.zeros(rows.shape[1], dtype=torch.float64)
    for part in rows.split(CHUNK):
        mean += part.cpu().double().sum(0) / len(rows)
    covariance = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in rows.split(CHUNK):
        centred = part.cpu().double() - mean
        covariance += centred.T @ centred / (len(rows) - 1)
    return mean, covariance


class Nearest(NamedTuple):
    """For each of N images the nearest training image."""

    index: Tensor  # type: ignore[assignment]  # int64 (N,); hides tuple.index
    distance: Tensor  # float64 (N,), mean squared distance a pixel, squared grey levels of [0, 1]


@torch.no_grad()
def nearest(images: Tensor, training: Tensor) -> Nearest:
    """The nearest training image of each image by mean squared distance a pixel.

    Raises:
        ValueError: unless both hold floats of one shape ``(C, H, W)``, with a training image at least.
    """
    from sklearn.metrics import pairwise_distances_argmin

    _check_images(images, training)
    if len(training) == 0:
        raise ValueError("nearest needs a training image")
    rows, others = images.cpu().flatten(1), training.cpu().flatten(1).to(images.dtype)
    index = torch.from_numpy(pairwise_distances_argmin(rows, others) if len(rows) else np.zeros(0, int))
    return Nearest(index, (rows.double() - others[index].double()).square().mean(1))  # exactly 0 for a copy


def _check_images(*sets: Tensor) -> None:
    for images in sets:
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(f"images must be floats (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        if images.shape[1:] != sets[0].shape[1:]:
            raise ValueError(f"images of {_size(sets[0])} cannot be compared with images of {_size(images)}")


def _pairs(images: Tensor, originals: Tensor) -> tuple[Tensor, Tensor]:
    """Both, float64 on the CPU."""
    _check_images(images, originals)
    if len(images) != len(originals):
        raise ValueError(f"every image needs its original: {len(images)} images, {len(originals)} originals")
    return images.detach().cpu().double(), originals.detach().cpu().double()


def _size(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
