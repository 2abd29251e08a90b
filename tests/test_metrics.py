"""What a trained model achieves, in nats per image, every image counted once."""

import math

import pytest
import torch
from torch import distributions, nn

from vae_core.metrics import PairDistances, evaluate, pair_distances
from vae_core.model import VAE, VAEConfig


def some_images(n, shape=(1, 8, 8), seed=0):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def small(sigma=0.3):
    config = VAEConfig(image_shape=(1, 8, 8), latent_dim=3, hidden=(8,), likelihood="gaussian", sigma=sigma)
    return VAE(config)


def noiseless(deviation=1e-9):
    """A model whose posterior is so narrow that the noise does not matter."""
    model = small()
    model.encoder[-1].weight.data[3:] = 0
    model.encoder[-1].bias.data[3:] = math.log(deviation)
    return model


@pytest.mark.parametrize("chunk", [1, 7, 10])
def test_every_image_counts_once_whatever_the_chunk(chunk):
    model, images = small(), some_images(10)
    whole, parts = evaluate(model, images), evaluate(model, images, chunk=chunk)
    assert parts.images == whole.images == 10
    assert parts.kl_per_dimension == pytest.approx(whole.kl_per_dimension, rel=1e-5)
    for name in ("elbo", "elbo_error", "reconstruction", "kl", "squared_error"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-5), name


def test_the_default_chunk_covers_more_than_one():
    model, images = small(), some_images(1003)
    assert evaluate(model, images).elbo == pytest.approx(evaluate(model, images, chunk=2000).elbo, rel=1e-6)
    assert evaluate(model, images).images == 1003


def test_evaluation_equals_a_direct_computation():
    model, images = noiseless(), some_images(10)
    with torch.no_grad():
        x = images.float() / 255
        posterior = model.encode(x)
        means = model.decode(posterior.mean).mean
        reconstruction = distributions.Normal(means, 0.3).log_prob(x).sum((1, 2, 3))
        kl = distributions.kl_divergence(distributions.Normal(*posterior), distributions.Normal(0.0, 1.0))
    total = reconstruction - kl.sum(1)
    found = evaluate(model, images, chunk=4)
    assert found.reconstruction == pytest.approx(reconstruction.mean().item(), rel=1e-5)
    assert found.kl_per_dimension == pytest.approx(kl.mean(0).tolist(), rel=1e-5)
    assert found.kl == pytest.approx(sum(found.kl_per_dimension))
    assert found.elbo == pytest.approx(found.reconstruction - found.kl)
    assert found.elbo_error == pytest.approx(total.std().item() / math.sqrt(10), rel=1e-4)
    assert found.squared_error == pytest.approx((means - x).square().mean().item(), rel=1e-5)


def test_elbo_averages_to_log_p_of_a_linear_decoder():
    """One weight w a pixel, deviation s: x ~ N(0, w^2 + s^2), and the true posterior is known."""
    w, s, size = 0.8, 0.4, 4
    model = VAE(VAEConfig((1, 1, size), latent_dim=size, likelihood="gaussian", sigma=s))
    precision = 1 + w**2 / s**2
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 2 * size))
    model.encoder[1].weight.data = torch.cat([w / s**2 / precision * torch.eye(size), torch.zeros(size, size)])
    model.encoder[1].bias.data = torch.cat([torch.zeros(size), torch.full((size,), -math.log(precision) / 2)])
    model.decoder = nn.Sequential(nn.Linear(size, size, bias=False), nn.Unflatten(1, (1, 1, size)))
    model.decoder[0].weight.data = w * torch.eye(size)
    images = some_images(1, (1, 1, size)).expand(4000, 1, 1, size)
    found = evaluate(model, images)
    evidence = distributions.Normal(0.0, math.hypot(w, s)).log_prob(images[0].float() / 255).sum().item()
    assert found.elbo == pytest.approx(evidence, abs=4 * found.elbo_error)
    assert 0.01 < found.elbo_error < 0.05


def test_evaluation_depends_on_its_seed_alone():
    model, images = small(), some_images(10)
    first = evaluate(model, images, seed=1)
    torch.manual_seed(0)
    assert evaluate(model, images, seed=1) == first
    other = evaluate(model, images, seed=2)
    assert other.reconstruction != first.reconstruction
    assert other.kl == first.kl


def test_one_image_has_no_standard_error():
    assert math.isnan(evaluate(small(), some_images(1)).elbo_error)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="no image"):
        evaluate(small(), some_images(0))


# --- where the images generated from a pair fall ---


def test_the_exact_mean_of_a_pair_is_at_the_mean():
    pair = some_images(2)
    distances = pair_distances((pair.double() / 255).mean(0).float().expand(5, 1, 8, 8), pair)
    half = (pair.double() / 255).diff(dim=0).square().mean().item() / 4  # half the way, squared
    assert distances.share_at_mean() == 1
    assert distances.to_mean.tolist() == pytest.approx([0] * 5, abs=1e-12)
    assert distances.to_nearer.tolist() == pytest.approx([half] * 5, rel=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_one_image_of_a_pair_is_not_at_the_mean(which):
    pair = some_images(2)
    distances = pair_distances(pair[which : which + 1].float() / 255, pair)
    assert distances.share_at_mean() == 0
    assert distances.to_nearer.item() == 0
    assert distances.to_mean.item() == pytest.approx((pair.double() / 255).diff(dim=0).square().mean().item() / 4)


def test_share_at_mean_compares_with_a_ratio():
    distances = PairDistances(torch.tensor([0.0, 0.9, 1.1, 5.0]), torch.tensor([10.0, 10.0, 10.0, 10.0]))
    assert distances.share_at_mean() == 0.5
    assert distances.share_at_mean(ratio=0.2) == 0.75


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 1, 8, 8), (2, 3, 8, 8), (2, 1, 8, 7)], ids=str)
def test_what_is_not_a_pair_of_such_images_is_refused(shape):
    with pytest.raises(ValueError, match="a pair of images like"):
        pair_distances(torch.rand(5, 1, 8, 8), torch.zeros(shape, dtype=torch.uint8))


def test_only_bytes_are_images() -> None:
    images = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="must be uint8"):
        evaluate(VAE(VAEConfig((1, 8, 8))), images)
    with pytest.raises(ValueError, match="must be uint8"):
        pair_distances(images, images)


def test_a_model_in_double_precision_is_measured_in_it() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    model = VAE(VAEConfig((1, 8, 8)))
    assert evaluate(model, images).elbo == pytest.approx(evaluate(model.double(), images).elbo, rel=1e-5)
