"""p(x given z) against torch.distributions, and randomness that depends on its key alone."""

import numpy as np
import pytest
import torch
from torch import distributions

from vae_core.likelihood import Bernoulli, DiscretisedLogistic, Gaussian, Laplace, OptimalGaussian
from vae_core.noise import generator, noise

SHAPE = (5, 3, 4, 6)
LIKELIHOODS = [Bernoulli(noise(SHAPE, 0, "logits").double()), Gaussian(noise(SHAPE, 0, "mean").double(), sigma=0.7)]


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_gaussian_log_prob_is_summed_over_pixels(sigma):
    mean, x = noise(SHAPE, 1, "mean").double(), noise(SHAPE, 1, "x").double()
    log_prob = Gaussian(mean, sigma).log_prob(x)
    assert log_prob.shape == (5,)
    torch.testing.assert_close(log_prob, distributions.Normal(mean, sigma).log_prob(x).sum((1, 2, 3)))


def test_bernoulli_log_prob_is_summed_over_pixels():
    logits, x = noise(SHAPE, 2, "logits").double(), (noise(SHAPE, 2, "x") > 0).double()
    log_prob = Bernoulli(logits).log_prob(x)
    assert log_prob.shape == (5,)
    torch.testing.assert_close(log_prob, distributions.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3)))


def test_bernoulli_log_prob_of_grey_pixels_is_minus_the_cross_entropy():
    logits, x = torch.tensor([[[[0.3]]]]).double(), torch.tensor([[[[0.2]]]]).double()
    p = torch.sigmoid(logits)
    torch.testing.assert_close(Bernoulli(logits).log_prob(x), (0.2 * p.log() + 0.8 * (1 - p).log()).flatten())


def test_bernoulli_is_stable_at_large_logits():
    logits = torch.tensor([1000.0, 1000.0, -1000.0, -1000.0]).reshape(4, 1, 1, 1).requires_grad_()
    log_prob = Bernoulli(logits).log_prob(torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(4, 1, 1, 1))
    log_prob.sum().backward()
    assert log_prob.tolist() == [0, -1000, -1000, 0]
    assert logits.grad.flatten().tolist() == [0, -1, 1, 0]


def test_bernoulli_mean_is_a_probability_and_not_the_logits():
    logits = torch.tensor([-50.0, 0.0, 50.0]).reshape(1, 1, 1, 3)
    torch.testing.assert_close(Bernoulli(logits).mean.flatten(), torch.tensor([0.0, 0.5, 1.0]))


def test_bernoulli_samples_are_binary_with_the_right_mean():
    p = torch.tensor([0.1, 0.5, 0.8])
    sample = Bernoulli(torch.logit(p).expand(20_000, 1, 1, 3)).sample(0, "sample")
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(sample.mean(0).flatten(), p, atol=0.015, rtol=0)  # four standard errors


def test_gaussian_samples_have_the_right_mean_and_deviation():
    mean = torch.tensor([-1.0, 0.0, 3.0])
    sample = Gaussian(mean.expand(20_000, 1, 1, 3), sigma=0.5).sample(0, "sample")
    torch.testing.assert_close(sample.mean(0).flatten(), mean, atol=0.015, rtol=0)
    torch.testing.assert_close(sample.std(0).flatten(), torch.full((3,), 0.5), atol=0.015, rtol=0)
    assert abs(torch.corrcoef(sample.flatten(1).T)[0, 1]) < 0.03  # pixels are independent


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=["bernoulli", "gaussian"])
def test_a_sample_depends_on_its_key_alone(likelihood):
    first = likelihood.sample(3, "sample")
    torch.manual_seed(99)
    likelihood.sample(4, "sample")
    assert torch.equal(likelihood.sample(3, "sample"), first)
    assert not torch.equal(likelihood.sample(4, "sample"), first)
    assert first.shape == SHAPE
    assert first.dtype == torch.float64


def test_noise_depends_on_its_key_alone():
    first = noise((4, 3), 0, 7, "train")
    noise((100,), 1, 2, "other")
    assert torch.equal(noise((4, 3), 0, 7, "train"), first)
    assert first.dtype == torch.float32


@pytest.mark.parametrize(
    "key",
    [(1, 7, "train"), (0, 8, "train"), (7, 0, "train"), (0, 7, "evaluate"), (2**32, 7, "train"), (2**64, 7, "train")],
    ids=["seed", "step", "swapped", "purpose", "33 bits", "65 bits"],
)
def test_any_other_key_gives_other_noise(key):
    assert not torch.isclose(noise((100,), *key), noise((100,), 0, 7, "train")).any()


def test_seeds_that_agree_in_32_bits_differ():
    streams = [tuple(generator(5 + k * 2**32, "weights").integers(2**63, size=2)) for k in range(50)]
    assert len(set(streams)) == 50


def test_noise_is_standard_normal():
    numbers = noise((100_000,), 0, "noise").double()
    moments = torch.stack([numbers.mean(), numbers.square().mean(), numbers.pow(4).mean()])
    torch.testing.assert_close(moments, torch.tensor([0.0, 1.0, 3.0]).double(), atol=0.1, rtol=0)


def test_a_key_means_the_same_in_every_process_and_version():
    assert int(generator(1, 2, "train").bit_generator.random_raw()) == 8968140218549606904  # golden


def test_global_random_states_are_untouched():
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
    generator(0, "any")
    noise((3,), 0, "any")
    for likelihood in LIKELIHOODS:
        likelihood.sample(0)
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert numpy_after[2:] == numpy_before[2:]
    np.testing.assert_array_equal(numpy_after[1], numpy_before[1])


def images(n: int = 3) -> torch.Tensor:
    levels = torch.randint(0, 256, (n, 1, 2, 4), generator=torch.Generator().manual_seed(0))
    return levels.double() / 255


def test_laplace_is_the_density_it_says() -> None:
    x, mean = images(), images().flip(0)
    for scale in (0.3, torch.tensor(0.3, dtype=torch.float64)):
        exact = distributions.Laplace(mean, torch.tensor(0.3, dtype=torch.float64)).log_prob(x).sum((1, 2, 3))
        torch.testing.assert_close(Laplace(mean, scale).log_prob(x), exact)
    drawn = Laplace(torch.zeros(1, 1, 100, 100), 0.5).sample(1, "test")
    assert drawn.abs().mean().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(drawn, Laplace(torch.zeros(1, 1, 100, 100), 0.5).sample(1, "test"))


@pytest.mark.parametrize("location", [-3.0, 0.0, 0.004, 0.5, 1.0, 7.0])
@pytest.mark.parametrize("scale", [0.001, 0.02, 0.3, 5.0])
def test_logistic_probabilities_of_all_values_sum_to_one(location: float, scale: float) -> None:
    x = (torch.arange(256, dtype=torch.float64) / 255).reshape(256, 1, 1, 1)
    logs = DiscretisedLogistic(torch.full_like(x, location), scale).log_prob(x)
    assert torch.isfinite(logs).all()
    assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_logistic_is_finite_with_gradients_in_single_precision() -> None:
    x = torch.tensor([0.0, 1.0, 0.5, 100 / 255]).reshape(4, 1, 1, 1)
    for location in (-50.0, 0.5, 50.0):
        for scale in (1e-3, 10.0):
            at = torch.full_like(x, location, requires_grad=True)
            width = torch.tensor(scale, requires_grad=True)
            logs = DiscretisedLogistic(at, width).log_prob(x)
            logs.sum().backward()
            assert torch.isfinite(logs).all()
            assert torch.isfinite(at.grad).all()
            assert torch.isfinite(width.grad)


def test_logistic_samples_are_bytes_with_the_stated_probabilities() -> None:
    likelihood = DiscretisedLogistic(torch.full((1, 1, 300, 300), 0.5, dtype=torch.float64), 0.05)
    drawn = (likelihood.sample(0, "test") * 255).round()
    assert torch.equal(drawn, drawn.round())
    for level in (100, 128, 150):
        x = torch.full((1, 1, 1, 1), level / 255, dtype=torch.float64)
        exact = DiscretisedLogistic(torch.full_like(x, 0.5), 0.05).log_prob(x).exp().item()
        assert (drawn == level).double().mean().item() == pytest.approx(exact, abs=4 * (exact / 9e4) ** 0.5)


def test_optimal_sigma_is_the_best_and_squared_it_is_the_mean_squared_error() -> None:
    x, mean = images(5), images(5).flip(0)
    best = OptimalGaussian(mean).best_for(x)
    assert best.sigma.item() ** 2 == pytest.approx((x - mean).square().mean().item())
    at_best = OptimalGaussian(mean).log_prob(x).sum()
    for factor in (0.9, 1.1):
        assert Gaussian(mean, best.sigma * factor).log_prob(x).sum() < at_best
    assert torch.isfinite(OptimalGaussian(x).log_prob(x)).all()  # a perfect fit: sigma stops at its least
    with pytest.raises(ValueError, match="known only beside images"):
        OptimalGaussian(mean).sample(0, "test")


def test_a_learned_sigma_is_the_same_density() -> None:
    x, mean = images(), images().flip(0)
    torch.testing.assert_close(
        Gaussian(mean, torch.tensor(0.7, dtype=torch.float64)).log_prob(x), Gaussian(mean, 0.7).log_prob(x)
    )


def test_every_likelihood_says_what_its_numbers_are() -> None:
    x = images()
    kinds = [Bernoulli(x), Gaussian(x, 1.0), OptimalGaussian(x), Laplace(x, 1.0), DiscretisedLogistic(x, 1.0)]
    said = {type(kind).__name__: kind.measure for kind in kinds}
    assert said == {
        "Bernoulli": "neither", "Gaussian": "density", "OptimalGaussian": "density", "Laplace": "density",
        "DiscretisedLogistic": "probability",
    }  # fmt: skip
