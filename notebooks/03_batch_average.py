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
#     - batch_average_1
#     - batch_average_2
#     - batch_average_3
#     - batch_average_distances
#     - why_they_collapse
#     - phase_diagram
#     - between_two_images
#     - batch_average_traversals
#     least:
#       long_steps: 10
#       pairs: 3
#       seed: 0
#       seeds: 0
#       steps: 1
#       sweep_steps: 20
#     presets:
#       fast:
#         long_steps: 40
#         pairs: 3
#         seeds: '0'
#         steps: 60
#         sweep_steps: 100
#       full:
#         long_steps: 6000
#         pairs: 8
#         seeds: 0,1,2,3,4
#         steps: 5000
#         sweep_steps: 10000
# ---

# %% [markdown]
# # Two images and their average
#
# **What the post claims.** Trained on a single batch of two images, the model generates something
# that looks like their average. The author's guess at the cause: back-propagation averages the
# gradient over the batch.
#
# **What you will do.** Repeat it. Then set the guess against a rival, in eleven experiments, and write
# down what each of the two predicts before you look.
#
# **What you need.** Notebook 00; notebook 02 helps. About ten minutes on one core.

# %% [markdown]
# ## Your prediction
#
# Suppose the loss gives squared error its proper weight. Gradients are still averaged over the two
# images, in every step. What is generated?
#
# 1. Still the average: the gradient pulls equally towards both images.
# 2. One image or the other, with blends in between: telling them apart has become worth its price.
# 3. Noise: two images cannot train a generator.

# %% tags=["parameters"]
data = "cifar10"
own_images = ""
pairs = 5
steps = 1200
long_steps = 3000
sweep_steps = 4000
seeds = "0,1,2"
seed = 0

# %%
import math
from dataclasses import replace

import numpy as np
import torch
from IPython.display import display

from vae_core import VAE, TrainConfig, VAEConfig, effective_variance, fit, load_images
from vae_core.explorer.widget import explore
from vae_core.forecast import collapse_forecast
from vae_core.latent import traverse
from vae_core.plots.charts import Spread, lines, spreads
from vae_core.plots.figures import Section, image_sections, save, save_results, table
from vae_core.runs import runs_folder
from vae_core.study import batch_average_findings
from vae_core.study import batch_average_findings as rivals
from vae_core.study.batch_average import (
    measure,
    on_images,
    onset,
    optimum,
    pair_distances,
    place,
    sigma_at,
    squared_distance,
    sweep,
    train_pair,
)
from vae_core.study.batch_average_charts import Series, phase_diagram, ridges
from vae_core.study.sweep import AWAY, whole_numbers

# %% [markdown]
# Pairs are drawn from the data set by the seed. To use images of your own as the first pair, set
# `own_images` to a folder that holds them.

# %%
drawn = load_images(data, limit=2 * pairs, seed=seed, substitute=True)
shape, source, name = tuple(drawn.images.shape[1:]), drawn.source, drawn.title
couples = [drawn.images[2 * k : 2 * k + 2] for k in range(pairs)]
if own_images:
    own = load_images(own_images, "all", limit=2, size=shape[1])
    couples[0], source, name = own.images.expand(-1, shape[0], -1, -1), own.source, own.title
pixels, starts = math.prod(shape), whole_numbers(seeds)
print(source, shape)

# %% [markdown]
# ## The recipe of the post, as far as it can be told
#
# Squared error averaged over pixels, plus the KL summed over latent dimensions, is the most common
# way to write this loss. It amounts to a Gaussian decoder of variance $P/2$ (notebook 02). Beside it
# stands the sum of squares, variance $1/2$. Network, optimiser and number of steps are the same.
#
# In both, a step sees both images and averages their gradients. That is what the guess is about.
#
# One trap is avoided on purpose. A decoder whose output starts at the mean of the two images would
# draw their average without any training. Here it starts at zero (`output_bias="zero"`), and the
# distance to the mean is also measured before training.

# %%
recipes = {"mean of squares": math.sqrt(pixels / 2), "sum of squares": math.sqrt(1 / 2)}
configs = {
    recipe: VAEConfig(image_shape=shape, latent_dim=2, hidden=(64, 64), likelihood="gaussian",
                      sigma=sigma, output_bias="zero")
    for recipe, sigma in recipes.items()
}  # fmt: skip
variances = {recipe: effective_variance(config, beta=1.0) for recipe, config in configs.items()}
training = TrainConfig(epochs=steps, batch_size=2, learning_rate=5e-3, seed=seed)
runs = {
    (k, recipe): fit(config, training, couples[k - 1], cache=runs_folder())
    for k in (1, 2, 3)
    for recipe, config in configs.items()
}

# %% [markdown]
# The first row of each figure is the post's: one generated image with the mean of squares, the two
# images, their mean. Below are more samples from the prior, for each loss, from the same random numbers.

# %%
saved = {}
for k, pair in enumerate(couples[:3], start=1):
    first, second = pair.float() / 255
    drawn_by = {recipe: runs[k, recipe].model.sample(1000, seed=seed) for recipe in recipes}
    panel = torch.stack([drawn_by["mean of squares"][0], first, second, (first + second) / 2])
    sections = [Section(f"One batch of two images, pair {k}", panel, ("generated", "image A", "image B", "their mean"))]
    for recipe in recipes:
        sections.append(Section(f"More generated, {recipe}: variance {variances[recipe]:g}", drawn_by[recipe][1:9]))
    figure = image_sections(f"{name}: trained on two images", sections, columns=4)
    told = [
        f"{pair_distances(drawn, pair).share_at_mean():.1%} with the {recipe}" for recipe, drawn in drawn_by.items()
    ]
    alt = (
        "First row: a generated image, image A, image B and their mean. Below: eight more generated images for each "
        f"loss. At the mean are, of 1,000 generated images, {', '.join(told)}."
    )
    caption = f"{name}, pair {k}, {steps} steps, prior samples; variances of the Gaussian decoder as stated."
    saved[k] = save(figure, f"batch_average_{k}", alt=alt, caption=caption, source=source)

# %%
display(*saved.values())

# %% [markdown]
# For a thousand prior samples of each model: the mean squared distance to the arithmetic mean, over
# that to the nearer of the two images. Under a tenth, a sample counts as the average.

# %%
kinds = ["before training", *recipes]
distances = {}
for k, pair in enumerate(couples[:3], start=1):
    untrained = VAE(configs["mean of squares"], seed=seed)
    distances[k, "before training"] = pair_distances(untrained.sample(1000, seed=seed), pair)
    for recipe in recipes:
        distances[k, recipe] = pair_distances(runs[k, recipe].model.sample(1000, seed=seed), pair)
shares = {when: [distances[k, when].share_at_mean() for k in (1, 2, 3)] for when in kinds}
rows = [
    Spread(f"pair {k}, {when.replace(' training', '')}", (d.to_mean / d.to_nearer).numpy(), kinds.index(when))
    for when in kinds for k in (1, 2, 3) for d in [distances[k, when]]
]  # fmt: skip
figure = spreads(f"How far {name} samples fall from the average", rows, mark=0.1, mark_label="the average",
                 label="distance to mean / to nearer image")  # fmt: skip
alt = (
    "Ratios of distances for 3 pairs on a log axis. After training with the mean of squares at least "
    f"{min(shares['mean of squares']):.1%} of samples are at the mean; with the sum of squares at most "
    f"{max(shares['sum of squares']):.1%}; before training at most {max(shares['before training']):.1%}."
)
caption = "1,000 prior samples a row: median and the middle 90%."
save(figure, "batch_average_distances", alt=alt, caption=caption, source=source, svg=True)

# %%
setting = name == "CIFAR-10" and pairs >= 5 and min(steps, long_steps) >= 1200 and sweep_steps >= 4000
before, naive, scaled = (shares[when] for when in ("before training", "mean of squares", "sum of squares"))
print(batch_average_findings.batch_average(before, naive, scaled, posts_setting=setting))

# %% [markdown]
# ## Two explanations
#
# **Averaged gradients**, the post's guess. A batch has one loss, the mean of two. Its gradient is the
# mean of two gradients: one pulls the output towards image A, one towards image B. The output ends
# where the pulls cancel, at the average. It is a fair thought. Averaging is really what the arithmetic does.
#
# **Collapse of the objective**, the rival. The loss has a price for telling images apart, the KL, and a
# reward, less squared error. If the reward is too small, the best thing is to tell nothing. Then one
# output must serve both images, and the output of least squared error is their mean. How the
# gradient is taken does not matter. The average is the minimum.
#
# The second can be proved.

# %% [markdown]
# ## Why two images collapse
#
# Let $D$ be the distance between the two images, $s^2$ the variance of the decoder, and
# $\kappa = D^2 / (4 s^2)$. Take any encoder and any decoder. Somebody hands you a latent $z$. With
# probability $p(z)$ it came from image A. Two facts hold:
#
# - **The price.** The KL is at least the information in $z$: one fair coin, less what is left to
#   guess, $\log 2 - \mathrm{E}[h(p)]$, where $h(p)$ is the entropy of a coin with probability $p$.
# - **The reward.** The best image for $z$ lies between the two, at $p$ of the way. Its expected
#   squared error is $D^2\,p(1-p)$. In the loss that is $2\kappa\,p(1-p)$ nats.
#
# So, up to a constant, the loss is at least $\log 2 - \mathrm{E}[g(p)]$ with $g(p) = h(p) - 2\kappa\,p(1-p)$, and
# the mean of $p$ over all $z$ is 1/2, for half of all latents come from A. The picture shows $g$. For
# $\kappa \le 1$ it is a hill: its second derivative, $-1/(p(1-p)) + 4\kappa$, is nowhere positive,
# since $1/(p(1-p)) \ge 4$. On a hill, values of $p$ that spread around 1/2 are lower on average than 1/2 itself
# (Jensen). The best is $p = 1/2$ for every $z$: **no information, and every sample is the arithmetic
# mean. Nothing is better, whatever the optimiser does.** For $\kappa > 1$ the top has a dent, and
# spreading pays.

# %%
p = np.linspace(0.001, 0.999, 400)
entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
curves = [(f"kappa {kappa:g}", p, entropy - 2 * kappa * p * (1 - p)) for kappa in (0.5, 1, 1.5, 2)]
figure = lines("A hill up to kappa 1, then a dent", curves, across="p: how surely z is image A", up="g(p), nats")
alt = "Four curves of g over p from 0 to 1: one hill for kappa 0.5 and 1, two humps with a dent between for 1.5 and 2."
caption = "g(p) = h(p) - 2 kappa p (1 - p). The loss is log 2 less the mean of g, and the mean of p is 1/2."
save(figure, "why_they_collapse", alt=alt, caption=caption, source=source, svg=True)

# %% [markdown]
# With the mean of squares $s^2 = P/2$. Pixels lie in [0, 1], so $D^2$ is at most $P$ and $\kappa$ at
# most 1/2: this loss collapses on every pair there is.

# %%
table([
    {"pair": k, "squared distance": squared_distance(pair),
     **{f"kappa, {recipe}": squared_distance(pair) / (4 * s2) for recipe, s2 in variances.items()},
     "forecast, mean of squares": collapse_forecast(pair, configs["mean of squares"]).answer,
     "forecast, sum of squares": collapse_forecast(pair, configs["sum of squares"]).answer}
    for k, pair in enumerate(couples, start=1)
])  # fmt: skip

# %% [markdown]
# ## i and ii. Both images in a step, or one
#
# A model for every pair, every seed, and $\kappa$ = 0.5, 3 and 10, trained on the images themselves. In (i) each
# step averages the gradients of both images. In (ii) each step sees one image only, and the next step the
# other, in an order drawn anew every time.
#
# | | averaged gradients predict | collapse predicts |
# | --- | --- | --- |
# | i | the mean at every kappa | the mean below 1 only |
# | ii | never the mean: nothing is averaged | the same as i |

# %%
small = VAEConfig(image_shape=shape, latent_dim=8, hidden=(64,), activation="tanh", likelihood="gaussian", sigma=1.0)
kappas, trained, seen, change = (0.5, 3.0, 10.0), {}, {}, {}
rules = {"both": 2, "in turn": 1}
for rule, batch in rules.items():
    for k, pair in enumerate(couples):
        for kappa in kappas:
            config = replace(small, sigma=sigma_at(pair, kappa))
            for start in starts:
                one = train_pair(pair, config, steps=long_steps, seed=start, batch_size=batch)
                trained[rule, k, kappa, start], change[rule, k, kappa, start] = one.model, one.change
                seen[rule, k, kappa, start] = measure(one.model, pair, seed=start)


# %%
dead = {key for key, one in seen.items() if key[2] > 1 and one.information.value < rivals.NONE and one.alive < 0.05}


def collect(rule, field):
    """Values of a measured field by kappa: one a pair and seed."""
    live = [key for key in seen if key[0] == rule and key not in dead]
    return {at: [getattr(seen[key], field) for key in live if key[2] == at] for at in kappas}


findings = [rivals.both_images(collect("both", "at_mean")), rivals.one_image_a_step(collect("in turn", "at_mean"))]
table([
    {"rule": rule, "kappa": kappa, "models": len(collect(rule, "off")[kappa]),
     "information (nats)": np.mean([m.value for m in collect(rule, "information")[kappa]]),
     "least": min(m.value for m in collect(rule, "information")[kappa]), "theory": optimum(kappa).information,
     "samples at the mean": np.mean(collect(rule, "at_mean")[kappa]),
     "mean |t|": np.mean(collect(rule, "along")[kappa]), "off the line (D/2)": np.median(collect(rule, "off")[kappa]),
     "dead": sum(key[0] == rule and key[2] == kappa for key in dead),
     "not settled": sum(abs(change[key]) > 1e-3 for key in change if key[0] == rule and key[2] == kappa)}
    for rule in rules for kappa in kappas
])  # fmt: skip

# %% [markdown]
# A sample is at the mean when its squared distance to it is under a tenth of that to the nearer image. Its place
# along the line is $t$: $-1$ at image A, 0 at the mean and 1 at image B. Models whose encoder is dead are left out
# (no information above $\kappa = 1$, and under 5% of hidden units that differ between the images). A model
# counts as settled when its loss changed by less than a thousandth of a nat over the last fifth of the steps, at
# the same noise. Above $\kappa = 1$ training goes on creeping, so the theory is approached and not reached.

# %%
rows, t = [], np.linspace(-0.999, 0.999, 201)
for kappa in kappas:
    places = [place(trained["both", k, kappa, start].sample(1000, seed=start), couples[k])
              for k in range(pairs) for start in starts if ("both", k, kappa, start) not in dead]  # fmt: skip
    along, off = (torch.cat(column) for column in zip(*places, strict=True))
    rows.append((f"kappa {kappa:g}", along.numpy(), optimum(kappa).density(t), f"{off.median():.3f} off the line"))
figure = ridges("Where generated images fall", rows, label="bars: samples; line: theory")
alt = (
    f"Histograms of the place of {1000 * pairs * len(starts):,} samples between image A and image B, a row a kappa: "
    "one peak at the mean for kappa 0.5, two peaks at the images for 3 and 10."
)
caption = f"{pairs} pairs, {len(starts)} seeds, 1,000 prior samples each; off the line in halves of D, median."
save(figure, "between_two_images", alt=alt, caption=caption, source=source, svg=True)

# %% [markdown]
# ## v. Where information sets in
#
# The same at thirteen values of $\kappa$, for every pair and seed and for both rules. Squared error
# within the line through two images is kept exactly by a coordinate on that line. So these models
# see points of the line instead of images, and train all at once.
#
# | averaged gradients predict | collapse predicts |
# | --- | --- |
# | no common threshold in kappa | information sets in at kappa = 1 for all pairs, however far apart they are |

# %%
grid = (0.1, 0.2, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
points = {rule: sweep(couples, grid, starts, steps=sweep_steps, in_turn=rule == "in turn") for rule in rules}
told = {
    (rule, k): [np.mean([q.information for q in points[rule] if (q.pair, q.kappa) == (k, kappa)]) for kappa in grid]
    for rule in rules for k in range(pairs)
}  # fmt: skip
fitted = {key: onset(grid, values) for key, values in told.items() if max(values) > 0.1}
squared = [squared_distance(pair) for pair in couples]
if len(fitted) == len(told):
    findings.append(rivals.onsets([one.kappa for one in fitted.values()], squared))
table([
    {"rule": rule, "pair": k + 1, "squared distance": squared[k], "onset (kappa)": one.kappa,
     "95% from": one.low, "to": one.high}
    for (rule, k), one in fitted.items()
])  # fmt: skip

# %%
colours, marks = {"both": 0, "in turn": 1}, {"both": "o", "in turn": "^"}
names = {"both": "both images\nin every step", "in turn": "one image a step,\nin turn"}
series = [Series("", [q.kappa for q in points[rule]], [q.information for q in points[rule]], colours[rule],
                 marks[rule], 3) for rule in rules]  # fmt: skip
series += [Series(names[rule], [key[2] for key in seen if key[0] == rule],
                  [seen[key].information.value for key in seen if key[0] == rule], colours[rule], marks[rule], 9)
           for rule in rules]  # fmt: skip
shown = {}
for kappa in kappas:
    samples = trained["both", 0, kappa, starts[0]].sample(1000, seed=seed)
    order = place(samples, couples[0]).along.argsort()
    shown[kappa] = samples[order[[150, 850]]]
fine = np.geomspace(0.07, 160, 300)
curve = fine, np.array([optimum(float(kappa)).information for kappa in fine])
insets = [(f"{key[1]}", colours[key[0]], one.kappa, one.low, one.high) for key, one in fitted.items()]
figure = phase_diagram("What a model tells of two images", series, curve, insets, shown)

# %%
low, high = (f"{end(one.kappa for one in fitted.values()):.2f}" if fitted else "nowhere" for end in (min, max))
alt = (
    f"Information against kappa for {pairs} pairs and two rules: none below 1, then a rise to log 2 along the theory's "
    f"line. Fitted onsets from {low} to {high}. Under the axis, generated images: the average up to 0.5, then "
    "more and more one image or the other."
)
caption = (
    "Large: trained on images; small: on points of the line through them. Line: theory. Inset: onset of each "
    "pair and rule with its 95% interval. Images: samples at 15% and 85% of their order between A and B."
    + f" Large at 0 above kappa 1: {len(dead)} models whose encoder died in training."
    * bool(dead)
)
save(figure, "phase_diagram", alt=alt, caption=caption, source=source, svg=True)

# %% [markdown]
# ## iii. Summed gradients
#
# Twice the loss has twice the gradient, the sum instead of the average. **Both predict: no change.** Adam divides
# by the size of the gradient.

# %%
pair = couples[0]
half = {kappa: replace(small, sigma=sigma_at(pair, kappa) / math.sqrt(2)) for kappa in (0.5, 3.0)}
doubled = {
    kappa: measure(train_pair(pair, config, steps=long_steps, seed=starts[0], beta=2.0).model, pair, seed=starts[0])
    for kappa, config in half.items()
}
differences = [abs(doubled[k].information.value - seen["both", 0, k, starts[0]].information.value) for k in doubled]
findings.append(rivals.summed(max(differences)))

# %% [markdown]
# ## iv. A plain autoencoder
#
# No KL, no noise, the same averaged gradients. **Averaging predicts** that both reconstructions are the mean.
# **Collapse predicts** exact reconstructions: without a price, telling is free.

# %%
plain = [train_pair(pair, small, steps=long_steps, seed=starts[0], beta=0.0, noisy=False).model for pair in couples]
rebuilt = [measure(model, pair).rebuilt for model, pair in zip(plain, couples, strict=True)]
findings.append(rivals.autoencoder(rebuilt))

# %% [markdown]
# ## vi. A learned sigma
#
# At collapse the best sigma squared is $D^2/(4P)$, which makes $\kappa = P$. **Averaging predicts** the mean.
# **Collapse predicts** that the mean is no resting place: information goes to log 2. The learning rate is small
# here. As sigma shrinks the loss grows steep, and large steps kill the encoder.

# %%
learned = [train_pair(pair, replace(small, sigma="learned"), steps=long_steps, seed=starts[0], learning_rate=1e-3).model
           for pair in couples]  # fmt: skip
held = [measure(model, pair).information.value for model, pair in zip(learned, couples, strict=True)]
findings.append(rivals.learned_sigma(held))

# %% [markdown]
# ## vii. Absolute error on A, A, B
#
# Laplace instead of Gaussian, three images of which two are the same, and a width at which the model
# collapses. **Averaging predicts** $(2A + B)/3$. **Collapse predicts** A: the single image of least absolute
# error is the median, pixel by pixel.

# %%
to_mean, to_median = [], []
for pair in couples:
    first, second = pair.float() / 255
    wide = replace(small, likelihood="laplace", sigma=float(pixels))
    model = train_pair(pair[[0, 0, 1]], wide, steps=long_steps, seed=starts[0]).model
    image, apart = model.sample(1000, seed=seed).median(0).values, (second - first).norm()
    to_mean.append(((image - (2 * first + second) / 3).norm() / apart).item())
    to_median.append(((image - first).norm() / apart).item())
findings.append(rivals.absolute_error(to_mean, to_median))

# %% [markdown]
# ## viii. Blocks of one image
#
# At $\kappa = 0.5$: so many steps on A, then as many on B, and so on. **Averaging over the batch predicts** never
# the mean. **Collapse predicts** the mean for short blocks. For blocks as long as half the training an optimiser has
# forgotten A, and the last image is left. That is averaging too, over time.

# %%
at_half, ends = replace(small, sigma=sigma_at(couples[0], 0.5)), {}
for block in (1, 10, long_steps // 2):
    blocks = couples[0].repeat_interleave(block, 0)
    ends[block] = [
        place(
            train_pair(blocks, at_half, steps=long_steps, seed=start, batch_size=1, shuffle=False).model.sample(
                1000, seed=seed
            ),
            couples[0],
        ).along.mean().item()
        for start in starts
    ]  # fmt: skip
findings.append(rivals.blocks([*ends[1], *ends[10]], ends[long_steps // 2]))
ends

# %% [markdown]
# ## ix. Half the contrast
#
# Pixels at half their contrast make $D^2$ a quarter. **Averaging predicts** nothing. **Collapse predicts** that the
# threshold in beta is a quarter too: a common threshold in $\kappa$.

# %%
grey = [(pair // 2) for pair in couples]
faint = sweep(grey, grid, starts[:1], steps=sweep_steps)
halves = [onset(grid, [q.information for q in faint if q.pair == k]).kappa for k in range(pairs)
          if max(q.information for q in faint if q.pair == k) > 0.1]  # fmt: skip
ratios = [squared[k] / squared_distance(grey[k]) * one / fitted["both", k].kappa
          for k, one in enumerate(halves) if ("both", k) in fitted]  # fmt: skip
if ratios:
    findings.append(rivals.contrast(ratios))

# %% [markdown]
# ## x. ReLU or tanh
#
# At $\kappa = 10$ a model without information has not obeyed the objective. Its encoder is dead. This
# experiment predicts nothing; it keeps the two kinds of silence apart.

# %%
pair, quiet = couples[0], {}
for activation in ("tanh", "relu"):
    config = replace(small, sigma=sigma_at(pair, 10), activation=activation)
    told = [measure(train_pair(pair, config, steps=long_steps, seed=s).model, pair) for s in range(3)]
    quiet[activation] = sum(one.information.value < rivals.NONE for one in told)
findings.append(rivals.activations(quiet, 3))

# %% [markdown]
# ## xi. The image of z = 0
#
# By symmetry the ideal decoder draws the mean at $z = 0$, at every $\kappa$. So one image says little, and this
# is why a thousand samples are drawn here.

# %%
findings.append(rivals.zero([seen["both", k, 10.0, start].zero for k in range(pairs) for start in starts]))

# %% [markdown]
# ## Claimed against measured
#
# The numbers that are recorded and quoted count every model, those with a dead encoder too.

# %%
told = {True: "yes", False: "no", None: "-"}
table([
    {"experiment": one.experiment, "as averaging predicts": told[one.averaging],
     "as collapse predicts": told[one.collapse], "measured": one.measured, "verdict": one.verdict}
    for one in findings
])  # fmt: skip

# %%
rows = [(f"share of samples at the mean, {when}, pair {k}", share, "share of samples",
         (share * (1 - share) / 1000) ** 0.5, 1, {"tolerance": 0.05})
        for when in kinds for k, share in enumerate(shares[when], start=1)]  # fmt: skip
rows += [(f"onset in kappa, {rule}, pair {k + 1}", one.kappa, "kappa", (one.high - one.low) / 4, len(starts), {})
         for (rule, k), one in fitted.items()]  # fmt: skip
all_of_them = {(rule, kappa): [seen[rule, k, kappa, start].at_mean for k in range(pairs) for start in starts]
               for rule in rules for kappa in kappas}  # fmt: skip
rows += [(f"share of samples at the mean, {rule}, kappa {kappa:g}", np.mean(each), "share of samples",
          np.std(each, ddof=1) / len(each) ** 0.5, len(starts), {})
         for (rule, kappa), each in all_of_them.items()]  # fmt: skip
save_results("03_batch_average", [
    {"claim": claim, "value": float(value), "unit": unit, "standard_error": float(error), "seeds": count,
     "images": 1000, "source": source, **stated}
    for claim, value, unit, error, count, stated in rows
])  # fmt: skip
observed = min(shares["mean of squares"]) >= 0.95 and max(shares["before training"]) < 0.5
print(rivals.conclusion(findings, observed) if setting else AWAY)

# %% [markdown]
# Back to your prediction. The table of (i) tells: if few samples are at the mean above $\kappa = 1$, the
# second choice was right.

# %% [markdown]
# ## Your own images
#
# Whether a loss must collapse can be said before any training, for any number of images. Set
# `own_images`, or ask at the command line: `vae-core forecast FOLDER --size 32 --sigma mean-of-squares`.

# %%
chosen = load_images(own_images, "all", size=shape[1]) if own_images else load_images(data, limit=25, substitute=True)
shape_of = tuple(chosen.images.shape[1:])
usual = {"mean of squares": math.sqrt(math.prod(shape_of) / 2), "sum of squares": math.sqrt(1 / 2), "sigma 0.1": 0.1}
forecasts = {loss: collapse_forecast(chosen.images, VAEConfig(shape_of, likelihood="gaussian", sigma=sigma))
             for loss, sigma in usual.items()}  # fmt: skip
table([
    {"images": len(chosen.images), "loss": loss, "forecast": one.answer, "diameter ratio": one.diameter_ratio,
     "eigenvalue ratio": one.eigenvalue_ratio}
    for loss, one in forecasts.items()
])  # fmt: skip

# %% [markdown]
# ## Explore
#
# The post's third row, alive: move kappa through the phase diagram, and *Random z* or the sliders at each. Every stop
# of the slider is a trained model of (v), first pair, first seed. Nothing is invented in between. Near 1 the generated
# image begins to leave the average; by 10 it is close to one of the two.

# %%
alive = {f"{q.kappa:g}": on_images(q.model, couples[0]) for q in points["both"] if (q.pair, q.seed) == (0, starts[0])}
explore(alive, couples[0], along="kappa")

# %% [markdown]
# And the first pair with the sum of squares, a model of the images themselves: on the way from one image to the other
# lies a blend of both.

# %%
model = runs[1, "sum of squares"].model
explore(model, couples[0])

# %%
walk = traverse(model, [0, 1], torch.linspace(-2, 2, 7))
sections = [Section(f"z[{i}], the other 0", row) for i, row in enumerate(walk)]
figure = image_sections("Sum of squares, pair 1: both dimensions, from -2 to 2", sections, columns=7)
alt = "Two rows of seven images: along each row one of the two latent dimensions goes from -2 to 2."
save(figure, "batch_average_traversals", alt=alt, caption="From one image to the other.", source=source)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Find the place in the plane where the decoded image is closest to the average. How
#    wide is it?
# 2. **A parameter.** Set `own_images` to a folder with two photographs of your own. Where is their
#    onset in kappa, and where in beta?
# 3. **A line of code.** Add `"threshold": math.sqrt(97)` to `recipes`. The variance 97 is $D^2/4$ of the
#    first pair with the default parameters, so $\kappa = 1$. What is generated there?
#
# <details><summary>Answers</summary>
#
# 1. A narrow band between two regions, one for each image. With the mean of squares it is the
#    whole plane.
# 2. In kappa at 1, as for every pair. In beta at $D^2/2$ with the sum of squares, so it depends on the images.
# 3. The average, but training takes longer to get there. Just below that variance the model begins to
#    encode a little of the difference.
#
# </details>
#
# ## Further reading
#
# - Lucas, Tucker, Grosse, Norouzi, *Don't Blame the ELBO!*, arXiv 1911.02469: when collapse is the
#   optimum, for linear models.
# - Dai and Wipf, arXiv 1903.05789: the decoder's variance and what it does.
