"""How images look, by number."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def laplacian_energy(images: Tensor) -> Tensor:
    """The mean squared Laplacian of each image, ``(N,)``: large where there are edges, 0 for a flat image.

    ``images`` is ``(N, C, H, W)`` in [0, 1]; the kernel has -4 in the middle and 1 on four sides.
    """
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=images.dtype)
    channels = images.shape[1]
    filtered = F.conv2d(images, kernel.to(images.device).expand(channels, 1, 3, 3), groups=channels)
    return filtered.square().flatten(1).mean(1)


def sharpness(images: Tensor, given: Tensor) -> float:
    """``log(mean Laplacian energy of images / that of given)``: 0 is right, below is blur, above is artefact.

    Both are ``(N, C, H, W)`` in [0, 1] with the same C; N may differ. The mean of N unlike images has
    about 1/N of an image's energy, so its sharpness is about ``-log(N)``.
    """
    if len(images) == 0 or len(given) == 0:
        raise ValueError("sharpness needs at least one image on each side")
    ratio = laplacian_energy(images).mean() / laplacian_energy(given).mean()
    return -math.inf if ratio == 0 else math.log(ratio.item())
