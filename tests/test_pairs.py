"""Two images: the theory beside known answers, places on the line, and what small models do above and below kappa 1."""

import math

import numpy as np
import pytest
import torch

from vae_core.forecast import collapse_forecast
from vae_core.model import VAE, VAEConfig
from vae_core.study import batch_average as pairs

PAIR = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SMALL = VAEConfig((1, 4, 4), latent_dim=2, hidden=(16,), activation="tanh", likelihood="gaussian", sigma=1.0)


@pytest.mark.parametrize(
    ("kappa", "kl", "nats", "along", "between"),
    [
        (1.5, 0.309, 0.302, 0.501, 0.338),
        (2, 0.490, 0.457, 0.713, 0.206),
        (3, 0.659, 0.568, 0.854, 0.136),
        (10, 0.947, 0.669, 0.973, 0.071),
        (100, 1.233, 0.692, 0.998, 0.039),
    ],
)
def test_the_optimum_is_that_of_a_grid_search(
    kappa: float, kl: float, nats: float, along: float, between: float
) -> None:
    found = pairs.optimum(kappa)
    assert found[:4] == pytest.approx((kl, nats, along, between), abs=1e-3)
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    tried = []
    for mu in np.linspace(0.05, 1.5, 117):
        for tau in np.linspace(0.1, 1, 91):
            kl_here = (mu**2 + tau**2 - 1) / 2 - np.log(tau)
            t = np.tanh(mu * (mu + tau * z) / tau**2)
            tried.append((kl_here + kappa / 2 * weights @ (1 - t**2) / weights.sum(), kl_here))
    assert min(tried)[1] == pytest.approx(found.kl, abs=0.03)


def test_up_to_one_the_optimum_tells_nothing_and_draws_the_mean() -> None:
    for kappa in (0.01, 0.5, 1.0):
        assert pairs.optimum(kappa) == (0, 0, 0, 1, 0)
        assert not pairs.optimum(kappa).density(np.linspace(-0.9, 0.9, 5)).any()


def test_the_density_of_samples_is_one_and_has_the_stated_middle() -> None:
    best, t = pairs.optimum(3.0), np.linspace(-1, 1, 200001)[1:-1]
    density, step = best.density(t), t[1] - t[0]
    for end in (0.5, 0.99):  # the share of z whose t(z) is within the end
        share = math.erf(math.atanh(end) / best.slope / math.sqrt(2))
        assert density[np.abs(t) < end].sum() * step == pytest.approx(share, abs=1e-3)
    assert best.between == pytest.approx(math.erf(math.atanh(0.5) / best.slope / math.sqrt(2)))


@pytest.mark.parametrize("true", [0.4, 0.97, 1.0, 1.3, 20.0])
def test_the_onset_is_found_and_its_interval_holds_it(true: float) -> None:
    kappas = [0.1, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 10.0, 30.0, 100.0]
    rng = np.random.default_rng(0)
    nats = [pairs.optimum(kappa / true).information + 0.005 * rng.standard_normal() for kappa in kappas]
    found = pairs.onset(kappas, nats)
    assert found.kappa == pytest.approx(true, rel=0.02)
    assert found.low * 0.99 < true < found.high * 1.01
    assert found.high / found.low < 1.1


def test_no_information_has_no_onset() -> None:
    for kappas, nats in (([1, 2, 3], [0.0, 0.0, 0.01]), ([1, 2], [0.0, 0.6])):
        with pytest.raises(ValueError, match="an onset needs"):
            pairs.onset(kappas, nats)


def test_the_line_keeps_the_distance_and_black_is_at_its_foot() -> None:
    line = pairs.on_a_line(PAIR).flatten()
    assert (line[1] - line[0]).item() == pytest.approx(pairs.squared_distance(PAIR) ** 0.5, rel=1e-6)
    first, second = (PAIR.double() / 255).flatten(1)
    assert (line[0] ** 2 - line[1] ** 2).item() == pytest.approx(
        (first.square().sum() - second.square().sum()).item(), rel=1e-4
    )


def test_sigma_gives_the_kappa_at_which_the_forecast_turns() -> None:
    for kappa, answer in ((0.99, "certain"), (1.01, "escapes")):
        config = VAEConfig((1, 4, 4), likelihood="gaussian", sigma=pairs.sigma_at(PAIR, kappa))
        assert collapse_forecast(PAIR, config).answer == answer


def test_places_on_and_off_the_line() -> None:
    first, second = PAIR.float() / 255
    half = (second - first) / 2
    aside = torch.zeros_like(half)
    aside[0, 0, 0], aside[0, 0, 1] = half[0, 0, 1], -half[0, 0, 0]  # at a right angle to the line
    images = torch.stack([first, second, (first + second) / 2, first + half / 2, second + aside])
    found = pairs.place(images, PAIR)
    torch.testing.assert_close(found.along, torch.tensor([-1, 1, 0, -0.5, 1]), atol=1e-5, rtol=0)
    off = (aside.norm() / half.norm()).item()
    torch.testing.assert_close(found.off, torch.tensor([0, 0, 0, 0, off]), atol=1e-5, rtol=0)
    torch.testing.assert_close(pairs.place(images, PAIR.float() / 255).along, found.along)


@pytest.mark.parametrize(("kappa", "rule"), [(0.5, 2), (0.5, 1), (10, 2), (10, 1)])
def test_a_pair_collapses_below_one_only_whichever_way_it_is_seen(kappa: float, rule: int) -> None:
    config = VAEConfig((1, 4, 4), 2, (16,), "mlp", "tanh", "gaussian", pairs.sigma_at(PAIR, kappa))
    trained = pairs.train_pair(PAIR, config, steps=1200, seed=0, batch_size=rule)
    found = pairs.measure(trained.model, PAIR)
    if kappa < 1:
        assert found.information.value < 0.02
        assert found.at_mean > 0.9
        assert abs(trained.change) < 0.01
    else:
        assert found.information.value > 0.6
        assert found.at_mean < 0.2
        assert found.rebuilt > 0.9
    assert found.off < 0.15


def test_without_noise_the_latent_is_the_mean() -> None:
    model = VAE(SMALL)
    x, eps = PAIR.float() / 255, torch.ones(2, 2)
    expected = model.decode(model.encode(x).mean).mean
    assert not torch.equal(model(x, eps)[1].mean, expected)
    pairs.quiet(model)
    torch.testing.assert_close(model(x, eps)[1].mean, expected)


def test_a_sweep_turns_at_one_for_near_and_far_pairs_and_both_rules() -> None:
    near = (PAIR.float() * 0.4).byte()
    for in_turn in (False, True):
        points = pairs.sweep([PAIR, near], [0.3, 5.0], [0, 1], steps=800, in_turn=in_turn)
        assert [(p.pair, p.kappa, p.seed) for p in points] == [
            (i, kappa, seed) for i in (0, 1) for kappa in (0.3, 5.0) for seed in (0, 1)
        ]
        for point in points:
            assert (point.information < 0.02) == (point.kappa < 1)
            assert 0 <= point.information <= math.log(2) + 0.01
            assert point.information <= point.kl + 0.02


def test_a_model_of_points_on_the_line_draws_the_images_there() -> None:
    pair = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    config = VAEConfig((1, 1, 1), latent_dim=2, hidden=(5,), activation="tanh", likelihood="gaussian", sigma=1.0)
    small, points = VAE(config, seed=1), pairs.on_a_line(pair)
    with torch.no_grad():
        small.output_bias += 0.3
    whole, x = pairs.on_images(small, pair), pair.float() / 255
    assert torch.allclose(whole.encode(x).mean, small.encode(points).mean, atol=1e-5)
    drawn, at = whole.sample(50, seed=0), small.sample(50, seed=0).flatten()
    found = pairs.place(drawn, pair)
    assert found.off.max() < 1e-4
    first, second = points.flatten()
    assert torch.allclose(found.along, (at - (first + second) / 2) / ((second - first) / 2), atol=1e-4)
