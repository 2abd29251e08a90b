"""The ladder to better images: its recipe, its last step, what is drawn of it, and what each step buys."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from vae_core.latent import encode_means
from vae_core.model import VAE, VAEConfig
from vae_core.scores import Yardsticks
from vae_core.study import sharper_images
from vae_core.study.catalogue import SWEEPS
from vae_core.study.sharper_images import EX_POST, RUNGS, gains, recipes, sample_ex_post
from vae_core.study.sweep import points

IMAGES = torch.zeros(50, 1, 28, 28, dtype=torch.uint8)

# --- the recipe ------------------------------------------------------------------------------


def test_each_rung_keeps_the_changes_of_those_before_it() -> None:
    rungs = RUNGS | {"half beta": {"beta": 0.5}}
    configs = {step: (model, training) for step, model, training in recipes(IMAGES, 10, 100, 3, rungs)}
    assert list(configs) == list(rungs)
    assert configs["mean of squares"][0].sigma == pytest.approx(math.sqrt(784 / 2))
    seen: dict = {}
    for step, changes in rungs.items():
        seen |= changes
        both = vars(configs[step][0]) | vars(configs[step][1])
        assert {key: both[key] for key in seen} == seen
        start = vars(configs["mean of squares"][0]) | vars(configs["mean of squares"][1])
        assert {key for key in both if both[key] != start[key]} == set(seen)
    assert {training.seed for _, training in configs.values()} == {3}


@pytest.mark.parametrize(("n", "steps", "epochs", "batch"), [(50, 100, 32, 16), (50, 1, 1, 16), (5, 3, 3, 5)])
def test_a_rung_takes_whole_passes_until_there_are_enough_steps(n: int, steps: int, epochs: int, batch: int) -> None:
    _, _, training = next(iter(recipes(IMAGES[:n], 2, steps, 0)))
    assert (training.epochs, training.batch_size) == (epochs, batch)
    assert training.steps(n) >= steps


def test_the_published_ladder_is_climbed_by_the_same_recipe() -> None:
    found = points(SWEEPS["ladder_mnist"], "digits-sample")
    images = found[0].data.load().images
    expected = [
        (step, model, training) for seed in range(3) for step, model, training in recipes(images, 10, 2000, seed)
    ]
    assert [(point.labels["step"], point.model, point.training) for point in found] == expected


# --- the last step ---------------------------------------------------------------------------


def latent_is_image() -> VAE:
    """The decoder copies z to the two pixels; the posterior mean is the pixels times 1 and 2."""
    model = VAE(VAEConfig((1, 1, 2), latent_dim=2, likelihood="gaussian", sigma=5.0))
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(2, 4))
    model.decoder = nn.Unflatten(1, (1, 1, 2))
    factors = torch.tensor([1.0, 2.0]).diag()
    model.encoder[1].weight.data = torch.cat([factors, torch.zeros_like(factors)])
    return model


def two_clusters(n: int) -> tuple[VAE, Tensor]:
    """Images that the encoder of latent_is_image puts around (0, 0) and (1, 2), with hardly any deviation."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 4, (n, 1, 1, 2), dtype=torch.uint8, generator=generator)
    images[::2] += 252
    model = latent_is_image()
    model.encoder[1].bias.data = torch.tensor([0.0, 0.0, -6.0, -6.0])
    return model, images


def test_ex_post_samples_are_where_the_posteriors_are_and_the_prior_is_not() -> None:
    model, images = two_clusters(400)
    drawn = sample_ex_post(model, images, 600, components=2, seed=1).flatten(1)
    centres = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    near = torch.cdist(drawn, centres).min(1)
    assert near.values.max() < 0.2
    assert 200 < near.indices.sum() < 400  # both, about equally
    assert near.indices[:50].unique().numel() == 2  # and not one after the other
    assert (torch.cdist(model.sample(600, seed=1).flatten(1), centres).min(1).values > 0.2).double().mean() > 0.9


def test_one_component_has_the_moments_of_the_posterior_samples_not_of_their_means() -> None:
    model, images = two_clusters(1500)
    model.encoder[1].bias.data[2:] = 0.0  # deviations of 1 around each mean
    drawn = sample_ex_post(model, images, 20000, components=1).flatten(1)
    means = encode_means(model, images)
    torch.testing.assert_close(drawn.mean(0), means.mean(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), means.T.cov() + torch.eye(2), atol=0.15, rtol=0)


def test_ex_post_samples_depend_on_its_seed_alone_and_leaves_torch_and_numpy_alone() -> None:
    model, images = two_clusters(100)
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    one = sample_ex_post(model, images, 50, components=3, seed=1)
    assert torch.equal(sample_ex_post(model, images, 50, components=3, seed=1), one)
    assert not torch.equal(sample_ex_post(model, images, 50, components=3, seed=2), one)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert not one.requires_grad


def test_ex_post_samples_need_an_image_a_component() -> None:
    model, images = two_clusters(4)
    with pytest.raises(ValueError, match=r"n_components = 5.*n_samples = 4"):
        sample_ex_post(model, images, 10, components=5)


# --- what it draws ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def climb(tmp_path_factory: pytest.TempPathFactory) -> tuple[Yardsticks, dict[str, VAE], dict[str, Tensor], Path]:
    """A ladder of a few steps on few digits, with its figures in a folder."""
    folder = tmp_path_factory.mktemp("ladder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAE_CORE_RUNS", str(folder / "runs"))
        patch.setenv("VAE_CORE_BUILD", str(folder))
        data = sharper_images.load("digits-sample", 80, 60)
        models = sharper_images.train(data, 2, 3, 0, RUNGS)
        samples = sharper_images.draw(data, models, seed=0, components=2)
        sharper_images.sample_figure(data, samples, "digits")
        sharper_images.score_figure(sharper_images.load_published(), "of a test")
    return data, models, samples, folder / "figures"


def test_every_step_draws_from_the_same_z_and_the_last_from_the_last_model(climb: tuple) -> None:
    data, models, samples, _ = climb
    assert list(models) == list(RUNGS)
    assert list(samples) == [*RUNGS, EX_POST]
    for step, model in models.items():
        assert torch.equal(samples[step], model.sample(60, seed=0).clip(0, 1))
    last = models["warm-up of beta"]
    expected = sample_ex_post(last, data.training.images, 60, components=2, seed=0).clip(0, 1)
    assert torch.equal(samples[EX_POST], expected)
    assert all(x.min() >= 0 and x.max() <= 1 for x in samples.values())


def test_a_figure_of_samples_holds_both_numbers_of_every_step(climb: tuple) -> None:
    from PIL import Image

    data, _, samples, folder = climb
    with Image.open(folder / "ladder_digits.png") as image:
        facts = dict(image.info)
    distance = data.frechet("pca", samples[EX_POST]).distance
    assert f"ex-post density: Fréchet {distance:.1f}, sharpness " in facts["Description"]
    assert all(f"{step}: Fréchet" in facts["Description"] for step in RUNGS)
    assert facts["Source"] == data.training.source
    assert "80 training images" in facts["Comment"]


def test_the_claims_are_the_means_of_the_published_rows(climb: tuple) -> None:
    claims = {row["claim"]: row for row in json.loads((climb[3] / "data" / "04_sharper_images.json").read_text())}
    assert len(claims) == 2 * 7 * 3
    rows = sharper_images.load_published()["CIFAR-10"]
    values = rows[rows.step == EX_POST].sharpness
    claim = claims["sharpness of samples, CIFAR-10, ex-post density estimation"]
    assert claim["value"] == pytest.approx(values.mean())
    assert claim["standard_error"] == pytest.approx(values.std() / math.sqrt(3))
    assert (claim["seeds"], claim["images"], claim["source"]) == (3, 1000, "sweep_ladder_cifar10")
    assert "Fréchet distance of samples, MNIST, mean of squares" in claims


# --- what each step buys ---------------------------------------------------------------------


def rows(scores: Mapping[str, list[float]]) -> pd.DataFrame:
    """A row a step and seed."""
    return pd.DataFrame(
        {"step": step, "seed": seed, "x": value} for step, of in scores.items() for seed, value in enumerate(of)
    )


@pytest.mark.parametrize(
    ("nearer", "decision"), [(2.49, "helps"), (2.48, "undecided"), (-2.48, "undecided"), (-2.49, "hurts")]
)
def test_a_step_is_decided_at_the_95_percent_interval_of_three_seeds(nearer: float, decision: str) -> None:
    found = gains(rows({"a": [9.0, 9.0, 9.0], "b": [9 - nearer, 8 - nearer, 10 - nearer]}), "x")["b"]
    assert found.decision == decision
    assert found.nearer == pytest.approx(nearer)
    assert found.half_width == pytest.approx(2.484, abs=1e-3)  # 4.303 standard errors of 1 / sqrt(3)


def test_a_seed_is_held_against_itself_wherever_its_row_stands() -> None:
    """Seeds far apart, but each gains the same: that is known. Means alone would not tell."""
    table = rows({"a": [9.0, 5.0, 1.0], "b": [8.0, 4.0, 0.0]}).sample(frac=1, random_state=1)
    found = gains(table.sort_values("step", kind="stable"), "x")
    assert found["b"] == (1.0, 0.0, "helps")
    assert gains(rows({"a": [9.0, 5.0, 1.0], "b": [0.0, 8.0, 4.0]}), "x")["b"].decision == "undecided"


def test_steps_are_compared_with_the_one_before_in_their_order() -> None:
    found = gains(rows({"c": [9.0, 9.1], "a": [5.0, 5.1], "b": [6.0, 6.1]}), "x")
    assert {step: round(gain.nearer, 9) for step, gain in found.items()} == {"a": 4.0, "b": -1.0}


def test_too_much_is_as_far_from_right_as_too_little() -> None:
    found = gains(rows({"a": [1.0, 1.1, 1.2], "b": [-0.5, -0.6, -0.7]}), "x")["b"]
    assert found.decision == "helps"
    assert found.nearer == pytest.approx(0.5)


@pytest.mark.parametrize("scores", [{"a": [1.0], "b": [0.0]}, {"a": [1.0, 1.1, math.nan], "b": [0.0, 0.0, 0.0]},
                                    {"a": [1.0, 1.1, math.inf], "b": [0.0, 0.0, 0.0]}])  # fmt: skip
def test_what_one_seed_or_no_number_says_is_undecided(scores: dict) -> None:
    assert gains(rows(scores), "x")["b"].decision == "undecided"


def test_the_published_verdict_is_what_the_notebook_says() -> None:
    published = sharper_images.load_published()
    assert {name: list(table.step.unique()) for name, table in published.items()} == {
        "MNIST": [*RUNGS, EX_POST],
        "CIFAR-10": [*RUNGS, EX_POST],
    }
    table = sharper_images.verdict(published, "frechet")
    assert list(table["MNIST"].decision) == ["helps", "undecided", "helps", "undecided", "hurts", "helps"]
    assert list(table["CIFAR-10"].decision) == ["hurts", "hurts", "helps", "undecided", "undecided", "helps"]
    assert table["MNIST"].nearer.astype(float).idxmax() == "sum of squares"
    assert table["CIFAR-10"].nearer.astype(float).idxmax() == "convolution"
    table = sharper_images.verdict(published, "sharpness")
    assert list(table["MNIST"].decision) == ["helps", "undecided", "helps", "helps", "undecided", "helps"]
    assert list(table["CIFAR-10"].decision) == ["helps", *["undecided"] * 4, "hurts"]
