"""Every sentence a verdict can say, from a table made for it."""

import math

import pytest

from vae_core.verdict import Level, batch_average, cifar_blur, enough, latent_dimension, latent_sweep, over_seeds

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


def levels(*values: float, error: float = 0.1) -> dict[int, Level]:
    return {d: Level(value, error) for d, value in zip((2, 4, 10, 20, 50), values, strict=True)}


FALLS, KEEPS = levels(150, 130, 110, 100, 95), levels(150, 130, 110, 100, 100)


def test_levels_over_seeds_are_means_and_standard_errors_by_dimension() -> None:
    rows = [{"dim": d, "nll": nll} for d, nll in ((10, 5.0), (2, 1.0), (2, 3.0), (2, 2.0))]
    found = over_seeds(rows, "nll")
    assert list(found) == [2, 10]
    assert found[2] == pytest.approx((2.0, 1 / math.sqrt(3)))
    assert found[10].value == 5
    assert math.isnan(found[10].error)


def test_one_level_beats_another_beyond_two_standard_errors_of_the_difference() -> None:
    assert Level(0, 0.3).beats(Level(1.01, 0.4))  # 2 * 0.5
    assert not Level(0, 0.3).beats(Level(0.99, 0.4))
    assert not Level(1.01, 0.3).beats(Level(0, 0.4))


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
        (KEEPS, KEEPS, KEEPS, ["holds for likelihood, reconstructions and samples. The likelihood stops", "at 20",
                               "do not part: both are best at 20"]),
        (FALLS, FALLS, FALLS, ["still improves at 50", "do not part: both are best at 50"]),
        (levels(150, 130, 110, 100, 105), KEEPS, KEEPS, ["stops improving at 20 dimensions, and is worse at 50."]),
        (KEEPS, KEEPS, levels(9, 7, 3, 4, 5), ["part: samples are best at 10 dimensions, reconstructions at 20, and"]),
        (KEEPS, levels(9, 7, 3, 4, 5), KEEPS, ["part: samples are best at 20 dimensions, reconstructions at 10, and"]),
        (KEEPS, levels(9, 7, 3.2, 3.1, 2.8), levels(9, 7, 3, 3, 3.1), ["Whether they part is undecided"]),
        (KEEPS, levels(9, 7, 3, 3, 3.1), levels(9, 7, 3.2, 3.1, 2.8), ["Whether they part is undecided"]),
        (KEEPS, KEEPS, levels(5, 7, 3, 4, 5), ["holds for likelihood and reconstructions. From", "fails for samples."]),
        (KEEPS, KEEPS, levels(5, 4, 6, 4, 5), ["claim fails for samples."]),
        (KEEPS, levels(5, 5, 3, 3, 3), KEEPS, ["holds for likelihood and samples. From", "is undecided for recon"]),
        (levels(1, 2, 3, 4, 5), levels(1, 2, 3, 4, 5), levels(1, 2, 3, 4, 5),
         ["fails for likelihood, reconstructions and samples.", "stops improving at 2 dimensions, and is worse"]),
    ],
)  # fmt: skip
def test_latent_sweep(nll, seen, samples, expected) -> None:
    said = latent_sweep({"likelihood": nll, "reconstructions": seen, "samples": samples}, posts_setting=True)
    assert said.startswith("From 2 to 4 to 10 the claim ")
    for part in expected:
        assert part in said


BLURRY, SHARP = -2.0, -0.5


@pytest.mark.parametrize(
    ("naive", "scaled", "expected"),
    [
        ([SHARP, SHARP, SHARP], [SHARP, SHARP, SHARP], "The claim fails"),
        ([BLURRY, BLURRY, SHARP], [BLURRY, BLURRY, BLURRY], "The claim fails"),
        ([-math.log(200), -math.log(100), -math.log(25)], [SHARP, 0.1, SHARP], "not because the images are few"),
        ([-math.inf] * 3, [SHARP, 0.1, SHARP], "not because the images are few"),
        ([BLURRY, BLURRY, BLURRY], [BLURRY, BLURRY, BLURRY], "the scale of the loss is not the cause"),
        ([BLURRY, BLURRY, BLURRY], [-math.inf, BLURRY, BLURRY], "the scale of the loss is not the cause"),
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


@pytest.mark.parametrize(
    ("before", "naive", "scaled", "expected"),
    [
        ([0.0, 0.0], [1.0, 1.0], [0.1, 0.2], "The observation holds, the explanation does not"),
        ([0.0, 0.0], [1.0, 1.0], [1.0, 1.0], "undoes it for 0 of 2 pairs. Averaged gradients remain a candidate"),
        ([0.0, 0.0], [1.0, 1.0], [0.1, 0.6], "undoes it for 1 of 2 pairs. Averaged gradients remain a candidate"),
        ([0.0, 0.0], [1.0, 0.9], [0.0, 0.0], "The observation fails"),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0], "The observation fails"),
        ([0.0, 1.0], [1.0, 1.0], [0.0, 0.0], "No verdict: the untrained decoder already draws the mean"),
        ([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], "No verdict: the untrained decoder already draws the mean"),
    ],
)
def test_batch_average(before, naive, scaled, expected):
    assert expected in batch_average(before, naive, scaled, posts_setting=True)


def test_away_from_the_posts_setting_nothing_is_said():
    said = [
        latent_dimension({2: -150.0, 4: -130.0}, CERTAIN, posts_setting=False),
        cifar_blur({25: BLURRY}, {25: SHARP}, posts_setting=False),
        batch_average([0.0], [1.0], [0.0], posts_setting=False),
        latent_sweep({"likelihood": KEEPS, "reconstructions": KEEPS, "samples": KEEPS}, posts_setting=False),
    ]
    assert said == ["Not the post's setting: no verdict."] * 4


def test_what_was_not_measured_has_no_verdict() -> None:
    assert latent_dimension({2: -100.0}, {2: 0.5}, posts_setting=True).startswith("No verdict")
    assert cifar_blur({25: math.nan}, {25: 0.0}, posts_setting=True).startswith("No verdict")
    assert batch_average([0.0], [math.nan], [0.0], posts_setting=True).startswith("No verdict")
    one_seed = {"likelihood": KEEPS, "reconstructions": levels(5, 4, 3, 2, 1, error=math.nan), "samples": KEEPS}
    assert latent_sweep(one_seed, posts_setting=True).startswith("No verdict: it takes two seeds")
