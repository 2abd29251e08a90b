# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: jupytext,kernelspec,vae_core,-jupytext.text_representation.jupytext_version,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
#   vae_core:
#     figures:
#     - ladder_{data}
#     - ladder_scores
#     - ladder_traversals
#     least:
#       components: 1
#       images: 51
#       latent_dims: 1
#       measured: 2
#       seed: 0
#       steps: 1
#     presets:
#       fast:
#         components: 5
#         images: 500
#         measured: 60
#         steps: 20
#       full:
#         steps: 2000
#     sweeps:
#     - ladder_mnist
#     - ladder_cifar10
# ---

# %% [markdown]
# # How to get better images
#
# **What the post claims.** Nothing here: it shows blurry images and stops. It leaves open what a reader should do
# instead.
#
# **What you will do.** Start from the post's recipe and change one thing at a time. Each step of this ladder keeps
# all that came before. After each step, look at generated images and measure them, on digits and on photographs.
#
# **What you need.** Notebooks 00 and 02. About three minutes on one core. The end of each ladder trains in less than
# a minute of that.

# %% [markdown]
# ## Your prediction
#
# Six changes are ahead: the scale of the loss, the width of the pixels' noise, convolution, another likelihood, a
# warm-up of beta, and another distribution to draw z from. Which buys the most?
#
# 1. Convolution: a network made for images must draw better ones.
# 2. The scale: as long as the loss asks for an average, nothing else can help.
# 3. The last: a better decoder is of no use where z comes from a place that it was never trained on.
#
# And does every step help?

# %% tags=["parameters"]
data = "mnist,cifar10"
images = 5000
latent_dims = "10,32"
steps = 1500
components = 20
measured = 1000
seed = 0

# %%
import math
from dataclasses import replace

import torch
from IPython.display import display

from vae_core import TrainConfig, VAEConfig, fit, load_images
from vae_core.explorer.widget import explore
from vae_core.latent import kl_by_dimension, traverse
from vae_core.plots.charts import Column, columns
from vae_core.plots.figures import Section, image_sections, save, save_results, table
from vae_core.runs import runs_folder
from vae_core.scores import yardsticks
from vae_core.study import sharper_images
from vae_core.study.sharper_images import RUNGS, ladder_row, sample_mixture
from vae_core.study.sweep import items, load_sweep, whole_numbers

# %%
names = items(data)
dims = dict(zip(names, whole_numbers(latent_dims), strict=True))
sets = {}
for name in names:
    sets[name] = [
        load_images(name, split, limit=most, substitute=True) for split, most in (("train", images), ("test", measured))
    ]
    print(sets[name][0].source, *(tuple(one.images.shape) for one in sets[name]))

# %% [markdown]
# ## The ladder
#
# With $P$ pixel values an image, and $L$ the loss that is made small:
#
# $$L = -\log p(x \mid z) + \beta\,\mathrm{KL}\big(q(z \mid x) \,\|\, N(0, I)\big)$$
#
# 1. **Mean of squares**: what we take for the post's recipe. A Gaussian likelihood of variance
#    $P/2$, fully connected layers.
# 2. **Sum of squares**: the same error, summed: variance $1/2$.
# 3. **Learned sigma**: the variance is one more weight. It ends near the error that is left.
# 4. **Convolution**: the same likelihood, another network.
# 5. **Logistic**: a discretised logistic of learned width gives each of the 256 grey levels a probability. It
#    forgives a few large errors more than a Gaussian does.
# 6. **Warm-up**: beta rises from 0 to 1 in the first third of the training.
# 7. **Mixture for z**: nothing is trained. Images start from a mixture of Gaussians, fitted to posterior samples
#    of the training images, instead of $N(0, I)$.
#
# Step 7 is another model of z, for drawing only. The ELBO stays under $N(0, I)$, and so do reconstructions.
#
# Digits could also be black and white, with a Bernoulli likelihood. But that changes the data, and its numbers
# would be of other images than those of the steps before. The logistic keeps the grey levels on both ladders.

# %%
changes = RUNGS | {}  # of the config, by step; a step of your own goes into the braces
rungs = [*changes, "mixture for z"]
table([
    {"step": step, "changes": ", ".join(f"{field}: {value:.3f}" if isinstance(value, float) else f"{field}: {value}"
                                        for field, value in change.items()) or "none: the start"}
    for step, change in changes.items()
])  # fmt: skip


# %%
def plan(name, seed):
    """Each step's name and configs, all changes before it included."""
    shape, n = tuple(sets[name][0].images.shape[1:]), len(sets[name][0].images)
    model = VAEConfig(image_shape=shape, latent_dim=dims[name], hidden=(256, 128), likelihood="gaussian",
                      sigma=math.sqrt(math.prod(shape) / 2))  # fmt: skip
    training = TrainConfig(epochs=math.ceil(steps * 16 / n), batch_size=16, learning_rate=3e-3, seed=seed)
    for step, change in changes.items():
        if any(key.startswith("beta") for key in change):
            training = replace(training, **change)
        else:
            model = replace(model, **change)
        yield step, model, training


# %%
def taken(name):
    """Whole passes over the images, in steps."""
    n = len(sets[name][0].images)
    return math.ceil(steps * 16 / n) * math.ceil(n / 16)


def climb(name, seed):
    """By step: the trained models, and images drawn from each, the same z from N(0, I) for all but the last."""
    train_set = sets[name][0]
    models = {step: fit(*configs, train_set, cache=runs_folder()).model for step, *configs in plan(name, seed)}
    drawn = {step: model.sample(measured, seed=seed) for step, model in models.items()}
    models[rungs[-1]] = models[rungs[-2]]
    drawn[rungs[-1]] = sample_mixture(
        models[rungs[-1]], train_set.images, measured, components=components, seed=seed
    )  # fmt: skip
    return models, {step: one.clip(0, 1) for step, one in drawn.items()}


# %% [markdown]
# ## What is measured
#
# - **Sharpness**: the log ratio of Laplacian energy to that of test images. 0 is right, below is blur.
# - **Fréchet distance** of generated images to training images, in the first 50 principal components. The floor
#   is the distance of as many test images. For digits also in the features of a small classifier.
# - **SSIM** and **squared error** of reconstructed test images.
# - **ELBO** of test images. A density and a probability of 8-bit values are different things, so it compares
#   steps 1 to 4 with each other, and steps 5 and 6, and never one group with the other.
#
# Images are the decoder's means, clipped to [0, 1] as they are when drawn.

# %%
models, drawn, rows = {}, {}, {}
for name in names:
    models[name], drawn[name] = climb(name, seed)
    against = yardsticks(*sets[name])
    rows[name] = [
        {"step": step} | ladder_row(model, drawn[name][step], against) for step, model in models[name].items()
    ]

# %% [markdown]
# ## Look
#
# Each row is drawn from the same z, and nothing was picked by hand. This is one seed.

# %%
saved = []
for name in names:
    title, wide = sets[name][0].title, 8 if sets[name][0].images.shape[-1] < 32 else 10
    told = [f"Fréchet {r['frechet']:.1f}, sharpness {r['sharpness']:.1f}" for r in rows[name]]
    sections = [Section(f"Test images: Fréchet {rows[name][0]['frechet_floor']:.1f}, sharpness 0",
                        sets[name][1].images[:wide] / 255)]  # fmt: skip
    sections += [
        Section(f"{i}. {step.capitalize()}: {words}", drawn[name][step][:wide])
        for i, (step, words) in enumerate(zip(rungs, told, strict=True), start=1)
    ]
    figure = image_sections(f"{title}: images drawn after each step", sections, columns=wide)
    alt = f"Rows of generated images ({title}) after each step of the ladder. " + "; ".join(
        f"{step}: {words}" for step, words in zip(rungs, told, strict=True)
    )
    caption = f"Each step keeps those before it. {images:,} training images, {taken(name):,} steps, one seed."
    saved.append(save(figure, f"ladder_{name}", alt=f"{alt}.", caption=caption, source=sets[name][0].source))

# %%
display(*saved)

# %% [markdown]
# Reconstructions show how much of an image the latent vector carries. They do not depend on step 7.

# %%
for name in names:
    x = sets[name][1].images[:10].float() / 255
    sections = [Section(step.capitalize(), models[name][step].reconstruct(x).clip(0, 1)) for step in changes]
    title = f"{sets[name][0].title}: test images, and reconstructions after each step"
    display(image_sections(title, [Section("Test images", x), *sections], columns=10))

# %%
display(*(
    table([{f"{sets[name][0].title}: step": r["step"]} | {
        key.replace("_", " "): round(value, 3) if isinstance(value, float) else value
        for key, value in r.items() if key != "step"
    } for r in rows[name]])
    for name in names
))  # fmt: skip

# %% [markdown]
# ## Claimed against measured
#
# One seed may be lucky. The same ladders were climbed with three seeds, and for longer. The results are loaded:
# `vae-core sweep ladder_mnist` trains one ladder on your machine, and `vae-core reproduce 04 --preset full` puts what
# comes of both here.

# %%
titles = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
loaded = {name: load_sweep(f"ladder_{name}") for name in titles}
many = {name: one.rows for name, one in loaded.items()}
print(*(one.told for one in loaded.values()), sep="\n")


# %%
def by_step(name, key):
    """The values of all seeds at each step, of those that were climbed."""
    found = {}
    for row in many[name]:
        found.setdefault(row["step"], []).append(row[key])
    return found


def column(name, key, label, mark, mark_label, **more):
    """Means over the seeds with their standard errors."""
    values = [torch.tensor(each, dtype=torch.float64) for each in by_step(name, key).values()]
    errors = [one.std().item() / len(one) ** 0.5 if len(one) > 1 else 0.0 for one in values]
    return Column(label, [one.mean().item() for one in values], errors, mark, mark_label, **more)


# %%
seeds, climbed = len({row["seed"] for row in many["mnist"]}), list(by_step("mnist", "frechet"))
parts = {}
for name, title in titles.items():
    floor = sum(row["frechet_floor"] for row in many[name]) / len(many[name])
    parts[title] = [
        column(name, "frechet", "Fréchet\ndistance", floor, f"floor {floor:.1f}", log=True, digits=1),
        column(name, "sharpness", "sharpness\nof samples", 0, "data 0"),
        column(name, "ssim", "SSIM of\nreconstructions", 1, "copy 1"),
    ]

# %%
figure = columns("What each step buys", climbed, parts)
alt = "Dots along the steps of both ladders. " + " ".join(
    f"{title}, Fréchet distance and sharpness of samples: " + ", ".join(
        f"{step} {distance:.1f} and {sharp:.1f}"
        for step, distance, sharp in zip(climbed, part[0].values, part[1].values, strict=True)
    ) + "." for title, part in parts.items()
)  # fmt: skip
length = max(row["training_steps"] for rows_ in many.values() for row in rows_)
caption = (
    f"Means over {seeds} seeds after {length:,} steps of training, bars of one standard error. Each step keeps those "
    "before it. The Fréchet distance is that of samples in 50 principal components, on a logarithmic axis."
)
source = "; ".join(both[0].source for both in sets.values())
save(figure, "ladder_scores", alt=alt, caption=caption, source=source, svg=True)

# %%
save_results("04_sharper_images", [
    {"claim": f"{what}, {title}, {step}", "value": value, "unit": unit, "standard_error": error, "seeds": seeds,
     "images": measured, "source": f"sweep_ladder_{name}"}
    for (name, title), part in zip(titles.items(), parts.values(), strict=True)
    for measure_, (what, unit) in zip(part, (
        ("Fréchet distance of samples", "squared grey levels, 50 principal components"),
        ("sharpness of samples", "log ratio of Laplacian energy"), ("SSIM of reconstructions", "1 is a copy"),
    ), strict=True)
    for step, value, error in zip(climbed, measure_.values, measure_.errors, strict=True)
])  # fmt: skip
setting = [both[0].title for both in sets.values()] == ["MNIST", "CIFAR-10"] and steps >= 1500 and images == 5000
for name, title in titles.items():
    blur = {step: [abs(value) for value in values] for step, values in by_step(name, "sharpness").items()}
    distance = f"{title}: the Fréchet distance of samples"
    print(sharper_images.ladder(by_step(name, "frechet"), distance, posts_setting=setting))
    print(sharper_images.ladder(blur, f"{title}: how far their sharpness is from right", posts_setting=setting))

# %% [markdown]
# A step counts where the 95% interval of its mean change over the seeds leaves out 0. Three seeds are few: all can have
# the same sign, and it is still undecided. What a step buys also depends on the steps before it.
#
# All steps get the same number of training steps, and that is few. So a step can also win because it learns faster.
#
# Back to your prediction. Compare the steps by both numbers. Sharpness sees edges and does not care whose. The
# Fréchet distance sees whether the images vary as the data do, and hardly sees edges. A step can help with one and
# hurt the other: the pixel noise of a fully connected decoder counts as sharp. Where sharpness ends far below 0, the
# ladder has made better images, and not sharp ones.
#
# ## Explore
#
# The end of the ladder for digits. The sliders start at the prior's mean. *Random z* draws from $N(0, I)$, so it
# shows step 6, and an encoded image shows where z comes from in step 7.

# %%
end, given = models[names[0]][rungs[-1]], sets[names[0]][1].images
explore(end, sets[names[0]][1])

# %%
used = kl_by_dimension(end, given).argsort(descending=True)[:5].tolist()
walk = traverse(end, used, torch.linspace(-2, 2, 8))
sections = [Section(f"z[{i}], all others 0", row) for i, row in zip(used, walk, strict=True)]
figure = image_sections("The end of the ladder: the most used dimensions, from -2 to 2", sections)
alt = f"Rows of eight images: along each row one latent dimension of {used} goes from -2 to 2."
save(figure, "ladder_traversals", alt=alt, caption="What single dimensions draw.", source=sets[names[0]][0].source)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Encode image 0, then press *Random z* a few times. Which of the drawn digits is no digit? Look at
#    the sliders: are they further out than those of an encoded image?
# 2. **A parameter.** Set `components = 1`. The mixture is then one Gaussian with the mean and covariance of the
#    posterior samples. How much of step 7 is left? Then set `latent_dims = "10,128"`: what becomes of the
#    photographs?
# 3. **A line of code.** Put `{"half beta": {"beta": 0.5}}` in place of the `{}` beside `RUNGS`: one more step, after
#    the warm-up. What do reconstructions gain, and what do samples from $N(0, I)$ lose?
#
# <details><summary>Answers</summary>
#
# 1. No: on average they are as far out. They are elsewhere, in gaps that the encoder leaves.
# 2. Most of it: one Gaussian corrects means, scales and correlations. For digits the other components add something,
#    for photographs next to nothing. With 128 dimensions reconstructions of photographs hardly change, and samples
#    from $N(0, I)$ get worse: there are more gaps to fall into.
# 3. Reconstructions gain a little, as if sigma were smaller. Samples get worse by the Fréchet distance: the posteriors
#    shrink, and the gaps between them grow. The mixture makes up for that.
#
# </details>
#
# ## Further reading
#
# - Rybkin, Daniilidis, Levine, *Simple and effective VAE training with calibrated decoders*, arXiv 2006.13202:
#   steps 2 and 3.
# - Salimans and others, arXiv 1701.05517: the discretised logistic of step 5, there with mixtures.
# - Dai and Wipf, arXiv 1903.05789: why a second model of z helps, as in step 7.
# - Hoffman and Johnson, *ELBO surgery*, 2016: how far the posterior samples, taken together, are from the prior.
