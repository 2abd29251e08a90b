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
#     - batch_average_{pairs}
#     - batch_average_distances
#     - batch_average_traversals
#     least:
#       pairs: 1
#       seed: 0
#       steps: 1
#     presets:
#       fast:
#         steps: 60
#       full:
#         pairs: 1,2,3,4,5,6,7,8
#         steps: 5000
# ---

# %% [markdown]
# # Two images and their average
#
# **What the post claims.** Trained on a single batch of two images, the model generates something
# that looks like their average. The author's guess at the cause: back-propagation averages the
# gradient over the batch.
#
# **What you will do.** Repeat it with three pairs of images. Measure how close a thousand generated
# images come to the arithmetic mean, before and after training. Then change one number in the loss,
# leave the averaging of gradients alone, and look again.
#
# **What you need.** Notebook 00; notebook 02 helps. Half a minute on one core.

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
pairs = "1,2,3"
steps = 1200
seed = 0

# %%
import math

import torch
from IPython.display import display

from vae_core import VAE, TrainConfig, VAEConfig, effective_variance, fit, load_images, verdict
from vae_core.charts import Spread, spreads
from vae_core.explore import explore
from vae_core.figures import Section, image_sections, save, save_results, table
from vae_core.latent import traverse
from vae_core.metrics import pair_distances
from vae_core.runs import runs_folder

# %%
numbers = [int(word) for word in pairs.split(",")]
drawn = load_images(data, limit=2 * max(numbers), seed=seed, substitute=True)
batches_of_two = {k: drawn.images[2 * k - 2 : 2 * k] for k in numbers}
shape, source, name = tuple(drawn.images.shape[1:]), drawn.source, drawn.title
pixels = math.prod(shape)
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
    (k, recipe): fit(config, training, pair, cache=runs_folder())
    for k, pair in batches_of_two.items()
    for recipe, config in configs.items()
}

# %% [markdown]
# ## What they generate
#
# The first row is the post's: one generated image with the mean of squares, the two images, their mean.
# Below are more samples from the prior, for each loss. All models get the same random numbers.

# %%
saved = {}
for k, pair in batches_of_two.items():
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
        f"loss. Of 1,000 generated images are at the mean: {', '.join(told)}."
    )
    caption = f"{name}, pair {k}, {steps} steps, prior samples; variances of the Gaussian decoder as stated."
    saved[k] = save(figure, f"batch_average_{k}", alt=alt, caption=caption, source=source)

# %%
display(*saved.values())

# %% [markdown]
# ## Claimed against measured
#
# For a thousand prior samples of each model: the mean squared distance to the arithmetic mean, over
# that to the nearer of the two images. Under a tenth, a sample counts as the average.

# %%
distances = {}
for k, pair in batches_of_two.items():
    untrained = VAE(configs["mean of squares"], seed=seed)
    distances[k, "before training"] = pair_distances(untrained.sample(1000, seed=seed), pair)
    for recipe in recipes:
        distances[k, recipe] = pair_distances(runs[k, recipe].model.sample(1000, seed=seed), pair)
table([
    {"pair": k, "model": when, "distance to the mean": d.to_mean.median().item(),
     "to the nearer image": d.to_nearer.median().item(), "samples at the mean": f"{d.share_at_mean():.1%}"}
    for (k, when), d in distances.items()
])  # fmt: skip

# %%
kinds = ["before training", *recipes]
rows = [
    Spread(f"pair {k}, {when.replace(' training', '')}", (d.to_mean / d.to_nearer).numpy(), kinds.index(when))
    for when in kinds for k in numbers for d in [distances[k, when]]
]  # fmt: skip
figure = spreads(f"How far {name} samples fall from the average", rows, mark=0.1, mark_label="the average",
                 label="distance to mean / to nearer image")  # fmt: skip
low = min(distances[k, "mean of squares"].share_at_mean() for k in numbers)
high = max(distances[k, "sum of squares"].share_at_mean() for k in numbers)
alt = (
    f"Ratios of distances for {len(numbers)} pairs on a log axis. After training with the mean of squares at least "
    f"{low:.1%} of samples are at the mean; with the sum of squares at most {high:.1%}; before training at most "
    f"{max(distances[k, 'before training'].share_at_mean() for k in numbers):.1%}."
)
caption = "1,000 prior samples a row: median and the middle 90%."
save(figure, "batch_average_distances", alt=alt, caption=caption, source=source, svg=True)

# %%
shares = {when: [distances[k, when].share_at_mean() for k in numbers] for when in kinds}
save_results("03_batch_average", [
    {"claim": f"share of samples at the mean, {when}, pair {k}", "value": share, "unit": "share of samples",
     "standard_error": (share * (1 - share) / 1000) ** 0.5, "seeds": 1, "images": 1000, "source": source}
    for when in kinds for k, share in zip(numbers, shares[when], strict=True)
])  # fmt: skip
setting = name == "CIFAR-10" and numbers == [1, 2, 3] and steps >= 1200
before, naive, scaled = (shares[when] for when in ("before training", "mean of squares", "sum of squares"))
print(verdict.batch_average(before, naive, scaled, posts_setting=setting))

# %% [markdown]
# ## Why
#
# Let $D$ be the distance between the two images, $s^2$ the variance of the decoder, and
# $\kappa = D^2 / (4 s^2)$. Take any encoder and any decoder. A latent $z$ came from the first image
# with some probability $p(z)$. Two facts hold:
#
# - The KL is at least the information that $z$ carries, $\log 2 - \mathrm{E}[h(p)]$, where $h$ is the
#   entropy of a coin with probability $p$.
# - The best image for $z$ lies between the two. The expected squared error, summed over pixels, is at
#   least $D^2\,\mathrm{E}[p(1-p)]$, which costs $2\kappa\,\mathrm{E}[p(1-p)]$ nats.
#
# So, up to a constant, the loss is at least $\log 2 - \mathrm{E}[h(p) - 2\kappa\,p(1-p)]$. The second derivative of the
# bracket is $-1/(p(1-p)) + 4\kappa$, and $1/(p(1-p))$ is at least 4. For $\kappa \le 1$ the bracket
# is concave, and its mean is largest when $p$ is 1/2 everywhere: **no information, and every sample
# is the arithmetic mean. No other solution is better, whatever the optimiser does.**
#
# With the mean of squares $s^2 = P/2$. Pixels lie in [0, 1], so $D^2$ is at most $P$ and $\kappa$ at
# most 1/2. The average is not a failure of training. It is what this loss asks for.

# %%
squared = {k: ((p[0].float() - p[1].float()) / 255).square().sum().item() for k, p in batches_of_two.items()}
table([
    {"pair": k, "squared distance": square,
     **{f"kappa, {recipe}": square / (4 * s2) for recipe, s2 in variances.items()}}
    for k, square in squared.items()
])  # fmt: skip

# %% [markdown]
# Back to your prediction. If few samples with the sum of squares are at the mean, the second choice was
# right, and the guess of the post was not: both losses average their gradients.

# %% [markdown]
# ## Explore
#
# The first pair with the sum of squares: two sliders and their plane. On the way from one image to
# the other lies a blend of both.

# %%
model = runs[numbers[0], "sum of squares"].model
explore(model, batches_of_two[numbers[0]])

# %%
walk = traverse(model, [0, 1], torch.linspace(-2, 2, 7))
sections = [Section(f"z[{i}], the other 0", row) for i, row in enumerate(walk)]
figure = image_sections(f"Sum of squares, pair {numbers[0]}: both dimensions, from -2 to 2", sections, columns=7)
alt = "Two rows of seven images: along each row one of the two latent dimensions goes from -2 to 2."
save(figure, "batch_average_traversals", alt=alt, caption="From one image to the other.", source=source)

# %% [markdown]
# ## Try it
#
# 1. **A slider.** Find the place in the plane where the decoded image is closest to the average. How
#    wide is it?
# 2. **A parameter.** Set `seed = 1`: three other pairs, other weights. Does any number in the table
#    change its story?
# 3. **A line of code.** Add `"threshold": math.sqrt(97)` to `recipes`. The variance 97 is $D^2/4$ of the
#    first pair with the default parameters, so $\kappa = 1$. What is generated there?
#
# <details><summary>Answers</summary>
#
# 1. A narrow band between two regions, one for each image. With the mean of squares it is the
#    whole plane.
# 2. The digits do, the story does not.
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
