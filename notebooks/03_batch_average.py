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
#         long_steps: 20
#         pairs: 3
#         seeds: '0'
#         steps: 60
#         sweep_steps: 50
#       full:
#         long_steps: 2000
#         pairs: 8
#         seeds: 0,1,2,3,4
#         steps: 5000
#         sweep_steps: 4000
# ---

# %% [markdown]
# # Two images and their average
#
# **What the post claims.** Trained on a single batch of two images, the model generates something that looks like their
# average. The author's guess at the cause: back-propagation averages the gradient over the batch.
#
# **What you will do.** Repeat it. Then set the guess against a rival, in eleven experiments, with what each of the two
# predicts written down first. You need notebook 00; 02 helps. It takes about two minutes on one core.
#
# ## Your prediction
#
# Give squared error its proper weight. Gradients are still averaged over the two images. What is generated?
# 1. Still the average: the gradient pulls equally towards both images.
# 2. One image or the other, with blends in between: telling them apart has become worth its price.
# 3. Noise: two images cannot train a generator.

# %% tags=["parameters"]
data = "cifar10"
own_images = ""
pairs = 5
steps = 1000
long_steps = 600
sweep_steps = 700
seeds = "0,1,2"
seed = 0

# %%
from IPython.display import display

from vae_core import explore, load_images
from vae_core.study import batch_average
from vae_core.study import batch_average_charts as charts
from vae_core.study import batch_average_findings as findings
from vae_core.study.sweep import whole_numbers

# %%
drawn = batch_average.load_pairs(data, own_images, pairs=pairs, seed=seed)
couples, pixels, starts = drawn.images.split(2), drawn.images[0].numel(), whole_numbers(seeds)
drawn.source, len(couples), tuple(couples[0].shape)

# %% [markdown]
# ## The recipe of the post, as far as it can be known
#
# Squared error averaged over pixels, plus the KL summed over latent dimensions, is the most common way to write this
# loss. It amounts to a Gaussian decoder of variance $P/2$, with $P$ pixels (notebook 02). Beside it stands the sum of
# squares, variance $1/2$. In both, a step sees both images and averages their gradients.
#
# One trap is avoided. A decoder whose output starts at the mean of the two images would draw their average without any
# training. Here it starts at zero, and what it draws before training is measured too.
#
# The first row of each figure is the post's: a generated image, the two images, their mean. Below are more samples for
# each loss, from the same random numbers. Are they all alike, or do they differ?

# %%
recipes = {"mean of squares": (pixels / 2) ** 0.5, "sum of squares": 0.5**0.5}
models = batch_average.train_losses(couples[:3], recipes, steps=steps, seed=seed)
samples = {name: [model.sample(1000, seed=seed) for model in each] for name, each in models.items()}
display(*(charts.post_panel(drawn, samples, pair) for pair in (1, 2, 3)))

# %% [markdown]
# With the mean of squares all samples look like the average. With the sum of squares some are image A, some image B,
# some lie between, and a few overshoot into grain. Let us count: a sample is *at the mean* if its squared distance to
# the arithmetic mean is under a tenth of that to the nearer of the two images.

# %%
shares = batch_average.shares_at_mean(samples, couples)
display(charts.distances(drawn, samples), shares)

# %% [markdown]
# The post saw right: with the mean of squares practically every sample of every pair is the average, and before
# training none is. With the sum of squares few are, though gradients were averaged over the two images just the same.
#
# ## Two explanations
#
# **Averaged gradients**, the post's guess. A batch has one loss, the mean of two. Its gradient is the mean of two
# gradients: one pulls the output towards image A, one towards image B. The output ends where the pulls cancel, at the
# average. It is a fair thought: averaging is really what the arithmetic does.
#
# **Collapse of the objective**, the rival. The loss has a price for telling images apart, the KL, and a reward, less
# squared error. If the reward is too small, it is best to encode nothing. Then one output must serve both images, and
# the one of least squared error is their mean, however the gradient is taken. This can be proved.
#
# ## Why two images collapse
#
# Let $D$ be the distance between the two images, $s^2$ the variance of the decoder, and $\kappa = D^2 / (4 s^2)$ the
# *signal-to-noise ratio*. Take any encoder and any decoder. Somebody hands you a latent $z$. With probability $p(z)$ it
# came from image A. Two facts hold:
#
# - **The price.** The KL is at least the mutual information of $z$ and the image: a fair coin, less what is left to
#   guess, $\log 2 - \mathrm{E}[h(p)]$, where $h(p)$ is the entropy of a coin with probability $p$.
# - **The reward.** The best image for $z$ lies between the two, at $p$ of the way. Its expected squared error is
#   $D^2\,p(1-p)$. In the loss that is $2\kappa\,p(1-p)$ nats.
#
# So, up to a constant, the loss is at least $\log 2 - \mathrm{E}[g(p)]$ with $g(p) = h(p) - 2\kappa\,p(1-p)$, and the
# mean of $p$ over all $z$ is 1/2, for half of all latents come from A. The picture shows $g$.

# %%
charts.why_they_collapse(drawn.source)

# %% [markdown]
# For $\kappa \le 1$ it is a hill: its second derivative, $-1/(p(1-p)) + 4\kappa$, is nowhere positive, since
# $1/(p(1-p)) \ge 4$. On a hill, values of $p$ that spread around 1/2 are lower on average than 1/2 itself (Jensen). The
# best is $p = 1/2$ for every $z$: **no mutual information, and every sample is the arithmetic mean. Nothing is better,
# whatever the optimiser does.**
#
# For $\kappa > 1$ the top has a dent, and spreading pays. That this can be had, and is no mere bound, takes one line: a
# linear model costs $(1 + \log\kappa)/2$ nats where collapse costs $\kappa/2$, and $1 + \log\kappa < \kappa$.
#
# With the mean of squares $s^2 = P/2$. Pixels lie in [0, 1], so $D^2$ is at most $P$ and $\kappa$ at most 1/2: this
# loss collapses on every pair there is. In the forecasts below, the *diameter ratio* of a pair is its $\kappa$.

# %%
batch_average.forecasts({f"pair {k}": pair for k, pair in enumerate(couples, start=1)}, recipes)

# %% [markdown]
# ## i and ii. Both images in a step, or one
#
# A model for every pair, every seed, and $\kappa$ = 0.5, 3 and 10, trained on the pixels. In (i) each step averages the
# gradients of both images. In (ii) each step sees one image only, and the next step the other.
#
# | | averaged gradients predict | collapse predicts |
# | --- | --- | --- |
# | i | the mean at every kappa | the mean below 1 only |
# | ii | never the mean: nothing is averaged | the same as i |
#
# "The mean" is at least 95% of the samples of every single model, "not the mean" less than half of them. No model is
# left out. Network and learning rate were chosen on other pairs, by a rule that `batch_average` states.
#
# Each row below is the mean of all pairs and seeds. The place of a sample along the line through the two images is $t$:
# $-1$ at image A, 0 at the mean and 1 at image B; `along` is its mean size. `off` is the distance from that line, in
# halves of $D$. `theory` is the best of a single latent; these models have two, and may pass it. Compare the two rules.

# %%
both = batch_average.train(couples, batch_average.KAPPAS, starts, steps=long_steps)
in_turn = batch_average.train(couples, batch_average.KAPPAS, starts, steps=long_steps, in_turn=True)
seen = batch_average.measure({"both": both, "in turn": in_turn})
decisions = findings.both_rules(seen)
batch_average.summary(seen)

# %% [markdown]
# They hardly differ. Below 1 the samples are at the mean, also where no step ever averaged two gradients. Above 1 few
# are, also where every step did. `converged` counts models whose loss changed by less than a thousandth of a nat over
# the last fifth of the steps. Above 1 hardly any has, so the numbers there are not the last word.

# %%
charts.between_two_images(both, drawn.source)

# %% [markdown]
# For (i) as a picture: at $\kappa = 0.5$ there is one peak at the mean. At 3 and 10 there are no two peaks but
# a spread, over the mean, both images and beyond. An ideal decoder would rarely draw the mean (black line, cut off at
# the top). At $z = 0$ all draw an image near the mean (xi, in the last table: $t$ within 0.21), so one says little.
#
# ## iii, iv, vi and vii. Four changes
#
# | | what is changed | averaged gradients predict | collapse predicts |
# | --- | --- | --- | --- |
# | iii | gradients are summed, a control: Adam divides by their size | no change | no change |
# | iv | the KL is free: an autoencoder in effect | both reconstructions are the mean | they are A and B |
# | vi | the decoder learns its sigma | the mean | mutual information of $\log 2 = 0.693$ |
# | vii | absolute error, images A, A, B | $(2A + B)/3$ | A |
#
# - Below, each prediction is a range, and "yes" says that all measured values lie in it.
# - (vi): at collapse the best sigma squared is $D^2/(4P)$, which makes $\kappa = P$: the mean is no resting place.
# - (vii) has a Laplace decoder so wide that the model collapses. The image of least absolute error is the median, A.
#   The signs of the errors are averaged too, and vanish there. So this tells an average of *images* from one of
#   *gradients*, no more. The distance from A is in $D$, 1/3 at $(2A + B)/3$.

# %%
train, once = batch_average.train, {"seeds": starts[:1], "steps": long_steps}
doubled = train(couples[:1], batch_average.KAPPAS, scale=2.0, **once)
free = train(couples, [float("inf")], **once)
learned = train(couples, None, sigma="learned", learning_rate=2e-3, **once)
thrice = train([pair[[0, 0, 1]] for pair in couples], None, likelihood="laplace", sigma=float(pixels), **once)

# %%
changed = batch_average.measure({"iii": doubled, "iv": free, "vi": learned, "vii": thrice})
decisions += findings.four_changes(seen, changed)
findings.table(decisions[-4:])

# %% [markdown]
# ## v and ix. Where mutual information sets in
#
# The threshold of the theorem is $\kappa = 1$, for images however near or far. So: the same at thirteen values of
# $\kappa$. To afford it, these models see points of the line through two images: its coordinate keeps squared errors
# exactly, so the objective is the same. For each pair the theory's curve is shifted along $\kappa$ until it fits: where
# it then rises from 0 is the *critical ratio*. **Averaging predicts** no threshold, **collapse** 1, within 10%.

# %%
lines, on_a_line = [batch_average.on_a_line(pair) for pair in couples], batch_average.LINE | {"steps": sweep_steps}
swept = train(lines, batch_average.GRID, starts, **on_a_line)
alternating = train(lines, batch_average.GRID, starts, in_turn=True, **on_a_line)

# %%
line = batch_average.measure({"both": swept, "in turn": alternating})
ratios = batch_average.critical_ratios(line)
diagram = charts.phase_diagram(seen, line, ratios, both, drawn.source)
display(diagram, ratios.round(3))

# %% [markdown]
# All ratios lie within 10% of 1, though $D^2$ differs by more than a factor of two. `beta` is the same threshold for
# the sum of squares: no common number, it goes with $D^2$. The intervals are those of the fit alone, and four of the
# ten leave out 1. For marks at 0 far above 1, see (x). Last, (ix): half the contrast makes $D^2$ a quarter. **Averaging
# predicts** nothing, **collapse** that the threshold in $\beta$ is a quarter too.

# %%
grey = [batch_average.on_a_line(pair // 2) for pair in couples]
faint = batch_average.measure({"both": train(grey, batch_average.GRID, starts[:1], **on_a_line)})
decisions += [findings.decide("v", ratios["kappa"]), findings.contrast(ratios, batch_average.critical_ratios(faint))]
findings.table(decisions[-2:])

# %% [markdown]
# ## viii. Blocks of one image
#
# At $\kappa = 0.5$: so many steps on A, then as many on B, and so on. **Averaging within the batch predicts** never the
# mean. **Collapse predicts** the mean for short blocks. After blocks of half the training an optimiser has forgotten A:
# what it minimises is the loss of what it has seen lately. That is averaging too, over time. The table has the mean $t$
# of a thousand samples by length and seed.

# %%
lengths, blocks = (1, 10, long_steps), {}
for length in lengths:
    images = couples[0].repeat_interleave(length, 0)
    blocks[length] = train([images], [0.5], starts, steps=long_steps // length, in_turn=True)
blocks = batch_average.measure(blocks)
decisions += findings.blocks(blocks)
blocks.pivot_table("t", "rule", "seed").round(3)

# %% [markdown]
# ## x. A second cause of the average
#
# A model without mutual information at $\kappa = 10$ has not obeyed the objective. Its encoder is saturated: after a
# few large steps its units no longer differ between the images. It draws the average by a failure of optimisation. How
# often depends on the recipe: raw grey levels are thousands of inputs of one sign; less 1/2, as in (i), they cancel.

# %%
changes = {"silu, less 1/2": {}, "silu, raw": {"centre": 0.0}, "tanh, raw": {"centre": 0.0, "activation": "tanh"}}
at_ten = {name: train(couples, [10.0], **once, **change) for name, change in changes.items()}
findings.saturated(batch_average.measure(at_ten))

# %% [markdown]
# ## Claimed against measured
# From the least to the most of all pairs and seeds.

# %%
charts.record(shares, seen, ratios, drawn.source)
display(findings.table(decisions), findings.verdict(decisions, observed=findings.observed(shares)))

# %% [markdown]
# ## Verdict
#
# The observation holds: at the usual loss the generated image is the average of the two, for every pair. The
# explanation does not. **Within-batch averaging is neither sufficient nor necessary.** Not sufficient: with both images
# in every step and $\kappa$ of 3 or more, few samples are the average. Not necessary: with one image a step and
# $\kappa$ of one half, nearly all are. What decides is the loss. **The loss is itself an average over images, and in
# that sense half of the guess is right**: below $\kappa = 1$ one output serves both images, and the mean of the squared
# errors is least at the mean of the images. An optimiser adds an average over time, which (viii) shows at its limit. As
# to your prediction: with a proper weight of squared error $\kappa$ is far above 1, and the second choice was right.
#
# ## Your own images
#
# Whether a loss must collapse can be known before training, here or with `vae-core forecast FOLDER --size 32`.
# *Certain* means that no encoder is worth its KL, *escapes* that even a linear model does better.

# %%
chosen = load_images(own_images, "all", size=32) if own_images else load_images(data, limit=25, substitute=True)
losses = recipes | {"mean of squares": (chosen.images[0].numel() / 2) ** 0.5, "sigma 0.1": 0.1}
batch_average.forecasts({f"{len(chosen.images)} images": chosen.images}, losses)

# %% [markdown]
# ## Explore
#
# The post's third row, alive: move kappa through the phase diagram, and the sliders at each. Every stop is a trained
# model of (v), first pair, first seed. Near 1 the image begins to leave the average; by 10 it is close to one of the
# two. Below it is the first pair with the sum of squares, a model of the pixels.

# %%
stops = swept[: len(batch_average.GRID) * len(starts) : len(starts)]
alive = {f"{run.kappa:g}": batch_average.on_images(run.model, couples[0]) for run in stops}
walk = charts.traversals(models["sum of squares"][0], drawn.source)
display(explore(alive, couples[0], along="kappa", still=diagram))
explore(models["sum of squares"][0], couples[0], still=walk)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Find the place in the plane where the decoded image is closest to the average. How wide is it?
# 2. **A parameter.** Set `own_images` to a folder with two photographs. Where is their threshold, in kappa and in beta?
# 3. **A line of code.** Add `"threshold": 97**0.5` to `recipes`: $D^2/4$ of pair 1, so $\kappa = 1$. What comes?
#
# <details><summary>Answers</summary>
#
# 1. A narrow band between two regions, one for each image. With the mean of squares it is the whole plane.
# 2. In kappa at 1, as for every pair. In beta at $D^2/2$ with the sum of squares, so it depends on the images.
# 3. The average, after longer training. Just below, the model begins to encode a little of the difference.
#
# </details>
#
# ## Further reading
#
# - Lucas, Tucker, Grosse, Norouzi, *Don't Blame the ELBO!*, arXiv 1911.02469: when collapse is the optimum.
# - Dai and Wipf, arXiv 1903.05789: the decoder's variance and what it does.
