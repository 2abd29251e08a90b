"""What the measurements say of the post's claims: pure functions of numbers, sentences out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite, isnan, nan, sqrt
from statistics import fmean, stdev
from typing import Any, NamedTuple

AWAY = "Not the post's setting: no verdict."
T95 = (12.7, 4.3, 3.2, 2.8, 2.6, 2.4, 2.4, 2.3)  # Student's: standard errors that hold 95%, from 1 degree of freedom on


def _t95(freedom: int) -> float:
    return T95[min(freedom, len(T95)) - 1]


def latent_dimension(elbo: Mapping[int, float], error: Mapping[int, float], *, posts_setting: bool) -> str:
    """Claim 1, from the mean test ELBO and its standard error by latent dimension, nats per image."""
    if not posts_setting:
        return AWAY
    dims = sorted(elbo)
    if len(dims) < 2:
        return "No verdict: it takes two latent dimensions to compare."
    if not all(map(isfinite, (*elbo.values(), *error.values()))):
        return "No verdict: a number is not finite."
    steps = [(elbo[high] - elbo[low], 2 * (error[low] ** 2 + error[high] ** 2) ** 0.5) for low, high in pairwise(dims)]
    told = f"The test ELBO goes {', '.join(f'{elbo[d]:.1f}' for d in dims)} nats at {', '.join(map(str, dims))}."
    if all(gain > noise for gain, noise in steps):
        return f"The claim holds: every step up in latent dimension helps. {told}"
    if any(gain < -noise for gain, noise in steps):
        return f"The claim fails: a step up in latent dimension hurts. {told}"
    return f"Undecided: for at least one step chance may be all. {told}"


class Level(NamedTuple):
    """A mean over seeds with its standard error, which is nan for one seed."""

    value: float
    error: float
    seeds: int

    def beats(self, other: "Level") -> bool:
        """Whether it is lower by more than chance: the 95% interval of the difference leaves out 0."""
        t = _t95(self.seeds + other.seeds - 2) if self.seeds > 1 else nan
        return other.value - self.value > t * (self.error**2 + other.error**2) ** 0.5


def over_seeds(rows: Sequence[Mapping[str, Any]], key: str) -> dict[int, Level]:
    """The numbers ``key`` of a sweep, a row a training with its "dim", as one level a latent dimension."""
    by_dim: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: row["dim"]):
        by_dim.setdefault(row["dim"], []).append(row[key])
    return {d: Level(fmean(v), stdev(v) / len(v) ** 0.5 if len(v) > 1 else nan, len(v)) for d, v in by_dim.items()}


def enough(levels: Mapping[int, Level]) -> int:
    """The smallest dimension that no other one beats; lower levels are better."""
    return next(d for d in sorted(levels) if not any(other.beats(levels[d]) for other in levels.values()))


def latent_sweep(measures: Mapping[str, Mapping[int, Level]], *, posts_setting: bool) -> str:
    """Claim 1 beyond 10 dimensions: "likelihood", "reconstructions" and "samples" by dimension, lower is better.

    "rebuilt", if there, is the samples' measure taken of reconstructions.
    """
    if not posts_setting:
        return AWAY
    if any(isnan(number) for levels in measures.values() for level in levels.values() for number in level):
        return "No verdict: it takes two seeds or more, and numbers."
    found: dict[str, list[str]] = {"holds": [], "fails": [], "is undecided": []}
    for name, levels in measures.items():
        if name == "rebuilt":
            continue
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
        worse = f", and {most} are worse" if nll[stop].beats(nll[most]) else ""
        told.append(f"Beyond chance no likelihood beats that of {stop} dimensions{worse}.")
    drawn, rebuilt = enough(samples), enough(seen)
    best = f"beyond chance none beats {drawn} dimensions for samples, and {rebuilt} for reconstructions"
    if drawn == rebuilt:
        told.append(f"Samples and reconstructions do not part: beyond chance none beats {drawn} dimensions for either.")
    elif samples[drawn].beats(samples[rebuilt]) and seen[rebuilt].beats(seen[drawn]):
        told.append(f"They part: {best}, and each is worse at the other's.")
    else:
        told.append(f"Whether they part is undecided: {best}, but the difference may be chance.")
    if rebuilt_too := measures.get("rebuilt"):
        times = [f"{samples[d].value / rebuilt_too[d].value:.1f} at {d}" for d in sorted({2, 10, drawn})]
        told.append(f"The distance of samples over that of reconstructions: {', '.join(times)}.")
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
        return "The claim fails: with the naive loss the samples are not blurry for at least one number of images."
    if min(scaled.values()) >= blurry:
        return (
            "The claim holds for the naive loss, but not because the images are few: "
            "the same network on the same images is not that blurry once the loss is scaled."
        )
    if max(scaled.values()) < blurry:
        return "The claim holds, with the naive loss and with the scaled one: the scale alone does not undo the blur."
    return "The claim holds for the naive loss; for the scaled one it depends on the number of images."


class Part(NamedTuple):
    """What one change does to the sharpness of images, nats of log energy: above 0 it sharpens."""

    value: float  # mean over the settings in which it was made with all else the same
    error: float  # its standard error: by chance, or by how far the settings differ, whichever is larger
    low: float  # the least and the most over those settings
    high: float

    def __str__(self) -> str:
        ranging = f", {self.low:+.2f} to {self.high:+.2f} by setting" if self.low < self.high else ""
        return f"{self.value:+.2f} ± {self.error:.2f} nats{ranging}"


SCALED = "sum of squares"  # where one change is made between others, it is made at this loss
CHANGES: dict[str, tuple[str, Any, Any]] = {
    "scale of the loss": ("loss", "mean of squares", SCALED),
    "learned width": ("loss", SCALED, "learned sigma"),  # scale again
    "shape of the error": ("loss", "learned sigma", "logistic"),  # both at a width of their own
    "architecture": ("architecture", "mlp", "conv"),
    "number of images": ("images", min, max),
}


def repeated(rows: Sequence[Mapping[str, Any]], value: str) -> tuple[dict[tuple, list[float]], float]:
    """The ``value`` of each training by images, loss and architecture, and its variance among repetitions.

    The variance, nan where nothing is repeated, is pooled over all that is: it stands for the chance in every setting.
    """
    cells: dict[tuple, list[float]] = {}
    for row in rows:
        cells.setdefault((row["images"], row["loss"], row["architecture"]), []).append(row[value])
    squares = sum((one - sum(found) / len(found)) ** 2 for found in cells.values() for one in found)
    free = len(rows) - len(cells)
    return cells, squares / free if free else nan


def blur_parts(rows: Sequence[Mapping[str, Any]], value: str) -> dict[str, Part]:
    """What each of ``CHANGES`` does to the column ``value``, a sharpness, by its name; a row is a training."""
    cells, variance = repeated(rows, value)
    means = {key: sum(found) / len(found) for key, found in cells.items()}
    parts = {}
    for name, (column, *ends) in CHANGES.items():
        at = ("images", "loss", "architecture").index(column)
        before, after = (end(key[at] for key in cells) if callable(end) else end for end in ends)
        starts = [key for key in cells if key[at] == before and (column == "loss" or key[1] == SCALED)]
        pairs = [(a, b) for a in starts if (b := (*a[:at], after, *a[at + 1 :])) in cells and a != b]
        if pairs:
            gains = [means[b] - means[a] for a, b in pairs]
            shares = [1 / len(cells[a]) + 1 / len(cells[b]) for a, b in pairs]
            chance = sqrt(variance * sum(shares)) / len(pairs)
            unlike = stdev(gains) / sqrt(len(pairs)) if len(pairs) > 1 else 0.0
            parts[name] = Part(sum(gains) / len(gains), max(chance, unlike), min(gains), max(gains))
    return parts


def blur_sources(parts: Mapping[str, Part], *, posts_setting: bool) -> str:
    """What the blur of claim 2 comes from, by the ``parts`` of :func:`blur_parts` for generated images."""
    if not posts_setting:
        return AWAY
    if set(parts) != set(CHANGES) or any(isnan(number) for part in parts.values() for number in part):
        return "No verdict: a change was not made, or nothing was repeated, so that chance is unknown."
    scale, images = parts["scale of the loss"], parts["number of images"]
    others = [name for name in CHANGES if name not in ("scale of the loss", "learned width")]
    rivals = [name for name in others if parts[name].value > 2 * parts[name].error]  # what sharpens could be a remedy
    if scale.value <= 2 * scale.error:
        told = [f"The scale of the loss is no cause of the blur ({scale})."]
    elif not rivals:
        told = [
            f"Of the suspects only the scale of the loss is shown to blur: its sum instead of its mean gives {scale}."
        ]
    else:
        name = max(rivals, key=lambda rival: parts[rival].value)
        lead, noise = scale.value - parts[name].value, 2 * sqrt(scale.error**2 + parts[name].error ** 2)
        how = "no larger for certain than" if abs(lead) <= noise else "larger than" if lead > 0 else "smaller than"
        told = [f"The scale of the loss is a part of the blur ({scale}), {how} the {name} ({parts[name]})."]
    if abs(images.value) <= 2 * images.error:
        told.append(f"The number of images makes no difference beyond chance ({images}).")
    elif images.value > 0:
        told.append(f"More images make samples sharper ({images}): scarcity is a cause.")
    else:
        told.append(f"More images make samples blurrier, not sharper ({images}): scarcity is not the cause.")
    changes = {
        "learned width": "A learned width, which is scale again,",
        "shape of the error": "Another error than squares, each at a width of its own,",
        "architecture": "The convolutional network",
    }
    for change, words in changes.items():
        part = parts[change]
        way = "sharpens" if part.value > 0 else "blurs"
        way += " on average, not everywhere" if part.low < 0 < part.high else ""
        if abs(part.value) <= 2 * part.error:
            both = min(-part.low, part.high) > 2 * part.error
            way = "sharpens in some settings and blurs in others" if both else "changes nothing beyond chance"
        told.append(f"{words} {way} ({part}).")
    return " ".join(told)


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
        unsure = abs(falls[step]) <= _t95(len(each) - 1) * stdev(each) / len(each) ** 0.5
        bought["nothing" if unsure else "helped" if falls[step] > 0 else "hurt"].append(step)
    first, *_, last = (fmean(values) for values in scores.values())
    told = [f"{what} goes from {first:.2f} to {last:.2f}."]
    best = max(bought["helped"], key=lambda step: falls[step], default="")
    told.append(
        f"Of the certain steps {best} bought the most ({falls[best]:+.2f})." if best else "No step helped for certain."
    )
    for key, words in (("helped", "Helped too"), ("nothing", "Undecided"), ("hurt", "Hurt")):
        named = [f"{step} ({falls[step]:+.2f})" for step in bought[key] if step != best]
        told += [f"{words}: {', '.join(named)}."] if named else []
    return " ".join(told)
