"""What the measurements say of the post's claims: pure functions of numbers, sentences out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, isnan
from statistics import fmean, stdev

AWAY = "Not the post's setting: no verdict."
T95 = {2: 12.7, 3: 4.3, 4: 3.2, 5: 2.8}  # Student's: standard errors of a mean of so many that hold 95%


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


def ladder(scores: Mapping[str, Sequence[float]], what: str, *, posts_setting: bool) -> str:
    """Which step of a ladder bought the most and which bought nothing or hurt.

    ``scores`` is, for each step in order, a distance from the ideal, 0 or more, a number a seed, the same seeds at
    every step: what a step bought is the mean fall over the seeds. Its sign counts as known where the 95% interval
    of that mean leaves out 0.
    """
    if not posts_setting:
        return AWAY
    seeds = {len(values) for values in scores.values()}
    if len(scores) < 2 or len(seeds) != 1 or min(seeds) < 2:
        return "No verdict: it takes two steps, and two seeds of each."
    if not all(isfinite(value) for values in scores.values() for value in values):
        return "No verdict: a score is not a number."
    bought: dict[str, list[str]] = {"helped": [], "nothing": [], "hurt": []}
    falls: dict[str, float] = {}
    for (_, before), (step, after) in pairwise(scores.items()):
        each = [b - a for b, a in zip(before, after, strict=True)]
        falls[step] = fmean(each)
        unsure = abs(falls[step]) <= T95.get(len(each), 2.6) * stdev(each) / len(each) ** 0.5
        bought["nothing" if unsure else "helped" if falls[step] > 0 else "hurt"].append(step)
    first, *_, last = (fmean(values) for values in scores.values())
    told = [f"{what} goes from {first:.2f} to {last:.2f}."]
    if not bought["helped"]:
        return f"{told[0]} No step bought anything that {max(seeds)} seeds can tell."
    best = max(bought["helped"], key=lambda step: falls[step])
    told.append(f"Most was bought by: {best} ({falls[best]:+.2f}).")
    for key, words in (("helped", "Helped too"), ("nothing", "Nothing that the seeds can tell"), ("hurt", "Hurt")):
        named = [f"{step} ({falls[step]:+.2f})" for step in bought[key] if step != best]
        told += [f"{words}: {', '.join(named)}."] if named else []
    return " ".join(told)
