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
from vae_core.data import ImageSet
from vae_core.latent import kl_by_dimension, traverse
from vae_core.metrics import evaluate
from vae_core.model import VAE, VAEConfig
from vae_core.noise import generator, noise
from vae_core.plots.charts import Column, columns
from vae_core.plots.figures import Saved, Section, image_sections, save, save_results
from vae_core.runs import Run, fit, runs_folder
from vae_core.scores import Yardsticks, meaning
from vae_core.study.sweep import Images, Point, Row, load_sweep, yardsticks_of
from vae_core.train import TrainConfig

RUNGS: dict[str, Row] = {
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


def recipes(
    images: Tensor, latent_dim: int, *, steps: int, seed: int, rungs: Mapping[str, Row] = RUNGS
) -> Iterator[tuple[str, VAEConfig, TrainConfig]]:
    """Each rung's name and configs on uint8 ``(N, C, H, W)`` images, with the changes of all rungs before it.

    It starts from the mean of squares: a Gaussian of variance P/2 for P pixel values an image. All rungs take as many
    whole passes over the images, in batches of 16, as ``steps`` need.
    """
    shape: Any = tuple(images.shape[1:])
    n, sigma, batch = len(images), math.sqrt(math.prod(shape) / 2), min(16, len(images))
    model = VAEConfig(shape, latent_dim, hidden=(256, 128), likelihood="gaussian", sigma=sigma)
    training = TrainConfig(epochs=math.ceil(steps * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
    of_training = {field.name for field in fields(TrainConfig)}
    for step, change in rungs.items():
        training = replace(training, **{key: value for key, value in change.items() if key in of_training})
        model = replace(model, **{key: value for key, value in change.items() if key not in of_training})
        yield step, model, training


@torch.no_grad()
def sample_ex_post(model: VAE, images: Tensor, n: int, *, components: int = 20, seed: int = 0) -> Tensor:
    """``n`` images by ex-post density estimation instead of from N(0, I): decoder means, ``(n, C, H, W)``, on the CPU.

    A Gaussian mixture of full covariances is fitted to one posterior sample of each of the uint8 ``images``, which
    follow the aggregated posterior. It is another model of z, for drawing only: the ELBO stays under N(0, I). Source:
    Ghosh et al., arXiv 1903.12436.

    Raises:
        ValueError: for fewer images than components.
    """
    from sklearn.mixture import GaussianMixture  # here: it takes a second to import

    if len(images) < components:
        raise ValueError(f"a mixture of {components} components needs as many images, not {len(images)}")
    posteriors = [model.encode(part.to(model.output_bias) / 255) for part in images.split(1000)]
    mean, deviation = (torch.cat(parts).cpu() for parts in zip(*posteriors, strict=True))  # (N, latent_dim)
    z = mean + deviation * noise(tuple(mean.shape), seed, "mixture")
    start = int(generator(seed, "mixture start").integers(2**32))
    mixture = GaussianMixture(components, random_state=start, reg_covar=1e-4, max_iter=300, tol=1e-2)
    drawn, _ = mixture.fit(z.double().numpy()).sample(n)
    order = generator(seed, "mixture order").permutation(n)  # they come component by component
    return model.decode(torch.from_numpy(drawn[order]).to(model.output_bias)).mean.cpu()


class Step(NamedTuple):
    """A trained model and what it draws."""

    model: VAE
    samples: Tensor  # (N, C, H, W) in [0, 1], of the same z from N(0, I) at every step but the last
    frechet: float  # in 50 principal components
    sharpness: float  # 0 is right, below is blur

    def __str__(self) -> str:
        return f"Fréchet {self.frechet:.1f}, sharpness {self.sharpness:.1f}"


def load(name: str, images: int, measured: int) -> Yardsticks:
    """At most so many training and test images of a set, or of its embedded stand-in, and what measures samples."""
    return Yardsticks(Images(name, measured).load("test"), Images(name, images).load(), classify=False)


def climb(
    data: Yardsticks, latent_dim: int, *, steps: int, seed: int, rungs: Mapping[str, Row] = RUNGS, components: int = 20
) -> dict[str, Step]:
    """Train a model a rung, by :func:`recipes`, and measure as many samples of each as there are test images.

    The last step draws from the last model by :func:`sample_ex_post`.
    """
    images, n, test = data.training.images, len(data.test.images), data.test.images.float() / 255
    drawn: dict[str, tuple[VAE, Tensor]] = {}
    for step, *configs in recipes(images, latent_dim, steps=steps, seed=seed, rungs=rungs):
        model = fit(*configs, data.training, cache=runs_folder()).model
        drawn[step] = model, model.sample(n, seed=seed).clip(0, 1)
    drawn[EX_POST] = model, sample_ex_post(model, images, n, components=components, seed=seed).clip(0, 1)
    frechet = {step: data.frechet("pca", x).distance for step, (_, x) in drawn.items()}
    return {step: Step(*both, frechet[step], quality.sharpness(both[1], test)) for step, both in drawn.items()}


def image_rows(data: Yardsticks, title: str, rows: Mapping[str, Tensor]) -> Figure:
    """The first ten test images (eight of large ones) and under them as many of each row, ``(N, C, H, W)``."""
    wide = 8 if data.test.images.shape[-1] < 32 else 10
    sections = [
        Section(name, x[:wide].clip(0, 1)) for name, x in {"test images": data.test.images / 255, **rows}.items()
    ]
    return image_sections(f"{data.training.title}: {title}", sections, columns=wide)


def sample_figure(data: Yardsticks, steps: Mapping[str, Step], name: str) -> Saved:
    """Images drawn after each step, from the same z."""
    figure = image_rows(
        data, "images drawn after each step", {f"{step}: {at}": at.samples for step, at in steps.items()}
    )
    words, n = "; ".join(f"{step}: {at}" for step, at in steps.items()), len(data.training.images)
    alt = f"Rows of generated images ({data.training.title}) after each step of the ladder. {words}."
    caption = f"Each step keeps those before it. {n:,} training images, one seed."
    return save(figure, f"ladder_{name}", alt=alt, caption=caption, source=data.training.source)


def traversals(model: VAE, images: ImageSet, name: str, *, title: str, caption: str, dimensions: int) -> Saved:
    """What the most used dimensions draw, one at a time, from -2 to 2, all others 0."""
    used = kl_by_dimension(model, images.images[:2000]).argsort(descending=True)[:dimensions].tolist()
    walk = traverse(model, used, torch.linspace(-2, 2, 8))
    rows = [Section(f"z[{i}], all others 0", row) for i, row in zip(used, walk, strict=True)]
    alt = f"Rows of eight images: along each row one latent dimension of {used} goes from -2 to 2."
    return save(image_sections(title, rows), name, alt=alt, caption=caption, source=images.source)


def ladder_row(model: VAE, drawn: Tensor, against: Yardsticks) -> Row:
    """What is measured after a step of the ladder, of the model and of images ``drawn``, ``(N, C, H, W)`` in [0, 1]."""
    test = against.test.images.float() / 255
    rebuilt, held_out = model.reconstruct(test).clip(0, 1), evaluate(model, against.test.images)
    row: Row = {key: getattr(held_out, key) for key in ("squared_error", "kl", "elbo", "elbo_error")}
    row |= {"nats": meaning(model.measure, model.config), "ssim": quality.ssim(rebuilt, test).mean().item()}
    row |= {"sharpness": quality.sharpness(drawn, test), "sharpness_reconstructed": quality.sharpness(rebuilt, test)}
    for kind, name in {"pca": "frechet", "classifier": "frechet_classifier"}.items():
        if kind == "pca" or against.classifier is not None:
            result = against.frechet(kind, drawn)
            row |= {name: result.distance, f"{name}_floor": result.floor}
    return row


def _ladder(latent_dim: int, name: str, changes: Row) -> list[Point]:
    """The trainings of a published ladder: three seeds, 2,000 steps or a few more."""
    data = Images(name, 5000)._replace(**changes)
    images = data.load().images
    climbs = [recipes(images, latent_dim, steps=2000, seed=seed) for seed in (0, 1, 2)]
    return [Point({"step": step}, data, *configs) for climb in climbs for step, *configs in climb]


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


def likelihoods(published: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds of what the likelihood decides, by step; ELBO and KL in nats per image."""
    by_step = published.groupby("step", sort=False)
    means = by_step.agg({"elbo": "mean", "kl": "mean", "squared_error": "mean", "nats": "first"})
    return means.rename(columns={"nats": "the ELBO is a"}).round(3)


def score_figure(published: Mapping[str, pd.DataFrame], source: str) -> Saved:
    """Means over the seeds after each step, with standard errors; they are saved as the notebook's claims."""
    parts, claims, words = {}, [], []
    for name, title in TITLES.items():
        by_step, floor = published[title].groupby("step", sort=False), published[title]["frechet_floor"].mean()
        mean, error = by_step[list(_OF_LADDER)].mean(), by_step[list(_OF_LADDER)].sem().fillna(0)
        parts[title] = [
            Column("Fréchet\ndistance", mean.frechet, error.frechet, floor, f"floor {floor:.1f}", log=True, digits=1),
            Column("sharpness\nof samples", mean.sharpness, error.sharpness, 0, "data 0"),
            Column("SSIM of\nreconstructions", mean.ssim, error.ssim, 1, "copy 1"),
        ]
        common = {"seeds": published[title].seed.nunique(), "images": DRAWN, "source": f"sweep_ladder_{name}"}
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
    half_width: float  # of the 95% interval of that mean, by Student's t; nan for one seed
    decision: Literal["helps", "hurts", "undecided"]  # the last where the interval holds 0


def gain(before: pd.Series, after: pd.Series) -> Gain:
    """What a step buys, from a number a seed before and after it: those of a seed are held against each other."""
    nearer = before.abs() - after.abs()
    mean, half_width = nearer.mean(), stats.t.ppf(0.975, nearer.count() - 1) * nearer.sem()
    certain = abs(mean) > half_width
    return Gain(float(mean), float(half_width), "undecided" if not certain else "helps" if mean > 0 else "hurts")


def verdict(published: Mapping[str, pd.DataFrame], measure: str) -> pd.DataFrame:
    """The :class:`Gain` of every step but the first on each ladder, in ``frechet`` or ``sharpness``."""
    parts = {}
    for title, table in published.items():
        seeds = {step: rows.set_index("seed")[measure] for step, rows in table.groupby("step", sort=False)}
        gains = [gain(seeds[last], seeds[step]) for last, step in pairwise(seeds)]
        parts[title] = pd.DataFrame(gains, index=list(seeds)[1:])
    return pd.concat(parts, axis=1).round(2)
