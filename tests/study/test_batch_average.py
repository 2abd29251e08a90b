"""Two images: the theory beside known answers, places on the line, small models above and below kappa 1, decisions."""

import json
import math
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch

from vae_core.data import ImageSet
from vae_core.forecast import collapse_forecast
from vae_core.metrics import kl_decomposition
from vae_core.model import VAE, VAEConfig
from vae_core.study import batch_average as study
from vae_core.study import batch_average_charts as charts
from vae_core.study import batch_average_findings as findings

PAIR = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RATE = 2e-2  # 16 pixels stand larger steps than 3,072
NEAR = (PAIR.float() * 0.4).byte()
ASIDE = torch.zeros(1, 4, 4)  # at a right angle to the line through PAIR
HALF = (PAIR[1].float() - PAIR[0].float()) / 510
ASIDE[0, 0, 0], ASIDE[0, 0, 1] = HALF[0, 0, 1], -HALF[0, 0, 0]


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
    best = study.optimum(kappa)
    assert best[:3] == pytest.approx((kl, nats, along), abs=1e-3)
    assert math.erf(math.atanh(0.5) / best.slope / math.sqrt(2)) == pytest.approx(between, abs=1e-3)
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    tried = []
    for mu in np.linspace(0.05, 1.5, 117):
        for tau in np.linspace(0.1, 1, 91):
            kl_here = (mu**2 + tau**2 - 1) / 2 - np.log(tau)
            t = np.tanh(mu * (mu + tau * z) / tau**2)
            tried.append((kl_here + kappa / 2 * weights @ (1 - t**2) / weights.sum(), kl_here))
    assert min(tried)[1] == pytest.approx(best.kl, abs=0.03)


def test_up_to_one_the_optimum_encodes_nothing_and_draws_the_mean() -> None:
    for kappa in (0.01, 0.5, 1.0):
        assert study.optimum(kappa) == (0, 0, 0, 0)
        assert not study.optimum(kappa).density(np.linspace(-0.9, 0.9, 5)).any()


def test_the_density_of_samples_is_one_and_has_the_stated_middle() -> None:
    best, t = study.optimum(3.0), np.linspace(-1, 1, 200001)[1:-1]
    density, step = best.density(t), t[1] - t[0]
    for end in (0.5, 0.99):  # the share of z whose t(z) is within the end
        share = math.erf(math.atanh(end) / best.slope / math.sqrt(2))
        assert density[np.abs(t) < end].sum() * step == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("true", [0.4, 0.97, 1.0, 1.3, 20.0])
def test_the_critical_ratio_is_found_and_its_interval_holds_it(true: float) -> None:
    kappas = [0.1, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 10.0, 30.0, 100.0]
    rng = np.random.default_rng(0)
    nats = [study.optimum(kappa / true).mutual_information + 0.005 * rng.standard_normal() for kappa in kappas]
    kappa, low, high = study.critical_ratio(kappas, nats)
    assert kappa == pytest.approx(true, rel=0.02)
    assert low * 0.99 < true < high * 1.01
    assert high / low < 1.1


def test_the_line_keeps_the_distance_and_black_is_at_its_foot() -> None:
    line = study.on_a_line(PAIR).flatten()
    assert (line[1] - line[0]).item() == pytest.approx(study.squared_distance(PAIR) ** 0.5, rel=1e-6)
    first, second = (PAIR.double() / 255).flatten(1)
    assert (line[0] ** 2 - line[1] ** 2).item() == pytest.approx(
        (first.square().sum() - second.square().sum()).item(), rel=1e-4
    )


def test_a_model_of_points_on_the_line_draws_the_images_there() -> None:
    pair = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    config = VAEConfig((1, 1, 1), latent_dim=2, hidden=(5,), activation="tanh", likelihood="gaussian", sigma=1.0)
    small, points = VAE(config, seed=1), study.on_a_line(pair)
    with torch.no_grad():
        small.output_bias += 0.3
    whole, x = study.on_images(small, pair), pair.float() / 255
    assert torch.allclose(whole.encode(x).mean, small.encode(points).mean, atol=1e-5)
    drawn, at = whole.sample(50, seed=0), small.sample(50, seed=0).flatten()
    place = study.place(drawn, pair)
    assert place.off.max() < 1e-4
    first, second = points.flatten()
    assert torch.allclose(place.along, (at - (first + second) / 2) / ((second - first) / 2), atol=1e-4)


def test_places_on_and_off_the_line() -> None:
    first, second = PAIR.float() / 255
    images = torch.stack([first, second, (first + second) / 2, first + HALF / 2, second + ASIDE])
    place = study.place(images, PAIR)
    torch.testing.assert_close(place.along, torch.tensor([-1, 1, 0, -0.5, 1]), atol=1e-5, rtol=0)
    off = (ASIDE.norm() / HALF.norm()).item()
    torch.testing.assert_close(place.off, torch.tensor([0, 0, 0, 0, off]), atol=1e-5, rtol=0)
    torch.testing.assert_close(study.place(images, PAIR.float() / 255).along, place.along)
    to_mean = (images - (first + second) / 2).square().flatten(1).sum(1)
    to_nearer = torch.minimum(*((images - image).square().flatten(1).sum(1) for image in (first, second)))
    torch.testing.assert_close(place.ratio[2:], (to_mean / to_nearer)[2:], atol=1e-5, rtol=1e-4)


def test_at_the_mean_is_a_tenth_of_the_squared_distance_to_the_nearer_image() -> None:
    along, off = torch.tensor([0.0, 0.2402, 0.2403, -0.2402, -1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert study.Place(along, off).share_at_mean() == pytest.approx(3 / 6)  # t^2 < (1 - |t|)^2 / 10 up to 0.24025
    assert study.place((PAIR.float() / 255).mean(0).expand(5, 1, 4, 4), PAIR).share_at_mean() == 1


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 1, 4, 5), (2, 3, 4, 4)])
def test_what_is_no_pair_of_such_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a pair of images like \(1, 4, 4\) is needed"):
        study.place(torch.rand(5, 1, 4, 4), torch.zeros(shape, dtype=torch.uint8))


@pytest.fixture(scope="module")
def runs() -> dict[str, list[study.Trained]]:
    """Both rules on a near and a far pair."""
    return {
        rule: study.train([PAIR, NEAR], (0.5, 10.0), [0, 1], steps=300, in_turn=rule == "in turn", learning_rate=RATE)
        for rule in ("both", "in turn")
    }


@pytest.fixture(scope="module")
def seen(runs: dict[str, list[study.Trained]]) -> pd.DataFrame:
    return study.measure(runs)


def test_a_pair_collapses_below_one_only_whichever_way_it_is_seen(seen: pd.DataFrame) -> None:
    assert list(zip(seen["pair"], seen["kappa"], seen["seed"], strict=True))[:8] == [
        (pair, kappa, seed) for pair in (1, 2) for kappa in (0.5, 10.0) for seed in (0, 1)
    ]
    below, above = seen[seen["kappa"] < 1], seen[seen["kappa"] > 1]
    assert (below["mutual_information"] < 0.02).all()
    assert (below["at_mean"] > 0.9).all()
    assert (above["mutual_information"] > 0.6).all()
    assert (above["mutual_information"] < math.log(2) + 0.01).all()
    assert (above["at_mean"] < 0.5).all()
    assert (seen["off"] < 0.2).all()
    assert [each.collapse for each in findings.both_rules(seen)] == [True] * 4 + [None]


def test_measures_are_those_of_the_model(runs: dict[str, list[study.Trained]], seen: pd.DataFrame) -> None:
    run, row = runs["both"][-1], seen[seen["rule"] == "both"].iloc[-1]
    place = study.place(run.model.sample(1000, seed=run.seed), NEAR)
    assert (row["along"], row["t"]) == pytest.approx((place.along.abs().mean().item(), place.along.mean().item()))
    assert row["at_mean"] == place.share_at_mean()
    nats = kl_decomposition(run.model, NEAR, samples=5000, seed=run.seed).mutual_information.value
    assert row["mutual_information"] == pytest.approx(nats)
    rebuilt = study.place(run.model.reconstruct(NEAR.float() / 255), NEAR)
    assert row["rebuilt"] == pytest.approx(rebuilt.along.abs().mean().item())
    assert row["converged"] == (abs(run.change) < 1e-3)


def test_kappa_is_that_at_which_the_forecast_turns() -> None:
    for kappa, answer in ((0.99, "certain"), (1.01, "escapes")):
        beta = study.squared_distance(PAIR) / (2 * kappa)
        config = VAEConfig((1, 4, 4), likelihood="gaussian", sigma=math.sqrt(1 / 2))
        assert collapse_forecast(PAIR, config, beta).answer == answer
        table = study.forecasts({"a": PAIR}, {"b": math.sqrt(beta / 2)})
        assert (table["answer"][0], table["diameter_ratio"][0]) == (answer, kappa)


def test_training_less_a_centre_ends_as_a_model_of_the_images() -> None:
    raw, less = (study.train([PAIR], [3.0], [0], steps=3, centre=centre)[0].model for centre in (0.0, 0.5))
    x = PAIR.float() / 255
    assert not torch.equal(raw.encode(x).mean, less.encode(x).mean)
    untrained = study.train([PAIR], [3.0], [0], steps=1, learning_rate=0.0)[0].model
    plain = VAE(replace(untrained.config), seed=0)
    torch.testing.assert_close(untrained.encode(x).mean, plain.encode(x - 0.5).mean)
    torch.testing.assert_close(untrained.sample(5, seed=0), plain.sample(5, seed=0) + 0.5)
    assert study.place(untrained.sample(1000, seed=0), PAIR).share_at_mean() == 0  # not there before training


def test_a_run_that_stands_still_has_converged() -> None:
    assert study.train([PAIR], [3.0], [0], steps=10, learning_rate=0.0)[0].change == 0
    below = study.train([PAIR], [0.1], [0], steps=300, learning_rate=RATE)[0]
    assert abs(below.change) < 1e-3  # in nats at effective variance, where beta is large


def test_a_doubled_loss_trains_alike_and_a_free_kl_rebuilds() -> None:
    averaged = study.measure({"both": study.train([PAIR], [3.0], [0], steps=60, learning_rate=RATE)})
    changed = {
        "iii": study.train([PAIR], [3.0], [0], steps=60, learning_rate=RATE, scale=2.0),
        "iv": study.train([PAIR], [math.inf], [0], steps=300, learning_rate=RATE),
        "vi": study.train([PAIR], None, [0], steps=3, sigma="learned"),
        "vii": study.train(
            [PAIR[[0, 0, 1]]], None, [0], steps=300, learning_rate=RATE, likelihood="laplace", sigma=16.0
        ),
    }
    decisions = findings.four_changes(averaged, study.measure(changed))
    assert [each.experiment for each in decisions] == ["iii", "iv", "vi", "vii"]
    assert [each.collapse for each in decisions] == [True, True, False, True]
    assert decisions[3].averaging is False


def test_short_blocks_leave_the_mean_and_long_ones_the_last_image() -> None:
    blocks = {
        length: study.train(
            [PAIR.repeat_interleave(length, 0)], [0.5], [0], steps=300 // length, in_turn=True, learning_rate=RATE
        )
        for length in (1, 300)
    }
    short, long = findings.blocks(study.measure(blocks))
    assert (short.averaging, short.collapse, long.collapse) == (False, True, True)


@pytest.fixture(scope="module")
def line() -> pd.DataFrame:
    points = [study.on_a_line(pair) for pair in (PAIR, NEAR)]
    return study.measure({"both": study.train(points, (0.3, 1.5, 3.0, 8.0), [0], steps=500, **study.LINE)})


def test_critical_ratios_are_alike_for_near_and_far_pairs_and_go_with_the_distance_in_beta(line: pd.DataFrame) -> None:
    ratios = study.critical_ratios(line)
    assert ratios["kappa"].tolist() == pytest.approx([1, 1], abs=0.3)
    squared = [study.squared_distance(pair) for pair in (PAIR, NEAR)]
    assert ratios["beta"].tolist() == pytest.approx(
        [d / (2 * k) for d, k in zip(squared, ratios["kappa"], strict=True)]
    )
    assert study.critical_ratios(line[line["kappa"] < 1]).empty
    half = ratios.assign(beta=ratios["beta"] / 4)
    assert findings.contrast(ratios, half)[1:] == (None, True, 4, 4)
    assert findings.contrast(ratios, ratios)[2] is False


# --- decisions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "values", "averaging", "collapse"),
    [
        ("i, kappa from 3", [0.1, 0.49], False, True),
        ("i, kappa from 3", [0.95, 1.0], True, False),
        ("i, kappa from 3", [0.1, 0.97], False, False),
        ("i, kappa below 1", [0.95, 1.0], True, True),
        ("i, kappa below 1", [0.94, 1.0], False, False),
        ("ii, kappa below 1", [0.96, 1.0], False, True),
        ("ii, kappa below 1", [0.1, 0.2], True, False),
        ("ii, kappa below 1", [0.2, 0.98], False, False),
        ("iii", [0.01], True, True),
        ("iii", [0.3], False, False),
        ("iv", [0.99, 1.01], False, True),
        ("iv", [0.01, 0.05], True, False),
        ("iv", [0.5, 0.99], False, False),
        ("v", [0.98, 1.05], None, True),
        ("v", [1.05, 1.11], None, False),
        ("vi", [0.69, 0.688], False, True),
        ("vi", [0.0, -0.001], True, False),
        ("vi", [0.0, 0.69], False, False),
        ("vii", [0.01, 0.02], False, True),
        ("vii", [0.33, 0.32], True, False),
        ("viii, short blocks", [0.01, 0.02], False, True),
        ("viii, long blocks", [0.97, 0.99], True, True),
        ("viii, long blocks", [0.3, 0.99], True, False),
        ("ix", [3.9, 4.1], None, True),
        ("ix", [1.0, 4.1], None, False),
        ("xi", [-0.1, 0.2], None, None),
        ("iii", [], None, None),
        ("iii", [0.0, math.nan], False, False),
    ],
)
def test_a_prediction_holds_if_every_value_lies_within(
    experiment: str, values: list[float], averaging: bool | None, collapse: bool | None
) -> None:
    decision = findings.decide(experiment, values)
    assert (decision.averaging, decision.collapse) == (averaging, collapse)


def rules(both_above: float, in_turn_below: float, in_turn_above: float) -> list[findings.Decision]:
    rows = [("both", 0.5, 1.0), ("both", 1.5, 0.7), ("both", 3.0, both_above), ("both", 10.0, both_above)]
    rows += [("in turn", 0.5, in_turn_below), ("in turn", 3.0, in_turn_above)]
    return findings.both_rules(pd.DataFrame(rows, columns=["rule", "kappa", "at_mean"]).assign(zero=0.1))


def test_the_verdict_follows_from_both_rules_and_counts_what_decides() -> None:
    more = [findings.decide("iii", [0.0]), findings.decide("v", [1.0]), findings.decide("iv", [1.0])]
    objective = findings.verdict([*rules(0.1, 1.0, 0.1), *more], observed=True)
    assert objective == (True, False, False, 3, 3)  # of (i) above, (ii) below and (iv)
    gradients = findings.verdict(rules(1.0, 0.1, 0.1), observed=True)
    assert gradients == (True, True, True, 2, 0)
    assert findings.verdict(rules(0.1, 0.1, 0.1), observed=False) == (False, False, True, 2, 1)
    assert findings.verdict(rules(0.7, 0.7, 0.1), observed=True) == (True, False, False, 2, 0)  # neither side's


@pytest.mark.parametrize(
    ("before", "naive", "holds"),
    [([0.0, 0.0], [1.0, 0.95], True), ([0.0, 0.0], [1.0, 0.9], False), ([0.0, 0.5], [1.0, 1.0], False),
     ([0.0, 0.0], [1.0, math.nan], False)],
)  # fmt: skip
def test_the_observation_needs_the_mean_after_training_and_not_before(
    before: list[float], naive: list[float], holds: bool
) -> None:
    shares = pd.DataFrame({"before training": before, "mean of squares": naive})
    assert findings.observed(shares) is holds


def test_tables_are_rounded_and_name_what_they_hold(seen: pd.DataFrame) -> None:
    table = findings.table([findings.decide("v", [0.98, 1.04]), findings.decide("iii", [0.01])])
    assert table.loc["v"].tolist() == ["critical ratio, kappa", "0.980 to 1.040", "-", "0.9 to 1.1: yes"]
    assert table.loc["iii", "averaging predicts"] == "0 to 0.05: yes"
    summary = study.summary(seen)
    assert summary.shape == (4, 7)
    assert (summary["models"] == 4).all()
    assert summary.loc[("both", 10.0), "theory"] == 0.669
    counts = findings.saturated(seen.assign(mutual_information=np.linspace(0, 1, len(seen)) - 0.001))
    assert (counts.loc["both"].tolist(), counts.loc["in turn"].tolist()) == ([1, 8], [0, 8])


# --- figures ----------------------------------------------------------------------------------


def test_figures_are_whole_and_say_what_they_show(
    runs: dict[str, list[study.Trained]], seen: pd.DataFrame, line: pd.DataFrame
) -> None:
    drawn = ImageSet(torch.cat([PAIR, NEAR]), torch.zeros(4), "photos-sample: a test")
    models = study.train_losses([PAIR, NEAR], {"mean of squares": 2.8, "sum of squares": 0.7}, steps=2, seed=0)
    samples = {name: [model.sample(1000, seed=0) for model in each] for name, each in models.items()}
    ratios = study.critical_ratios(line)
    saved = {
        charts.post_panel(drawn, samples, 2): [],
        charts.distances(drawn, samples): ["pair 2, sum of squares", "the average"],
        charts.why_they_collapse(drawn.source): ["kappa 1.5", "g(p), nats"],
        charts.between_two_images(runs["both"], drawn.source): ["kappa 0.5", "image A", "image B"],
        charts.phase_diagram(seen, line, ratios, runs["both"], drawn.source): [
            "one image a step",
            "log 2: all there is",
        ],
        charts.traversals(models["sum of squares"][0], drawn.source): [],
    }
    for figure, words in saved.items():
        pixels = matplotlib.image.imread(figure.path)
        assert pixels.shape[1] == 720
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (edge == 1).all(), figure.path.name  # nothing is cut off
        assert len(figure.alt) > 40
        for word in words:
            assert word in figure.path.with_suffix(".svg").read_text(), word
    shares = study.shares_at_mean(samples, [PAIR, NEAR])
    assert f"{shares.loc['pair 2', 'mean of squares']:.1%} with the mean of squares" in next(iter(saved)).alt


def test_every_run_counts_in_what_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    runs = pd.DataFrame({"rule": "both", "kappa": 3.0, "seed": [0, 1], "at_mean": [0.0, 1.0]})
    ratios = pd.DataFrame({"rule": ["in turn"], "pair": [4], "kappa": [1.02], "low": [1.0], "high": [1.04]})
    charts.record(pd.DataFrame({"mean of squares": [0.99]}, index=["pair 1"]), runs, ratios, "a source")
    written = json.loads((tmp_path / "figures" / "data" / "03_batch_average.json").read_text())
    rows = {row["claim"]: row for row in written}
    assert rows["share of samples at the mean, mean of squares, pair 1"]["tolerance"] == 0.05
    assert rows["onset in kappa, in turn, pair 4"]["standard_error"] == pytest.approx(0.01)
    of_all = rows["share of samples at the mean, both, kappa 3"]
    assert (of_all["value"], of_all["standard_error"], of_all["seeds"]) == (0.5, 0.5, 2)
    assert {(row["images"], row["source"]) for row in rows.values()} == {(1000, "a source")}
