"""Latent sliders in a notebook: move one, and the decoded image follows."""

import io

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from vae_core.figures import mosaic, to_pixels
from vae_core.latent import encode_means, kl_by_dimension, plane
from vae_core.likelihood import noise
from vae_core.model import VAE

SIDE = 280  # pixels of the picture's height, about
PLANE = 13  # images a side of the latent plane
CROSS = (204, 102, 119)
REACH = 3.0  # sliders run from -REACH to REACH prior deviations, and further when an encoded image does


def explore(model: VAE, images: Tensor | None = None) -> widgets.Widget:
    """Sliders over the latent space of ``model``, one a dimension, beside the image they decode to.

    ``images``, uint8 ``(N, C, H, W)``, puts the dimensions in the order of their use, labelled with
    their KL in nats, and gives a button that encodes one of them. A model of two dimensions also
    shows its latent plane with the place of z.

    Raises:
        ValueError: on images of another shape than the model's.
    """
    if images is not None and tuple(images.shape[1:]) != model.config.image_shape:
        raise ValueError(f"images are {tuple(images.shape[1:])}, the model takes {model.config.image_shape}")
    dimensions = range(model.config.latent_dim)
    used = None if images is None or len(images) == 0 else kl_by_dimension(model, images[:2000])
    order = list(dimensions) if used is None else used.argsort(descending=True).tolist()
    sliders = {
        i: widgets.FloatSlider(
            min=-REACH,
            max=REACH,
            step=0.05,
            description=f"z[{i}]" if used is None else f"z[{i}] {used[i]:.2f} nats",
            style={"description_width": "9em"},
            layout={"width": "26em"},
        )
        for i in order
    }
    picture = widgets.Image(format="png", layout={"width": f"{SIDE}px", "object_fit": "contain"})
    picture.add_class("vae-core-picture")
    map_ = widgets.Image(format="png") if model.config.latent_dim == 2 else None
    tiles = mosaic(to_pixels(plane(model, PLANE, REACH)), PLANE) if map_ is not None else None
    moving = False

    def draw(_: object = None) -> None:
        if moving:
            return
        z = torch.tensor([[sliders[i].value for i in dimensions]])
        with torch.no_grad():
            picture.value = _png(to_pixels(model.decode(z.to(model.output_bias)).mean, _factor(model))[0])
        if map_ is not None and tiles is not None:
            map_.value = _png(_marked(tiles, sliders[0].value, sliders[1].value))

    def go(z: Tensor) -> None:
        nonlocal moving
        moving = True
        for i in dimensions:
            reach = max(sliders[i].max, float(z[i].abs().ceil()))  # an image may lie further out than the prior does
            sliders[i].min, sliders[i].max = -reach, reach
            sliders[i].value = float(z[i])
        moving = False
        draw()

    for slider in sliders.values():
        slider.observe(draw, "value")
    seed = widgets.BoundedIntText(value=0, min=0, max=10**9, description="seed", layout={"width": "10em"})
    random_button = widgets.Button(
        description="Random z", tooltip="a sample of the prior; the seed then goes up by one"
    )
    mean_button = widgets.Button(description="Prior mean", tooltip="all sliders to 0")

    def random_z(_: object) -> None:
        go(noise((model.config.latent_dim,), seed.value, "explore"))
        seed.value += 1

    random_button.on_click(random_z)
    mean_button.on_click(lambda _: go(torch.zeros(model.config.latent_dim)))
    controls = [widgets.HBox([random_button, seed]), mean_button]
    shown = [picture]
    if images is not None and len(images):
        given = images
        which = widgets.BoundedIntText(min=0, max=len(given) - 1, description="image", layout={"width": "10em"})
        encode_button = widgets.Button(description="Encode image", tooltip="to the posterior mean of that image")
        original = widgets.Image(format="png", layout={"width": f"{SIDE // 2}px", "object_fit": "contain"})

        def show(_: object = None) -> None:
            original.value = _png(to_pixels(given[which.value : which.value + 1] / 255, _factor(model))[0])

        def encode(_: object) -> None:
            go(encode_means(model, given[which.value : which.value + 1])[0])

        which.observe(show, "value")
        show()
        encode_button.on_click(encode)
        controls.append(widgets.HBox([encode_button, which]))
        shown.append(original)
    draw()
    pictures = widgets.HBox(shown + ([map_] if map_ is not None else []), layout={"align_items": "flex-start"})
    return widgets.VBox([pictures, widgets.HBox([widgets.VBox(list(sliders.values())), widgets.VBox(controls)])])


def _factor(model: VAE) -> int:
    return max(1, SIDE // model.config.image_shape[1])


def _marked(tiles: np.ndarray, across: float, up: float) -> np.ndarray:
    """The latent plane with a cross at ``(across, up)``."""
    tall, wide = tiles.shape[:2]
    across, up = (max(-REACH, min(REACH, z)) for z in (across, up))
    # the first and last tile's centres lie at -REACH and REACH
    column = round(((across + REACH) / (2 * REACH) * (PLANE - 1) + 0.5) * wide / PLANE)
    row = round(((REACH - up) / (2 * REACH) * (PLANE - 1) + 0.5) * tall / PLANE)
    marked = tiles.copy()
    for colour, reach, width in (((255, 255, 255), 11, 3), (CROSS, 9, 1)):
        for tall, wide in ((reach, width), (width, reach)):
            marked[max(0, row - tall) : row + tall + 1, max(0, column - wide) : column + wide + 1] = colour
    return marked


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=1)
    return out.getvalue()
