"""The two terms of the ELBO against closed forms, and the one scale behind every loss."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import distributions, nn

from vae_core.forecast import Forecast, collapse_forecast, effective_variance
from vae_core.likelihood import Bernoulli, Gaussian
from vae_core.model import VAE, Posterior, VAEConfig
from vae_core.noise import noise
from vae_core.objective import Elbo, elbo, gaussian_kl, importance_weighted

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
        n = max(4, 2000 // k)
        eps = noise((k, n * len(x), 2), k, "weights").double()
        bounds.append(elbo(model, x.repeat(n, 1, 1, 1), eps).weighted.unflatten(0, (n, len(x))).mean(0))
    for lower, higher in pairwise(bounds):
        assert (higher > lower - 0.05).all()
    assert (bounds[0] < exact).all()
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean() < exact.mean() + 0.05
    torch.testing.assert_close(bounds[-1], exact, rtol=0, atol=0.1)


@torch.no_grad()
def test_one_weight_is_on_average_the_elbo() -> None:
    model, x, _ = linear_gaussian()
    drawn = elbo(model, x.repeat(4000, 1, 1, 1), noise((1, 4000 * len(x), 2), 0, "weights").double())
    weights, elbos = (terms.unflatten(0, (4000, len(x))).mean(0) for terms in (drawn.weighted, drawn.total))
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


# --- the forecast against brute force ---


def collapse_and_best(images: torch.Tensor, counts: tuple[int, ...], s2: float, grid: int) -> tuple[float, float]:
    """What collapse costs, and the least cost there is, over all encoders and decoders, on a grid; nats.

    For a latent from which one would guess image i with probability p_i the cost is
    ``KL(p || w) + sum_ij p_i p_j D_ij^2 / (4 s2)``, whatever the decoder. The p average to w over the latents, so the
    least mean cost is the lower convex envelope at w: a linear programme over the shares of the grid's points.
    """
    weights = np.array(counts) / sum(counts)
    steps = grid * sum(counts)  # w is a point of the grid
    points = np.array([p for p in product(range(steps + 1), repeat=len(counts) - 1) if sum(p) <= steps]) / steps
    points = np.column_stack([points, 1 - points.sum(1)]).clip(0)
    x = images.flatten(1).double().numpy() / 255
    distances = np.square(x[:, None] - x[None]).sum(-1)

    def cost(p: np.ndarray) -> np.ndarray:
        information = np.where(p > 0, p * np.log(np.maximum(p, 1e-300) / weights), 0).sum(-1)
        return information + np.einsum("...i,ij,...j", p, distances, p) / (4 * s2)

    found = linprog(cost(points), A_eq=points.T, b_eq=weights)  # the shares sum to 1, as the p do
    return float(cost(weights)), found.fun


def forecast_of(images: torch.Tensor, counts: tuple[int, ...], s2: float) -> Forecast:
    repeated = images.repeat_interleave(torch.tensor(counts), dim=0)
    shape = tuple(images.shape[1:])
    return collapse_forecast(repeated, VAEConfig(shape, likelihood="gaussian", sigma=math.sqrt(s2)))


def few_images(n: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("counts", "grid"), [
    ((1, 1), 200), ((1, 4), 100), ((7, 2), 50), ((1, 1, 1), 14), ((1, 2, 5), 6), ((6, 1, 1), 6),
], ids=str)  # fmt: skip
def test_the_forecast_is_that_of_brute_force_over_all_encoders_and_decoders(counts: tuple[int, ...], grid: int) -> None:
    answers = []
    for seed in range(4):
        images = few_images(len(counts), seed)
        unit = forecast_of(images, counts, 1.0)
        diameters = [unit.diameter_ratio / ratio for ratio in (0.3, 0.8, 0.99)]
        eigenvalues = [unit.eigenvalue_ratio / ratio for ratio in (0.9, 1.1, 1.5, 4.0)]
        for s2 in diameters + eigenvalues:
            collapse, best = collapse_and_best(images, counts, s2, grid)
            answer = forecast_of(images, counts, s2).answer
            answers.append(answer)
            if answer == "certain":
                assert best == pytest.approx(collapse, abs=1e-6)
            elif answer == "escapes":
                assert best < collapse - 1e-5
            assert best <= collapse + 1e-9
    assert min(answers.count("certain"), answers.count("escapes")) >= 12


def test_undecided_can_be_either() -> None:
    """One image in 25 different, eigenvalue ratio .5: collapse costs .25, telling the images apart only h(.04)."""
    images = torch.tensor([[0] * 4, [255] * 4], dtype=torch.uint8).reshape(2, 1, 2, 2)
    told_apart = -0.04 * math.log(0.04) - 0.96 * math.log(0.96)
    for ratio in (0.5, 0.2):
        s2 = 4 * 0.04 * 0.96 / ratio
        forecast = forecast_of(images, (1, 24), s2)
        assert (forecast.answer, forecast.eigenvalue_ratio) == ("undecided", pytest.approx(ratio))
        collapse, best = collapse_and_best(images, (1, 24), s2, 40)
        assert collapse == pytest.approx(ratio / 2)
        if ratio == 0.5:
            assert best == pytest.approx(told_apart, abs=0.01)
            assert best < told_apart < collapse - 0.05
        else:
            assert best == pytest.approx(collapse, abs=1e-6)


def test_the_largest_eigenvalue_is_found_wherever_the_largest_variance_is() -> None:
    """One pixel varies most, but two others vary together, at right angles to it."""
    signs = torch.tensor(list(product((-1, 1), repeat=2)))
    x = 128 + torch.stack([85 * signs[:, 0], 70 * signs[:, 1], 70 * signs[:, 1], 0 * signs[:, 0]], dim=1)
    images = x.to(torch.uint8).reshape(4, 1, 2, 2)
    config = VAEConfig((1, 2, 2), likelihood="gaussian", sigma=1.0)
    for repeats in (1, 5, 2000):
        forecast = collapse_forecast(images.repeat(repeats, 1, 1, 1), config)
        assert forecast.eigenvalue_ratio == pytest.approx(2 * (70 / 255) ** 2, rel=1e-4)


# --- a linear model: probabilistic principal components ---


def known_covariance() -> tuple[torch.Tensor, torch.Tensor]:
    """30 images of 6 pixels whose covariance, with 1/N, has eigenvalues known to the last digit, and those."""
    eigenvalues = torch.tensor([4.0, 1.0, 0.5, 0.2, 0.1, 0.05]).double()
    white = torch.linalg.qr(noise((30, 7), 0, "white").double().index_fill(1, torch.tensor(0), 1.0))[0][:, 1:]
    turn = torch.linalg.qr(noise((6, 6), 0, "turn").double())[0]
    return (math.sqrt(30) * white * eigenvalues.sqrt() @ turn + 0.5).reshape(30, 1, 2, 3), eigenvalues


def at_its_optimum(x: torch.Tensor, sigma: float | str, beta: float = 1.0) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    """A linear model of four latents trained on the exact expectation over the noise; its ELBO and KL by dimension."""
    config = VAEConfig((1, 2, 3), latent_dim=4, hidden=(4,), likelihood="gaussian", sigma=sigma)
    model = VAE(config).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 8).double())
        model.decoder = nn.Sequential(nn.Linear(4, 6, bias=False).double(), nn.Unflatten(1, (1, 2, 3)))
    points = 2 * torch.cat([torch.eye(4), -torch.eye(4)]).double()  # exact for anything quadratic in the noise
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=1000, line_search_fn="strong_wolfe", tolerance_change=1e-13, tolerance_grad=1e-9
    )

    def terms() -> Elbo:
        return elbo(model, x.repeat(8, 1, 1, 1), points.repeat_interleave(len(x), dim=0))

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = terms().loss(beta)
        loss.backward()
        return loss

    optimiser.step(closure)
    found = terms()
    return model, found.total.mean().detach(), found.kl.mean(0).detach().sort(descending=True).values


def ppca_log_likelihood(eigenvalues: torch.Tensor, kept: int, s2: float) -> float:
    """Of the data by probabilistic principal components, mean over images: Tipping and Bishop, 1999, equation 9."""
    model = torch.full_like(eigenvalues, s2)
    model[:kept] = eigenvalues[:kept].clamp(min=s2)
    return -((2 * math.pi * model).log() + eigenvalues / model).sum().item() / 2


@pytest.mark.parametrize("s2", [0.15, 0.3, 0.7, 5.0])
def test_a_linear_model_is_probabilistic_pca_at_its_optimum(s2: float) -> None:
    x, eigenvalues = known_covariance()
    torch.testing.assert_close(torch.linalg.eigvalsh(torch.cov(x.flatten(1).T, correction=0)).flip(0), eigenvalues)
    model, total, kl = at_its_optimum(x, math.sqrt(s2))
    worth = (eigenvalues[:4] / s2).log().clamp(min=0) / 2  # directions below the noise are off
    torch.testing.assert_close(kl, worth, atol=1e-3, rtol=0)
    assert total.item() == pytest.approx(ppca_log_likelihood(eigenvalues, 4, s2), abs=1e-4)
    torch.testing.assert_close(model.output_bias.detach(), x.mean(0), atol=1e-2, rtol=0)


def test_beta_and_the_variance_switch_the_same_directions_off() -> None:
    x, eigenvalues = known_covariance()
    for sigma, beta in ((0.5, 2.8), (2.0, 0.175)):
        s2 = effective_variance(VAEConfig(likelihood="gaussian", sigma=sigma), beta)
        assert s2 == pytest.approx(0.7)
        _, _, kl = at_its_optimum(x, sigma, beta)
        torch.testing.assert_close(kl, (eigenvalues[:4] / s2).log().clamp(min=0) / 2, atol=1e-3, rtol=0)


def test_a_learned_sigma_is_that_of_probabilistic_pca_and_at_collapse_the_squared_error() -> None:
    """The mean of the eigenvalues that are left over; with nothing encoded that is all of them."""
    x, eigenvalues = known_covariance()
    model, total, kl = at_its_optimum(x, "learned")
    s2 = eigenvalues[4:].mean().item()
    assert model.sigma.item() ** 2 == pytest.approx(s2, rel=1e-3)
    assert total.item() == pytest.approx(ppca_log_likelihood(eigenvalues, 4, s2), abs=1e-4)
    torch.testing.assert_close(kl, (eigenvalues[:4] / s2).log() / 2, atol=1e-3, rtol=0)

    collapsed, _, kl = at_its_optimum(x, "learned", beta=100.0)
    assert kl.sum().item() < 1e-4
    error = (x - collapsed.reconstruct(x)).square().mean().item()
    assert collapsed.sigma.item() ** 2 == pytest.approx(error, rel=1e-4)
    assert error == pytest.approx(eigenvalues.mean().item(), rel=1e-3)
    torch.testing.assert_close(collapsed.sample(1, seed=0)[0], x.mean(0), atol=1e-2, rtol=0)


# --- every loss of the table, as people write it ---


def squares(x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return (x - output).square().flatten(1)


LOSSES = {  # name: what is written, from squares by pixel and KL by latent, and its effective variance
    "squares over 2 sigma^2": (lambda e, kl, beta: (e.sum(1) / (2 * 0.3**2) + beta * kl.sum(1)).mean(),
                               lambda beta: beta * 0.3**2),
    "sum of squares": (lambda e, kl, beta: (e.sum(1) + beta * kl.sum(1)).mean(), lambda beta: beta / 2),
    "mean of squares": (lambda e, kl, beta: (e.mean(1) + beta * kl.sum(1)).mean(), lambda beta: PIXELS * beta / 2),
    "mean of squares, KL averaged": (lambda e, kl, beta: e.mean() + beta * kl.mean(),
                                     lambda beta: PIXELS * beta / (2 * 3)),
}  # fmt: skip


@pytest.mark.parametrize("beta", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_as_people_write_it_trains_the_gaussian_of_its_effective_variance(name: str, beta: float) -> None:
    """The same noise and Adam, whose steps do not depend on the scale of a loss: the weights end the same."""
    written, variance = LOSSES[name]
    theirs, ours = small(sigma=1.0), small(sigma=math.sqrt(variance(beta)))
    assert effective_variance(ours.config, 1.0) == pytest.approx(variance(beta))
    start, x = torch.nn.utils.parameters_to_vector(theirs.parameters()).detach(), pixels()

    def by_hand(eps: torch.Tensor) -> torch.Tensor:
        mean, log_deviation = theirs.encoder(x).chunk(2, dim=1)
        output = theirs.decoder(mean + log_deviation.exp() * eps) + theirs.output_bias
        kl = -0.5 * (1 + 2 * log_deviation - mean**2 - (2 * log_deviation).exp())
        return written(squares(x, output), kl, beta)

    for model, loss in ((theirs, by_hand), (ours, lambda eps: elbo(ours, x, eps).loss())):
        adam = torch.optim.Adam(model.parameters(), lr=1e-2, eps=1e-30)
        for step in range(200):
            adam.zero_grad()
            loss(noise((7, 3), step, "step").double()).backward()
            adam.step()
    end, same = (torch.nn.utils.parameters_to_vector(model.parameters()).detach() for model in (theirs, ours))
    torch.testing.assert_close(same, end, atol=1e-6, rtol=1e-6)
    assert (end - start).abs().max() > 0.1
