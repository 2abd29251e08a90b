"""What the experiments say of the two explanations: for each, numbers as either predicts them."""

import pytest

from vae_core.study import batch_average_findings as rivals

MEAN_BELOW_ONE = {0.1: [1.0, 0.99], 0.5: [0.98], 3.0: [0.1, 0.05], 10.0: [0.02]}
MEAN_ALWAYS = {0.1: [1.0], 0.5: [1.0], 3.0: [0.99], 10.0: [0.97]}
MEAN_NEVER = {0.1: [0.2], 0.5: [0.1], 3.0: [0.0], 10.0: [0.0]}
MIXED = {0.1: [1.0, 0.2], 0.5: [0.9], 3.0: [0.1], 10.0: [0.7]}


def says(finding: rivals.Finding) -> tuple:
    return finding.averaging, finding.collapse


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (MEAN_BELOW_ONE, (False, True)),
        (MEAN_ALWAYS, (True, False)),
        (MEAN_NEVER, (False, False)),
        (MIXED, (False, False)),
    ],
)
def test_both_images_in_a_step(seen: dict, said: tuple) -> None:
    assert says(rivals.both_images(seen)) == said


@pytest.mark.parametrize(
    ("seen", "said"),
    [(MEAN_BELOW_ONE, (False, True)), (MEAN_NEVER, (True, False)), (MEAN_ALWAYS, (False, False))],
)
def test_one_image_a_step(seen: dict, said: tuple) -> None:
    assert says(rivals.one_image_a_step(seen)) == said


def test_kappas_near_one_are_left_out_and_both_sides_are_needed() -> None:
    assert says(rivals.both_images(MEAN_BELOW_ONE | {1.0: [0.5], 1.5: [0.7]})) == (False, True)
    with pytest.raises(ValueError, match=r"below 0\.9 and from 3"):
        rivals.both_images({0.5: [1.0]})


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (rivals.summed(0.01), (True, True)),
        (rivals.summed(0.3), (False, False)),
        (rivals.autoencoder([0.99, 1.01]), (False, True)),
        (rivals.autoencoder([0.01, 0.05]), (True, False)),
        (rivals.autoencoder([0.5, 0.99]), (False, False)),
        (rivals.onsets([0.98, 1.05, 1.02], [160, 300, 410]), (False, True)),
        (rivals.onsets([0.5, 1.0, 1.4], [160, 300, 410]), (True, False)),
        (rivals.onsets([1.2, 1.25, 1.3], [160, 300, 410]), (False, False)),
        (rivals.learned_sigma([0.69, 0.688]), (False, True)),
        (rivals.learned_sigma([0.0, 0.01]), (True, False)),
        (rivals.learned_sigma([0.0, 0.69]), (False, False)),
        (rivals.absolute_error([0.33, 0.32], [0.01, 0.02]), (False, True)),
        (rivals.absolute_error([0.01, 0.02], [0.33, 0.32]), (True, False)),
        (rivals.blocks([0.01, -0.02], [0.97, 0.99]), (False, True)),
        (rivals.blocks([0.6, 0.7], [0.97, 0.99]), (True, False)),
        (rivals.blocks([0.01, -0.02], [0.3, 0.99]), (False, False)),
        (rivals.contrast([3.9, 4.1]), (None, True)),
        (rivals.contrast([1.0, 4.1]), (None, False)),
        (rivals.activations({"tanh": 0, "relu": 2}, 5), (None, None)),
        (rivals.zero([-0.1, 0.2]), (None, None)),
    ],
)
def test_every_experiment_says_for_both_explanations_whether_it_fits(finding: rivals.Finding, said: tuple) -> None:
    assert says(finding) == said
    assert finding.measured
    words = {
        (False, True): "for collapse, against averaging",
        (True, False): "for averaging, against collapse",
        (False, False): "against both",
        (True, True): "fits both",
        (None, True): "for collapse",
        (None, False): "against collapse",
        (None, None): "decides nothing",
    }
    assert finding.verdict == words[said]


def findings(*, collapse: bool) -> list[rivals.Finding]:
    if collapse:
        return [rivals.both_images(MEAN_BELOW_ONE), rivals.summed(0.0), rivals.blocks([0.0], [1.0]), rivals.zero([0.1])]
    return [rivals.both_images(MEAN_ALWAYS), rivals.summed(0.0), rivals.blocks([0.7], [1.0]), rivals.zero([0.1])]


def test_the_conclusion_is_three_sentences_for_each_hypothesis() -> None:
    ours = rivals.conclusion(findings(collapse=True), observed=True)
    assert ours.startswith("The observation holds")
    assert "Averaged gradients are not the cause: 2 experiments" in ours
    assert "What is right in the guess" in ours
    theirs = rivals.conclusion(findings(collapse=False), observed=True)
    assert "remain the better explanation in all 2" in theirs
    assert "did not come out as either side predicts" in theirs
    both = rivals.conclusion([*findings(collapse=True), rivals.both_images(MEAN_ALWAYS)], observed=False)
    assert both.startswith("The observation was not repeated")
    assert "2 of 3 deciding experiments follow the objective" in both
    neither = rivals.conclusion([*findings(collapse=True), rivals.both_images(MIXED)], observed=True)
    assert "2 of 3 deciding experiments follow the objective" in neither  # one that fits neither is not left out
    for text in (ours, theirs, both, neither):
        assert text.count(". ") == 2
        assert text.endswith(".")
