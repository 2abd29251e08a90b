"""What the measurements say of the post's claims: pure functions of numbers, sentences out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isnan, nan
from statistics import mean, stdev
from typing import Any, NamedTuple

AWAY = "Not the post's setting: no verdict."


def latent_dimension(elbo: Mapping[int, float], error: Mapping[int, float], *, posts_setting: bool) -> str:
    """Claim 1, from the mean test ELBO and its standard error by latent dimension, nats per image."""
    if not posts_setting:
        return AWAY
    dims = sorted(elbo)
    if len(dims) < 2:
        return "No verdict: it takes two latent dimensions to compare."
    steps = [(elbo[high] - elbo[low], 2 * (error[low] ** 2 + error[high] ** 2) ** 0.5) for low, high in pairwise(dims)]
    told = f"The test ELBO goes {', '.join(f'{elbo[d]:.1f}' for d in dims)} nats at {', '.join(map(str, dims))}."
    if all(gain > noise for gain, noise in steps):
        return f"The claim holds: every step up in latent dimension helps. {told}"
    if any(gain < -noise for gain, noise in steps):
        return f"The claim fails: a step up in latent dimension hurts. {told}"
    return f"Undecided: a step is within two standard errors of nothing. {told}"


class Level(NamedTuple):
    """A mean over seeds with its standard error, which is nan for one seed."""

    value: float
    error: float

    def beats(self, other: "Level") -> bool:
        """Whether it is lower by more than two standard errors of the difference."""
        return other.value - self.value > 2 * (self.error**2 + other.error**2) ** 0.5


def over_seeds(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, Level]:
    """The numbers ``key`` of a sweep, a row a training with its "dim", as one level a latent dimension."""
    by_dim: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["dim"]):
        by_dim.setdefault(row["dim"], []).append(row[key])
    return {d: Level(mean(v), stdev(v) / len(v) ** 0.5 if len(v) > 1 else nan) for d, v in by_dim.items()}


def enough(levels: Mapping[int, Level]) -> int:
    """The smallest dimension that no other one beats; lower levels are better."""
    return next(d for d in sorted(levels) if not any(other.beats(levels[d]) for other in levels.values()))


def latent_sweep(measures: Mapping[str, Mapping[int, Level]], *, posts_setting: bool) -> str:
    """Claim 1 beyond 10 dimensions: "likelihood", "reconstructions" and "samples" by dimension, lower is better."""
    if not posts_setting:
        return AWAY
    if any(isnan(number) for levels in measures.values() for level in levels.values() for number in level):
        return "No verdict: it takes two seeds or more, and numbers."
    found: dict[str, list[str]] = {"holds": [], "fails": [], "is undecided": []}
    for name, levels in measures.items():
        steps = [(levels[low], levels[high]) for low, high in pairwise((2, 4, 10))]
        holds, fails = all(b.beats(a) for a, b in steps), any(a.beats(b) for a, b in steps)
        found["holds" if holds else "fails" if fails else "is undecided"].append(name)
    lists = {how: " and ".join(", ".join(names).rsplit(", ", 1)) for how, names in found.items() if names}
    told = [f"From 2 to 4 to 10 the claim {how} for {names}." for how, names in lists.items()]

    nll, samples, seen = (measures[name] for name in ("likelihood", "samples", "reconstructions"))
    stop, most = enough(nll), max(nll)
    if stop == most:
        told.append(f"The likelihood still improves at {most} dimensions, the most that were tried.")
    else:
        worse = f", and is worse at {most}" if nll[stop].beats(nll[most]) else ""
        told.append(f"The likelihood stops improving at {stop} dimensions{worse}.")
    drawn, rebuilt = enough(samples), enough(seen)
    best = f"samples are best at {drawn} dimensions, reconstructions at {rebuilt}"
    if drawn == rebuilt:
        told.append(f"Samples and reconstructions do not part: both are best at {drawn} dimensions.")
    elif samples[drawn].beats(samples[rebuilt]) and seen[rebuilt].beats(seen[drawn]):
        told.append(f"They part: {best}, and each is worse where the other is best.")
    else:
        told.append(f"Whether they part is undecided: {best}, but the difference is within two standard errors.")
    return " ".join(told)


def cifar_blur(naive: Mapping[int, float], scaled: Mapping[int, float], *, posts_setting: bool) -> str:
    """Claim 2, from the sharpness of prior samples by number of training images.

    ``naive`` is the mean of squares, ``scaled`` the sum; both are log ratios to the training images, where
    0 is right. "Blurry" is a ratio of energies under 1/4.
    """
    if not posts_setting:
        return AWAY
    if any(isnan(value) for value in (*naive.values(), *scaled.values())):
        return "No verdict: a sharpness is not a number."
    blurry = -1.386  # log(1/4)
    if max(naive.values()) >= blurry:
        return "The claim fails: with the naive loss the samples are not blurry for every number of images."
    if min(scaled.values()) >= blurry:
        return (
            "The claim holds for the naive loss, but not because the images are few: "
            "the same network on the same images is not that blurry once the loss is scaled."
        )
    if max(scaled.values()) < blurry:
        return "The claim holds, with the naive loss and with the scaled one: the scale of the loss is not the cause."
    return "The claim holds for the naive loss; for the scaled one it depends on the number of images."


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


def likelihood_table(nll: Mapping[int, float], paper: Mapping[int, float]) -> str:
    """A paper's table, from the best test NLL by number of importance samples in training, nats per image."""
    shared = sorted(set(nll) & set(paper))
    if not shared:
        return "No verdict: no training with a number of importance samples that the paper has."
    told = []
    for k in shared:
        gap = nll[k] - paper[k]
        how = "reached" if gap <= 0 else f"missed by {gap:.2f} nats"
        told.append(f"k = {k}: {nll[k]:.2f} nats, the paper's {paper[k]:.2f} is {how}.")
    return " ".join(told)
