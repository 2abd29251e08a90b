"""A table of Burda et al. (arXiv 1509.00519): how near this package comes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from vae_core.data import ImageSet
from vae_core.files import read_json
from vae_core.latent import kl_by_dimension, traverse
from vae_core.metrics import Mean
from vae_core.model import VAE, VAEConfig
from vae_core.plots.charts import Dot, curve, dots
from vae_core.plots.figures import Saved, Section, image_sections, save, save_results
from vae_core.runs import fit, runs_folder
from vae_core.train import TrainConfig

PAPER = {1: 86.76, 5: 85.54, 50: 84.78}  # table 1, NLL on binarised MNIST, by importance samples in training
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "burda_table.json"


def recipe(images: Tensor, epochs: int, **changes: Any) -> tuple[VAEConfig, TrainConfig]:
    """The paper's model of one stochastic layer, and our training of it on ``images``, ``(N, C, H, W)``."""
    shape: Any = tuple(images.shape[1:])
    model = VAEConfig(shape, 50, (200, 200), activation="tanh", output_bias="data_mean", binarisation="dynamic")
    training = TrainConfig(epochs=epochs, batch_size=min(200, len(images)), learning_rate=4e-3, warmup=0.01)
    return model, replace(training, **changes)


def train(images: ImageSet, epochs: int, *, seed: int) -> VAE:
    """A model by :func:`recipe`."""
    return fit(*recipe(images.images, epochs, seed=seed), images, cache=runs_folder()).model


def bound_figure(bounds: Mapping[int, Mean], images: ImageSet) -> Saved:
    """The NLL that importance-weighted bounds give, by their number of samples."""
    nlls = [-bound.value for bound in bounds.values()]
    figure = curve("The same weights, more samples", list(bounds), nlls, across="samples an image", up="NLL (nats)")
    alt = f"A line of the estimated NLL against samples an image: {', '.join(f'{nll:.1f}' for nll in nlls)} nats."
    caption = f"NLL of {len(images.images):,} binarised test images, the same for each point."
    return save(figure, "bound_samples", alt=alt, caption=caption, source=images.source, svg=True)


def traversals(model: VAE, images: ImageSet, name: str, *, title: str, dimensions: int, steps: int = 8) -> Saved:
    """What the most used dimensions draw, one at a time, from -2 to 2, all others 0."""
    used = kl_by_dimension(model, images.images[:2000]).argsort(descending=True)[:dimensions].tolist()
    walk = traverse(model, used, torch.linspace(-2, 2, steps))
    rows = [Section(f"z[{i}], all others 0", row) for i, row in zip(used, walk, strict=True)]
    alt = f"Rows of {steps} images: along each row one latent dimension of {used} goes from -2 to 2."
    figure, caption = image_sections(title, rows, columns=steps), "What single dimensions draw."
    return save(figure, name, alt=alt, caption=caption, source=images.source)


def load_results() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``benchmarks/burda_table.py`` recorded, best first: of test images, and of held-out training images."""
    table = pd.DataFrame([row | row["train"] for row in read_json(RESULTS)["rows"]]).sort_values("nll")
    heads = {"importance_samples": "k", "nll_standard_error": "error", "training_minutes": "minutes"}
    table = table.rename(columns=heads)
    of_test = table["measured_on"].str.contains("test")
    return table[of_test].reset_index(drop=True), table[~of_test].reset_index(drop=True)


def table_figure(results: pd.DataFrame, source: str) -> Saved:
    """The paper's NLL and ours of test images, which are saved as the notebook's claims."""
    rows = [Dot(f"paper, k = {k}", nll, 1) for k, nll in PAPER.items()]
    rows += [Dot(f"ours, k = {at.k}, {at.minutes:.0f} min", at.nll) for at in results[::-1].itertuples()]
    claims = pd.DataFrame({"claim": [f"test NLL, k = {at.k}, {at.epochs} epochs" for at in results.itertuples()]})
    claims = claims.assign(
        value=results.nll, unit="nats per image (dynamic binarisation)", standard_error=results.error
    )
    claims = claims.assign(seeds=1, images=10000, source="mnist: benchmarks/burda_table.py")
    save_results("05_likelihood_table", claims.to_dict("records"))
    alt = f"Dots on one axis: {', '.join(f'{row.name}: {row.value:.2f} nats' for row in rows)}."
    caption = "Test NLL from 5,000 importance samples of 10,000 images. Paper: Burda et al., arXiv 1509.00519, table 1."
    figure = dots("Test NLL of binarised MNIST", rows, label="nats per image; lower is better")
    return save(figure, "likelihood_table", alt=alt, caption=caption, source=source, svg=True)


def verdict(results: pd.DataFrame) -> pd.DataFrame:
    """The best NLL beside the paper's, nats per image, for every ``k`` of its table that ``results`` have."""
    best = results.groupby("k")["nll"].min().filter(list(PAPER)).rename_axis("k").reset_index()
    paper = best["k"].map(PAPER)
    return best.assign(paper=paper, gap=best["nll"] - paper, reached=best["nll"] <= paper).round(2)
