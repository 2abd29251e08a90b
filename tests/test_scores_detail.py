"""Samples and reconstructions held against the training images, apart."""

import math

import pytest
import torch

from vae_core.model import VAE, VAEConfig
from vae_core.quality import laplacian_energy
from vae_core.scores import detail

CONFIG = VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(16,), likelihood="gaussian", sigma=1.0)


def training(n: int) -> torch.Tensor:
    return torch.randint(256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_a_model_that_draws_the_mean_has_its_sharpness_and_knows_nothing() -> None:
    images = training(50)
    model = VAE(CONFIG, seed=0)
    for weights in model.parameters():
        torch.nn.init.zeros_(weights)
    model.output_bias.data = images.float().mean(0) / 255
    found = detail(model, images)
    for sharp in (found.sample_sharpness, found.reconstruction_sharpness):
        assert sharp.value == pytest.approx(-math.log(50), abs=0.5)  # 1/N of the energy of unlike images
        assert sharp.error == pytest.approx(0, abs=1e-6)
    assert found.squared_error == pytest.approx((images.float() / 255).var(0, correction=0).mean().item(), rel=1e-5)
    assert found.mutual_information == pytest.approx(0, abs=1e-9)
    assert found.active_units == 0
    distances = (images.float() / 255 - model.output_bias).square().mean((1, 2, 3))
    assert found.sample_nearest == pytest.approx(distances.min().item(), rel=1e-5)


def test_reconstructions_and_samples_are_not_taken_for_each_other(monkeypatch) -> None:
    images = training(20)
    monkeypatch.setattr(VAE, "reconstruct", lambda self, x: x)
    monkeypatch.setattr(VAE, "sample", lambda self, n, seed: images.float() / 255 / 2)
    found = detail(VAE(CONFIG, seed=0), images)
    assert (found.squared_error, found.ssim) == (0, pytest.approx(1))
    assert found.reconstruction_sharpness.value == found.reconstruction_high_frequency == 0
    assert found.sample_sharpness.value == pytest.approx(-math.log(4))  # half the contrast, a quarter of the energy
    assert found.sample_high_frequency == pytest.approx(-math.log(4))
    energy = laplacian_energy(images.float() / 255).double()
    expected = (energy.std() / energy.mean()).item() / 20**0.5  # the delta method: of the logarithm
    assert found.sample_sharpness.error == pytest.approx(expected, rel=1e-5)
