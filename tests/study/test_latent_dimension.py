"""Claim 1: its decisions at their edges, its record and its figures."""

import json
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch

from vae_core.data import ImageSet
from vae_core.metrics import evaluate
from vae_core.model import VAE
from vae_core.plots.figures import figures_folder
from vae_core.runs import runs_folder
from vae_core.study import latent_dimension
from vae_core.study.latent_dimension import Level, decide, enough, over_seeds, parted

POST = (2, 4, 10)
CERTAIN, UNSURE = (0.5, 0.5, 0.5), (50.0, 50.0, 50.0)


def bounds(elbo: tuple[float, ...], errors: tuple[float, ...]) -> dict[int, Level]:
    """ELBOs of 2, 4 and 10 dimensions over 10,000 images, lower is better."""
    return {d: Level(-value, error, 10000) for d, value, error in zip(POST, elbo, errors, strict=True)}


@pytest.mark.parametrize(
    ("elbo", "errors", "expected"),
    [
        ((-150.0, -130.0, -105.0), CERTAIN, "holds"),
        ((-150.0, -105.0, -130.0), CERTAIN, "fails"),
        ((-105.0, -130.0, -150.0), CERTAIN, "fails"),
        ((-150.0, -130.0, -129.0), CERTAIN, "undecided"),
        ((-150.0, -130.0, -131.0), CERTAIN, "undecided"),
        ((-150.0, -130.0, -105.0), UNSURE, "undecided"),
        ((-150.0, -130.0, -105.0), (0.5, 0.5, 50.0), "undecided"),
    ],
    ids=["rises", "falls late", "falls", "flat", "slightly down", "noisy", "noisy at one end"],
)
def test_the_claim_is_decided_by_every_step(elbo, errors, expected) -> None:
    levels = bounds(elbo, errors)
    claim = decide(levels)
    assert claim.decision == expected
    assert claim.gains == (elbo[1] - elbo[0], elbo[2] - elbo[1])
    assert claim.enough == enough(levels)
    assert decide(dict(reversed(levels.items()))) == claim


@pytest.mark.parametrize(
    ("gain", "expected"), [(2.8, "holds"), (2.7, "undecided"), (-2.7, "undecided"), (-2.8, "fails")]
)
def test_a_step_counts_beyond_the_95_percent_interval_of_the_difference(gain, expected) -> None:
    levels = {2: Level(0, 1, 10000), 4: Level(-gain, 1, 10000)}  # 1.96 sqrt(2) is 2.77
    assert decide(levels).decision == expected


def test_what_was_not_measured_has_no_verdict() -> None:
    levels = bounds((-150.0, -130.0, -105.0), CERTAIN)
    assert decide({2: levels[2]}) == ("no verdict", (), 2)
    for bad in (Level(math.nan, 0.5, 3), Level(math.inf, 0.5, 3), Level(1.0, math.nan, 1)):
        assert decide(levels | {4: bad}) == ("no verdict", (), None)
        assert parted(levels | {4: bad}, levels) == parted(levels, levels | {4: bad}) == "no verdict"
    assert decide({d: levels[d] for d in (2, 4)}, POST).decision == "no verdict"


def series(*values: float, error: float = 0.07) -> dict[int, Level]:
    return {d: Level(value, error, 3) for d, value in zip((2, 4, 10, 20, 50), values, strict=True)}


FALLS, KEEPS = series(150, 130, 110, 100, 95), series(150, 130, 110, 100, 100)


def test_levels_over_seeds_are_means_and_standard_errors_by_dimension() -> None:
    rows = pd.DataFrame({"dim": [10, 2, 2, 2], "nll": [5.0, 1.0, 3.0, 2.0]})
    levels = over_seeds(rows, "nll")
    assert list(levels) == [2, 10]
    assert levels[2] == pytest.approx((2.0, 1 / math.sqrt(3), 3))
    assert levels[10].value == 5
    assert math.isnan(levels[10].error)
    json.dumps(levels)  # plain numbers


def test_one_level_beats_another_beyond_chance() -> None:
    assert Level(0, 0.3, 3).beats(Level(1.39, 0.4, 3))  # Student's 2.776 for 4 degrees of freedom, times 0.5
    assert not Level(0, 0.3, 3).beats(Level(1.38, 0.4, 3))
    assert not Level(1.41, 0.3, 3).beats(Level(0, 0.4, 3))
    assert not Level(0, 0.0, 1).beats(Level(1, 0.0, 1))


@pytest.mark.parametrize(
    ("levels", "dim"),
    [
        (FALLS, 50),
        (KEEPS, 20),
        (series(5, 4, 3, 3.1, 4), 10),
        (series(1, 2, 3, 4, 5), 2),
        (series(5, 4, 3.2, 3.1, 2.8), 50),
        (series(5, 4, 3.2, 3.1, 3.0), 10),
        (series(9, 8, 7, 6, 5, error=9), 2),
        (series(5, 4, 3, 3.1, math.nan), None),
    ],
    ids=["falls", "keeps", "rises after 10", "rises", "slowly", "within two errors", "noise", "not a number"],
)
def test_enough_is_the_smallest_dimension_that_no_other_beats(levels, dim) -> None:
    assert enough(levels) == dim


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (KEEPS, "holds"),
        (series(150, 130, 110, 100, 105), "holds"),
        (series(5, 7, 3, 4, 5), "fails"),
        (series(5, 4, 6, 4, 5), "fails"),
        (series(5, 5, 3, 3, 3), "undecided"),
        (series(1, 2, 3, 4, 5), "fails"),
    ],
)
def test_beyond_10_dimensions_the_claim_is_still_about_2_4_and_10(levels, expected) -> None:
    claim = decide(levels, POST)
    assert claim.decision == expected
    assert claim.gains == (levels[2].value - levels[4].value, levels[4].value - levels[10].value)
    assert claim.enough == enough(levels)  # of all dimensions


@pytest.mark.parametrize(
    ("reconstructions", "samples", "expected"),
    [
        (KEEPS, KEEPS, "fails"),
        (FALLS, FALLS, "fails"),
        (KEEPS, series(9, 7, 3, 4, 5), "holds"),
        (series(9, 7, 3, 4, 5), KEEPS, "holds"),
        (series(9, 7, 3.2, 3.1, 2.8), series(9, 7, 3, 3, 3.1), "undecided"),
        (series(9, 7, 3, 3, 3.1), series(9, 7, 3.2, 3.1, 2.8), "undecided"),
    ],
)
def test_samples_and_reconstructions_part_when_each_is_worse_at_the_others_best(
    reconstructions, samples, expected
) -> None:
    assert parted(samples, reconstructions) == expected


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return latent_dimension.published()


def test_the_published_sweep_shows_what_the_notebook_says(published: pd.DataFrame) -> None:
    columns = {"nll": 20, "unexplained": 30, "frechet": 20, "unexplained_grey": 20, "frechet_pca": 20}
    levels = {column: over_seeds(published, column) for column in columns}
    assert {column: decide(of, POST).enough for column, of in levels.items()} == columns
    assert {decide(of, POST).decision for of in levels.values()} == {"holds"}
    assert parted(levels["frechet"], levels["unexplained"]) == "undecided"
    means = published.groupby("dim").mean(numeric_only=True)
    ratio = means["frechet"] / means["frechet_rebuilt"]
    assert [round(ratio[d], 1) for d in (2, 10, 20)] == [1.2, 2.6, 4.3]
    assert (means["frechet_rebuilt"] > 50 * means["floor"]).all()
    assert (means["used"][means.index <= 20] == means.index[means.index <= 20]).all()
    assert means["used"][[30, 50]].between(20.5, 22).all()
    nll = means["nll"]
    assert [round(nll[a] - nll[b]) for a, b in ((1, 2), (10, 20))] == [17, 8]
    assert abs(nll[20] - nll[50]) < 1


# --- training, drawing and the record, on small images ----------------------------------------


@pytest.fixture(scope="module")
def test_set() -> ImageSet:
    """Three classes: a bright quadrant each, on noise."""
    images = torch.randint(0, 60, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[::3, :, :4, :4], images[1::3, :, 4:, :4], images[2::3, :, 4:, 4:] = 250, 250, 250
    return ImageSet(images, torch.arange(60) % 3, "quadrants: of a test")


@pytest.fixture(scope="module")
def models(test_set: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, VAE]]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("VAE_CORE_RUNS", "VAE_CORE_BUILD"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("runs")))
        yield {d: latent_dimension.train(test_set, d, epochs=40, seed=0) for d in (2, 8)}


def test_the_models_differ_in_their_latent_dimension_only(models: dict, test_set: ImageSet) -> None:
    two, eight = (dict(vars(models[d].config)) for d in (2, 8))
    assert (two.pop("latent_dim"), eight.pop("latent_dim")) == (2, 8)
    assert two == eight
    assert two["hidden"] == (256, 256)
    assert two["binarisation"] == "none"
    before = latent_dimension.train(test_set, 2, epochs=0, seed=0)
    assert evaluate(models[2], test_set.images).elbo > evaluate(before, test_set.images).elbo
    runs = sorted(runs_folder().glob("*/run.json"))
    again = latent_dimension.train(test_set, 2, epochs=0, seed=0)
    assert runs
    assert sorted(runs_folder().glob("*/run.json")) == runs  # it was loaded
    assert torch.equal(again.output_bias, before.output_bias)


def test_figures_say_what_they_are_of(models: dict, test_set: ImageSet) -> None:
    x = test_set.images[:8] / 255
    saved = [
        latent_dimension.draw_samples(models[2].sample(40, seed=0), 2, test_set),
        latent_dimension.draw_reconstructions(x, {d: model.reconstruct(x) for d, model in models.items()}, test_set),
        latent_dimension.draw_plane(models[2], test_set),
        latent_dimension.draw_traversals(models[8], test_set),
    ]
    names = ["latent_dim_2", "latent_dim_reconstructions", "latent_plane", "latent_dim_traversals"]
    assert [figure.path for figure in saved] == [figures_folder() / f"{name}.png" for name in names]
    assert all(figure.path.stat().st_size > 5000 for figure in saved)
    alts = [figure.alt for figure in saved]
    assert alts[0] == "A grid of 40 images generated by a VAE with 2 latent dimensions trained on quadrants."
    assert "through 2, 8 dimensions" in alts[1]
    assert "60 test images" in alts[2]
    assert "3 classes" in alts[2]
    assert latent_dimension.page_facts(test_set, (2, 8))["title"] == "quadrants: 2, 8 latent dimensions"


def test_traversals_are_of_the_dimensions_that_are_used_most(models: dict, test_set: ImageSet) -> None:
    kl = np.array(evaluate(models[8], test_set.images).kl_per_dimension)
    most = kl.argsort()[::-1][:6].tolist()
    assert f"of {most} goes from -2 to 2" in latent_dimension.draw_traversals(models[8], test_set).alt


def test_the_curves_head_their_panels_with_what_was_measured(published: pd.DataFrame) -> None:
    alt = latent_dimension.draw_curves(published).alt
    assert alt.startswith("Four charts over 1 to 50 latent dimensions. Likelihood: beyond chance none beats 20.")
    assert "PCA is ahead from 50 dimensions on. Used: 22 of 50 carry 0.1 nats" in alt
    assert alt.endswith("Generated digits: beyond chance none beats 20.")
    assert (figures_folder() / "latent_dim_curves.svg").exists()
    few = published[published["dim"] < 3].assign(unexplained=0.0)
    alt = latent_dimension.draw_curves(few).alt
    assert "PCA is behind everywhere. Used: 2 of 2" in alt
    assert "none beats 2." in alt


def test_the_record_holds_the_models_and_the_sweep(models: dict, test_set: ImageSet, published: pd.DataFrame) -> None:
    results = pd.DataFrame([evaluate(model, test_set.images) for model in models.values()], index=list(models))
    latent_dimension.save_numbers(results, published, test_set.source)
    rows = json.loads((figures_folder() / "data" / "01_latent_dimension.json").read_text())
    by_claim = {row["claim"]: row for row in rows}
    assert len(rows) == len(by_claim) == 2 + 7 * 11
    elbo = by_claim["test ELBO at 8 latent dimensions"]
    assert elbo["value"] == evaluate(models[8], test_set.images).elbo
    assert (elbo["images"], elbo["seeds"], elbo["source"], elbo["tolerance"]) == (60, 1, test_set.source, 2.0)
    expected = {"NLL": ("nll", 2000), "Fréchet distance, generated": ("frechet", 10000)}
    for name, (column, images) in expected.items():
        row = by_claim[f"sweep: {name} at 10 latent dimensions"]
        of = published[published["dim"] == 10][column]
        assert row["value"] == pytest.approx(of.mean())
        assert row["standard_error"] == pytest.approx(of.std() / math.sqrt(3))
        assert (row["seeds"], row["images"], row["source"]) == (3, images, "mnist: torchvision's files")
