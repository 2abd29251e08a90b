"""The figures of notebook 03, drawn, described and saved; and its numbers on record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from vae_core.data import ImageSet
from vae_core.latent import traverse
from vae_core.model import VAE
from vae_core.plots.charts import Spread, frame, lines, spreads
from vae_core.plots.figures import COLOURS, DPI, Saved, Section, image_sections, save, save_results, styled, to_pixels
from vae_core.study.batch_average import Trained, floats, optimum, place, theory

MARKS = {"both": ("o", COLOURS[0], "both images in every step"), "in turn": ("^", COLOURS[1], "one image a step")}
Samples = Mapping[str, Sequence[Tensor]]  # of each kind of model 1,000 images a pair: before training, then by loss


def post_panel(drawn: ImageSet, samples: Samples, pair: int) -> Saved:
    """The post's row for the ``pair``, from 1: one generated with the first loss; and more ``samples`` of each loss."""
    images, losses = drawn.images.split(2)[pair - 1], list(samples)[1:]
    first, second = floats(images)
    row = torch.stack([samples[losses[0]][pair - 1][0], first, second, (first + second) / 2])
    names = ("generated", "image A", "image B", "their mean")
    sections = [Section(f"One batch of two images, pair {pair}", row, names)]
    sections += [Section(f"More generated, {loss}", samples[loss][pair - 1][1:9]) for loss in losses]
    shares = [f"{place(samples[loss][pair - 1], images).share_at_mean():.1%} with the {loss}" for loss in losses]
    alt = (
        "First row: a generated image, image A, image B and their mean. Below: eight more generated images for each "
        f"loss. At the mean are, of 1,000 generated images, {', '.join(shares)}."
    )
    figure = image_sections(f"{drawn.title}: trained on two images", sections, columns=4)
    caption = f"{drawn.title}, pair {pair}: samples from the prior."
    return save(figure, f"batch_average_{pair}", alt=alt, caption=caption, source=drawn.source)


def distances(drawn: ImageSet, samples: Samples) -> Saved:
    """How far 1,000 samples of each kind of model fall from the average."""
    rows = [
        Spread(f"pair {k}, {kind.replace(' training', '')}", place(generated, pair).ratio.numpy(), colour)
        for colour, (kind, each) in enumerate(samples.items())
        for k, (generated, pair) in enumerate(zip(each, drawn.images.split(2), strict=False), start=1)
    ]
    title, label = f"How far {drawn.title} samples fall from the average", "distance to mean / to nearer image"
    figure = spreads(title, rows, mark=0.1, mark_label="the average", label=label)
    medians = "; ".join(f"{row.name} {np.median(row.values):.2g}" for row in rows)
    alt = f"Squared distance to the mean over that to the nearer image, on a log axis. Medians: {medians}."
    caption = "1,000 prior samples a row: median and the middle 90%."
    return save(figure, "batch_average_distances", alt=alt, caption=caption, source=drawn.source, svg=True)


def why_they_collapse(source: str) -> Saved:
    """g(p), whose mean the loss makes large, for kappas around 1."""
    p = np.linspace(0.001, 0.999, 400)
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    curves = [(f"kappa {kappa:g}", p, entropy - 2 * kappa * p * (1 - p)) for kappa in (0.5, 1, 1.5, 2)]
    figure = lines("A hill up to kappa 1, then a dent", curves, across="p: how surely z is image A", up="g(p), nats")
    alt = "Four curves of g over p from 0 to 1: one hill for kappa 0.5 and 1, two humps with a dent for 1.5 and 2."
    caption = "g(p) = h(p) - 2 kappa p (1 - p). The loss is log 2 less the mean of g, and the mean of p is 1/2."
    return save(figure, "why_they_collapse", alt=alt, caption=caption, source=source, svg=True)


def between_two_images(trained: Sequence[Trained], source: str) -> Saved:
    """Histograms of where 1,000 samples of every model fall between its two images, a row a kappa, with the theory."""
    kappas = sorted({run.kappa for run in trained})
    t, edges = np.linspace(-0.999, 0.999, 201), np.linspace(-1.2, 1.2, 61)
    with styled():
        figure, axes = frame("Where generated images fall", 74 * len(kappas) + 20, left=0.16, right=0.27)
        for base, kappa in zip(range(0, -len(kappas), -1), kappas, strict=True):
            places = [place(run.model.sample(1000, seed=run.seed), run.images) for run in trained if run.kappa == kappa]
            along, off = (torch.cat(column).numpy() for column in zip(*places, strict=True))
            counts, _ = np.histogram(along, edges, density=True)
            bars, ideal = counts / counts.max(), np.minimum(optimum(kappa).density(t) / counts.max(), 1)
            axes.fill_between(edges[:-1], base, base + 0.8 * bars, step="post", color=COLOURS[0], alpha=0.5)
            axes.plot(t, base + 0.8 * ideal, color="black", linewidth=1.5)
            axes.annotate(f"{np.median(off):.3f} off the line", (1.27, base + 0.12), annotation_clip=False)
            axes.axhline(base, color="grey", linewidth=0.8)
        axes.set(xlim=(-1.2, 1.2), ylim=(0.9 - len(kappas), 1), xlabel="bars: samples; line: theory")
        axes.set_yticks([0.15 - row for row in range(len(kappas))], [f"kappa {kappa:g}" for kappa in kappas])
        axes.set_xticks([-1, 0, 1], ["image A", "their mean", "image B"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    alt = (
        f"Histograms of the place of samples of {len(trained)} models between image A and image B, a row a kappa: one "
        "peak at the mean below kappa 1, a spread from one image to the other, and beyond, above."
    )
    caption = "All pairs and seeds, 1,000 prior samples a model; off the line in halves of D, median."
    return save(figure, "between_two_images", alt=alt, caption=caption, source=source, svg=True)


def phase_diagram(
    runs: pd.DataFrame, line: pd.DataFrame, ratios: pd.DataFrame, trained: Sequence[Trained], source: str
) -> Saved:
    """Mutual information against kappa: ``runs`` large, those on a ``line`` small, the theory, and images.

    The images are those of the first pair and seed of ``trained``, at 15% and 85% of their order from A to B.
    """
    nodes, curve = theory()
    with styled():
        figure, axes = frame("How much a model encodes of two images", 400, left=0.13, foot=290)
        axes.plot([0.07, *nodes], [0, *curve], color="black", linewidth=1.5, zorder=1)
        for size, table in ((3, line), (9, runs)):
            for (rule, converged), group in table.groupby(["rule", "converged"]):
                marker, colour, _ = MARKS[rule]
                look: Any = {"markersize": size, "alpha": 0.75, "fillstyle": "full" if converged else "none"}
                axes.plot(group["kappa"], group["mutual_information"], marker, color=colour, **look)
        axes.set(xscale="log", xlim=(0.07, 160), ylim=(-0.03, 0.76), ylabel="mutual information (nats)")
        axes.set_xlabel("kappa; below: generated at that kappa, first pair")
        axes.axhline(math.log(2), color="grey", linewidth=1, linestyle=":")
        axes.annotate("log 2: all there is", (150, math.log(2)), (0, 5), textcoords="offset points", ha="right")
        axes.axvline(1, color="grey", linewidth=1, linestyle=":")
        axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        for row, (_, colour, name) in enumerate(MARKS.values()):
            axes.annotate(name, (150, 0.2 - 0.07 * row), ha="right", color=colour)
        for run in (run for run in trained if (run.pair, run.seed) == (1, trained[0].seed)):
            samples = run.model.sample(1000, seed=run.seed)
            order = place(samples, run.images).along.argsort()
            pixels = to_pixels(samples[order[[150, 850]]], max(1, 66 // samples.shape[-1]))
            for row, image in enumerate(pixels):
                picture = OffsetImage(image, zoom=72 / DPI, interpolation="nearest")
                at = (run.kappa, -0.28 - 0.14 * row)
                axes.add_artist(AnnotationBbox(picture, at, frameon=False, annotation_clip=False))
    alt = (
        f"Mutual information against kappa for {runs['pair'].nunique()} pairs and two rules: none below 1, then a rise "
        f"to log 2 along the theory's line. Critical ratios from {ratios['kappa'].min():.2f} to "
        f"{ratios['kappa'].max():.2f}. Under the axis, generated images: the average up to 0.5, then one image or the "
        "other."
    )
    caption = (
        "Large: trained on images; small: on points of the line through them; hollow: not converged. Line: theory. "
        "Images: samples at 15% and 85% of their order between A and B."
    )
    return save(figure, "phase_diagram", alt=alt, caption=caption, source=source, svg=True)


def traversals(model: VAE, source: str) -> Saved:
    """What a model draws along each of its two latent dimensions."""
    walk = traverse(model, [0, 1], torch.linspace(-2, 2, 7))
    sections = [Section(f"z[{i}], the other 0", row) for i, row in enumerate(walk)]
    figure = image_sections("Sum of squares, pair 1: both dimensions, from -2 to 2", sections, columns=7)
    alt = "Two rows of seven images: along each row one of the two latent dimensions goes from -2 to 2."
    return save(figure, "batch_average_traversals", alt=alt, caption="From one image to the other.", source=source)


def record(shares: pd.DataFrame, runs: pd.DataFrame, ratios: pd.DataFrame, source: str) -> None:
    """Put on record what is quoted; every run counts. Errors are standard errors over samples, then over runs."""
    rows, seeds, unit = [], runs["seed"].nunique(), "share of samples"
    for (kind, pair), share in shares.unstack().items():
        error = (share * (1 - share) / 1000) ** 0.5
        rows.append([f"{unit} at the mean, {kind}, {pair}", share, unit, error, 1, {"tolerance": 0.05}])
    for at in ratios.itertuples():
        error = (at.high - at.low) / 4
        rows.append([f"onset in kappa, {at.rule}, pair {at.pair}", at.kappa, "kappa", error, seeds, {}])
    for (rule, kappa), group in runs.groupby(["rule", "kappa"])["at_mean"]:
        rows.append([f"{unit} at the mean, {rule}, kappa {kappa:g}", group.mean(), unit, group.sem(), seeds, {}])
    names, common = ("claim", "value", "unit", "standard_error", "seeds"), {"images": 1000, "source": source}
    save_results("03_batch_average", [dict(zip(names, row, strict=False)) | common | row[-1] for row in rows])
