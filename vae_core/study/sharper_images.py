"""What to do instead: a ladder from the post's recipe to better images, one change a rung."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from vae_core import quality
from vae_core.metrics import evaluate
from vae_core.model import VAE, VAEConfig
from vae_core.noise import generator, noise
from vae_core.plots.charts import Column, columns
from vae_core.plots.figures import Saved, Section, image_sections, save, save_results
from vae_core.runs import Run, fit, runs_folder
from vae_core.scores import Yardsticks, meaning
from vae_core.study.sweep import Images, Point, Row, load_sweep, yardsticks_of
from vae_core.train import TrainConfig

Rungs = Mapping[str, Row]  # the changes of the configs, by step
RUNGS: Rungs = {
    "mean of squares": {},
    "sum of squares": {"sigma": math.sqrt(1 / 2)},
    "learned sigma": {"sigma": "learned"},
    "convolution": {"architecture": "conv", "hidden": (16, 32, 64)},
    "logistic": {"likelihood": "logistic"},
    "warm-up of beta": {"beta_warmup": 1 / 3},
}
EX_POST = "ex-post density estimation"  # the last step: nothing is trained
DRAWN = 1000  # images a step, and test images, of the published ladders
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
_OF_LADDER = {
    "frechet": ("Fréchet distance of samples", "squared grey levels"),  # in 50 principal components
    "sharpness": ("sharpness of samples", "log ratio of Laplacian energy"),
    "ssim": ("SSIM of reconstructions", "1 is a copy"),
}


def recipes(images: Tensor, latent_dim: int, steps: int, seed: int, rungs: Rungs = RUNGS) -> Iterator[tuple]:
    """Each rung's name, VAEConfig and TrainConfig on uint8 ``(N, C, H, W)`` images, with all changes before it.

    It starts from a Gaussian of variance P/2 for P pixel values an image, the mean of squares. Each takes whole passes
    over the images, in batches of 16, until there are ``steps``.
    """
    shape: Any = tuple(images.shape[1:])
    n, sigma, batch = len(images), math.sqrt(math.prod(shape) / 2), min(16, len(images))
    model = VAEConfig(shape, latent_dim, hidden=(256, 128), likelihood="gaussian", sigma=sigma)
    training = TrainConfig(epochs=math.ceil(steps * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
    of_training = {field.name for field in fields(TrainConfig)}
    for step, changes in rungs.items():
        training = replace(training, **{key: changes[key] for key in changes if key in of_training})
        model = replace(model, **{key: changes[key] for key in changes if key not in of_training})
        yield step, model, training


@torch.no_grad()
def sample_ex_post(model: VAE, images: Tensor, n: int, *, components: int = 20, seed: int = 0) -> Tensor:
    """``n`` images by ex-post density estimation: decoder means, ``(n, C, H, W)``, on the CPU.

    Instead of N(0, I) a Gaussian mixture of full covariances, fitted to one posterior sample of each of the uint8
    ``images``. It is for drawing only: the ELBO stays under N(0, I). Source: Ghosh et al., arXiv 1903.12436.

    Raises:
        ValueError: for fewer images than components.
    """
    from sklearn.mixture import GaussianMixture  # here: it takes a second to import

    posteriors = [model.encode(part.to(model.output_bias) / 255) for part in images.split(1000)]
    mean, deviation = (torch.cat(parts).cpu() for parts in zip(*posteriors, strict=True))  # (N, latent_dim)
    z = mean + deviation * noise(tuple(mean.shape), seed, "mixture")
    start = int(generator(seed, "mixture start").integers(2**32))
    mixture = GaussianMixture(components, random_state=start, reg_covar=1e-4, max_iter=300, tol=1e-2)
    drawn, _ = mixture.fit(z.double().numpy()).sample(n)
    order = generator(seed, "mixture order").permutation(n)  # they come component by component
    return model.decode(torch.from_numpy(drawn[order]).to(model.output_bias)).mean.cpu()


def load(name: str, images: int, measured: int) -> Yardsticks:
    """At most so many training and test images of a set, or of its embedded stand-in, with their Fréchet distances."""
    return Yardsticks(Images(name, measured).load("test"), Images(name, images).load(), classify=False)


def train(data: Yardsticks, latent_dim: int, steps: int, seed: int, rungs: Rungs) -> dict[str, VAE]:
    """The model of each rung, by :func:`recipes`."""
    configs = recipes(data.training.images, latent_dim, steps, seed, rungs)
    return {step: fit(model, how, data.training, cache=runs_folder()).model for step, model, how in configs}


def draw(data: Yardsticks, models: Mapping[str, VAE], *, seed: int, components: int) -> dict[str, Tensor]:
    """As many images a step as there are test images, in [0, 1]: from the same z, but for the last step."""
    n, last = len(data.test.images), list(models.values())[-1]
    ex_post = sample_ex_post(last, data.training.images, n, components=components, seed=seed)
    samples = {step: model.sample(n, seed=seed) for step, model in models.items()} | {EX_POST: ex_post}
    return {step: x.clip(0, 1) for step, x in samples.items()}


def image_rows(data: Yardsticks, title: str, rows: Mapping[str, Tensor]) -> Figure:
    """The first ten test images (eight of small ones), and as many of each row, ``(N, C, H, W)``."""
    wide = 8 if data.test.images.shape[-1] < 32 else 10
    sections = [Section(name, x[:wide]) for name, x in {"test images": data.test.images / 255, **rows}.items()]
    return image_sections(f"{data.training.title}: {title}", sections, columns=wide)


def sample_figure(data: Yardsticks, samples: Mapping[str, Tensor], name: str) -> Saved:
    """Images drawn after each step, from the same z, with their Fréchet distance and sharpness."""
    rows = {}
    for step, x in samples.items():
        frechet, sharpness = data.frechet("pca", x).distance, quality.sharpness(x, data.test.images / 255)
        rows[f"{step.removesuffix(' estimation')}: Fréchet {frechet:.1f}, sharpness {sharpness:.1f}"] = x
    figure = image_rows(data, "images drawn after each step", rows)
    alt = f"Rows of generated images ({data.training.title}) after each step of the ladder. {'; '.join(rows)}."
    caption = f"Each step keeps those before it. {len(data.training.images):,} training images, one seed."
    return save(figure, f"ladder_{name}", alt=alt, caption=caption, source=data.training.source)


def ladder_row(model: VAE, drawn: Tensor, against: Yardsticks) -> Row:
    """What is measured after a step of the ladder, of the model and of images ``drawn``, ``(N, C, H, W)`` in [0, 1]."""
    test = against.test.images.float() / 255
    rebuilt, held_out = model.reconstruct(test).clip(0, 1), evaluate(model, against.test.images)
    row: Row = {key: getattr(held_out, key) for key in ("squared_error", "kl", "elbo", "elbo_error")}
    row |= {"nats": meaning(model.measure, model.config), "ssim": quality.ssim(rebuilt, test).mean().item()}
    row |= {"sharpness": quality.sharpness(drawn, test), "sharpness_reconstructed": quality.sharpness(rebuilt, test)}
    kinds: dict[str, Any] = (
        {"frechet": "pca"} if against.classifier is None else {"frechet": "pca", "frechet_classifier": "classifier"}
    )
    results = {name: against.frechet(kind, drawn) for name, kind in kinds.items()}
    return row | {k: v for name, at in results.items() for k, v in ((name, at.distance), (f"{name}_floor", at.floor))}


def _ladder(latent_dim: int, name: str, changes: Row) -> list[Point]:
    """The trainings of a published ladder: three seeds, 2,000 steps or a few more."""
    data = Images(name, 5000)._replace(**changes)
    images = data.load().images
    rungs = (rung for seed in (0, 1, 2) for rung in recipes(images, latent_dim, 2000, seed))
    return [Point({"step": step}, data, *configs) for step, *configs in rungs]


def _measure_ladder(point: Point, run: Run) -> list[Row]:
    """A row for the rung of this run, and after the last rung one for :func:`sample_ex_post`."""
    against = yardsticks_of(point.data, run.data.sha256, DRAWN)
    images, model, seed = against.training.images, run.model, run.train_config.seed
    drawn = {point.labels["step"]: model.sample(DRAWN, seed=seed)}
    if point.labels["step"] == list(RUNGS)[-1]:
        drawn[EX_POST] = sample_ex_post(model, images, DRAWN, components=min(20, len(images)), seed=seed)
    common = {"seed": seed, "training_steps": run.train_config.steps(len(images))}
    return [{"step": step} | common | ladder_row(model, x.clip(0, 1), against) for step, x in drawn.items()]


def load_published() -> dict[str, pd.DataFrame]:
    """The rows of the published ladders, by the title of their images."""
    tables = {title: pd.DataFrame(load_sweep(f"ladder_{name}").rows) for name, title in TITLES.items()}
    return {title: table.replace({"step": {"mixture for z": EX_POST}}) for title, table in tables.items()}


def score_figure(published: Mapping[str, pd.DataFrame], source: str) -> Saved:
    """Means over the seeds after each step, with standard errors; they are saved as the notebook's claims."""
    parts, claims, words = {}, [], []
    for name, title in TITLES.items():
        rows, floor = published[title], published[title].frechet_floor.mean()
        by_step = rows.groupby("step", sort=False)[list(_OF_LADDER)]
        mean, error = by_step.mean(), by_step.sem().fillna(0)
        parts[title] = [
            Column("Fréchet\ndistance", mean.frechet, error.frechet, floor, f"floor {floor:.1f}", log=True, digits=1),
            Column("sharpness\nof samples", mean.sharpness, error.sharpness, 0, "data 0"),
            Column("SSIM of\nreconstructions", mean.ssim, error.ssim, 1, "copy 1"),
        ]
        common = {"seeds": rows.seed.nunique(), "images": DRAWN, "source": f"sweep_ladder_{name}"}
        for key, (what, unit) in _OF_LADDER.items():
            table = pd.DataFrame({"claim": f"{what}, {title}, " + mean.index, "value": mean[key], "unit": unit})
            claims += table.assign(standard_error=error[key], **common).to_dict("records")
        numbers = ", ".join(f"{at.Index} {at.frechet:.1f} and {at.sharpness:.1f}" for at in mean.itertuples())
        words.append(f"{title}, Fréchet distance and sharpness of samples: {numbers}.")
    save_results("04_sharper_images", claims)
    figure = columns("What each step buys", [step.removesuffix(" estimation") for step in mean.index], parts)
    alt = f"Dots along the steps of both ladders. {' '.join(words)}"
    caption = "Means over the seeds, bars of one standard error. Each step keeps those before it."
    return save(figure, "ladder_scores", alt=alt, caption=caption, source=source, svg=True)


class Gain(NamedTuple):
    """What a step buys, in a measure whose ideal is 0."""

    nearer: float  # by how much it comes nearer to 0, mean over the seeds
    half_width: float  # of the 95% interval of that mean, by Student's t
    decision: Literal["helps", "hurts", "undecided"]  # the last where the interval holds 0


def gains(rows: pd.DataFrame, measure: str) -> dict[str, Gain]:
    """What each step but the first buys, from a row a step and seed; a seed is held against itself."""
    seeds = {step: of_step.set_index("seed")[measure].abs() for step, of_step in rows.groupby("step", sort=False)}
    found = {}
    for last, step in pairwise(seeds):
        nearer = seeds[last] - seeds[step]
        mean, known = nearer.mean(), math.isfinite(nearer.sum(skipna=False))
        half_width = stats.t.ppf(0.975, len(nearer) - 1) * nearer.sem() if known else math.nan
        certain = abs(mean) > half_width
        found[step] = Gain(
            float(mean), float(half_width), "undecided" if not certain else "helps" if mean > 0 else "hurts"
        )
    return found


def verdict(published: Mapping[str, pd.DataFrame], measure: str) -> pd.DataFrame:
    """The :class:`Gain` of each step on both ladders in ``frechet`` or ``sharpness``."""
    of = {title: pd.DataFrame(gains(rows, measure), Gain._fields).T for title, rows in published.items()}
    return pd.concat(of, axis=1).infer_objects().round(2)
