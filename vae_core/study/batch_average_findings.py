"""Averaged gradients or collapse of the objective: what each predicts of an experiment, and what was seen.

Pure functions of measured numbers. Each returns a :class:`Finding`, which says for both explanations whether the
outcome is what they predict.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import NamedTuple

from vae_core.study.sweep import AWAY

NONE, LOG_2 = 0.02, 0.6931  # nats: what counts as no information, and all there is of two images


class Finding(NamedTuple):
    """The outcome of one experiment."""

    experiment: str
    averaging: bool | None  # whether it is what averaged gradients predict; None: they predict nothing
    collapse: bool | None  # the same for collapse of the objective
    measured: str

    @property
    def verdict(self) -> str:
        """Which explanation the outcome speaks for, in a few words."""
        match (self.averaging, self.collapse):
            case (False, True):
                return "for collapse, against averaging"
            case (True, False):
                return "for averaging, against collapse"
            case (False, False):
                return "against both"
            case (True, True):
                return "fits both"
            case (_, None):
                return "decides nothing"
        return "for collapse" if self.collapse else "against collapse"


def both_images(at_mean: Mapping[float, Sequence[float]]) -> Finding:
    """i: a batch of two at several kappa; ``at_mean`` is the share of samples at the mean, one a pair and seed."""
    below, above = _sides(at_mean)
    always = min(below) >= 0.95 and min(above) >= 0.95
    return Finding(
        "i: both images in every step",
        always,
        min(below) >= 0.95 and max(above) < 0.5,
        f"at the mean: at least {min(below):.0%} of samples below 1, at most {max(above):.0%} above",
    )


def one_image_a_step(at_mean: Mapping[float, Sequence[float]]) -> Finding:
    """ii: the same, but every step sees one image, so no gradient is ever averaged over the batch."""
    below, above = _sides(at_mean)
    return Finding(
        "ii: one image a step, in turn",
        max(below) < 0.5 and max(above) < 0.5,
        min(below) >= 0.95 and max(above) < 0.5,
        f"at the mean: at least {min(below):.0%} of samples below 1, at most {max(above):.0%} above",
    )


def summed(difference: float) -> Finding:
    """iii: gradients summed instead of averaged; the largest difference in information to averaged ones, nats."""
    same = difference < 0.05
    told = f"information differs by at most {difference:.3f} nats"
    return Finding("iii: summed gradients", same, same, told)


def autoencoder(rebuilt: Sequence[float]) -> Finding:
    """iv: no KL and no noise; mean |t| of the reconstructions, 0 at the mean and 1 at the images."""
    told = f"mean |t| of reconstructions {min(rebuilt):.3f} to {max(rebuilt):.3f}"
    return Finding("iv: plain autoencoder", max(rebuilt) < 0.1, min(rebuilt) > 0.9, told)


def onsets(found: Sequence[float], squared_distances: Sequence[float]) -> Finding:
    """v: the fitted onset of every pair and rule in kappa; a threshold in beta alone would vary as D^2 does."""
    spread = max(squared_distances) / min(squared_distances)
    common = all(0.9 <= kappa <= 1.1 for kappa in found)
    return Finding(
        "v: where information sets in",
        max(found) / min(found) > spread**0.5,
        common,
        f"onsets at kappa {min(found):.2f} to {max(found):.2f}, while D^2 varies by a factor of {spread:.1f}",
    )


def learned_sigma(nats: Sequence[float]) -> Finding:
    """vi: sigma is learned; information, nats."""
    told = f"information {min(nats):.3f} to {max(nats):.3f} nats"
    return Finding("vi: learned sigma", max(nats) < NONE, min(nats) > 0.95 * LOG_2, told)


def absolute_error(to_mean: Sequence[float], to_median: Sequence[float]) -> Finding:
    """vii: absolute error on A, A, B, collapsed; distances of the image drawn, in D, to (2A + B)/3 and to A."""
    told = f"{max(to_median):.3f} D or less from A, {min(to_mean):.3f} D or more from (2A + B)/3"
    return Finding("vii: absolute error, A, A, B", max(to_mean) < 0.1, max(to_median) < 0.1, told)


def blocks(short: Sequence[float], long: Sequence[float]) -> Finding:
    """viii: steps on one image, then on the other, below 1; t of the samples after short blocks and after the longest.

    1 is the image that was trained on last. Averaging over the batch predicts the mean for neither.
    """
    told = f"t {min(short):.2f} to {max(short):.2f} after short blocks, {min(long):.2f} to {max(long):.2f} after long"
    averages = max(map(abs, short)) < 0.1
    return Finding("viii: blocks of one image", not averages, averages and min(long) > 0.9, told)


def contrast(ratios: Sequence[float]) -> Finding:
    """ix: half the contrast; the onset in beta at full contrast over that at half, a number a pair."""
    told = f"the onset in beta falls by a factor of {min(ratios):.2f} to {max(ratios):.2f}"
    return Finding("ix: half the contrast", None, all(3.6 <= ratio <= 4.4 for ratio in ratios), told)


def activations(dead: Mapping[str, int], runs: int) -> Finding:
    """x: how many of so many runs at kappa = 10 hold no information, by activation."""
    told = ", ".join(f"{name}: {count} of {runs} without information" for name, count in dead.items())
    return Finding("x: activation functions at kappa 10", None, None, told)


def zero(places: Sequence[float]) -> Finding:
    """xi: t of the image of z = 0 at kappa = 10."""
    told = f"z = 0 draws t = {min(places):.2f} to {max(places):.2f}"
    return Finding("xi: the image of z = 0", None, None, told)


def conclusion(findings: Sequence[Finding], observed: bool) -> str:
    """The verdict on the post's observation and its guess, in three sentences."""
    weighed = [one for one in findings if None not in (one.averaging, one.collapse)]
    decisive = [one for one in weighed if not (one.averaging and one.collapse)]
    ours = sum(one.collapse is True for one in decisive)
    seen = "The observation holds" if observed else "The observation was not repeated"
    first = f"{seen}: at the post's loss the generated image {'is' if observed else 'is not'} the average of the two."
    if decisive and ours == len(decisive):
        second = (
            f"Averaged gradients are not the cause: {ours} experiments tell the two explanations apart, and all "
            "follow the objective, which asks for the average below kappa = 1 however the gradients are taken."
        )
    elif decisive and all(one.averaging for one in decisive):
        second = f"Averaged gradients remain the better explanation in all {len(decisive)} experiments that decide."
    else:
        second = (
            f"Neither explanation has all of it: {ours} of {len(decisive)} deciding experiments follow the objective."
        )
    blocks_hold = any(one.experiment.startswith("viii") and one.collapse for one in findings)
    third = (
        "What is right in the guess: something is averaged, the squared error over both images, and an optimiser "
        "averages over time, so that long blocks on one image leave that image."
        if blocks_hold
        else "The experiment on blocks of steps did not come out as either side predicts."
    )
    return f"{first} {second} {third}"


def _sides(by_kappa: Mapping[float, Sequence[float]]) -> tuple[list[float], list[float]]:
    below = [value for kappa, values in by_kappa.items() if kappa < 0.9 for value in values]
    above = [value for kappa, values in by_kappa.items() if kappa >= 3 for value in values]
    if not below or not above:
        raise ValueError("the experiment needs kappas below 0.9 and from 3 up")
    return below, above


def batch_average(
    before: Sequence[float], naive: Sequence[float], scaled: Sequence[float], *, posts_setting: bool
) -> str:
    """Claim 3, from the share of prior samples at the arithmetic mean, a number a pair.

    ``before`` any training, after training with the ``naive`` loss, and with the ``scaled`` one. The
    gradient is averaged over the batch in both trainings.
    """
    if not posts_setting:
        return AWAY
    if any(isnan(share) for share in (*before, *naive, *scaled)):
        return "No verdict: a share is not a number."
    if max(before) >= 0.5:
        return "No verdict: the untrained decoder already draws the mean, so this recipe cannot test the claim."
    if min(naive) < 0.95:
        return "The observation fails: not every pair generates its average."
    if max(scaled) < 0.5:
        return (
            "The observation holds, the explanation does not: gradients are averaged in both trainings, "
            "and only the one with the naive loss generates the average."
        )
    undone = sum(share < 0.5 for share in scaled)
    return (
        f"The observation holds; the scaled loss undoes it for {undone} of {len(scaled)} pairs. "
        "Averaged gradients remain a candidate."
    )
