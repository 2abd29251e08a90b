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
# **What you will do.** Start from the post's recipe and climb a ladder. Each step changes one thing and keeps all that
# came before. After each step you look at generated images and measure them, on digits and on photographs.
#
# **What you need.** Notebooks 00 and 02. The trainings here are short, about a minute on one core in all. Longer ones,
# with three seeds, are loaded.

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
# And does every step help? Write down your answers. They may differ for digits and photographs.

# %% tags=["parameters"]
data = "mnist,cifar10"
images = 5000
latent_dims = "10,32"
steps = 300
components = 20
measured = 1000
seed = 0

# %%
import pandas as pd
from IPython.display import display

from vae_core import explore
from vae_core.study import likelihood_table, sharper_images
from vae_core.study.sweep import items, whole_numbers

# %% [markdown]
# Both sets are small on purpose: a few thousand training images and a thousand test images. A step of the ladder must
# be judged in seconds, and the differences that matter here are large. For photographs the latent vector is longer, 32
# numbers instead of 10, because a photograph holds more than a digit does.

# %%
sets = {name: sharper_images.load(name, images, measured) for name in items(data)}
dims = dict(zip(sets, whole_numbers(latent_dims), strict=True))
{name: tuple(one.training.images.shape) for name, one in sets.items()}

# %% [markdown]
# ## The ladder
#
# Let an image have $P$ pixel values, and let $L$ be the loss that training makes small:
#
# $$L = -\log p(x \mid z) + \beta\,\mathrm{KL}\big(q(z \mid x) \,\|\, N(0, I)\big)$$
#
# With a Gaussian of variance $\sigma^2$ for the pixels, the first term is the squared error over $2\sigma^2$, and a
# constant. So $\sigma$ says how much a wrong pixel costs beside a nat of KL. That is the whole ladder's first half.
#
# 1. **Mean of squares**: what we take for the post's recipe. Averaging the squared error over the pixels is the same as
#    a variance of $P/2$: 392 for a digit, where pixels lie between 0 and 1. Layers are fully connected.
# 2. **Sum of squares**: the same error, summed. The variance is $1/2$, so an error costs $P$ times as much.
# 3. **Learned sigma**: the variance is one more weight, trained with the others. It ends near the error that is left.
# 4. **Convolution**: the same likelihood, another network. It looks at neighbouring pixels together.
# 5. **Logistic**: a discretised logistic of learned width gives each of the 256 grey levels a probability. It forgives
#    a few large errors more than a Gaussian does.
# 6. **Warm-up of beta**: beta rises from 0 to 1 in the first third of the training. The encoder may learn before it has
#    to pay.
# 7. **Ex-post density estimation**: nothing is trained any more. The training images are encoded, a mixture of
#    Gaussians is fitted to where they land, and z is drawn from that mixture instead of $N(0, I)$.
#
# Step 7 is another model of z, for drawing only. The ELBO stays under $N(0, I)$, and so do reconstructions.
#
# Digits could also be black and white, with a Bernoulli likelihood. But that changes the data, and its numbers would be
# of other images than those of the steps before. The logistic keeps the grey levels on both ladders.
#
# In the table a step names what it changes of the model's or the training's settings. All else it inherits.

# %%
changes = sharper_images.RUNGS | {}  # a step of your own goes into the braces
pd.DataFrame({"what the step changes": changes}).rename_axis("step")

# %% [markdown]
# ## Climb it
#
# Six trainings for each set of images. Every step gets the same images, the same number of training steps, the same
# learning rate and the same seed, so that what differs between two neighbours is the one change.
#
# Below each model says how wide it takes its own pixel noise to be. For the first two steps that is a choice. From the
# third on it is learned. Watch how far the learned value is from the first choice: a deviation of 20 grey levels on a
# scale from 0 to 1 says that a pixel tells nothing at all.

# %%
models = {name: sharper_images.train(one, dims[name], steps, seed, changes) for name, one in sets.items()}
pd.DataFrame({name: {step: f"{model.sigma:.3f}" for step, model in of.items()} for name, of in models.items()})

# %% [markdown]
# The learned widths are small, a fraction of the full scale. Convolution lowers them again: what the decoder draws
# comes nearer to the image, so less is left to call noise. The width of a logistic is its scale parameter. Its standard
# deviation is $\pi/\sqrt 3$, or 1.8 times that, so the last two rows have no direct comparison with the rows above.
#
# Now draw. Every model decodes the same vectors z from $N(0, I)$. The last entry decodes vectors from the mixture, with
# the model of step 6. What comes out are the decoder's means, clipped to [0, 1], without the pixel noise.

# %%
samples = {name: sharper_images.draw(one, models[name], seed=seed, components=components) for name, one in sets.items()}
[f"{step}: {tuple(x.shape)}" for step, x in samples[items(data)[0]].items()][-2:]

# %% [markdown]
# ## Look
#
# Each row is one step, and nothing was picked by hand. Two numbers stand beside it.
#
# - **Fréchet distance** of generated images to training images, in the first 50 principal components. It compares the
#   means and the covariances of the two sets. Small means that the images vary as the data do. Test images do not reach
#   0 either; they are about 1 away.
# - **Sharpness**: the log ratio of Laplacian energy to that of test images. 0 is right, below is blur, above is more
#   edges than real images have.
#
# Look at three things. Where do the images stop being all the same? Where do strokes get a clean edge? And what does
# the last row have that the row above it lacks?

# %%
for name, one in sets.items():
    display(sharper_images.sample_figure(one, samples[name], name))

# %% [markdown]
# The first row is one image, drawn eight or ten times: the average of the training set. The model has no reason to
# encode anything, and notebook 03 proves why. From the second row on the images differ.
#
# These trainings are short. What the longer ones end at follows below.
#
# ## Reconstructions
#
# A generated image can be bad for two reasons. The decoder may draw badly, or it may draw well from a z that no image
# was ever encoded to. Reconstructions separate the two: their z comes from a real image. They show how much of an image
# the latent vector carries, and they do not depend on step 7.

# %%
for name, of in models.items():
    x = sets[name].test.images[:10] / 255
    rebuilt = {step: model.reconstruct(x).clip(0, 1) for step, model in of.items()}
    display(sharper_images.image_rows(sets[name], "test images, rebuilt after each step", rebuilt))

# %% [markdown]
# Compare a late row here with the same row of the generated images. The reconstructions are clearly better. The decoder
# can draw a proper digit; it was only asked at the wrong place. That is the gap that the last step closes.
#
# ## Claimed against measured
#
# One short training with one seed may be lucky. The same ladders were climbed with three seeds and seven times as long,
# 2,191 steps each. Their results are loaded from the files that come with the package. `vae-core sweep ladder_mnist`
# trains one of the ladders on your machine.
#
# First the numbers of the likelihood itself, for digits, as means over the seeds. The ELBO and its KL are in nats per
# image, under $N(0, I)$, on test images.

# %%
published = sharper_images.load_published()
published["MNIST"].groupby("step", sort=False)[["elbo", "kl", "squared_error"]].mean().round(3)

# %% [markdown]
# Read the KL column first. It is 0 after the first step: the latent vector says nothing. Then it grows with every step
# that makes a wrong pixel more expensive, up to 30 nats. The squared error falls along with it.
#
# The ELBO looks as if it collapsed at the fifth step. It did not. A density of grey levels and a probability of 256
# values are different things, so the column compares steps 1 to 4 with each other, and steps 5 and 6, and never one
# group with the other. The last two rows are equal in everything: step 7 trains nothing.
#
# Now what the images are like. **SSIM**, the structural similarity of reconstructed test images to their originals,
# joins the two numbers from above.

# %%
sharper_images.score_figure(published, "; ".join(one.training.source for one in sets.values()))

# %% [markdown]
# Both ladders end far below where they began, at a Fréchet distance of 1.6 for digits and 8.8 for photographs. But they
# get there by different steps, and on the way some steps lead up.
#
# ## Verdict
#
# A step counts where the 95% interval of its mean change over the seeds leaves out 0. Each seed is held against itself,
# after and before the step, so that luck which two neighbours share drops out. `nearer` is by how much the measure
# comes nearer to its ideal. First the Fréchet distance, whose ideal is 0:

# %%
sharper_images.verdict(published, "frechet")

# %% [markdown]
# **For digits the sum of squares buys the most**: 29.0 of the 41.7 that the whole ladder gains. Convolution adds 8.1,
# and ex-post density estimation 7.1. The warm-up hurts: the encoder spreads its images while beta is small, and
# $N(0, I)$ fits them less well for it.
#
# **For photographs convolution buys the most**, 260, and ex-post density estimation 45. The sum of squares and the
# learned sigma make it worse. A fully connected decoder that is told to care for every pixel draws noise.
#
# Now sharpness. Its ideal is 0 too, from either side:

# %%
sharper_images.verdict(published, "sharpness")

# %% [markdown]
# For digits the scale, convolution, the logistic and the last step all help. For photographs only the scale does, and
# the last step hurts: photographs end as blurred as they began, at -3.6 against -3.7. **The ladder has made better
# photographs, and not sharp ones.**
#
# Three seeds are few: all can have the same sign, and it is still undecided. What a step buys also depends on the steps
# before it. And all steps get the same number of training steps, and that is few. So a step can also win because it
# learns faster.
#
# Back to your prediction. The second choice is right for digits, the first for photographs, and the third is right for
# both in part: the last step is large and costs no training. Not every step helps. Compare the two measures, too.
# Sharpness sees edges and does not care whose. The Fréchet distance sees whether the images vary as the data do, and
# hardly sees edges. A step can help with one and hurt the other: the pixel noise of a fully connected decoder counts as
# sharp.
#
# ## Explore
#
# The end of the ladder for the first set of images. The sliders start at the prior's mean. *Random z* draws from
# $N(0, I)$, so it shows step 6, and an encoded image shows where z comes from in step 7. Without a kernel you see a
# picture instead: along each row one dimension goes from -2 to 2. Which of them changes the slant, which the thickness?

# %%
first, end = sets[items(data)[0]], list(models[items(data)[0]].values())[-1]
title = "The end of the ladder: the most used dimensions, from -2 to 2"
figure = likelihood_table.traversals(end, first.test, "ladder_traversals", title=title, dimensions=5)
explore(end, first.test, still=figure)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Encode image 0, then press *Random z* a few times. Which of the drawn digits is no digit? Look at the
#    sliders: are they further out than those of an encoded image?
# 2. **A parameter.** Set `components = 1`. The mixture is then one Gaussian with the mean and covariance of the
#    posterior samples. How much of step 7 is left? Then set `latent_dims = "10,128"`: what becomes of the photographs?
# 3. **A line of code.** Put `{"half beta": {"beta": 0.5}}` in place of the `{}` beside `RUNGS`: one more step, after
#    the warm-up. What do reconstructions gain, and what do samples from $N(0, I)$ lose?
#
# <details><summary>Answers</summary>
#
# 1. No: on average they are as far out. They are elsewhere, in gaps that the encoder leaves.
# 2. Most of it: one Gaussian corrects means, scales and correlations. For digits the other components add something,
#    for photographs next to nothing. With 128 dimensions reconstructions of photographs hardly change, and samples from
#    $N(0, I)$ get worse: there are more gaps to fall into.
# 3. Reconstructions gain a little, as if sigma were smaller. Samples get worse by the Fréchet distance: the posteriors
#    shrink, and the gaps between them grow. The mixture makes up for that.
#
# </details>
#
# ## Further reading
#
# - Rybkin, Daniilidis, Levine, *Simple and effective VAE training with calibrated decoders*, arXiv 2006.13202: steps 2
#   and 3.
# - Salimans and others, arXiv 1701.05517: the discretised logistic of step 5, there with mixtures.
# - Ghosh and others, *From variational to deterministic autoencoders*, arXiv 1903.12436: ex-post density estimation.
# - Dai and Wipf, arXiv 1903.05789: why a second model of z helps, as in step 7.
# - Hoffman and Johnson, *ELBO surgery*, 2016: how far the posterior samples, taken together, are from the prior.
