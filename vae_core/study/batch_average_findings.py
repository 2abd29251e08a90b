"""What two explanations predict of each experiment of notebook 03, and whether what was measured is that.

*Averaging*: the average is generated because gradients are averaged within the batch. *Collapse*: the average is
what the objective asks for, up to kappa = 1. All are pure functions of measured numbers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

NONE, LOG_2 = 0.02, 0.6931  # nats: what counts as no mutual information, and all there is of two images


class Decision(NamedTuple):
    """The outcome of one experiment."""

    experiment: str
    averaging: bool | None  # whether it is what averaging predicts; None: it predicts nothing
    collapse: bool | None  # the same for collapse
    measured: dict[str, float]


class Verdict(NamedTuple):
    """What the experiments say together."""

    observed: bool  # at the post's loss the average is generated, and before training it is not
    sufficient: bool  # averaging within the batch: the average is generated whenever there is any
    necessary: bool  # and never without
    as_averaging: int  # of the experiments that tell the two apart
    as_collapse: int
    deciding: int


def observed(shares: pd.DataFrame) -> bool:
    """Whether samples are at the mean with the mean of squares for every pair, and were not before training.

    ``shares`` of samples at the mean, a row a pair, a column for each kind of model.
    """
    return bool((shares["mean of squares"] >= 0.95).all() and (shares["before training"] < 0.5).all())


def both_images(runs: pd.DataFrame) -> Decision:
    """i: a batch of two; ``runs`` have a kappa and the share ``at_mean`` of their samples."""
    below, above = _sides(runs)
    always = below.min() >= 0.95 and above.min() >= 0.95
    return _at_mean("i: both images in every step", always, below, above)


def one_image_a_step(runs: pd.DataFrame) -> Decision:
    """ii: the same, but every step sees one image, so no gradient is ever averaged over the batch."""
    below, above = _sides(runs)
    return _at_mean("ii: one image a step", below.max() < 0.5 and above.max() < 0.5, below, above)


def summed(averaged: pd.DataFrame, doubled: pd.DataFrame) -> Decision:
    """iii: gradients summed instead of averaged; the same pairs, kappas and seeds."""
    both = averaged.merge(doubled, on=["pair", "kappa", "seed"])
    most = (both["mutual_information_x"] - both["mutual_information_y"]).abs().max()
    return Decision("iii: summed gradients", most < 0.05, most < 0.05, {"largest difference in nats": most})


def free_kl(rebuilt: Sequence[float]) -> Decision:
    """iv: the KL costs nothing; mean size of t of the reconstructions, 0 at the mean and 1 at the images."""
    return Decision("iv: no KL", max(rebuilt) < 0.1, min(rebuilt) > 0.9, _range("t of reconstructions", rebuilt))


def critical(ratios: Sequence[float], squared_distances: Sequence[float]) -> Decision:
    """v: the critical ratio of every pair and rule; a threshold in beta alone would vary as D^2 does."""
    spread = max(squared_distances) / min(squared_distances)
    varies, common = max(ratios) / min(ratios) > spread**0.5, all(0.9 <= kappa <= 1.1 for kappa in ratios)
    return Decision("v: critical ratio", varies, common, _range("kappa", ratios) | {"D^2 varies by": spread})


def learned_sigma(nats: Sequence[float]) -> Decision:
    """vi: sigma is learned; mutual information, nats."""
    return Decision("vi: learned sigma", max(nats) < NONE, min(nats) > 0.95 * LOG_2, _range("nats", nats))


def absolute_error(to_mean: Sequence[float], to_median: Sequence[float]) -> Decision:
    """vii: absolute error on A, A, B; distances of the image drawn, in D, to (2A + B)/3 and to A."""
    measured = {"at most from A": max(to_median), "at least from (2A + B)/3": min(to_mean)}
    return Decision("vii: absolute error, A, A, B", max(to_mean) < 0.1, max(to_median) < 0.1, measured)


def blocks(ends: Mapping[int, Sequence[float]]) -> Decision:
    """viii: blocks of steps on one image, below 1; t of the samples by the length of a block.

    1 is the image that was trained on last. Averaging within the batch predicts the mean for no length.
    """
    long = ends[max(ends)]
    short = [t for length, each in ends.items() if length != max(ends) for t in each]
    mean = max(map(abs, short)) < 0.1
    measured = _range("t, short", short) | _range("t, long", long)
    return Decision("viii: blocks of one image", not mean, mean and min(long) > 0.9, measured)


def contrast(ratios: Sequence[float]) -> Decision:
    """ix: the critical beta at full contrast over that at half, a number a pair."""
    return Decision("ix: half the contrast", None, all(3.6 <= ratio <= 4.4 for ratio in ratios), _range("ratio", ratios))


def saturated(nats: Mapping[str, Sequence[float]]) -> Decision:
    """x: runs at kappa 10 without mutual information, by their recipe."""
    counts = {name: float(sum(value < NONE for value in values)) for name, values in nats.items()}
    return Decision("x: without information at kappa 10", None, None, counts)


def zero(places: Sequence[float]) -> Decision:
    """xi: t of the image of z = 0 at kappa 10."""
    return Decision("xi: the image of z = 0", None, None, _range("t", places))


def verdict(decisions: Sequence[Decision], *, observed: bool) -> Verdict:
    """What the decisions that tell the two explanations apart say together. It takes (i) and (ii)."""
    first, second = decisions[:2]
    weighed = [each for each in decisions if None not in (each.averaging, each.collapse)]
    deciding = [each for each in weighed if not (each.averaging and each.collapse)]
    sides = sum(bool(each.averaging) for each in deciding), sum(bool(each.collapse) for each in deciding)
    return Verdict(observed, bool(first.averaging), bool(second.averaging), *sides, len(deciding))


def table(decisions: Sequence[Decision]) -> pd.DataFrame:
    """One row an experiment."""
    answers = {True: "yes", False: "no", None: "-"}
    return pd.DataFrame(
        {
            "as averaging predicts": [answers[each.averaging] for each in decisions],
            "as collapse predicts": [answers[each.collapse] for each in decisions],
            "measured": [", ".join(f"{k} {v:.3g}" for k, v in each.measured.items()) for each in decisions],
        },
        index=[each.experiment for each in decisions],
    )


def _sides(runs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    below, above = runs["at_mean"][runs["kappa"] < 0.9], runs["at_mean"][runs["kappa"] >= 3]
    if below.empty or above.empty:
        raise ValueError("the experiment needs kappas below 0.9 and from 3 up")
    return below, above


def _at_mean(experiment: str, averaging: bool, below: pd.Series, above: pd.Series) -> Decision:
    collapse = below.min() >= 0.95 and above.max() < 0.5
    return Decision(experiment, averaging, collapse, {"least below 1": below.min(), "most above": above.max()})


def _range(what: str, values: Sequence[float]) -> dict[str, float]:
    return {f"{what} from": min(values), "to": max(values)}
