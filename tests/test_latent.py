"""Walks through the latent space of a model whose two pixels are its two latents."""

import pytest
import torch
from torch import nn

from vae_core.latent import encode_means, kl_by_dimension, plane, traverse
from vae_core.metrics import evaluate
from vae_core.model import VAE, VAEConfig


def latent_is_image(latent_dim=2):
    """The decoder copies z to the pixels; the posterior mean is the pixels times 1, 2, ..."""
    model = VAE(VAEConfig((1, 1, latent_dim), latent_dim=latent_dim, likelihood="gaussian", sigma=5.0))
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(latent_dim, 2 * latent_dim))
    model.decoder = nn.Unflatten(1, (1, 1, latent_dim))
    factors = torch.arange(1.0, latent_dim + 1).diag()
    model.encoder[1].weight.data = torch.cat([factors, torch.zeros_like(factors)])
    return model


def some_images(n, latent_dim=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 1, 1, latent_dim), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("n", [1, 5, 2001])
def test_encode_means_are_those_of_every_image_in_order(n):
    model, images = latent_is_image(), some_images(n)
    means = encode_means(model, images)
    expected = images.flatten(1).float() / 255 * torch.tensor([1.0, 2.0]) + model.encoder[1].bias[:2]
    torch.testing.assert_close(means, expected.detach())
    assert not means.requires_grad


@pytest.mark.parametrize("n", [1, 1500])
def test_kl_by_dimension_is_that_of_the_evaluation(n):
    model, images = latent_is_image(3), some_images(n, 3)
    expected = torch.tensor(evaluate(model, images).kl_per_dimension)
    torch.testing.assert_close(kl_by_dimension(model, images), expected)
    assert expected.unique().numel() == 3  # so that the order matters


def test_traverse_moves_one_dimension_at_a_time_from_zero():
    images = traverse(latent_is_image(3), [2, 0], torch.tensor([-2.0, 0.5]))
    expected = torch.tensor([[[0, 0, -2], [0, 0, 0.5]], [[-2, 0, 0], [0.5, 0, 0]]])
    assert torch.equal(images.reshape(2, 2, 3), expected)
    assert images.shape == (2, 2, 1, 1, 3)


def test_traverse_keeps_the_other_dimensions_at_the_start():
    start = torch.tensor([7.0, 8.0, 9.0])
    images = traverse(latent_is_image(3), [1, 2], torch.tensor([1.0, -1.0]), start=start)
    expected = torch.tensor([[[7.0, 1, 9], [7, -1, 9]], [[7, 8, 1], [7, 8, -1]]])
    assert torch.equal(images.reshape(2, 2, 3), expected)
    assert start.tolist() == [7, 8, 9]


def test_traverse_draws_means():
    model = VAE(VAEConfig((1, 4, 4), latent_dim=3, hidden=(8,)))
    images = traverse(model, [1], torch.tensor([-100.0, 100.0]))
    z = torch.tensor([[0.0, -100, 0], [0, 100, 0]])
    assert torch.equal(images[0], torch.sigmoid(model.decode(z).logits.detach()))


def test_plane_rises_to_the_right_and_to_the_top():
    z = plane(latent_is_image(), 3, 2.0).reshape(3, 3, 2)
    assert z[..., 0].tolist() == [[-2, 0, 2]] * 3
    assert z[..., 1].tolist() == [[2, 2, 2], [0, 0, 0], [-2, -2, -2]]


def test_plane_draws_means():
    model = VAE(VAEConfig((3, 4, 4), latent_dim=2, hidden=(8,)))
    images = plane(model, 2, 1.5)
    z = torch.tensor([[-1.5, 1.5], [1.5, 1.5], [-1.5, -1.5], [1.5, -1.5]])
    assert torch.equal(images, torch.sigmoid(model.decode(z).logits.detach()))


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_plane_needs_two_dimensions(latent_dim):
    with pytest.raises(ValueError, match=f"latent_dim 2, not {latent_dim}"):
        plane(latent_is_image(latent_dim), 3, 2.0)
