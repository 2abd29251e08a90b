"""What two explanations predict of every experiment of notebook 03, and whether what was measured is that.

*Averaging*: the average is generated because gradients are averaged within the batch. *Collapse*: the average is what
the objective asks for, up to kappa = 1. A prediction is an interval, in which every pair and seed must lie.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

NONE = 0.02  # nats, what counts as no mutual information; all there is to know of two images is log 2
SHARE, INF = "share of samples at the mean", math.inf
PREDICTIONS: dict[str, tuple] = {  # a measure, and from where to where averaging and collapse predict it; None: nothing
    "i, kappa below 1": (SHARE, (0.95, 1), (0.95, 1)),
    "i, kappa from 3": (SHARE, (0.95, 1), (0, 0.5)),
    "ii, kappa below 1": (SHARE, (0, 0.5), (0.95, 1)),
    "ii, kappa from 3": (SHARE, (0, 0.5), (0, 0.5)),
    "iii": ("mutual information changes by, nats", (0, 0.05), (0, 0.05)),
    "iv": ("t of reconstructions", (0, 0.1), (0.9, INF)),
    "v": ("critical ratio, kappa", None, (0.9, 1.1)),
    "vi": ("mutual information, nats", (-INF, NONE), (0.95 * math.log(2), INF)),
    "vii": ("distance from A, in D", (0.23, 0.43), (0, 0.1)),
    "viii, short blocks": ("t of samples, either way", (0.1, INF), (0, 0.1)),
    "viii, long blocks": ("t of samples, to the last image", (0.1, INF), (0.9, INF)),
    "ix": ("critical beta falls by a factor of", None, (3.6, 4.4)),
    "xi": ("t of the image of z = 0", None, None),
}


class Decision(NamedTuple):
    """The outcome of one experiment."""

    experiment: str
    averaging: bool | None  # whether it is what averaging predicts; None: it predicts nothing
    collapse: bool | None  # the same for collapse
    least: float  # that was measured
    most: float


class Verdict(NamedTuple):
    """What the experiments say together."""

    observed: bool  # at the post's loss the average is generated, and before training it is not
    sufficient: bool  # averaging within the batch brings the average, whatever the objective
    necessary: bool  # and without it there is none
    deciding: int  # experiments of which the two explanations predict different outcomes
    as_collapse: int  # of those


def decide(experiment: str, values: Iterable[float]) -> Decision:
    """Compare what was measured, a value a pair and seed, with the predictions. Without a value nothing is decided."""
    measured = pd.Series(list(values), dtype=float)
    _, *predicted = PREDICTIONS[experiment]
    averaging, collapse = (
        None if ends is None or measured.empty else bool(measured.between(*ends).all()) for ends in predicted
    )
    return Decision(experiment, averaging, collapse, measured.min(), measured.max())


def both_rules(runs: pd.DataFrame) -> list[Decision]:
    """i and ii: the share of samples at the mean by ``rule``, on both sides of kappa 1; and xi, of all rules."""
    decisions = []
    for name, rule in (("i", "both"), ("ii", "in turn")):
        of = runs[runs["rule"] == rule].set_index("kappa")["at_mean"]
        decisions += [
            decide(f"{name}, kappa below 1", of[of.index < 0.9]),
            decide(f"{name}, kappa from 3", of[of.index >= 3]),
        ]
    return [*decisions, decide("xi", runs["zero"][runs["kappa"] == 10])]


def four_changes(averaged: pd.DataFrame, changed: pd.DataFrame) -> list[Decision]:
    """iii, iv, vi and vii, the rules of ``changed``; (iii) beside models of the same pairs, kappas and seeds."""
    rules = dict(iter(changed.groupby("rule")))
    both = averaged[averaged["rule"] == "both"].merge(rules["iii"], on=["pair", "kappa", "seed"])
    return [
        decide("iii", (both["mutual_information_x"] - both["mutual_information_y"]).abs()),
        decide("iv", rules["iv"]["rebuilt"]),
        decide("vi", rules["vi"]["mutual_information"]),
        decide("vii", (1 + rules["vii"]["t"]) / 2),
    ]


def blocks(runs: pd.DataFrame) -> list[Decision]:
    """viii: t of samples after blocks of ``rule`` steps on one image, the last block on the image at 1."""
    long = runs["rule"] == runs["rule"].max()
    return [decide("viii, short blocks", runs["t"][~long].abs()), decide("viii, long blocks", runs["t"][long])]


def contrast(full: pd.DataFrame, half: pd.DataFrame) -> Decision:
    """ix: the critical ``beta`` of each pair at full contrast over that at half, with both images in every step."""
    both = full[full["rule"] == "both"].merge(half, on=["rule", "pair"])
    return decide("ix", both["beta_x"] / both["beta_y"])


def saturated(runs: pd.DataFrame) -> pd.DataFrame:
    """Models without mutual information, and all models, by rule."""
    by = runs.assign(saturated=runs["mutual_information"] < NONE).groupby("rule")["saturated"]
    return by.agg(saturated="sum", models="size")


def observed(shares: pd.DataFrame) -> bool:
    """Whether samples of every pair are at the mean with the mean of squares, and were not before training.

    ``shares`` of samples at the mean, a row a pair, a column for each kind of model.
    """
    return bool((shares["mean of squares"] >= 0.95).all() and (shares["before training"] < 0.5).all())


def verdict(decisions: Sequence[Decision], *, observed: bool) -> Verdict:
    """What the ``decisions`` say together; it takes those of (i) and (ii)."""
    averaging = {each.experiment: bool(each.averaging) for each in decisions}
    sufficient = averaging["i, kappa below 1"] and averaging["i, kappa from 3"]
    necessary = averaging["ii, kappa below 1"] and averaging["ii, kappa from 3"]
    weighed = [each[1:3] for each in decisions if None not in each[1:3]]
    deciding = [collapse for averaging, collapse in weighed if not (averaging and collapse)]
    return Verdict(observed, sufficient, necessary, len(deciding), sum(map(bool, deciding)))


def _between(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {high:.2g}"
    return f"above {low:.2g}" if math.isinf(high) else f"{low:.2g} to {high:.2g}"


def table(decisions: Sequence[Decision]) -> pd.DataFrame:
    """What was measured beside what was predicted, a row an experiment."""
    rows = {}
    for name, averaging, collapse, least, most in decisions:
        measure, *predicted = PREDICTIONS[name]
        words = [
            "-" if ends is None else f"{_between(*ends)}: {'yes' if holds else 'no'}"
            for ends, holds in zip(predicted, (averaging, collapse), strict=True)
        ]
        rows[name] = [measure, f"{least:.3f} to {most:.3f}", *words]
    columns = ["measure", "measured", "averaging predicts", "collapse predicts"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns)
