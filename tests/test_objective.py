"""The two terms of the ELBO against closed forms, and the one scale behind every loss."""

import math
from itertools import pairwise

import pytest
import torch
from torch import distributions, nn

from vae_core.likelihood import Bernoulli, Gaussian, noise
from vae_core.model import VAE, Posterior, VAEConfig
from vae_core.objective import (
    Elbo,
    Forecast,
    collapse_forecast,
    effective_variance,
    elbo,
    gaussian_kl,
    importance_weighted,
)

SHAPE, PIXELS = (1, 4, 4), 16


def posterior(batch=50, latent_dim=4):
    return Posterior(
        noise((batch, latent_dim), 0, "mean").double(), noise((batch, latent_dim), 0, "dev").double().exp()
    )


def small(sigma=None, seed=0):
    kind = "bernoulli" if sigma is None else "gaussian"
    config = VAEConfig(image_shape=SHAPE, latent_dim=3, hidden=(6,), activation="tanh", likelihood=kind, sigma=sigma)
    return VAE(config, seed=seed).double()


def pixels(batch=7):
    return torch.sigmoid(noise((batch, *SHAPE), 0, "pixels").double())


def gradient(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


# --- the KL ---


def test_kl_is_the_closed_form_of_each_dimension():
    q = posterior()
    expected = distributions.kl_divergence(distributions.Normal(*q), distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(q), expected.double())


def test_kl_agrees_with_monte_carlo():
    q = Posterior(torch.tensor([[0.7, -1.5]]).double(), torch.tensor([[0.4, 1.3]]).double())
    z = q.mean + q.deviation * noise((200_000, 2), 0, "z").double()
    log_ratio = distributions.Normal(*q).log_prob(z) - distributions.Normal(0.0, 1.0).log_prob(z)
    error = log_ratio.std(0) / math.sqrt(len(z))
    assert ((log_ratio.mean(0) - gaussian_kl(q)[0]).abs() < 4 * error).all()
    assert (error < 0.01).all()


def test_kl_is_zero_at_the_prior_and_positive_elsewhere():
    assert not gaussian_kl(Posterior(torch.zeros(3, 2), torch.ones(3, 2))).any()
    assert (gaussian_kl(posterior(batch=1000)) > 0).all()


# --- the two terms ---


def test_elbo_is_reconstruction_minus_the_sum_of_kl():
    model, x, eps = small(sigma=0.5), pixels(), noise((7, 3), 0).double()
    terms = elbo(model, x, eps)
    q, likelihood = model(x, eps)
    assert terms.reconstruction.shape == (7,)
    assert terms.kl.shape == (7, 3)
    torch.testing.assert_close(terms.reconstruction, likelihood.log_prob(x))
    torch.testing.assert_close(terms.kl, gaussian_kl(q))
    torch.testing.assert_close(terms.total, terms.reconstruction - terms.kl.sum(1))


def test_loss_weighs_the_kl_and_averages_over_images_only():
    terms = Elbo(torch.tensor([-10.0, -30.0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert terms.total.tolist() == [-13, -37]
    assert terms.loss().item() == 25
    assert terms.loss(0).item() == 20
    assert terms.loss(4.0).item() == 40
    assert terms.loss(torch.tensor(4.0)).item() == 40


def test_elbo_takes_any_function_of_x_and_noise():
    model, x, eps = small(), pixels(), noise((7, 3), 0).double()
    expected = elbo(model, x, eps).total
    assert torch.equal(elbo(lambda x, eps: model(x, eps), x, eps).total, expected)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    other = small(seed=1)
    called = elbo(lambda x, eps: torch.func.functional_call(other, weights, (x, eps)), x, eps)
    torch.testing.assert_close(called.total, expected)


@pytest.mark.parametrize("family", [Bernoulli, lambda output: Gaussian(output, 0.3)], ids=["bernoulli", "gaussian"])
def test_terms_are_sums_not_means(family):
    """Twice the pixels: twice the reconstruction, the same KL. Twice the latents: twice the KL."""
    x, output, q = pixels(), noise((7, *SHAPE), 0, "output").double(), posterior(batch=7)
    once = elbo(lambda x, eps: (q, family(output)), x, q.mean)
    twice = elbo(lambda x, eps: (q, family(output.repeat(1, 1, 1, 2))), x.repeat(1, 1, 1, 2), q.mean)
    torch.testing.assert_close(twice.reconstruction, 2 * once.reconstruction)
    torch.testing.assert_close(twice.kl, once.kl)
    latents = Posterior(q.mean.repeat(1, 2), q.deviation.repeat(1, 2))
    torch.testing.assert_close(gaussian_kl(latents).sum(1), 2 * once.kl.sum(1))


# --- one scale for every loss ---


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_effective_variance_is_that_of_the_table(beta, shape):
    def variance(sigma):
        return effective_variance(VAEConfig(image_shape=shape, likelihood="gaussian", sigma=sigma), beta)

    assert variance(0.3) == pytest.approx(beta * 0.3**2)
    assert variance(math.sqrt(1 / 2)) == pytest.approx(beta / 2)  # sum of squares
    assert variance(math.sqrt(math.prod(shape) / 2)) == pytest.approx(math.prod(shape) * beta / 2)  # mean of squares


def test_effective_variance_of_bernoulli_does_not_exist():
    assert effective_variance(VAEConfig(likelihood="bernoulli"), 1.0) is None


@pytest.mark.parametrize("scale", [1.0, 1 / PIXELS], ids=["sum of squares", "mean of squares"])
def test_squared_error_losses_are_gaussian_likelihoods(scale):
    model, x, eps = small(sigma=math.sqrt(1 / (2 * scale))), pixels(), noise((7, 3), 0).double()
    q, likelihood = model(x, eps)
    by_hand = scale * (x - likelihood.mean).square().sum((1, 2, 3)).mean() + gaussian_kl(q).sum(1).mean()
    torch.testing.assert_close(gradient(model, elbo(model, x, eps).loss()), gradient(model, by_hand))


@pytest.mark.parametrize("beta", [0.2, 5.0])
def test_losses_of_one_effective_variance_differ_by_a_factor_only(beta):
    weighted = small(sigma=0.4)
    plain = small(sigma=math.sqrt(effective_variance(weighted.config, beta)))
    x, eps = pixels(), noise((7, 3), 0).double()
    ours = gradient(weighted, elbo(weighted, x, eps).loss(beta))
    torch.testing.assert_close(ours, beta * gradient(plain, elbo(plain, x, eps).loss()))


# --- a linear decoder: log p(x) is known ---


def linear(weight, encoder_weight, encoder_bias, log_deviation, sigma=0.5):
    """A VAE with decoder ``weight @ z + b`` and encoder ``encoder_weight @ x + encoder_bias``."""
    size, latent_dim = weight.shape
    model = VAE(VAEConfig(image_shape=(1, 1, size), latent_dim=latent_dim, likelihood="gaussian", sigma=sigma)).double()
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 2 * latent_dim)).double()
    model.decoder = nn.Sequential(nn.Linear(latent_dim, size, bias=False), nn.Unflatten(1, (1, 1, size))).double()
    model.encoder[1].weight.data = torch.cat([encoder_weight, torch.zeros_like(encoder_weight)])
    model.encoder[1].bias.data = torch.cat([encoder_bias, log_deviation])
    model.decoder[0].weight.data = weight
    model.output_bias.data = torch.linspace(-1, 1, size).double().reshape(1, 1, size)
    return model


def expected_elbo(model, x):
    """The mean over noise, exactly: the integrand is quadratic, so the points +-sqrt(L) e_i are enough."""
    latent_dim = model.config.latent_dim
    points = math.sqrt(latent_dim) * torch.cat([torch.eye(latent_dim), -torch.eye(latent_dim)]).double()
    return torch.stack([elbo(model, x, point.expand(len(x), -1)).total for point in points]).mean(0)


def log_evidence(weight, model, x):
    covariance = weight @ weight.T + model.config.sigma**2 * torch.eye(len(weight)).double()
    return distributions.MultivariateNormal(model.output_bias.flatten(), covariance).log_prob(x.flatten(1)).detach()


def true_posterior(weight, sigma=0.5):
    """Weight, bias and precision of p(z given x) for the decoder ``weight @ z + b``."""
    precision = torch.eye(weight.shape[1]).double() + weight.T @ weight / sigma**2
    gain = torch.linalg.solve(precision, weight.T) / sigma**2
    return gain, -gain @ torch.linspace(-1, 1, len(weight)).double(), precision


def test_elbo_equals_log_p_at_the_true_posterior_of_a_linear_decoder():
    orthogonal = torch.linalg.qr(noise((5, 2), 0, "weight").double())[0]
    weight = orthogonal * torch.tensor([2.0, 0.3]).double()  # columns at right angles: the posterior is diagonal
    gain, bias, precision = true_posterior(weight)
    model = linear(weight, gain, bias, -precision.diagonal().log() / 2)
    x = noise((6, 1, 1, 5), 0, "x").double()
    torch.testing.assert_close(expected_elbo(model, x), log_evidence(weight, model, x))


def test_elbo_is_below_log_p_by_the_kl_to_the_true_posterior():
    weight = noise((5, 2), 1, "weight").double()  # columns not at right angles
    gain, bias, precision = true_posterior(weight)
    x = noise((6, 1, 1, 5), 1, "x").double()
    truth = distributions.MultivariateNormal(x.flatten(1) @ gain.T + bias, precision_matrix=precision)
    for encoder_weight, log_deviation in (
        (gain, torch.zeros(2)),
        (noise((2, 5), 2, "encoder"), torch.tensor([-1.0, 1])),
    ):
        model = linear(weight, encoder_weight.double(), bias, log_deviation.double())
        q = model.encode(x)
        ours = distributions.MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.deviation))
        gap = log_evidence(weight, model, x) - expected_elbo(model, x)
        assert (gap > 0).all()
        torch.testing.assert_close(gap, distributions.kl_divergence(ours, truth))


def test_elbo_of_random_noise_averages_to_the_expected_one():
    weight = noise((5, 2), 1, "weight").double()
    gain, bias, _ = true_posterior(weight)
    model, x = linear(weight, gain, bias, torch.tensor([-1.0, -0.5]).double()), noise((1, 1, 1, 5), 1, "x").double()
    draws = elbo(model, x.expand(50_000, 1, 1, 5), noise((50_000, 2), 0, "draws").double()).total
    assert abs(draws.mean() - expected_elbo(model, x)) < 4 * draws.std() / math.sqrt(50_000)
    assert draws.std() / math.sqrt(50_000) < 0.05


def pair(distance2: float, pixels: int = 64) -> torch.Tensor:
    """Two uint8 images at about that squared distance, and the exact one."""
    level = round((distance2 / pixels) ** 0.5 * 255)
    images = torch.zeros(2, 1, 8, pixels // 8, dtype=torch.uint8)
    images[1] = level
    return images


@pytest.mark.parametrize(("kappa", "answer"), [(0.5, "certain"), (0.99, "certain"), (1.01, "escapes"), (10, "escapes")])
def test_the_forecast_for_a_pair_turns_at_one(kappa: float, answer: str) -> None:
    images = pair(16.0)
    distance2 = ((images[0].double() - images[1].double()) / 255).square().sum().item()
    config = VAEConfig((1, 8, 8), likelihood="gaussian", sigma=(distance2 / (4 * kappa)) ** 0.5)
    forecast = collapse_forecast(images, config)
    assert forecast.answer == answer
    assert forecast.diameter_ratio == pytest.approx(kappa)
    assert forecast.eigenvalue_ratio == pytest.approx(kappa)  # one direction: both tests are the same
    # beta and the variance are one number
    doubled = VAEConfig((1, 8, 8), likelihood="gaussian", sigma=config.sigma / 2**0.5)
    assert collapse_forecast(images, doubled, beta=2.0).diameter_ratio == pytest.approx(kappa)


def test_one_image_in_twenty_five_is_undecided() -> None:
    """SCIENCE: weight .04, eigenvalue over variance .5, diameter ratio 3.3 decides nothing."""
    images = torch.zeros(25, 1, 8, 8, dtype=torch.uint8)
    images[0] = 255
    variance = 64 * 0.04 * 0.96 / 0.5
    forecast = collapse_forecast(images, VAEConfig((1, 8, 8), likelihood="gaussian", sigma=variance**0.5))
    assert forecast.answer == "undecided"
    assert forecast.eigenvalue_ratio == pytest.approx(0.5)
    assert forecast.diameter_ratio == pytest.approx(64 / (4 * variance))


def test_the_mean_of_squares_collapses_on_every_set() -> None:
    images = torch.randint(0, 2, (50, 3, 8, 8)).byte() * 255
    config = VAEConfig((3, 8, 8), likelihood="gaussian", sigma=(192 / 2) ** 0.5)
    assert collapse_forecast(images, config).answer == "certain"


def test_the_eigenvalue_is_that_of_the_covariance_and_a_large_set_has_a_bound() -> None:
    images = torch.randint(0, 256, (5000, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = images.flatten(1).double() / 255
    exact = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).max().item()
    forecast = collapse_forecast(images, VAEConfig((1, 4, 4), likelihood="gaussian", sigma=1.0))
    assert forecast.eigenvalue_ratio == pytest.approx(exact, rel=1e-3)
    assert forecast.eigenvalue_ratio <= exact * (1 + 1e-12)
    assert forecast.diameter_ratio >= torch.cdist(x[:1000], x).square().max().item() / 4


def test_the_forecast_of_other_likelihoods() -> None:
    images = torch.randint(0, 2, (40, 1, 2, 2), generator=torch.Generator().manual_seed(0)).byte() * 255
    p = images.float().flatten(1).mean(0) / 255
    white = (images.flatten(1).double() / 255 - p) / (p * (1 - p)).sqrt()
    exact = torch.linalg.eigvalsh(torch.cov(white.T, correction=0)).max().item()
    bernoulli = collapse_forecast(images, VAEConfig((1, 2, 2)), beta=1.0)
    assert bernoulli.eigenvalue_ratio == pytest.approx(exact, rel=1e-5)
    assert bernoulli.answer == "escapes"
    assert collapse_forecast(images, VAEConfig((1, 2, 2)), beta=100.0).answer == "undecided"
    for sigma in ("learned", "optimal"):
        config = VAEConfig((1, 2, 2), likelihood="gaussian", sigma=sigma)
        assert collapse_forecast(images, config).answer == "escapes"
        assert collapse_forecast(images[:1].repeat(5, 1, 1, 1), config).answer == "certain"
    for likelihood in ("laplace", "logistic"):  # no test is known
        forecast = collapse_forecast(images, VAEConfig((1, 2, 2), likelihood=likelihood, sigma=1.0))
        assert forecast.answer == "undecided"
        assert math.isnan(forecast.diameter_ratio)
        assert math.isnan(forecast.eigenvalue_ratio)
    with pytest.raises(ValueError, match="at least one image"):
        collapse_forecast(images[:0], VAEConfig((1, 2, 2)))
    with pytest.raises(ValueError, match="beta must be"):
        collapse_forecast(images, VAEConfig((1, 2, 2)), beta=0.0)
    assert "collapse is certain" in str(Forecast("certain", 0.5, 0.1))


def test_free_bits_stop_at_the_floor() -> None:
    terms = Elbo(torch.tensor([-3.0, -5.0]), torch.tensor([[0.1, 2.0], [0.3, 4.0]]))
    assert terms.loss(free_bits=0.0).item() == pytest.approx(4.0 + 3.2)
    assert terms.loss(free_bits=0.5).item() == pytest.approx(4.0 + 0.5 + 3.0)
    assert terms.loss(beta=2.0, free_bits=0.5).item() == pytest.approx(4.0 + 2 * 3.5)


def linear_gaussian() -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A model with linear encoder and decoder in float64, images, and their exact log p(x)."""
    torch.manual_seed(0)
    model = VAE(VAEConfig((1, 2, 3), latent_dim=2, hidden=(4,), likelihood="gaussian", sigma=0.5)).double()
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 4).double())
    model.decoder = nn.Sequential(nn.Linear(2, 6, bias=False).double(), nn.Unflatten(1, (1, 2, 3)))
    x = torch.rand(5, 1, 2, 3, dtype=torch.float64)
    weight = model.decoder[0].weight.detach()
    covariance = weight @ weight.T + 0.25 * torch.eye(6, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(model.output_bias.detach().flatten(), covariance)
    return model, x, exact.log_prob(x.flatten(1))


@torch.no_grad()
def test_the_importance_weighted_bound_rises_to_the_exact_likelihood() -> None:
    model, x, exact = linear_gaussian()
    bounds = []
    for k in (1, 5, 50, 5000):
        draws = [
            elbo(model, x, noise((k, 5, 2), seed, "weights").double()).weighted for seed in range(max(4, 2000 // k))
        ]
        bounds.append(torch.stack(draws).mean(0))
    for lower, higher in pairwise(bounds):
        assert (higher > lower - 0.05).all()
    assert (bounds[0] < exact).all()
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean() < exact.mean() + 0.05
    torch.testing.assert_close(bounds[-1], exact, rtol=0, atol=0.1)


@torch.no_grad()
def test_one_weight_is_on_average_the_elbo() -> None:
    model, x, _ = linear_gaussian()
    drawn = [noise((1, 5, 2), seed, "weights").double() for seed in range(4000)]
    weights = torch.stack([elbo(model, x, one).weighted for one in drawn]).mean(0)
    elbos = torch.stack([elbo(model, x, one[0]).total for one in drawn]).mean(0)
    torch.testing.assert_close(weights, elbos, rtol=0, atol=0.15)


@torch.no_grad()
def test_several_samples_are_those_one_by_one() -> None:
    model, x, _ = linear_gaussian()
    eps = noise((3, 5, 2), 0, "several").double()
    together, apart = elbo(model, x, eps), [elbo(model, x, one) for one in eps]
    torch.testing.assert_close(together.reconstruction, torch.stack([one.reconstruction for one in apart]).mean(0))
    torch.testing.assert_close(together.kl, apart[0].kl)
    weights = torch.stack([elbo(model, x, one[None]).weighted for one in eps])
    torch.testing.assert_close(together.weighted, importance_weighted(weights))
    assert together.loss() == -together.weighted.mean()


def test_the_largest_weight_counts_most() -> None:
    weights = torch.tensor([[0.0], [-100.0]])
    assert importance_weighted(weights).item() == pytest.approx(-math.log(2))
