"""The exported page, opened from disk: its pixels are torch's, and its tools do what they say."""

import re
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from vae_core import VAE, VAEConfig, export_page
from vae_core.data import ImageSet
from vae_core.latent import encode_means
from vae_core.plots.figures import to_pixels

pytestmark = pytest.mark.browser
LIKELIHOODS = {"bernoulli": None, "gaussian": 0.5, "laplace": 0.5, "logistic": "learned"}
IMAGES = torch.randint(0, 256, (6, 1, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELLED = ImageSet(IMAGES, torch.tensor([3, 1, 4, 1, 5, 3]), "tests: noise")
READ = """canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""
ALL = f"() => [...document.querySelectorAll('canvas.vae-core-picture[role=img]')].map({READ})"
SET = """(root, values) => root.querySelectorAll('.vae-core-slider input').forEach((input) => {
    const i = Number(input.getAttribute('aria-label').match(/z\\[(\\d+)\\]/)[1]);
    input.value = values[i];
    input.dispatchEvent(new Event('input'));
})"""


def vae(d: int = 2, seed: int = 1, **more) -> VAE:
    model = VAE(VAEConfig(**{"image_shape": (1, 9, 7), "latent_dim": d, "hidden": (12, 10)} | more), seed=seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 3  # so that images differ
        model.output_bias += torch.linspace(-0.5, 1, model.output_bias.numel()).reshape(model.output_bias.shape)
    return model


def rounded(model: VAE) -> VAE:
    """The model with the weights that a page holds."""
    other = deepcopy(model)
    with torch.no_grad():
        for weight in (*other.decoder.parameters(), other.output_bias):
            weight.copy_(weight.half().float())
    return other


def expected(model: VAE, z: list[float]) -> np.ndarray:
    with torch.no_grad():
        return to_pixels(rounded(model).decode(torch.tensor([z])).mean)[0].astype(int)


def drawn(page: Page, at: int = 0) -> np.ndarray:
    canvas = page.locator("canvas.vae-core-picture[role=img]").nth(at)
    width, height = (int(canvas.get_attribute(side)) for side in ("width", "height"))
    return np.array(canvas.evaluate(READ)).reshape(height, width, 4)[..., :3]


def places(page: Page, at: int = 0) -> list[float]:
    """The sliders of a model, by dimension."""
    sliders = page.locator(".vae-core-model").nth(at).locator(".vae-core-slider input")
    found = {one.get_attribute("aria-label").split()[0]: float(one.input_value()) for one in sliders.all()}
    return [found[f"z[{i}]"] for i in range(len(found))]


def opened(page: Page, path: Path) -> None:
    page.goto(path.as_uri())
    page.locator(".vae-core-picture").first.wait_for()


def close(left: np.ndarray, right: np.ndarray) -> bool:
    return np.abs(left - right).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_torchs_for_every_decoder(page: Page, tmp_path: Path, channels: int) -> None:
    models = {
        f"{architecture} {likelihood} {activation}": vae(
            3,
            image_shape=(channels, 9, 7),
            architecture=architecture,
            likelihood=likelihood,
            sigma=LIKELIHOODS[likelihood],
            activation=activation,
            hidden=(5, 6),
        )
        for architecture, likelihood, activation in product(("mlp", "conv"), LIKELIHOODS, ("relu", "tanh", "silu"))
    }
    opened(page, export_page(models, tmp_path / "page.html"))
    for z in ([0.0, 0.0, 0.0], [1.5, -0.5, 2.22], [-3.0, 3.0, -1.0]):
        page.locator("#explorer").evaluate(SET, z)
        for name, model, pixels in zip(models, models.values(), page.evaluate(ALL), strict=True):
            wanted = expected(model, z)
            assert close(np.array(pixels).reshape(9, 7, 4)[..., :3], wanted), name
            assert wanted.std() > 3, name


def test_a_photograph_sized_convolutional_model(page: Page, tmp_path: Path) -> None:
    model = vae(10, image_shape=(3, 32, 32), architecture="conv", hidden=(16, 32, 64), likelihood="gaussian", sigma=1.0)
    opened(page, export_page(model, tmp_path / "page.html"))
    z = [0.02 * i - 0.1 for i in range(10)]
    page.locator("#explorer").evaluate(SET, z)
    assert close(drawn(page), expected(model, z))


@pytest.fixture
def two(page: Page, tmp_path: Path) -> tuple[Page, dict[str, VAE]]:
    models = {"two": vae(2), "three": vae(3, seed=2)}
    opened(page, export_page(models, tmp_path / "page.html", LABELLED))
    return page, models


def said(page: Page) -> str:
    return page.locator("[role=status]").inner_text()


def follows(page: Page, models: dict[str, VAE]) -> bool:
    return all(close(drawn(page, at), expected(model, places(page, at))) for at, model in enumerate(models.values()))


def test_keys_buttons_and_double_click(two) -> None:
    page, models = two
    slider = page.locator(".vae-core-slider input").first
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(0.1)
    assert follows(page, models)
    slider.dblclick()
    assert places(page) == [0, 0]

    page.get_by_role("button", name="Random z").click()
    first = places(page, 0), places(page, 1)
    assert first[1][:2] == first[0]  # of the same seed
    assert any(first[0])
    assert follows(page, models)
    assert said(page) == "random z of seed 0"
    page.get_by_role("button", name="Random z").click()
    assert places(page) != first[0]
    page.get_by_label("seed").fill("0")
    page.get_by_role("button", name="Random z").click()
    assert (places(page, 0), places(page, 1)) == first
    page.get_by_role("button", name="Prior mean").click()
    assert places(page) == [0, 0]
    assert follows(page, models)


def test_encode_and_walk(two) -> None:
    page, models = two
    codes = [encode_means(model, IMAGES) for model in models.values()]
    page.get_by_role("button", name="encode image 4, class 5").click()
    for at in (0, 1):
        assert places(page, at) == pytest.approx(codes[at][4].tolist(), abs=0.011)
    assert said(page) == "encoded image 4, class 5"
    assert follows(page, models)
    page.get_by_label("from image").fill("2")
    page.get_by_label("to", exact=True).fill("5")
    along = page.get_by_label("walk from one image to the other")
    along.fill("0.25")
    for at in (0, 1):
        assert places(page, at) == pytest.approx((0.75 * codes[at][2] + 0.25 * codes[at][5]).tolist(), abs=0.011)
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Walk", exact=True).click()
    assert places(page) == pytest.approx(codes[0][5].tolist(), abs=0.011)  # at once, without the way
    page.emulate_media(reduced_motion="no-preference")
    page.get_by_role("button", name="Walk", exact=True).click()
    seen = set()
    for _ in range(20):
        seen.add(along.input_value())
        page.wait_for_timeout(200)
    assert len(seen) > 4
    assert along.input_value() == "1"


def test_the_plane_is_pointed_at_and_moved_by_keys(two) -> None:
    page, models = two
    pad = page.locator(".vae-core-pad")
    box, reach = pad.bounding_box(), float(page.locator(".vae-core-slider input").first.get_attribute("max"))
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25)
    page.mouse.down()
    assert places(page) == pytest.approx([reach / 2, reach / 2], abs=0.05)
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25, steps=4)
    page.mouse.up()
    assert places(page) == pytest.approx([-reach / 2, reach / 2], abs=0.05)
    assert follows(page, models)
    page.keyboard.press("Home")
    pad.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert places(page) == pytest.approx([-0.1, 0.2])
    assert said(page) == "two: z = -0.10, 0.20"
    slider = page.locator(".vae-core-slider input").first.bounding_box()
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 5, box["y"] + 5, steps=4)  # a drag that began elsewhere is not the pad's
    page.mouse.up()
    assert places(page)[1] == pytest.approx(0.2)
    pad.dblclick()
    assert places(page) == [0, 0]
    colours = {tuple(pixel) for pixel in np.array(pad.evaluate(READ)).reshape(-1, 4)[:, :3].tolist()}
    assert len(colours & {(0x33, 0x22, 0x88), (0xCC, 0x66, 0x77), (0x11, 0x77, 0x33), (0x88, 0xCC, 0xEE)}) >= 3


def test_a_traversal_shows_and_sets_one_dimension(two) -> None:
    page, models = two
    model = page.locator(".vae-core-model").nth(1)
    model.get_by_text("Traversal").click()
    model.get_by_role("combobox").select_option("1")
    cells = model.locator("details .vae-core-cell")
    assert cells.count() == 9
    cells.nth(8).click()
    reach = float(model.locator(".vae-core-slider input").first.get_attribute("max"))
    assert places(page, 1) == [0, reach, 0]
    page.wait_for_timeout(100)
    for k in (0, 4):
        pixels = np.array(cells.nth(k).locator("canvas").evaluate(READ)).reshape(9, 7, 4)[..., :3]
        assert close(pixels, expected(models["three"], [0, (k / 4 - 1) * reach, 0]))


def test_z_is_copied_and_the_image_saved(two, tmp_path: Path) -> None:
    page, models = two
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#explorer").evaluate(SET, [0.5, -1.24, 0])
    page.get_by_role("button", name="Copy z").nth(1).click()
    page.get_by_role("status").get_by_text("z copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "[0.5, -1.24, 0]"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save image").nth(1).click()
    from PIL import Image

    with Image.open(waiting.value.path()) as image:
        assert close(np.asarray(image.convert("RGB")).astype(int), expected(models["three"], [0.5, -1.24, 0]))
    assert waiting.value.suggested_filename == "three.png"


def test_along_goes_from_model_to_model_with_the_same_z(page: Page, tmp_path: Path) -> None:
    models = {name: vae(2, seed=seed) for seed, name in enumerate(("0.5", "1", "3"))}
    opened(page, export_page(models, tmp_path / "page.html", IMAGES, along="kappa"))
    page.get_by_role("button", name="Random z").click()
    z, which = places_of_z(page), page.get_by_label("kappa", exact=True)
    for at, (name, model) in enumerate(models.items()):
        which.fill(str(at))
        assert close(drawn(page), expected(model, z))
        assert page.locator("figcaption").inner_text() == f"kappa {name}"
    assert places_of_z(page) == z
    page.get_by_role("button", name="encode image 2").click()
    assert places_of_z(page) == pytest.approx(encode_means(models["3"], IMAGES)[2].tolist(), abs=0.011)


def places_of_z(page: Page) -> list[float]:
    sliders = page.locator(".vae-core-slider input[aria-label^='z[']").all()
    found = {one.get_attribute("aria-label").split()[0]: float(one.input_value()) for one in sliders}
    return [found["z[0]"], found["z[1]"]]


def test_weights_that_are_no_numbers_give_a_message(page: Page, tmp_path: Path) -> None:
    model = vae(2)
    with torch.no_grad():
        model.decoder[0].weight[0, 0] = float("nan")
    opened(page, export_page(model, tmp_path / "page.html", IMAGES))
    assert "not finite" in page.locator(".vae-core-problem").inner_text()
    model = vae(2)
    with torch.no_grad():
        model.encoder[-1].bias[:] = float("nan")
    opened(page, export_page(model, tmp_path / "page.html", IMAGES))
    page.get_by_role("button", name="encode image 0").click()
    assert said(page) == ""
    assert "z[0] is not a number" in page.locator(".vae-core-problem").inner_text()
    assert places(page) == [0, 0]


def test_markup_in_names_is_text(page: Page, tmp_path: Path) -> None:
    name = "<img src=x onerror=\"document.title='run'\"></script><b>"
    opened(page, export_page({name: vae(2), "b": vae(2)}, tmp_path / "page.html", LABELLED, title="T"))
    assert page.locator("figcaption").first.inner_text() == name
    assert page.title() == "T"
    assert page.locator("#explorer img").count() == 0


def test_a_broken_file_and_a_browser_without_scripts_say_so(browser: Browser, page: Page, tmp_path: Path) -> None:
    path = export_page(vae(2), tmp_path / "page.html")
    cut = tmp_path / "cut.html"
    cut.write_text(re.sub(r'(id="weights">)[^<]{200}', r"\1", path.read_text()))
    page.goto(cut.as_uri())
    assert "cannot be shown" in page.get_by_role("alert").inner_text()
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(path.as_uri())
    assert "needs a browser with JavaScript" in bare.locator("#explorer").inner_text()
    context.close()


def test_everything_is_named_for_a_screen_reader_and_reached_by_tab(two) -> None:
    page, _ = two
    unnamed = """() => [...document.querySelectorAll('button, input, select, canvas[role], canvas[tabindex]')]
        .filter((one) => !(one.getAttribute('aria-label') || (one.localName !== 'select' && one.textContent.trim())
            || one.closest('label')?.textContent.trim()
            || one.closest('details:not([open])')))
        .map((one) => one.outerHTML)"""
    assert page.evaluate(unnamed) == []
    order = []
    for _ in range(80):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
    assert any("vae-core-pad" in one for one in order)
    assert sum('type="range"' in one for one in order) >= 6


def test_it_fits_a_narrow_window(two) -> None:
    page, _ = two
    page.set_viewport_size({"width": 400, "height": 800})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.screenshot(path=f"build/page-{scheme}.png", full_page=True)
