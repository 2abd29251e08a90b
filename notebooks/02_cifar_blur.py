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
#     - cifar_traversals
#     least:
#       counts: 1
#       latent_dim: 1
#       seed: 0
#       steps: 1
#     presets:
#       fast:
#         steps: 60
#       full:
#         counts: 5000,200,100,25
#         steps: 6000
# ---

# %% [markdown]
# # Why are the photographs blurry?
#
# **What the post claims.** On CIFAR-10 the generated images are very blurry, even when the model is
# trained on only 200, 100 or 25 images.
#
# **What you will do.** Train on exactly that few images, twice: with the loss that most tutorials
# write, and with the same loss brought to its proper scale. Compare what each generates.
#
# **What you need.** Notebook 00. About a minute on one core.

# %% [markdown]
# ## Your prediction
#
# Twenty-five images are few. Any network here has enough weights to learn them by heart. So why
# would its images be blurry?
#
# 1. Photographs are too varied: two hundred of them cannot teach a network what edges are.
# 2. Squared error punishes a sharp edge in the wrong place more than a soft one. Blur is safe.
# 3. Something in the loss makes it not worth telling the images apart.

# %% tags=["parameters"]
data = "cifar10"
counts = "200,100,25"
steps = 1500
latent_dim = 10
seed = 0

# %%
import math

import torch
from IPython.display import display

from vae_core import TrainConfig, VAEConfig, effective_variance, fit, load_images, verdict
from vae_core.explore import explore
from vae_core.figures import Section, image_sections, save, save_results, table
from vae_core.latent import kl_by_dimension, traverse
from vae_core.quality import laplacian_energy, sharpness
from vae_core.runs import runs_folder

# %%
numbers = [int(word) for word in counts.split(",")]
sets = {n: load_images(data, limit=n, seed=seed, substitute=True) for n in numbers}
source, name = sets[numbers[0]].source, sets[numbers[0]].title
shape = tuple(sets[numbers[0]].images.shape[1:])
pixels = math.prod(shape)
print(source, shape)

# %% [markdown]
# ## One loss, two scales
#
# The usual loss is squared error plus the KL. Per image, with $P$ pixel values and error $e$, any
# loss $a \lVert e \rVert^2 + b\,\mathrm{KL}$ is the ELBO of a Gaussian decoder, up to a constant and
# a factor. Its variance is $b / (2a)$.
#
# - **Sum of squares**: $a = 1$, so the variance is $1/2$.
# - **Mean of squares**, the common habit: $a = 1/P$, so the variance is $P/2$.
#
# Pixels lie between 0 and 1. For 3,072 of them a deviation of $\sqrt{P/2}$ is 39 times the whole range,
# in every pixel. Under such noise no image can be told from any other, and telling
# them apart is exactly what the KL charges for.
#
# Both recipes below start the decoder's output at zero. A decoder that starts at the mean of the
# images would draw their average before it has learned anything.

# %%
recipes = {"mean of squares": math.sqrt(pixels / 2), "sum of squares": math.sqrt(1 / 2)}
configs = {
    recipe: VAEConfig(image_shape=shape, latent_dim=latent_dim, hidden=(256, 128), likelihood="gaussian",
                      sigma=sigma, output_bias="zero")
    for recipe, sigma in recipes.items()
}  # fmt: skip
variances = {recipe: effective_variance(config, beta=1.0) for recipe, config in configs.items()}
variances

# %%
runs = {}
for n in numbers:
    for recipe, config in configs.items():
        batch = min(25, n)
        training = TrainConfig(epochs=math.ceil(steps * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
        runs[n, recipe] = fit(config, training, sets[n], cache=runs_folder())

# %% [markdown]
# ## What they generate
#
# In every figure: training images, then for each recipe images from the prior and reconstructions
# of the training images above. What is drawn is the decoder's mean, without pixel noise.

# %%
saved = {}
for n in numbers:
    x = sets[n].images[:7].float() / 255
    sections = [Section("Training images", x)]
    for recipe in recipes:
        model, label = runs[n, recipe].model, f"{recipe.capitalize()} (variance {variances[recipe]:g})"
        sections += [
            Section(f"{label}:\ngenerated", model.sample(7, seed=seed)), Section("reconstructed", model.reconstruct(x))
        ]  # fmt: skip
    figure = image_sections(f"{name}, trained on {n} images", sections, columns=7)
    x = sets[n].images.float() / 255
    sharp = [
        f"{sharpness(runs[n, recipe].model.sample(1000, seed=seed), x):.1f} with the {recipe}" for recipe in recipes
    ]
    alt = (
        f"Rows of seven images after training on {n} images of {name}: training images, then generated and "
        f"reconstructed ones for each loss. The sharpness of generated images (0: as the data) is {', '.join(sharp)}."
    )
    caption = (
        f"Gaussian decoder of variance {variances['mean of squares']:g} above, {variances['sum of squares']:g} below."
    )
    saved[n] = save(figure, f"cifar_{n}", alt=alt, caption=caption, source=source)

# %%
display(*saved.values())

# %% [markdown]
# ## Claimed against measured
#
# Sharpness is the logarithm of a ratio: the mean squared Laplacian of the images over that of the
# training images. 0 is right, below is blur, above is artefact. The mean of $N$ unlike images has
# a sharpness of about $-\log N$.

# %%
measured, errors, rows = {}, {}, []
for (n, recipe), run in runs.items():
    x = sets[n].images.float() / 255
    generated, rebuilt = run.model.sample(1000, seed=seed), run.model.reconstruct(x)
    measured[n, recipe], energy = sharpness(generated, x), laplacian_energy(generated)
    errors[n, recipe] = (energy.std() / energy.mean() / len(energy) ** 0.5).item()
    rows.append({
        "training images": n, "loss": recipe, "variance": variances[recipe], "KL (nats)": round(run.records[-1].kl, 3),
        "sharpness, generated": round(measured[n, recipe], 2),
        "sharpness, reconstructed": round(sharpness(rebuilt, x), 2),
        "sharpness of the mean image": round(sharpness(x.mean(0, keepdim=True), x), 2),
    })  # fmt: skip
table(rows)

# %%
save_results("02_cifar_blur", [
    {"claim": f"sharpness of generated images, {recipe}, {n} training images", "value": value,
     "unit": "log ratio of Laplacian energy", "standard_error": errors[n, recipe],
     "seeds": 1, "images": 1000, "source": source}
    for (n, recipe), value in measured.items()
])  # fmt: skip
setting = name == "CIFAR-10" and numbers == [200, 100, 25] and steps >= 1500
naive, scaled = ({n: measured[n, f"{how} of squares"] for n in numbers} for how in ("mean", "sum"))
print(verdict.cifar_blur(naive, scaled, posts_setting=setting))

# %% [markdown]
# Sharp is not the same as good. With the sum of squares the reconstructions show the training
# images again. The samples between them can be blends, or carry edges where none should be: a
# sharpness above 0 says so.
#
# Back to your prediction. Where the mean of squares has a KL of 0 and the sum has not, the third choice
# was right: nothing else differs between the two. The second still holds what is left: compare the
# reconstructions of the sum of squares with their originals as the number of images grows.

# %% [markdown]
# ## Explore
#
# The model with the proper scale, trained on the fewest images. With the other recipe the sliders
# do next to nothing. Try it: `explore(runs[numbers[-1], "mean of squares"].model, given)`.

# %%
model, given = runs[numbers[-1], "sum of squares"].model, sets[numbers[-1]].images
explore(model, given)

# %%
used = kl_by_dimension(model, given).argsort(descending=True)[:5].tolist()
walk = traverse(model, used, torch.linspace(-2, 2, 7))
sections = [Section(f"z[{i}], all others 0", row) for i, row in zip(used, walk, strict=True)]
figure = image_sections(
    f"Sum of squares, {numbers[-1]} images: the most used dimensions, from -2 to 2", sections, columns=7
)
alt = f"Rows of seven images: along each row one latent dimension of {used} goes from -2 to 2."
save(figure, "cifar_traversals", alt=alt, caption="What single dimensions draw.", source=source)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Encode image 0, then move the most used slider slowly. Does the picture pass
#    through other training images on its way?
# 2. **A parameter.** Set `counts = "1000"`. Which recipe changes more?
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
