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
#         steps: 20,20
#       full:
#         steps: 2000,2000
#     sweeps:
#     - ladder_mnist
#     - ladder_cifar10
# ---

# %% [markdown]
# # How to get better images
#
# **What the post claims.** Nothing here: it shows blurry images and stops. What should a reader do instead?
#
# **What you will do.** Start from the post's recipe and climb a ladder. Each step changes one thing and keeps all that
# came before. After each step you look at generated images and measure them, on digits and on photographs.
#
# **What you need.** Notebooks 00 and 02. The trainings here are short, a minute on one core. Longer ones are loaded.
#
# ## Your prediction
#
# Six changes are ahead: the scale of the loss, the width of the pixels' noise, convolution, another likelihood, a
# warm-up of beta, and another distribution to draw z from. Which buys the most, for digits and for photographs? And
# does every step help?
#
# 1. Convolution: a network made for images must draw better ones.
# 2. The scale: as long as the loss asks for an average, nothing else can help.
# 3. The last: a better decoder is of no use where z comes from a place that it was never trained on.

# %% tags=["parameters"]
data = "mnist,cifar10"
images = 5000
latent_dims = "10,32"
steps = "600,300"
components = 20
measured = 1000
seed = 0

# %%
import pandas as pd
from IPython.display import display

from vae_core import explore
from vae_core.study import likelihood_table, sharper_images
from vae_core.study.sweep import items, whole_numbers

# %%
sets = {name: sharper_images.load(name, images, measured) for name in items(data)}
{name: tuple(one.training.images.shape) for name, one in sets.items()}

# %% [markdown]
# ## The ladder
#
# Let an image have $P$ pixel values, and let $L$ be the loss that training makes small:
#
# $$L = -\log p(x \mid z) + \beta\,\mathrm{KL}\big(q(z \mid x) \,\|\, N(0, I)\big)$$
#
# With a Gaussian of variance $\sigma^2$ for the pixels, the first term is the squared error over $2\sigma^2$, and a
# constant. So $\sigma$ says how much a wrong pixel costs beside a nat of KL.
#
# 1. **Mean of squares**: what we take for the post's recipe. Averaging the squared error over the pixels is the same as
#    a variance of $P/2$: 392 for a digit, where pixels lie between 0 and 1. Layers are fully connected.
# 2. **Sum of squares**: the same error, summed. The variance is $1/2$, so an error costs $P$ times as much.
# 3. **Learned sigma**: the variance is one more weight, trained with the others. It ends near the error that is left.
# 4. **Convolution**: the same likelihood, another network. It looks at neighbouring pixels together.
# 5. **Logistic**: a discretised logistic of learned width gives each of the 256 grey levels a probability.
# 6. **Warm-up of beta**: beta rises from 0 to 1 in the first third of the training. The encoder learns before it pays.
# 7. **Ex-post density estimation**: nothing is trained any more. The training images are encoded, a mixture of
#    Gaussians is fitted to where they land, and z is drawn from that mixture instead of $N(0, I)$.
#
# Step 7 is another model of z, for drawing only. The ELBO stays under $N(0, I)$, and so do reconstructions.

# %%
changes = sharper_images.RUNGS | {}  # a step of your own goes into the braces
pd.DataFrame({"what the step changes": changes}).rename_axis("step")

# %% [markdown]
# ## Climb it
#
# Every step gets the same images, number of training steps, learning rate and seed: two neighbours differ in one
# change.
#
# The table shows how wide each model takes its own pixel noise to be; 1 is the way from black to white. For two steps
# that is a choice, from the third on it is learned. A deviation of 20 says that a pixel tells nothing at all.

# %%
size, length = whole_numbers(latent_dims), whole_numbers(steps)
models = {
    name: sharper_images.train(one, size[i], length[i], seed, changes) for i, (name, one) in enumerate(sets.items())
}
pd.DataFrame({name: {step: f"{model.sigma:.3f}" for step, model in of.items()} for name, of in models.items()})

# %% [markdown]
# The learned widths begin at 1 and are still on their way down when these short trainings end. Where they would stop
# can be computed: at the root of the squared error that is left, about 0.18 for digits with the third step.
#
# ## Look
#
# Every model decodes the same vectors z from $N(0, I)$; the last row decodes vectors from the mixture. You see decoder
# means, without pixel noise, and nothing was picked by hand. What does the last row have that the one above it lacks?
#
# - **Fréchet distance** to the training images, in 50 principal components. Test images have about 1.
# - **Sharpness**: the log ratio of Laplacian energy to that of test images. 0 is right, below is blur.

# %%
for name, one in sets.items():
    samples = sharper_images.draw(one, models[name], seed=seed, components=components)
    display(sharper_images.sample_figure(one, samples, name))

# %% [markdown]
# The mean of squares draws all but one image again and again: for digits the average of the training set. The model has
# no reason to encode anything, and notebook 03 proves why. Digits get strokes, then edges. For photographs the fully
# connected layers draw grain, and convolution takes it away; a blur is left, in so short a training.
#
# ## Reconstructions
#
# A generated image can be bad for two reasons. The decoder may draw badly, or it may draw well from a z that no image
# was ever encoded to. Reconstructions tell which: their z comes from a real image. They do not depend on step 7.

# %%
for name, of in models.items():
    x = sets[name].test.images[:10] / 255
    rebuilt = {step: model.reconstruct(x).clip(0, 1) for step, model in of.items()}
    display(sharper_images.image_rows(sets[name], "test images, rebuilt after each step", rebuilt))

# %% [markdown]
# For digits, compare the last row here with the same step among the generated images. The reconstructions are better:
# the decoder was only asked at the wrong places. That is the gap that ex-post density estimation closes.
#
# ## Claimed against measured
#
# One short training with one seed may be lucky. The same ladders were climbed with three seeds for 2,191 steps. Their
# results come with the package, and `vae-core sweep ladder_mnist` trains one of the ladders on your machine.
#
# First the likelihood itself, for digits, as means over the seeds: ELBO and KL in nats per test image.

# %%
published = sharper_images.load_published()
published["MNIST"].groupby("step", sort=False)[["elbo", "kl", "squared_error"]].mean().round(3)

# %% [markdown]
# Read the KL column first. It is 0 after the first step: the latent vector says nothing. Then it grows with every step
# that makes a wrong pixel more expensive, up to 30 nats, and the squared error falls along with it.
#
# The ELBO seems to collapse at the fifth step. It does not. A density of grey levels and a probability of 256 values
# are different things: compare steps 1 to 4 with each other, and steps 5 and 6. Step 7 trains nothing.
#
# Now the images. **SSIM**, the structural similarity of reconstructed test images to their originals, joins in.

# %%
sharper_images.score_figure(published, "; ".join(one.training.source for one in sets.values()))

# %% [markdown]
# In Fréchet distance both ladders end far below where they began, at 1.6 and 8.8. But some steps lead up.
#
# ## Verdict
#
# A step counts where the 95% interval of its mean change over the seeds leaves out 0. Each seed is held against itself,
# so that luck which two neighbours share drops out. First the Fréchet distance: `nearer` is by how much it falls.

# %%
sharper_images.verdict(published, "frechet")

# %% [markdown]
# **For digits the sum of squares buys the most**: 29.0 of the 41.7 that the ladder gains. Convolution adds 8.1, and
# ex-post density estimation 7.1. The warm-up hurts: perhaps the encoder spreads too far at first.
#
# **For photographs convolution buys the most**, 260, and ex-post density estimation 45. The sum of squares and the
# learned sigma make it worse. A fully connected decoder that is told to care for every pixel draws noise.
#
# Now sharpness. Its ideal is 0, from either side, and `nearer` is by how much a step comes nearer to it:

# %%
sharper_images.verdict(published, "sharpness")

# %% [markdown]
# For digits the scale, convolution, the logistic and the last step all help. For photographs only the scale does, and
# the last step hurts: photographs end as blurred as they began, at -3.6 against -3.7. **The ladder has made better
# photographs, and not sharp ones.**
#
# Three seeds are few, and so are 2,191 training steps: a step can also win because it learns faster.
#
# Back to your prediction. The second choice is right for digits, the first for photographs, and the third in part for
# both. Sharpness sees edges and does not care whose: the grain of a fully connected decoder counts as sharp.
#
# ## Explore
#
# The end of the ladder for digits. *Random z* draws from $N(0, I)$, so it shows step 6, and an encoded image shows
# where z comes from in step 7. Without a kernel you see a picture: along each row one dimension goes from -2 to 2.

# %%
first, end = sets[items(data)[0]], list(models[items(data)[0]].values())[-1]
figure = likelihood_table.traversals(end, first.test, "ladder_traversals", title="The end of the ladder", dimensions=5)
explore(end, first.test, still=figure)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Encode image 0, then press *Random z* a few times. Are the sliders further out where it is no digit?
# 2. **A parameter.** Set `components = 1`: the mixture is then one Gaussian. How much of step 7 is left? Then set
#    `latent_dims = "10,128"`: what becomes of the photographs?
# 3. **A line of code.** Put `{"half beta": {"beta": 0.5}}` in place of the `{}` beside `RUNGS`: one more step, after
#    the warm-up. What do reconstructions gain, and what do samples from $N(0, I)$ lose?
#
# <details><summary>Answers</summary>
#
# 1. No: on average they are as far out. They are elsewhere, in gaps that the encoder leaves.
# 2. Most of it: one Gaussian corrects means, scales and correlations. With 128 dimensions reconstructions of
#    photographs hardly change, and samples from $N(0, I)$ get worse: there are more gaps to fall into.
# 3. Reconstructions gain a little, as if sigma were smaller. Samples get worse: the posteriors shrink, and the gaps
#    between them grow. The mixture makes up for that.
#
# </details>
#
# ## Further reading
#
# - Rybkin, Daniilidis, Levine, arXiv 2006.13202: decoders whose width is calibrated, as in steps 2 and 3.
# - Salimans and others, arXiv 1701.05517: the discretised logistic of step 5, there with mixtures.
# - Ghosh and others, arXiv 1903.12436: ex-post density estimation. Dai and Wipf, arXiv 1903.05789: why it helps.
