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
#
# **What the post claims.** On CIFAR-10 the generated images are very blurry, even when the model is
# trained on only 200, 100 or 25 images.
#
# **What you will do.** Train on exactly that few images, twice: with the loss that most tutorials
# write, and with the same error summed. Compare what each generates. Then put four suspects side by
# side: the scale of the loss, squared error itself, the number of images, the network.
#
# **What you need.** Notebook 00, and about a minute on one core.

# %% [markdown]
# ## Your prediction
#
# Twenty-five images are few. Any network here has enough weights to learn them by heart. So why
# would its images be blurry?
#
# 1. Photographs are too varied: two hundred of them cannot teach a network what edges are.
# 2. Squared error punishes a sharp edge in the wrong place more than a soft one. Blur is safe.
# 3. Something in the loss makes it not worth telling the images apart.
# 4. Layers that join every pixel to every other know nothing of neighbours. A convolutional
#    network would draw edges.
#
# And a second question: after training on 5,000 images instead of 25, are generated images sharper
# or blurrier? A reason for sharper: more examples. A reason for blurrier: more to tell apart.
# Write both answers down before you go on.

# %% tags=["parameters"]
data = "cifar10"
counts = "200,100,25"
steps = 600
latent_dim = 10
seed = 0

# %%
import math

from IPython.display import display

from vae_core import explore, load_images
from vae_core.quality import sharpness
from vae_core.study import cifar_blur
from vae_core.study.sweep import whole_numbers

# %% [markdown]
# The three sets are nested: the 25 images are among the 100, and these among the 200. What differs
# between two trainings below is therefore how many images there are, and hardly which.

# %%
numbers = whole_numbers(counts)
sets = {n: load_images(data, limit=n, seed=seed, substitute=True) for n in numbers}
shape = sets[numbers[0]].images.shape[1:]
shape

# %% [markdown]
# Three colours, 32 rows, 32 columns: each image is a list of 3,072 numbers between 0 and 1. The
# model squeezes it into ten numbers and back.
#
# ## One loss, two scales
#
# The usual loss is squared error plus the KL. Per image, with $P$ pixel values and error $e$, any
# loss $a \lVert e \rVert^2 + b\,\mathrm{KL}$ is the ELBO of a Gaussian decoder, up to a constant and
# a factor. To see it, write down what a Gaussian of variance $\sigma^2$ says of an error:
#
# $$-\log p(x \mid z) = \frac{\lVert e \rVert^2}{2 \sigma^2} + \text{const}.$$
#
# Divide the loss by $b$ and compare: the variance is $b / (2a)$. So nobody escapes choosing one. The
# two habits choose very different ones.
#
# - **Sum of squares**: $a = 1$, so the variance is $1/2$.
# - **Mean of squares**, the common habit: $a = 1/P$, so the variance is $P/2$.
#
# The variance is not a detail of notation. It says how far a pixel may stray from what the decoder
# draws before anybody is surprised. The next cell turns both into deviations.

# %%
pixels = math.prod(shape)
recipes = {"mean of squares": math.sqrt(pixels / 2), "sum of squares": math.sqrt(1 / 2)}
recipes

# %% [markdown]
# A deviation of 39, where a pixel lies between 0 and 1! The mean of squares believes in pixel noise
# that is 39 times wider than the whole range from black to white. Under such noise all photographs
# look alike. Telling them apart gains next to nothing, and the KL charges for every nat that the
# ten numbers carry. The best offer is then to carry none, and to draw one image, the average, for
# everybody. This is called **posterior collapse**. It is no accident of training: it is what the
# loss asks for.
#
# Both recipes below start the decoder's output at zero. A decoder that starts at the mean of the
# images would draw their average before it has learned anything, and prove nothing.
#
# Now train: each set of images with each loss, everything else the same. The package can prove,
# from the images and the variance alone, that the mean of squares must collapse. It warns before
# the first step, and you need not believe it: look at the pictures.

# %%
runs = {}
for n in numbers:
    for loss, sigma in recipes.items():
        likelihood = {"likelihood": "gaussian", "sigma": sigma}
        runs[n, loss] = cifar_blur.train(sets[n], likelihood, steps=steps, latents=latent_dim, seed=seed)
print(runs[numbers[0], "mean of squares"].forecast)

# %% [markdown]
# ## What they generate
#
# In every figure: training images, then for each loss images from the prior, and reconstructions of
# the training images above. What is drawn is the decoder's mean, without pixel noise.
#
# First the 200 images, then 100, then 25. Look for two things. Do the seven generated images differ
# from each other at all? And where they do, is what you see detail, or is it noise?

# %%
for n in numbers:
    models = {loss: runs[n, loss].model for loss in recipes}
    display(cifar_blur.draw(sets[n], models, seed=seed))

# %% [markdown]
# Under the mean of squares there is one picture, seven times. It is the average of the training
# images, and the reconstructions are that picture too: the encoder says nothing. Nothing about it
# depends on how few the images are. With 25 of them you can even guess some shapes, because the
# average of few images is less smooth than that of many.
#
# Under the sum of squares, on the same images and with the same network, the pictures differ. With
# 25 images the reconstructions are recognisable, and many generated images are training images, or
# two of them on top of each other. With 200 images they are rough: there is much detail, and not
# all of it is right.
#
# ## Claimed against measured
#
# "Blurry" needs a number. An edge is where a pixel differs from its neighbours. The **Laplacian**
# takes, at each pixel, the sum of its four neighbours minus four times itself: zero in a flat or
# evenly shaded region, large at an edge. Its mean square over an image is the energy of its detail,
# and our measure is
#
# $$\text{sharpness} = \log \frac{\text{mean energy of generated images}}{\text{mean energy of training images}}.$$
#
# 0 is right, below is blur, above is detail that should not be there. Before we trust such a
# measure, we try it on something whose blur we know: the average of all training images. When $N$
# unlike images are averaged, their details cancel like noise, and about $1/N$ of the energy is left.
# So its sharpness should be about $-\log N$.

# %%
x = sets[numbers[0]].images.float() / 255
sharpness(x.mean(0, keepdim=True), x), -math.log(len(x))

# %% [markdown]
# The two agree. A model that draws the average of 200 images can have no more sharpness than that,
# unless noise in its weights adds some. Now all six models, with 1,000 generated images each.

# %%
measured = cifar_blur.measure(sets, runs, seed=seed)
measured.round(2)

# %% [markdown]
# Read the KL first: how many nats the ten numbers carry about an image. Under the mean of squares it
# is zero, so the encoder is silent; under the sum it is several nats. Then compare "generated" with
# the mean image in the last column. What a collapsed model draws above that is noise that a short
# training left in its weights. It shrinks when one trains longer: the sweep below, with five times as
# many steps, has less of it.
#
# We call a set of images blurry when less than a quarter of the energy is left, a sharpness below
# -1.39. That decides the claim.

# %%
cifar_blur.verdict(measured)

# %% [markdown]
# **Verdict.** In the published run the claim holds for the usual loss: with the mean of squares,
# generated images are blurry for 200, for 100 and for 25 training images. But it does not hold
# because the images are few. With the sum of squares the same network on the same images is not
# that blurry for any of the three numbers, and the list of exceptions above is empty.
#
# ## Four suspects
#
# How much of the blur is the scale's, and how much do other causes hold? To find out, everything was
# trained with everything: four numbers of images, four losses, two networks.
#
# The four losses are steps along two roads, which must be kept apart.
#
# - **Scale.** From the mean to the sum of squares nothing changes but the variance. From the sum to a
#   *learned* sigma, again nothing else: the variance becomes a weight of the model.
# - **Shape.** A discretised logistic is no squared error: it charges a large error in proportion and
#   not in square. Its width is learned too, so the Gaussian with a learned sigma is what to
#   compare it with. Against the sum of squares both roads would be walked at once.
#
# The networks are a fully connected one, with layers twice as wide as above, and a small
# convolutional one. Each trains for 3,000 steps of 25 images, five times as many as above. So 25
# images are seen 3,000 times each, and 5,000 images 15 times each.
#
# This takes a quarter of an hour, so the results are loaded. `vae-core sweep cifar_blur` trains it
# all on your machine, and `vae-core reproduce 02 --preset full` puts what comes of it here.

# %%
grid, more = cifar_blur.published()
cifar_blur.chart(grid)

# %% [markdown]
# Follow the colours. The lowest solid line, the mean of squares, lies far below the other three at
# every number of images: there is the scale. Its dashed twin, convolutional, lies exactly on the
# dotted line of the mean image: a network with few weights keeps no noise.
#
# Now follow any line from left to right. It falls. More images make generated images *blurrier*, and
# reconstructions even more so. With 5,000 images and ten numbers to tell them apart, every model here
# gives up the detail of single images.
#
# And compare solid with dashed lines of one colour. The convolutional network, which knows of
# neighbours, is the blurrier one throughout.
#
# ## How much is whose
#
# Each change is made in every setting in which all else can stay the same, and its effects are
# averaged. Where the loss must stand still it is the sum of squares: a collapsed model draws one
# image whatever the network, and would hide what the network does.
#
# The error is a standard error. It says what chance does, by three trainings of each loss on other
# images with other weights, at the smallest number of images. Where an effect differs more from
# setting to setting, it says how much. "low" and "high" are the least and the most over settings. A
# change has an effect when its value is more than two errors from 0.

# %%
parts = cifar_blur.parts(grid, "generated")
parts.round(2)

# %% [markdown]
# The unit is nats of log energy: +2.8 multiplies the energy of detail by seventeen. One row needs a
# second look. The shape of the error does nothing on average, but read its ends: in some settings it
# sharpens and in others it blurs. An average of zero can hide two effects.
#
# Then read the last column from top to bottom. What sharpens could be a remedy; what does not sharpen
# cannot be what was missing.
#
# **Verdict on the suspects**, in the published sweep. Of the four, only the scale of the loss is
# shown to blur: taking the sum instead of the mean sharpens by 2.8 nats, and nothing else that is
# not scale sharpens beyond chance. A learned width, which is scale again, adds 0.7. The convolutional
# network blurs by 1.8. More images blur by 2.3, so scarcity is not the cause; it is the opposite of
# one.
#
# What an encoder can keep is easier to see in reconstructions, which need no luck with the prior:

# %%
cifar_blur.parts(grid, "reconstructed").round(2)

# %% [markdown]
# **What this design cannot separate.**
#
# - *More images* are also fewer passes over each, at the same number of steps, and more images for the
#   same ten numbers to tell apart.
# - *The logistic* has a best width that is not the Gaussian's. Its road is shape, plus what is left of
#   scale.
# - *The convolutional network* has far fewer weights than the other. A difference may be size.
# - *Noise counts as detail.* Under the mean of squares the best there is is the mean image (lower dotted
#   line). What a model draws above it is noise that training left in its weights, and such noise is
#   in the samples of the other losses too.
# - *The parts do not add up.* Under the mean of squares nothing but the scale matters, because the model
#   draws one image. What a change does depends on what was changed before.
# - *A learned sigma falls slowly*: by no more than the learning rate a step, in the logarithm. On images
#   that can be learned by heart it would fall for ever, and the likelihood rise without bound.
#
# Four more trainings, all with the sum of squares, show how much the first of these matter: twice the
# steps, or 64 latent dimensions instead of ten. Compare each with the line of the sum of squares above.

# %%
setting = ["images", "architecture", "steps", "latents"]
more[[*setting, "sharpness, generated", "sharpness, reconstructed"]].round(2)

# %% [markdown]
# Twice the steps sharpen a little, and leave 5,000 images where they were: lack of training is not
# what blurs them. Neither are ten numbers too few. With 64 latent dimensions the generated images
# are blurrier still: the loss pays for no more of them.
#
# The last table says whether the widths have arrived. The best sigma is the root of the squared
# error of a pixel. A sigma far above it fell as far as its steps took it, and no further.

# %%
dense = grid.query("architecture == 'mlp' and seed == 0").sort_values("images", kind="stable")
dense[["images", "loss", "sigma", "root error", "active units", "ssim", "nearest"]].round(3)

# %% [markdown]
# The mean of squares uses no unit at all, the sum four to six of ten, a learned sigma nearly all. The
# structural similarity of reconstructions, 1 for a copy, tells where images are learned by heart: up
# to 100 of them, but not 5,000. "nearest" is the squared distance of a generated image to the nearest
# training image, a pixel. It is small for copies, and smaller still for the average of all.
#
# ## The same images under each remedy
#
# Numbers hide what noise looks like. Here are the remedies as pictures, for the middle one of the
# three sets: left three training images and what each model makes of them, right three images from
# the prior. Three more models are trained now, with as many steps as those of the post's panels.

# %%
middle = sorted(numbers)[len(numbers) // 2]
models = {f"{loss}, mlp": runs[middle, loss].model for loss in recipes}
for loss, network in (("learned sigma", "mlp"), ("logistic", "mlp"), ("sum of squares", "conv")):
    likelihood = cifar_blur.losses(shape)[loss]
    run = cifar_blur.train(sets[middle], likelihood, network, steps=steps, latents=latent_dim, seed=seed)
    models[f"{loss}, {network}"] = run.model
cifar_blur.remedies(sets[middle], models, seed=seed)

# %% [markdown]
# Go down the left half: each remedy gives back more of the images, and the convolutional network
# gives them back softly, without speckle. Then go down the right half, and be disappointed: sharp is
# not the same as good. What the dense networks draw from the prior has as much energy as a photograph,
# and little of it lies where edges would.

# %%
cifar_blur.record(measured, sets[numbers[0]].source, grid)

# %% [markdown]
# Back to your prediction. The third answer was the right one: the loss makes it not worth telling
# the images apart. The first has it backwards, since more images blur. The second is squared error,
# and another error changes nothing on average. The fourth fails too: convolution blurs here.
#
# Mind two things. A sample between two training images can be a blend, or carry edges where none
# should be: a sharpness above 0 says so. And a sample that copies a training image is as sharp as it,
# and new to nobody: compare the distance to the nearest training image.
#
# ## Explore
#
# The model with the sum of squares, trained on the fewest images. Each slider is one of the ten
# numbers, in the order of their use. With the other loss the sliders do next to nothing. Try it:
# `explore(runs[numbers[-1], "mean of squares"].model, sets[numbers[-1]].images)`.

# %%
model, images = runs[numbers[-1], "sum of squares"].model, sets[numbers[-1]]
explore(model, images.images, still=cifar_blur.traversals(model, images))

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Encode image 0, then move the most used slider slowly. Does the picture pass
#    through other training images on its way?
# 2. **A parameter.** Set `counts = "1000"`. Which loss changes more?
# 3. **A line of code.** Add `"a tenth": math.sqrt(1 / 20)` to `recipes`. Are reconstructions sharper?
#    Are samples?
#
# <details><summary>Answers</summary>
#
# 1. Often. With 25 images and ten dimensions the decoder can keep each image in a region of its own.
# 2. The sum of squares: its reconstructions soften, because more images share the same ten numbers.
#    The mean of squares has nothing to lose.
# 3. Reconstructions, yes. Samples need not be: the regions of the images shrink, and more of the
#    prior lies between them.
#
# </details>
#
# ## Further reading
#
# - Rybkin, Daniilidis, Levine, *Simple and Effective VAE Training with Calibrated Decoders*,
#   arXiv 2006.13202: sum, not mean, and learn the variance.
# - Mathieu, Couprie, LeCun, arXiv 1511.05440: how squared error blurs.
# - Notebook 03 takes the smallest set there is: two images.
