"""The two terms of the ELBO against closed forms, and the one scale behind every loss."""

import math

import pytest
import torch
from torch import distributions, nn

from vae_core.likelihood import Bernoulli, Gaussian, noise
from vae_core.model import VAE, Posterior, VAEConfig
from vae_core.objective import Elbo, effective_variance, elbo, gaussian_kl

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
