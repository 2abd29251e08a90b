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
#     - cifar_{counts}
#     - cifar_sharpness
#     - cifar_remedies
#     - cifar_traversals
#     least:
#       counts: 1
#       latent_dim: 1
#       seed: 0
#       steps: 1
#     presets:
#       fast:
#         steps: 40
#       full: {}
#     sweeps:
#     - cifar_blur
# ---

# %% [markdown]
# # Why are the photographs blurry?
# **What the post claims.** On CIFAR-10 the generated images are very blurry, even when the model is trained on only
# 200, 100 or 25 images.
#
# **What you will do.** Train on so few images twice, with the mean of squared errors, a common loss, and with their
# sum. Then put four suspects side by side: scale, squared error, number of images, network. It takes about a minute.
#
# ## Your prediction
# Any network here could learn 25 images by heart. So why would its images be blurry? And with 5,000 instead?
#
# 1. Photographs are too varied: two hundred of them cannot teach a network what edges are.
# 2. Squared error punishes a sharp edge in the wrong place more than a soft one. Blur is safe.
# 3. Something in the loss makes it not worth telling the images apart.
# 4. Layers that join every pixel to every other know nothing of neighbours. Convolution would draw edges.

# %% tags=["parameters"]
data = "cifar10"
counts = "200,100,25"
steps = 750
latent_dim = 10
seed = 0

# %%
import math

import pandas as pd
from IPython.display import display

from vae_core import explore, load_images
from vae_core.study import cifar_blur
from vae_core.study.sweep import whole_numbers

# %%
numbers = whole_numbers(counts)
sets = {n: load_images(data, limit=n, seed=seed, substitute=True) for n in numbers}
shape = sets[numbers[0]].images.shape[1:]
shape

# %% [markdown]
# Three colours, 32 rows, 32 columns: an image is 3,072 numbers between 0 and 1, which the model squeezes into ten. The
# sets are nested: the 25 images are among the 100, and these among the 200.
#
# ## One loss, two scales
# The usual loss is squared error plus the KL. Per image, with $P$ pixel values and error $e$, any loss $a \lVert e
# \rVert^2 + b\,\mathrm{KL}$ is minus the ELBO of a Gaussian decoder, up to a constant and a factor. A Gaussian of
# variance $\sigma^2$ charges an error $\lVert e \rVert^2 / (2 \sigma^2)$ nats. Divide the loss by $b$ and compare: the
# variance is $b / (2a)$. Nobody escapes choosing one. With $b = 1$ the sum of squares, $a = 1$, has the variance $1/2$;
# the mean of squares, $a = 1/P$, has the variance $P/2$. The variance says how far a pixel may stray from what the
# decoder draws before anybody is surprised. Its square roots, the deviations:

# %%
pixels = math.prod(shape)
recipes = {"mean of squares": math.sqrt(pixels / 2), "sum of squares": math.sqrt(1 / 2)}
recipes

# %% [markdown]
# A deviation of 39, where a pixel lies between 0 and 1! The mean of squares believes in noise 39 times wider than the
# range from black to white. Under such noise telling photographs apart gains next to nothing, and the KL charges for
# every nat that the ten numbers carry. The best offer is to carry none, and to draw the average for everybody. This is
# **posterior collapse**, and no accident of training: it is what the loss asks for. The package proves it from images
# and variance alone, and warns. In both recipes the decoder's output starts at zero, not at the mean of the images: an
# average that comes out has been learned.

# %%
runs, training = {}, {"steps": steps, "latents": latent_dim, "seed": seed}
for n in numbers:
    for loss, sigma in recipes.items():
        runs[n, loss] = cifar_blur.train(sets[n], {"likelihood": "gaussian", "sigma": sigma}, **training)
pd.DataFrame([runs[n, "mean of squares"].forecast for n in numbers], index=numbers).round(3)

# %% [markdown]
# The diameter ratio is the squared distance of the two most unlike images over $4\sigma^2$. Where it is 1 or less,
# nothing is better than collapse, whatever the networks. Were the other ratio above 1, encoding would surely pay.
#
# ## What they generate
# Training images, then for each loss images from the prior, and reconstructions. Do the seven generated images differ
# from each other at all? And where they do, is what you see detail, or is it noise?

# %%
for n in numbers:
    models = {loss: runs[n, loss].model for loss in recipes}
    display(cifar_blur.draw(sets[n], models, seed=seed))

# %% [markdown]
# Under the mean of squares there is one picture, seven times. It is the average of the training images, but for some
# noise, and so is every reconstruction: the encoder says nothing. Under the sum of squares, with all else the same,
# pictures differ. With 25 images the reconstructions are recognisable; with 200 they are clouds of the right colours.
#
# ## Claimed against measured
# "Blurry" needs a number. The **Laplacian** takes, at each pixel, the sum of its four neighbours minus four times
# itself: nothing where the shade is even, much at an edge. Its mean square is the energy of an image's detail.
# **Sharpness** is the logarithm of the mean energy of generated images over that of training images. 0 is right, below
# is blur, above is detail that should not be there. Try it on a blur that we know. When $N$ unlike images are
# averaged, about $1/N$ of the energy is left. So their sharpness should be about $-\log N$.

# %%
x = sets[numbers[0]].images.float() / 255
cifar_blur.sharpness(x.mean(0, keepdim=True), x), -math.log(len(x))

# %% [markdown]
# The two agree. Now the six models, by 1,000 generated images each, with the standard error of their sharpness.

# %%
measured = cifar_blur.measure(sets, runs, seed=seed)
measured.set_index(["training images", "loss"]).round(2)

# %% [markdown]
# The KL is how many nats the ten numbers carry about an image: none under the mean of squares, 9 to 12 under the sum.
# What a collapsed model has above the mean image, last column, is noise left in its weights. We call images blurry
# when less than a quarter of the energy is left, a sharpness below -1.39.

# %%
cifar_blur.verdict(measured)

# %% [markdown]
# **Verdict.** In the published run the claim holds for the mean of squares: generated images are blurry for 200,
# for 100 and for 25 training images. But not because the images are few. With the sum of squares the same network on
# the same images is never that blurry: the list of numbers at which it would be is empty.
#
# ## Four suspects
# Now everything with everything: four numbers of images, four losses, two networks. The losses differ in two ways:
#
# - **Scale.** From the mean to the sum, and to a *learned* sigma, nothing changes but the variance.
# - **Shape.** A logistic charges large errors in proportion, not in square; it is compared with the learned sigma.
#
# The networks, one fully connected (`mlp`) and one convolutional (`conv`), have layers twice as wide as above, and
# train for 3,000 steps of 25 images. The results are loaded; `vae-core sweep cifar_blur` trains it all again.

# %%
grid, more = cifar_blur.published()
cifar_blur.chart(grid)

# %% [markdown]
# The lowest solid line, the mean of squares, lies far below the other three: there is the scale. Every line ends lower
# than it starts: 5,000 images make *blurrier* ones than 25. Among generated images, dashed lies below solid of one
# colour: convolution, which knows of neighbours, is blurrier.
#
# ## How much is whose
# A row a change, and what it does to sharpness: from the mean to the sum of squares; on to a learned sigma; from that
# to a logistic; from `mlp` to `conv`; from 25 to 5,000 images. Each is made in every setting in which all else can stay
# the same: `value` is its mean effect, `low` and `high` its least and most. The last two are measured under the sum of
# squares, as a collapsed model is blind to its network. The error is a standard error, from three trainings at 25
# images, or from the settings' differences, where these are larger.

# %%
parts = cifar_blur.parts(grid, "generated")
parts.round(2)

# %% [markdown]
# The unit is nats: +2.8 multiplies the energy of detail by seventeen. **Verdict on the suspects**, in the published
# sweep: of the four only the scale explains the blur. The sum instead of the mean sharpens by 2.8, and a learned width,
# which is scale again, adds 0.7. The three others do not sharpen. Another shape of the error does nothing on average:
# it sharpens in some settings and blurs in others. Convolution blurs by 1.8, and more images by 2.3, so scarcity is not
# the cause. The same for reconstructions, which need no luck with the prior:

# %%
cifar_blur.record(measured, sets[numbers[0]].source, grid)
cifar_blur.parts(grid, "reconstructed").round(2)

# %% [markdown]
# **What this design cannot separate.** More images are also fewer passes over each. The logistic has a best width that
# is not the Gaussian's. The convolutional network has far fewer weights. Noise counts as detail. The parts do not add
# up. Four more trainings with the sum of squares try twice the steps, or 64 dimensions.

# %%
more = more.set_index(["images", "architecture", "steps", "latents"])
more[["sharpness, generated", "sharpness, reconstructed"]].round(2)

# %% [markdown]
# Twice the steps sharpen a little: generated images have -0.3 at 200 images, before -0.5, and -1.3 with convolution,
# before -1.6. With 5,000 images they stay at -2.1. With 64 dimensions these are blurrier still.
#
# ## The same images under each remedy
# Three more models are trained now, on the middle one of the three sets.

# %%
middle, kinds = sorted(numbers)[len(numbers) // 2], cifar_blur.losses(shape)
models = {f"{loss}, mlp": runs[middle, loss].model for loss in recipes}
for loss, network in (("learned sigma", "mlp"), ("logistic", "mlp"), ("sum of squares", "conv")):
    models[f"{loss}, {network}"] = cifar_blur.train(sets[middle], kinds[loss], network, **training).model
cifar_blur.draw(sets[middle], models, seed=seed, remedies=True)

# %% [markdown]
# A learned sigma gives back most of the images, the logistic a little less. Now look at what they generate: sharp is
# not good. A sample can have the energy of a photograph, and little of it where edges would be.
#
# Your prediction? The third answer was right: the loss makes it not worth telling the images apart. The first has it
# backwards, since more images blur. Another error than squares changes nothing on average, and convolution blurs here.
#
# ## Explore
# The model with the sum of squares, trained on the fewest images. With the other loss the sliders do next to nothing.

# %%
model, images = runs[numbers[-1], "sum of squares"].model, sets[numbers[-1]]
explore(model, images.images, still=cifar_blur.traversals(model, images))

# %% [markdown]
# ## Try it
# 1. **A slider.** Encode image 0, then move the most used slider slowly. Do other training images pass by?
# 2. **A parameter.** Set `counts = "1000"`. Which loss changes more?
# 3. **A line of code.** Add `"a tenth": math.sqrt(1 / 20)` to `recipes`. Are reconstructions sharper? Are samples?
#
# <details><summary>Answers</summary>
#
# 1. Often: with ten dimensions the decoder can keep each of 25 images in a region of its own.
# 2. The sum of squares: reconstructions soften, as more images share ten numbers. The mean has nothing to lose.
# 3. Reconstructions, yes. Samples pass 0, but with noise: the images' regions shrink, with more prior between them.
#
# </details>
#
# ## Further reading
# Rybkin, Daniilidis, Levine, *Simple and Effective VAE Training with Calibrated Decoders*, arXiv 2006.13202. How
# squared error blurs: Mathieu, Couprie, LeCun, arXiv 1511.05440.
