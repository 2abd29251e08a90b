"""Every sentence a verdict can say, from a table made for it."""

import math

import pytest

from vae_core.study.cifar_blur import CHANGES, Part, blur_parts, blur_sources, cifar_blur
from vae_core.study.latent_dimension import Level, enough, latent_dimension, latent_sweep, over_seeds

CERTAIN, UNSURE = {2: 0.5, 4: 0.5, 10: 0.5}, {2: 50.0, 4: 50.0, 10: 50.0}


@pytest.mark.parametrize(
    ("elbo", "error", "expected"),
    [
        ({2: -150.0, 4: -130.0, 10: -105.0}, CERTAIN, "The claim holds"),
        ({10: -105.0, 2: -150.0, 4: -130.0}, CERTAIN, "The claim holds"),
        ({2: -150.0, 4: -105.0, 10: -130.0}, CERTAIN, "The claim fails"),
        ({2: -105.0, 4: -130.0, 10: -150.0}, CERTAIN, "The claim fails"),
        ({2: -150.0, 4: -130.0, 10: -129.0}, CERTAIN, "Undecided"),
        ({2: -150.0, 4: -130.0, 10: -131.0}, CERTAIN, "Undecided"),
        ({2: -150.0, 4: -130.0, 10: -105.0}, UNSURE, "Undecided"),
        ({2: -150.0, 4: -130.0, 10: -105.0}, {2: 0.5, 4: 0.5, 10: 50.0}, "Undecided"),
    ],
    ids=["rises", "in any order", "falls late", "falls", "flat", "slightly down", "noisy", "one noisy end"],
)
def test_latent_dimension(elbo, error, expected):
    said = latent_dimension(elbo, error, posts_setting=True)
    assert said.startswith(expected)
    numbers = ", ".join(f"{elbo[d]:.1f}" for d in (2, 4, 10))
    assert said.endswith(f"The test ELBO goes {numbers} nats at 2, 4, 10.")


@pytest.mark.parametrize(
    ("gain", "expected"), [(2.9, "holds"), (2.7, "Undecided"), (-2.7, "Undecided"), (-2.9, "fails")]
)
def test_latent_dimension_decides_at_two_standard_errors_of_the_difference(gain, expected):
    assert expected in latent_dimension({2: 0.0, 4: gain}, {2: 1.0, 4: 1.0}, posts_setting=True)  # 2 sqrt(2) = 2.83


def levels(*values: float, error: float = 0.07) -> dict[int, Level]:
    return {d: Level(value, error, 3) for d, value in zip((2, 4, 10, 20, 50), values, strict=True)}


FALLS, KEEPS = levels(150, 130, 110, 100, 95), levels(150, 130, 110, 100, 100)


def test_levels_over_seeds_are_means_and_standard_errors_by_dimension() -> None:
    rows = [{"dim": d, "nll": nll} for d, nll in ((10, 5.0), (2, 1.0), (2, 3.0), (2, 2.0))]
    found = over_seeds(rows, "nll")
    assert list(found) == [2, 10]
    assert found[2] == pytest.approx((2.0, 1 / math.sqrt(3), 3))
    assert found[10].value == 5
    assert math.isnan(found[10].error)


def test_one_level_beats_another_beyond_chance() -> None:
    assert Level(0, 0.3, 3).beats(Level(1.41, 0.4, 3))  # Student's 2.8 for 4 degrees of freedom, times 0.5
    assert not Level(0, 0.3, 3).beats(Level(1.39, 0.4, 3))
    assert not Level(1.41, 0.3, 3).beats(Level(0, 0.4, 3))
    assert not Level(0, 0.0, 1).beats(Level(1, 0.0, 1))


@pytest.mark.parametrize(
    ("found", "dim"),
    [(FALLS, 50), (KEEPS, 20), (levels(5, 4, 3, 3.1, 4), 10), (levels(1, 2, 3, 4, 5), 2),
     (levels(5, 4, 3.2, 3.1, 2.8), 50), (levels(5, 4, 3.2, 3.1, 3.0), 10), (levels(9, 8, 7, 6, 5, error=9), 2)],
    ids=["falls", "keeps", "rises after 10", "rises", "slowly", "within two errors", "noise"],
)  # fmt: skip
def test_enough_is_the_smallest_dimension_that_no_other_beats(found, dim) -> None:
    assert enough(found) == dim


@pytest.mark.parametrize(
    ("nll", "seen", "samples", "expected"),
    [
        (KEEPS, KEEPS, KEEPS, ["holds for likelihood, reconstructions and samples. Beyond",
                               "that of 20 dimensions.",
                               "do not part: beyond chance none beats 20"]),
        (FALLS, FALLS, FALLS, ["still improves at 50", "do not part: beyond chance none beats 50"]),
        (levels(150, 130, 110, 100, 105), KEEPS, KEEPS, ["beats that of 20 dimensions, and 50 are worse."]),
        (KEEPS, KEEPS, levels(9, 7, 3, 4, 5), ["They part:", "10 dimensions for samples, and 20 for"]),
        (KEEPS, levels(9, 7, 3, 4, 5), KEEPS, ["They part:", "20 dimensions for samples, and 10 for"]),
        (KEEPS, levels(9, 7, 3.2, 3.1, 2.8), levels(9, 7, 3, 3, 3.1), ["Whether they part is undecided"]),
        (KEEPS, levels(9, 7, 3, 3, 3.1), levels(9, 7, 3.2, 3.1, 2.8), ["Whether they part is undecided"]),
        (KEEPS, KEEPS, levels(5, 7, 3, 4, 5), ["holds for likelihood and reconstructions. From", "fails for samples."]),
        (KEEPS, KEEPS, levels(5, 4, 6, 4, 5), ["claim fails for samples."]),
        (KEEPS, levels(5, 5, 3, 3, 3), KEEPS, ["holds for likelihood and samples. From", "is undecided for recon"]),
        (levels(1, 2, 3, 4, 5), levels(1, 2, 3, 4, 5), levels(1, 2, 3, 4, 5),
         ["fails for likelihood, reconstructions and samples.", "beats that of 2 dimensions, and 50 are worse"]),
    ],
)  # fmt: skip
def test_latent_sweep(nll, seen, samples, expected) -> None:
    said = latent_sweep({"likelihood": nll, "reconstructions": seen, "samples": samples}, posts_setting=True)
    assert said.startswith("From 2 to 4 to 10 the claim ")
    for part in expected:
        assert part in said


def test_latent_sweep_says_how_far_samples_are_behind_reconstructions() -> None:
    measures = {"likelihood": KEEPS, "reconstructions": KEEPS, "samples": levels(300, 200, 150, 120, 120)}
    said = latent_sweep(measures | {"rebuilt": levels(150, 100, 50, 30, 30)}, posts_setting=True)
    assert said.endswith("of reconstructions: 2.0 at 2, 3.0 at 10, 4.0 at 20.")
    assert said.startswith(latent_sweep(measures, posts_setting=True))


BLURRY, SHARP = -2.0, -0.5


@pytest.mark.parametrize(
    ("naive", "scaled", "expected"),
    [
        ([SHARP, SHARP, SHARP], [SHARP, SHARP, SHARP], "The claim fails"),
        ([BLURRY, BLURRY, SHARP], [BLURRY, BLURRY, BLURRY], "The claim fails"),
        ([-math.log(200), -math.log(100), -math.log(25)], [SHARP, 0.1, SHARP], "not because the images are few"),
        ([-math.inf] * 3, [SHARP, 0.1, SHARP], "not because the images are few"),
        ([BLURRY, BLURRY, BLURRY], [BLURRY, BLURRY, BLURRY], "the scale alone does not undo the blur"),
        ([BLURRY, BLURRY, BLURRY], [-math.inf, BLURRY, BLURRY], "the scale alone does not undo the blur"),
        ([BLURRY, BLURRY, BLURRY], [BLURRY, SHARP, SHARP], "it depends on the number of images"),
        ([BLURRY, BLURRY, BLURRY], [SHARP, SHARP, BLURRY], "it depends on the number of images"),
    ],
)
def test_cifar_blur(naive, scaled, expected):
    counts = (200, 100, 25)
    said = cifar_blur(dict(zip(counts, naive, strict=True)), dict(zip(counts, scaled, strict=True)), posts_setting=True)
    assert expected in said
    assert said.startswith("The claim fails" if expected == "The claim fails" else "The claim holds")


@pytest.mark.parametrize(("ratio", "blurry"), [(0.24, True), (0.26, False)])
def test_blurry_is_a_quarter_of_the_energy(ratio, blurry):
    said = cifar_blur({25: math.log(ratio)}, {25: 0.0}, posts_setting=True)
    assert said.startswith("The claim holds") == blurry


def sweep(scale=0.0, width=0.0, shape=0.0, conv=0.0, images=0.0, chance=0.1):
    """A table in which each change does just that, at all settings; the first setting is repeated three times."""
    base = {"mean of squares": -4.0, "sum of squares": -4.0 + scale}
    base["learned sigma"] = base["sum of squares"] + width
    base["logistic"] = base["learned sigma"] + shape
    rows = [
        {"images": n, "loss": loss, "architecture": network,
         "sharpness": value + conv * (network == "conv") + images * (n == 5000)}
        for n in (25, 5000) for loss, value in base.items() for network in ("mlp", "conv")
    ]  # fmt: skip
    first = rows[0]
    return rows + [first | {"sharpness": first["sharpness"] + by} for by in (chance, -chance)]


def test_blur_parts_finds_what_each_change_does():
    parts = blur_parts(sweep(3.0, 0.5, -0.25, -1.0, -0.75), "sharpness")
    assert list(parts) == list(CHANGES)
    assert [part.value for part in parts.values()] == pytest.approx([3.0, 0.5, -0.25, -1.0, -0.75])
    # the spread of one training is 0.1; four pairs of trainings, one of which has a side trained three times
    assert parts["scale of the loss"].error == pytest.approx((0.01 * (7 + 1 / 3)) ** 0.5 / 4)
    assert parts["shape of the error"].error == pytest.approx((0.01 * 8) ** 0.5 / 4)
    assert parts["number of images"].error == pytest.approx((0.01 * 4) ** 0.5 / 2)


def test_blur_parts_are_taken_with_all_else_the_same():
    rows = sweep(3.0, conv=-1.0)
    for row in rows:
        collapsed = row["loss"] == "mean of squares"
        row["sharpness"] = -4.0 if collapsed else row["sharpness"]  # a collapsed model is blind to its network
    parts = blur_parts(rows, "sharpness")
    assert (parts["scale of the loss"].low, parts["scale of the loss"].high) == (2.0, 3.0)
    assert parts["scale of the loss"].error == pytest.approx((4 / 3 * 0.25) ** 0.5 / 2)  # of 3, 2, 3, 2
    assert parts["architecture"].value == -1.0  # at the sum of squares only
    fewer = [row for row in rows if (row["images"], row["architecture"]) != (5000, "conv")]
    assert blur_parts(fewer, "sharpness")["scale of the loss"].value == pytest.approx((3 + 2 + 3) / 3)
    assert set(blur_parts([row for row in rows if row["images"] == 25], "sharpness")) == set(CHANGES) - {
        "number of images"
    }


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        (
            {"scale": 3.0},
            "Of the suspects only the scale of the loss is shown to blur: its sum instead of its mean gives +3",
        ),
        ({"scale": 3.0, "conv": -1.0}, "Of the suspects only the scale of the loss"),
        ({"scale": 0.0, "shape": 2.0}, "The scale of the loss is no cause of the blur (+0.00"),
        ({"scale": -3.0}, "The scale of the loss is no cause of the blur (-3.00"),
        ({"scale": 1.0, "shape": 2.0}, "smaller than the shape of the error (+2.00"),
        ({"scale": 1.0, "conv": -2.0}, "Of the suspects only the scale of the loss"),
        ({"scale": 1.0, "images": -2.0}, "Of the suspects only the scale of the loss"),
        ({"scale": 1.0, "images": 1.05}, "no larger for certain than the number of images ("),
        ({"scale": 1.0, "images": 0.95}, "no larger for certain than the number of images ("),
        ({"images": -1.0}, "More images make samples blurrier, not sharper (-1.00"),
        ({"images": 1.0}, "More images make samples sharper (+1.00"),
        ({"images": 0.01}, "The number of images makes no difference beyond chance"),
        ({"width": 1.0}, "A learned width, which is scale again, sharpens (+1.00"),
        ({"width": -1.0}, "A learned width, which is scale again, blurs (-1.00"),
        ({"shape": 1.0}, "Another error than squares, each at a width of its own, sharpens (+1.00"),
        ({"shape": -0.01}, "Another error than squares, each at a width of its own, changes nothing beyond chance"),
        ({"conv": 1.0}, "The convolutional network sharpens (+1.00"),
        ({"conv": -1.0}, "The convolutional network blurs (-1.00"),
        ({"conv": 0.0}, "The convolutional network changes nothing beyond chance"),
    ],
)
def test_blur_sources(effects, expected):
    said = blur_sources(blur_parts(sweep(**effects), "sharpness"), posts_setting=True)
    assert expected in said
    assert said.count(". ") == 4  # a sentence a change


def test_blur_sources_says_when_a_change_works_in_some_settings_only():
    parts = blur_parts(sweep(scale=3.0), "sharpness") | {"architecture": Part(-0.5, 0.1, -2.0, 1.0)}
    said = blur_sources(parts, posts_setting=True)
    assert "The convolutional network blurs on average, not everywhere (-0.50 ± 0.10 nats, -2.00 to +1.00" in said


def test_blur_sources_says_when_a_change_works_both_ways_and_an_average_hides_it():
    parts = blur_parts(sweep(scale=3.0), "sharpness") | {"shape of the error": Part(0.01, 0.1, -0.6, 0.5)}
    assert "sharpens in some settings and blurs in others (+0.01" in blur_sources(parts, posts_setting=True)


def test_blur_sources_needs_repetitions_and_every_change():
    alone = blur_parts(sweep(3.0)[:-2], "sharpness")
    assert math.isnan(alone["scale of the loss"].error)
    few = blur_parts([row for row in sweep(3.0) if row["images"] == 25], "sharpness")
    for parts in (alone, few, {}):
        assert blur_sources(parts, posts_setting=True).startswith("No verdict")


def test_away_from_the_posts_setting_nothing_is_said():
    said = [
        latent_dimension({2: -150.0, 4: -130.0}, CERTAIN, posts_setting=False),
        cifar_blur({25: BLURRY}, {25: SHARP}, posts_setting=False),
        blur_sources(blur_parts(sweep(3.0), "sharpness"), posts_setting=False),
        latent_sweep({"likelihood": KEEPS, "reconstructions": KEEPS, "samples": KEEPS}, posts_setting=False),
    ]
    assert said == ["Not the post's setting: no verdict."] * 4


def test_what_was_not_measured_has_no_verdict() -> None:
    assert latent_dimension({2: -100.0}, {2: 0.5}, posts_setting=True).startswith("No verdict")
    assert latent_dimension({2: -100.0, 4: math.nan}, {2: 0.5, 4: 0.5}, posts_setting=True).startswith("No verdict")
    assert cifar_blur({25: math.nan}, {25: 0.0}, posts_setting=True).startswith("No verdict")
    one_seed = {"likelihood": KEEPS, "reconstructions": levels(5, 4, 3, 2, 1, error=math.nan), "samples": KEEPS}
    assert latent_sweep(one_seed, posts_setting=True).startswith("No verdict: it takes two seeds")
