"""Sharpness of images whose Laplacian energy is known."""

import math

import pytest
import torch
import torch.nn.functional as F

from vae_core.quality import laplacian_energy, sharpness

CHECKERBOARD = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).double()


def random_images(n, channels=1, size=32, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def test_flat_images_and_ramps_have_no_laplacian_energy():
    ramp = torch.arange(8).double().expand(8, 8)
    images = torch.stack([torch.zeros(8, 8).double(), torch.full((8, 8), 0.7).double(), ramp, ramp.T + ramp])
    torch.testing.assert_close(laplacian_energy(images[:, None]), torch.zeros(4).double())


def test_energy_of_a_checkerboard_is_16_times_its_contrast_squared():
    images = torch.stack([CHECKERBOARD, 1 - CHECKERBOARD, 0.25 + CHECKERBOARD / 2])[:, None]
    torch.testing.assert_close(laplacian_energy(images), torch.tensor([16.0, 16, 4]).double())


def test_energy_of_a_dot_is_a_mean_over_inner_pixels():
    dot = torch.zeros(1, 1, 5, 5)
    dot[0, 0, 2, 2] = 1
    assert laplacian_energy(dot).item() == pytest.approx((16 + 4) / 9)


def test_energy_is_a_mean_over_channels_kept_apart():
    flat = torch.zeros(8, 8).double()
    colour = torch.stack([CHECKERBOARD, flat, 1 - CHECKERBOARD])[None]  # their sum over channels is flat
    assert laplacian_energy(colour).item() == pytest.approx(32 / 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_sharpness_of_images_against_themselves_is_zero(channels):
    images = random_images(5, channels)
    assert sharpness(images, images) == 0
    assert sharpness(images[:2].repeat(3, 1, 1, 1), images[:2]) == pytest.approx(0, abs=1e-6)


def test_sharpness_is_the_log_of_a_ratio_of_energies():
    images = random_images(5)
    assert sharpness(images / 2, images) == pytest.approx(-math.log(4), abs=1e-5)
    assert sharpness(images, images / 2) == pytest.approx(math.log(4), abs=1e-5)


def test_sharpness_compares_mean_energies_not_mean_images():
    given = random_images(2)
    images = torch.cat([given * 2, torch.zeros_like(given)])
    assert sharpness(images, given) == pytest.approx(math.log(2), abs=1e-5)


def test_blurred_images_are_negative():
    images = random_images(5)
    assert sharpness(F.avg_pool2d(images, 3, stride=1), images) < -2


@pytest.mark.parametrize("n", [4, 25])
def test_the_mean_of_unlike_images_is_at_minus_log_n(n):
    images = random_images(n, size=64)
    assert sharpness(images.mean(0, keepdim=True), images) == pytest.approx(-math.log(n), abs=0.1)


def test_flat_images_are_at_minus_infinity():
    assert sharpness(torch.full((3, 1, 32, 32), 0.5), random_images(5)) == -math.inf


def test_no_images_are_refused():
    images, none = random_images(2), random_images(0)
    with pytest.raises(ValueError, match="at least one image"):
        sharpness(none, images)
    with pytest.raises(ValueError, match="at least one image"):
        sharpness(images, none)


def test_images_that_are_not_numbers_have_no_sharpness() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert math.isnan(sharpness(images * math.nan, images))
