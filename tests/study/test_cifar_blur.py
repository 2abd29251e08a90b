"""Claim 2: its recipe, its decisions at their edges, and what it draws and records."""

import json
import math

import pandas as pd
import pytest

from vae_core.data import load_images
from vae_core.forecast import effective_variance
from vae_core.model import VAE
from vae_core.plots.figures import figures_folder
from vae_core.study import cifar_blur
from vae_core.study.catalogue import SWEEPS
from vae_core.study.cifar_blur import CHANGES, MEAN, SUM, effect, parts, variance, verdict
from vae_core.study.sweep import points

BLURRY, SHARP = -2.0, -0.5


def measured(naive: list[float], summed: list[float]) -> pd.DataFrame:
    """A table as measured, of 200, 100 and 25 images under both losses."""
    rows = [
        (n, loss, value)
        for loss, values in ((MEAN, naive), (SUM, summed))
        for n, value in zip((200, 100, 25), values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["training images", "loss", "generated"])


def sweep(scale=0.0, width=0.0, shape=0.0, conv=0.0, images=0.0, chance=0.1) -> pd.DataFrame:
    """A sweep in which each change does just that, at all settings; the first setting is repeated three times."""
    base = {MEAN: -4.0, SUM: -4.0 + scale}
    base["learned sigma"] = base[SUM] + width
    base["logistic"] = base["learned sigma"] + shape
    rows = [
        (n, loss, network, value + conv * (network == "conv") + images * (n == 5000))
        for n in (25, 5000)
        for loss, value in base.items()
        for network in ("mlp", "conv")
    ]
    rows += [(*rows[0][:3], rows[0][3] + by) for by in (chance, -chance)]
    return pd.DataFrame(rows, columns=["images", "loss", "architecture", "sharpness, generated"])


@pytest.mark.parametrize(
    ("naive", "summed", "holds", "still"),
    [
        ([SHARP] * 3, [SHARP] * 3, False, []),
        ([BLURRY, BLURRY, SHARP], [BLURRY] * 3, False, [200, 100, 25]),
        ([-math.log(200), -math.log(100), -math.log(25)], [SHARP, 0.1, SHARP], True, []),
        ([-math.inf] * 3, [SHARP, 0.1, SHARP], True, []),
        ([BLURRY] * 3, [-math.inf, BLURRY, BLURRY], True, [200, 100, 25]),
        ([BLURRY] * 3, [BLURRY, SHARP, SHARP], True, [200]),
        ([BLURRY] * 3, [SHARP, SHARP, BLURRY], True, [25]),
        ([math.log(0.24)] * 3, [math.log(0.26)] * 3, True, []),
        ([math.log(0.26)] * 3, [math.log(0.24)] * 3, False, [200, 100, 25]),
        ([math.nan, BLURRY, BLURRY], [SHARP] * 3, None, []),
    ],
)
def test_blurry_is_under_a_quarter_of_the_energy_at_every_number_of_images(naive, summed, holds, still) -> None:
    assert verdict(measured(naive, summed)) == (holds, still)


def test_without_the_mean_of_squares_there_is_no_verdict() -> None:
    table = measured([BLURRY] * 3, [SHARP] * 3)
    assert verdict(table[table["loss"] == SUM]).holds is None


def test_parts_are_what_each_change_does() -> None:
    table = parts(sweep(3.0, 0.5, -0.25, -1.0, -0.75), "generated")
    assert list(table.index) == list(CHANGES)
    assert list(table["value"]) == pytest.approx([3.0, 0.5, -0.25, -1.0, -0.75])
    # the spread of one training is 0.1; four pairs of trainings, one of which has a side trained three times
    assert table["error"]["scale of the loss"] == pytest.approx((0.01 * (7 + 1 / 3)) ** 0.5 / 4)
    assert table["error"]["shape of the error"] == pytest.approx((0.01 * 8) ** 0.5 / 4)
    assert table["error"]["number of images"] == pytest.approx((0.01 * 4) ** 0.5 / 2)
    assert list(table["effect"]) == ["sharpens", "sharpens", "blurs", "blurs", "blurs"]


def test_parts_are_taken_with_all_else_the_same() -> None:
    grid = sweep(3.0, conv=-1.0)
    grid.loc[grid["loss"] == MEAN, "sharpness, generated"] = -4.0  # a collapsed model is blind to its network
    table = parts(grid, "generated")
    assert tuple(table.loc["scale of the loss", ["low", "high"]]) == (2.0, 3.0)
    assert table["error"]["scale of the loss"] == pytest.approx((4 / 3 * 0.25) ** 0.5 / 2)  # of 3, 2, 3, 2
    assert table["value"]["architecture"] == -1.0  # at the sum of squares only
    fewer = grid[(grid["images"] == 25) | (grid["architecture"] == "mlp")]
    assert parts(fewer, "generated")["value"]["scale of the loss"] == pytest.approx((3 + 2 + 3) / 3)
    assert set(parts(grid[grid["images"] == 25], "generated").index) == set(CHANGES) - {"number of images"}


def test_chance_is_pooled_over_all_that_is_repeated_and_unknown_where_nothing_is() -> None:
    grid = sweep(3.0, chance=0.2)
    assert variance(grid, "sharpness, generated") == pytest.approx(0.04)
    again = grid.iloc[[4]].copy()
    again["sharpness, generated"] += 0.4
    more = pd.concat([grid, again])
    assert variance(more, "sharpness, generated") == pytest.approx((0.08 + 0.08) / 3)
    alone = sweep(3.0)[:-2]
    assert math.isnan(variance(alone, "sharpness, generated"))
    assert set(parts(alone, "generated")["effect"]) == {"unknown"}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ((1.0, 0.49, 0.5, 1.5), "sharpens"),
        ((1.0, 0.51, 0.5, 1.5), "nothing beyond chance"),
        ((-1.0, 0.49, -1.5, -0.5), "blurs"),
        ((-1.0, 0.51, -1.5, -0.5), "nothing beyond chance"),
        ((-0.5, 0.1, -2.0, 1.0), "blurs, on average"),
        ((0.5, 0.1, -0.1, 1.0), "sharpens, on average"),
        ((0.01, 0.1, -0.6, 0.5), "both ways, by setting"),
        ((0.01, 0.1, -0.6, 0.19), "nothing beyond chance"),
        ((1.0, math.nan, 1.0, 1.0), "unknown"),
    ],
)
def test_an_effect_is_more_than_two_errors(part, expected) -> None:
    assert effect(*part) == expected


def test_the_published_sweep_blames_the_scale_alone() -> None:
    grid, more = cifar_blur.published()
    assert (len(grid), len(more)) == (40, 4)
    found = parts(grid, "generated")["effect"].to_dict()
    assert [name for name, what in found.items() if what.startswith("sharpens")] == [
        "scale of the loss",
        "learned width",
    ]
    assert [name for name, what in found.items() if what == "blurs"] == ["architecture", "number of images"]


def test_the_losses_are_gaussians_of_the_variances_that_the_notebook_derives() -> None:
    recipe = {"steps": 30, "latents": 3, "seed": 5}
    for live, hidden in ((False, (256, 128)), (True, (128, 64))):
        of = {
            name: cifar_blur.configure((3, 8, 4), 60, loss, **recipe, live=live)
            for name, loss in cifar_blur.losses((3, 8, 4)).items()
        }
        variances = [effective_variance(of[name][0], beta=1.0) for name in (MEAN, SUM)]
        assert variances == pytest.approx([96 / 2, 1 / 2])
        assert {model.hidden for model, _ in of.values()} == {hidden}
        assert {(training.steps(60), training.batch_size, training.seed) for _, training in of.values()} == {
            (39, 25, 5)
        }


def test_sweep_and_notebook_share_one_recipe() -> None:
    point = points(SWEEPS["cifar_blur"], "photos-sample")[2]
    shape, n = point.model.image_shape, point.data.limit
    loss = cifar_blur.losses(shape)[SUM]
    assert (point.model, point.training) == cifar_blur.configure(shape, n, loss, steps=3000, latents=10, seed=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple:
    """Two small sets, one inside the other, and hardly trained models of both losses for each."""
    patch = pytest.MonkeyPatch()
    patch.setenv("VAE_CORE_RUNS", str(tmp_path_factory.mktemp("runs")))
    sets = {n: load_images("photos-sample", limit=n) for n in (12, 8)}
    runs = {
        (n, name): cifar_blur.train(images, cifar_blur.losses((3, 32, 32))[name], steps=1, latents=2)
        for n, images in sets.items()
        for name in (MEAN, SUM)
    }
    patch.undo()
    return sets, runs


def test_sharpness_is_measured_against_the_images_of_the_same_training(small) -> None:
    sets, runs = small
    table = cifar_blur.measure(sets, runs, seed=3)
    assert list(table["training images"]) == [12, 12, 8, 8]
    x, drawn = sets[8].images.float() / 255, runs[8, SUM].model.sample(1000, seed=3)
    row = table.iloc[3]
    assert row["generated"] == cifar_blur.sharpness(drawn, x)
    assert row["mean image"] == cifar_blur.sharpness(x.mean(0, keepdim=True), x)
    energy = cifar_blur.laplacian_energy(drawn)
    assert row["error"] == pytest.approx((energy.std() / energy.mean()).item() / 1000**0.5)
    cifar_blur.record(table, "a source", cifar_blur.published()[0])
    rows = {row["claim"]: row for row in json.loads((figures_folder() / "data" / "02_cifar_blur.json").read_text())}
    assert rows["sharpness of generated images, sum of squares, 8 training images"]["value"] == row["generated"]
    assert [row.get("tolerance") for row in rows.values()][:2] == [0.1, 0.6]
    assert rows["sharpness of generated images gained by: scale of the loss"]["value"] == pytest.approx(
        2.8366, abs=1e-3
    )


def test_figures_say_in_words_what_they_show(small) -> None:
    sets, runs = small
    models: dict[str, VAE] = {loss: runs[8, loss].model for loss in (MEAN, SUM)}
    panel = cifar_blur.draw(sets[8], models)
    assert panel.path.name == "cifar_8.png"
    x = sets[8].images.float() / 255
    for loss, model in models.items():
        assert f"{cifar_blur.sharpness(model.sample(1000, seed=0), x):.1f} with the {loss}" in panel.alt
    remedies = cifar_blur.draw(sets[8], models, remedies=True)
    assert (remedies.path.name, remedies.alt) == ("cifar_remedies.png", panel.alt)
    assert "[" in cifar_blur.traversals(models[SUM], sets[8]).alt
    chart = cifar_blur.chart(cifar_blur.published()[0])
    assert "mean of squares, mlp: -3.0, -3.8, -4.2, -4.7; mean of squares, conv: -3.3, -4.5, -5.2, -7.9;" in chart.alt
    assert chart.alt.endswith("logistic, conv: -0.5, -1.1, -1.3, -3.7.")
