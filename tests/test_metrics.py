"""What a trained model achieves, in nats per image, every image counted once."""

import math

import pytest
import torch
from torch import distributions, nn

from vae_core.likelihood import LIKELIHOODS
from vae_core.metrics import active_units, bits_per_dimension, evaluate, importance_weighted_bound, kl_decomposition
from vae_core.model import VAE, VAEConfig
from vae_core.noise import noise


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


def test_a_model_in_double_precision_is_measured_in_it() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    model = VAE(VAEConfig((1, 8, 8)))
    assert evaluate(model, images).elbo == pytest.approx(evaluate(model.double(), images).elbo, rel=1e-5)


def linear_model() -> VAE:
    """Linear encoder and decoder, Gaussian noise: log p(x) is a normal density."""
    torch.manual_seed(0)
    model = VAE(VAEConfig((1, 2, 3), latent_dim=2, hidden=(4,), likelihood="gaussian", sigma=0.5))
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 4))
    model.decoder = nn.Sequential(nn.Linear(2, 6, bias=False), nn.Unflatten(1, (1, 2, 3)))
    return model


BYTES = torch.randint(0, 256, (7, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def exact_log_likelihood(model: VAE) -> float:
    weight = model.decoder[0].weight.detach().double()
    covariance = weight @ weight.T + 0.25 * torch.eye(6, dtype=torch.float64)
    exact = distributions.MultivariateNormal(model.output_bias.detach().double().flatten(), covariance)
    return exact.log_prob(BYTES.flatten(1).double() / 255).mean().item()


def test_the_importance_weighted_bound_is_between_the_elbo_and_the_likelihood() -> None:
    model = linear_model()
    exact = exact_log_likelihood(model)
    few = sum(importance_weighted_bound(model, BYTES, samples=3, seed=seed).value for seed in range(300)) / 300
    many = importance_weighted_bound(model, BYTES, samples=50_000).value
    elbos = sum(evaluate(model, BYTES, seed=seed).elbo for seed in range(300)) / 300
    assert elbos < few < exact
    assert many == pytest.approx(exact, abs=0.02)


def test_the_importance_weighted_bound_counts_every_image_and_sample_whatever_the_rows() -> None:
    model = linear_model()
    whole = importance_weighted_bound(model, BYTES, samples=101)
    for rows in (1, 7, 50, 1000):
        assert importance_weighted_bound(model, BYTES, samples=101, rows=rows).value == pytest.approx(
            whole.value, abs=1e-6
        )
    alone = [importance_weighted_bound(model, BYTES[: i + 1], samples=101).value * (i + 1) for i in range(7)]
    assert alone[-1] == pytest.approx(whole.value * 7, abs=1e-5)
    assert importance_weighted_bound(model, BYTES[:1], samples=101).value == pytest.approx(alone[0])
    assert importance_weighted_bound(model, BYTES, samples=102).value != whole.value
    assert whole.error > 0
    for wrong in ({"samples": 0}, {"rows": 0}):
        with pytest.raises(ValueError, match="1 or more"):
            importance_weighted_bound(model, BYTES, **wrong)
    with pytest.raises(ValueError, match="no image"):
        importance_weighted_bound(model, BYTES[:0])


@pytest.mark.parametrize("rows", [1, 40, 100])
def test_the_importance_weighted_bound_is_exact_where_the_latent_says_nothing(rows) -> None:
    """Posterior and prior agree and the decoder draws its bias: every sample weighs log p(x), tails included."""
    model = VAE(VAEConfig((1, 1, 8), latent_dim=2, hidden=(4,)))
    for layer in (model.encoder[-1], model.decoder[-2]):
        for weight in layer.parameters():
            weight.data.zero_()
    logits = torch.tensor([-300.0, -90.0, -20.0, -1.0, 0.0, 3.0, 40.0, 200.0])
    model.output_bias.data = logits.reshape(1, 1, 8)
    images = torch.tensor([[0, 255, 0, 255, 0, 0, 255, 255], [51, 102, 153, 204, 255, 51, 102, 0]], dtype=torch.uint8)
    x = images.double() / 255
    on, off = -torch.log1p((-logits.double()).exp()), -torch.log1p(logits.double().exp())
    exact = (x * on + (1 - x) * off).sum(1)
    for i in (0, 1):
        found = importance_weighted_bound(model, images[i].reshape(1, 1, 1, 8), samples=100, rows=rows).value
        assert found == pytest.approx(exact[i].item(), rel=1e-6)


def test_the_importance_weighted_bound_of_a_bernoulli_finds_the_integral() -> None:
    """One latent: log p(x) by adding up p(z) p(x given z) over a fine grid."""
    torch.manual_seed(0)
    model = VAE(VAEConfig((1, 3, 3), latent_dim=1, hidden=(4,), activation="tanh"))
    model.decoder[-2].weight.data *= 5
    images = some_images(1, (1, 3, 3)) // 128 * 255
    grid = torch.linspace(-8, 8, 8001)
    with torch.no_grad():
        conditional = distributions.Bernoulli(logits=model.decode(grid[:, None]).logits.double())
    joint = conditional.log_prob(images.double() / 255).sum((1, 2, 3)) + distributions.Normal(0.0, 1.0).log_prob(grid)
    exact = (joint.logsumexp(0) + math.log(16 / 8000)).item()
    assert importance_weighted_bound(model, images, samples=100_000).value == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_importance_weighted_bound_is_its_definition_for_every_likelihood(likelihood) -> None:
    sigma = None if likelihood == "bernoulli" else 0.4
    model = VAE(VAEConfig((1, 4, 4), latent_dim=3, hidden=(8,), likelihood=likelihood, sigma=sigma)).double()
    images = some_images(3, (1, 4, 4))
    found = importance_weighted_bound(model, images, samples=50, seed=4, rows=20)
    bounds = []
    for i in range(3):
        x = images[i : i + 1].double() / 255
        eps = noise((50, 3), 4, i, "importance").double()
        with torch.no_grad():
            posterior = distributions.Normal(*model.encode(x))
            z = posterior.mean + posterior.stddev * eps
            prior = distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
            seen = model.decode(z).log_prob(x.expand(50, -1, -1, -1))
        bounds.append((seen + prior - posterior.log_prob(z).sum(1)).logsumexp(0).item() - math.log(50))
    assert found.value == pytest.approx(sum(bounds) / 3, rel=1e-12)
    assert found.error == pytest.approx(torch.tensor(bounds).std().item() / math.sqrt(3), rel=1e-5)


def encoder_of(mean: torch.Tensor, deviation: float) -> VAE:
    """A model that sends image number i (all pixels i) to ``mean[i]`` with that deviation."""
    model = VAE(VAEConfig((1, 1, 1), latent_dim=mean.shape[1], hidden=(4,)))

    class Encoder(nn.Module):
        def forward(self, x):
            at = mean[(x.flatten() * 255).round().long()]
            return torch.cat([at, torch.full_like(at, math.log(deviation))], dim=1)

    model.encoder = Encoder()
    return model


def test_mutual_information_is_log_n_where_latents_are_apart_and_zero_where_they_are_the_same() -> None:
    images = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1)
    apart = kl_decomposition(encoder_of(torch.arange(8.0)[:, None] * 10, 0.1), images)
    assert apart.mutual_information.value == pytest.approx(math.log(8), abs=1e-6)
    same = kl_decomposition(encoder_of(torch.zeros(8, 2), 1.0), images)
    assert same.mutual_information.value == pytest.approx(0, abs=1e-6)
    assert same.marginal_kl.value == pytest.approx(0, abs=1e-6)


def test_mutual_information_and_marginal_kl_make_up_the_kl() -> None:
    images = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1)
    model = encoder_of(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), 0.4)
    told = kl_decomposition(model, images, samples=400)
    kl = evaluate(model, images).kl
    assert told.mutual_information.value + told.marginal_kl.value == pytest.approx(kl, abs=0.05)
    assert 0 < told.mutual_information.value < math.log(20)


def test_active_units_are_the_dimensions_whose_mean_varies() -> None:
    images = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1)
    mean = torch.zeros(20, 3)
    mean[:, 0], mean[:, 1] = torch.linspace(-1, 1, 20), 0.05 * torch.linspace(-1, 1, 20)
    assert active_units(encoder_of(mean, 1.0), images) == 1
    assert active_units(encoder_of(mean, 1.0), images, threshold=1e-4) == 2


def test_bits_per_dimension_exist_for_probabilities_only() -> None:
    config = VAEConfig((1, 2, 2), likelihood="logistic", sigma=0.1)
    assert bits_per_dimension(-4 * math.log(256), config) == pytest.approx(8)
    with pytest.raises(ValueError, match="8-bit values; gaussian has none"):
        bits_per_dimension(-1.0, VAEConfig((1, 2, 2), likelihood="gaussian", sigma=0.1))


def test_an_optimal_sigma_is_one_for_all_images_whatever_the_chunk() -> None:
    images = torch.randint(0, 256, (30, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = VAE(VAEConfig((1, 3, 3), latent_dim=2, hidden=(4,), likelihood="gaussian", sigma="optimal"))
    whole = evaluate(model, images)
    for chunk in (1, 7, 30):
        assert evaluate(model, images, chunk=chunk).elbo == pytest.approx(whole.elbo, abs=1e-4)
    fixed = [
        VAE(VAEConfig((1, 3, 3), latent_dim=2, hidden=(4,), likelihood="gaussian", sigma=s)) for s in (0.3, 0.6, 1.0)
    ]
    assert all(evaluate(other, images).elbo < whole.elbo for other in fixed)  # the same weights, another sigma
    with pytest.raises(ValueError, match="depends on the batch"):
        importance_weighted_bound(model, images)
