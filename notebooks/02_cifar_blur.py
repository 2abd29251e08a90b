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
#         steps: 60
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
# write, and with the same error summed. Compare what each generates. Then put
# four suspects side by side: the scale of the loss, squared error itself, the number of images, the
# network.
#
# **What you need.** Notebook 00. Two or three minutes on one core.

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

from vae_core import TrainConfig, VAEConfig, effective_variance, fit, load_images
from vae_core.explorer.widget import explore
from vae_core.latent import kl_by_dimension, traverse
from vae_core.plots.charts import Line, Panel, panels
from vae_core.plots.figures import Section, image_sections, save, save_results, table
from vae_core.quality import laplacian_energy, sharpness
from vae_core.runs import runs_folder
from vae_core.scores import detail
from vae_core.study import cifar_blur
from vae_core.study.sweep import load_sweep, whole_numbers

# %%
numbers = whole_numbers(counts)
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
# Pixels lie between 0 and 1. A deviation of $\sqrt{P/2}$ is many times the whole range, in every pixel; the cell below
# says how many. Under such noise telling images apart gains less than the KL charges for it.
#
# Both recipes below start the decoder's output at zero. A decoder that starts at the mean of the
# images would draw their average before it has learned anything.

# %%
recipes = {"mean of squares": math.sqrt(pixels / 2), "sum of squares": math.sqrt(1 / 2)}
losses = {recipe: {"likelihood": "gaussian", "sigma": sigma} for recipe, sigma in recipes.items()}
networks = {"mlp": (256, 128), "conv": (16, 32, 64)}


def configure(loss, network="mlp", latents=latent_dim):
    return VAEConfig(image_shape=shape, latent_dim=latents, hidden=networks[network], architecture=network,
                     output_bias="zero", **losses[loss])  # fmt: skip


def trained(config, images, steps=steps, seed=seed):
    n, batch = len(images.images), min(25, len(images.images))
    training = TrainConfig(epochs=math.ceil(steps * batch / n), batch_size=batch, learning_rate=3e-3, seed=seed)
    return fit(config, training, images, cache=runs_folder())


variances = {recipe: effective_variance(configure(recipe), beta=1.0) for recipe in recipes}
print(f"{pixels:,} pixel values: a deviation of {recipes['mean of squares']:.0f} times the whole range")
variances

# %%
runs = {(n, recipe): trained(configure(recipe), sets[n]) for n in numbers for recipe in recipes}

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
setting = name == "CIFAR-10" and numbers == [200, 100, 25] and steps >= 1500
naive, scaled = ({n: measured[n, f"{how} of squares"] for n in numbers} for how in ("mean", "sum"))
print(cifar_blur.cifar_blur(naive, scaled, posts_setting=setting))

# %% [markdown]
# ## Four suspects
#
# How much of the blur is the scale's, and how much do other causes hold? Everything is now
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
# The networks are the one above and a small convolutional one. Each trains for the same number of
# steps of 25 images, so many images are seen less often each; the second cell below says how often.
#
# The results are loaded. `vae-core sweep cifar_blur` trains it all on your machine, and
# `vae-core reproduce 02 --preset full` puts what comes of it here.

# %%
losses |= {"learned sigma": {"likelihood": "gaussian", "sigma": "learned"},
           "logistic": {"likelihood": "logistic", "sigma": "learned"}}  # fmt: skip
fewest, most = min(numbers), 5000
try:
    sets[most] = load_images(data, limit=most, seed=seed, substitute=True)
except ValueError:
    print(f"{source} has fewer than {most:,} images: left out")

# %%
loaded = load_sweep("cifar_blur")
rows = loaded.rows
print(loaded.told)
length, latents = rows[0]["steps"], rows[0]["latents"]
grid = [row for row in rows if (row["steps"], row["latents"]) == (length, latents)]
cells = {(row["images"], row["loss"], row["architecture"]): row for row in reversed(grid)}
sizes, kinds = sorted({n for n, *_ in cells}), list(dict.fromkeys(row["loss"] for row in grid))
print("; ".join(f"{n:,} images: {length * min(25, n) / n:,.0f} passes over each" for n in sizes))
looks = ("generated", "reconstructed")
table([
    {"training images": n, "loss": loss,
     **{f"{look}, {network}": round(cells[n, loss, network][f"sharpness, {look}"], 2)
        for look in looks for network in networks},
     **{f"{what}, mlp": cells[n, loss, "mlp"][what] for what in ("ssim", "information", "active units")}}
    for n in sizes for loss in kinds
])  # fmt: skip


# %%
def by_number(look, loss, network):
    """One line: a loss and a network, over the number of images, with twice the deviation of repeated trainings."""
    y = [cells[n, loss, network][f"sharpness, {look}"] for n in sizes]
    spread = 2 * cifar_blur.repeated(grid, f"sharpness, {look}")[1] ** 0.5
    name, style = (f"{loss}, conv", "o--") if network == "conv" else (loss, "o-")
    ends = [value - spread for value in y], [value + spread for value in y]
    return Line(name, sizes, y, (0, 1, 2, 6)[kinds.index(loss) % 4], style, *ends)


average = Line("their mean image", sizes, [cells[n, kinds[0], "mlp"]["mean image"] for n in sizes], 9, ":")
level = Line("training images", sizes, [0] * len(sizes), 9, ":")
parts = [
    Panel(f"{look.capitalize()} images", "log energy ratio",
          [*(by_number(look, loss, network) for loss in kinds for network in networks), average, level])
    for look in looks
]  # fmt: skip

# %%
figure = panels("Sharpness by loss, network and number of training images", parts,
                across="training images", ticks=sizes, height=350, right=0.355)  # fmt: skip
told = [
    f"{loss}, {network}: {', '.join(f'{cells[n, loss, network][key]:.1f}' for n in sizes)}"
    for key in ("sharpness, generated",) for loss in kinds for network in networks
]  # fmt: skip
alt = f"Sharpness of generated images (0: as the data) after {', '.join(map(str, sizes))} images. {'; '.join(told)}."
caption = f"{length:,} steps, {latents} latent dimensions; bars: twice the pooled deviation of "
caption += f"repeated trainings at {fewest} images, drawn at every point."
save(figure, "cifar_sharpness", alt=alt, caption=caption, source=rows[0]["data"], svg=True)

# %% [markdown]
# ## How much is whose
#
# Each change is made in every setting in which all else can stay the same, and its effects are
# averaged. Where the loss must stand still it is the sum of squares: a collapsed model draws one
# image whatever the network, and would hide what the network does.
#
# The error behind ± is a standard error. It says what chance does, by three trainings of each loss on other images
# with other weights, at the smallest number of images. Where an effect differs more from setting to setting, it
# says how much.

# %%
parts = {look: cifar_blur.blur_parts(grid, f"sharpness, {look}") for look in looks}
table(
    [{"change": change, **{f"{look} images": str(parts[look][change]) for look in looks}} for change in parts[looks[0]]]
)

# %%
posts = rows[0]["data"].startswith("cifar10:") and {25, 100, 200, 5000} <= set(sizes) and length >= 3000
print(cifar_blur.blur_sources(parts["generated"], posts_setting=posts))

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
# More steps, and more latent dimensions, show how much of this matters.

# %%
twins = [(cells[row["images"], row["loss"], row["architecture"]], row) for row in rows if row not in grid]
table([
    {"training images": b["images"], "loss": b["loss"], "network": b["architecture"],
     "steps": f"{a['steps']:,} to {b['steps']:,}", "latents": f"{a['latents']} to {b['latents']}",
     "generated": f"{a['sharpness, generated']:.2f} to {b['sharpness, generated']:.2f}",
     "reconstructed": f"{a['sharpness, reconstructed']:.2f} to {b['sharpness, reconstructed']:.2f}"}
    for a, b in twins
] or [{"doubled": "nothing"}])  # fmt: skip

# %%
table([
    {"training images": n, "loss": loss, "sigma": cells[n, loss, "mlp"]["sigma"],
     "root of the squared error": math.sqrt(cells[n, loss, "mlp"]["squared error"]),
     "gained in the last fifth (nats)": cells[n, loss, "mlp"]["elbo gained in the last fifth"],
     "nearest training image": cells[n, loss, "mlp"]["nearest"]}
    for n in sizes for loss in kinds
])  # fmt: skip

# %% [markdown]
# A sigma far above the root of the squared error has not arrived: it fell as far as its steps took it.
#
# ## The same images under each remedy
#
# Left three training images and what each model makes of them, right three images from the prior. The
# models are trained now, with as many steps as those of the post's panels.

# %%
few = sorted(numbers)[len(numbers) // 2]
remedies = [(few, loss, "mlp") for loss in losses] + [(few, "sum of squares", "conv")]
remedies += [(most, "sum of squares", "mlp")] if most in sets else []
x = sets[few].images.float() / 255
white = torch.ones(1, *shape)
told = f"{few} training images. Below: left reconstructed,\nright generated, with the sharpness of both (data: 0)"
sections = [Section(told, torch.cat([x[:3], white, x[3:6]]))]
for n, loss, network in remedies:
    model = trained(configure(loss, network), sets[n]).model
    found = detail(model, sets[n].images, seed=seed)
    pictures = torch.cat([model.reconstruct(x[:3]), white, model.sample(3, seed=seed)])
    told = f"{loss.capitalize()}, {network}" + (f", {n:,} images" if n != few else "")
    told += f": {found.reconstruction_sharpness.value:+.1f} and {found.sample_sharpness.value:+.1f}"
    sections.append(Section(told, pictures))

# %%
figure = image_sections(f"{name}: what each remedy buys", sections, columns=7)
alt = "For each remedy three reconstructed and three generated images. Sharpness of both (0: as the data): "
alt += "; ".join(section.label for section in sections[1:]) + "."
caption = (
    f"After each loss and network the sharpness of all reconstructed and of 1,000 generated images. {steps:,} steps."
)
save(figure, "cifar_remedies", alt=alt, caption=caption, source=source)

# %%
results = [
    {"claim": f"sharpness of generated images, {recipe}, {n} training images", "value": value,
     "unit": "log ratio of Laplacian energy", "standard_error": errors[n, recipe],
     "seeds": 1, "images": 1000, "source": source, "tolerance": 0.1 if recipe == "mean of squares" else 0.6}
    for (n, recipe), value in measured.items()
]  # fmt: skip
results += [
    {"claim": f"sharpness of {look} images gained by: {change}", "value": part.value,
     "unit": "log ratio of Laplacian energy", "standard_error": part.error,
     "seeds": len({row["seed"] for row in grid}), "images": 1000, "source": rows[0]["data"]}
    for look in looks for change, part in parts[look].items()
]  # fmt: skip
results += [
    {"claim": f"sharpness of {look} images in the sweep, {loss}, {network}, {n} training images",
     "value": row[f"sharpness, {look}"], "unit": "log ratio of Laplacian energy",
     "standard_error": row[f"error, {look}"], "seeds": 1, "images": 1000, "source": row["data"]}
    for (n, loss, network), row in cells.items() for look in looks
]  # fmt: skip
save_results("02_cifar_blur", results)

# %% [markdown]
# Back to your prediction. Read it off the table of parts, and mind two things.
#
# Sharp is not the same as good. A sample between two training images can be a blend, or carry edges
# where none should be: a sharpness above 0 says so. And a sample that copies a training image
# is as sharp as it, and new to nobody: compare the distance to the nearest training image.

# %% [markdown]
# ## Explore
#
# The model with the sum of squares, trained on the fewest images. With the other recipe the sliders
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
