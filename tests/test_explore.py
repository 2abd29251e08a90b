import io

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from PIL import Image

from vae_core import VAE, VAEConfig
from vae_core.explore import explore
from vae_core.figures import to_pixels
from vae_core.latent import encode_means, kl_by_dimension

IMAGES = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def parts(widget, kind) -> list:
    found = [widget] if isinstance(widget, kind) else []
    return found + [part for child in getattr(widget, "children", ()) for part in parts(child, kind)]


def picture(widget) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(parts(widget, widgets.Image)[0].value)))


def press(widget, name: str) -> None:
    next(button for button in parts(widget, widgets.Button) if button.description == name).click()


def expected(model: VAE, z: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return to_pixels(model.decode(z[None]).mean, 280 // model.config.image_shape[1])[0]


@pytest.mark.parametrize("config", [
    VAEConfig(image_shape=(1, 8, 8), latent_dim=3, hidden=(8,)),
    VAEConfig(image_shape=(3, 8, 8), latent_dim=2, hidden=(8,), likelihood="gaussian", sigma=1.0, architecture="conv"),
])  # fmt: skip
def test_the_image_follows_every_slider(config: VAEConfig) -> None:
    model = VAE(config)
    widget = explore(model)
    assert np.array_equal(picture(widget), expected(model, torch.zeros(config.latent_dim)))
    z = torch.zeros(config.latent_dim)
    sliders = parts(widget, widgets.FloatSlider)
    assert [slider.description for slider in sliders] == [f"z[{i}]" for i in range(config.latent_dim)]
    for i, slider in enumerate(sliders):
        slider.value = z[i] = 1.5
        assert np.array_equal(picture(widget), expected(model, z))


def test_sliders_are_in_the_order_of_use() -> None:
    model = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=4, hidden=(8,)))
    used = kl_by_dimension(model, IMAGES)
    named = [slider.description for slider in parts(explore(model, IMAGES), widgets.FloatSlider)]
    assert named == [f"z[{i}] {used[i]:.2f} nats" for i in used.argsort(descending=True).tolist()]


def test_buttons() -> None:
    model = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=4, hidden=(8,)))
    widget = explore(model, IMAGES)
    at_mean = picture(widget)
    press(widget, "Random z")
    first = picture(widget)
    assert not np.array_equal(first, at_mean)
    press(widget, "Random z")
    assert not np.array_equal(picture(widget), first)
    press(widget, "Prior mean")
    assert np.array_equal(picture(widget), at_mean)
    which = next(box for box in parts(widget, widgets.BoundedIntText) if box.description == "image")
    which.value = 7
    press(widget, "Encode image")
    z = encode_means(model, IMAGES[7:8])[0]
    assert np.abs(picture(widget).astype(int) - expected(model, z)).max() <= 8  # sliders have steps of 0.05
    original = np.asarray(Image.open(io.BytesIO(parts(widget, widgets.Image)[1].value)))
    assert np.array_equal(original, to_pixels(IMAGES[7:8] / 255, 35)[0])
    next(box for box in parts(widget, widgets.BoundedIntText) if box.description == "seed").value = 0
    press(widget, "Random z")
    assert np.array_equal(picture(widget), first)


def test_two_dimensions_show_their_plane_with_the_place_of_z() -> None:
    model = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)))
    widget = explore(model, IMAGES)
    plane = parts(widget, widgets.Image)[-1]
    before = np.asarray(Image.open(io.BytesIO(plane.value)))
    across = next(s for s in parts(widget, widgets.FloatSlider) if s.description.startswith("z[0]"))
    across.value = 3
    after = np.asarray(Image.open(io.BytesIO(plane.value)))
    cross = (after == (204, 102, 119)).all(-1)
    assert cross.any()
    assert cross.nonzero()[1].mean() > (before == (204, 102, 119)).all(-1).nonzero()[1].mean() + 20
    assert len(parts(explore(VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=3, hidden=(8,)))), widgets.Image)) == 1


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="the model takes"):
        explore(VAE(VAEConfig(latent_dim=3)), IMAGES)
