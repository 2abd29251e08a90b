"""A real JupyterLab in a real Chromium: a slider moves, and the picture is the decoded image of its place."""

import base64
import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from vae_core import VAE, VAEConfig
from vae_core.figures import to_pixels
from vae_core.latent import encode_means, kl_by_dimension
from vae_core.likelihood import noise

pytestmark = pytest.mark.browser
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NOTEBOOK = """\
# %% [markdown]
# # A page for a test
# %%
import torch
from vae_core import VAE, VAEConfig
from vae_core.explore import explore
images = (torch.arange(5 * 64) % 251).reshape(5, 1, 8, 8).byte()
explore(VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=5), images)
"""
MODEL = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=5)
IMAGES = (torch.arange(5 * 64) % 251).reshape(5, 1, 8, 8).byte()


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[str]:
    """The address of a JupyterLab with a configuration of its own, over a folder with one pair."""
    folder = tmp_path_factory.mktemp("lab")
    notebook = jupytext.reads(NOTEBOOK, "py:percent")
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "work").mkdir()
    jupytext.write(notebook, folder / "work" / "page.ipynb")
    jupytext.write(notebook, folder / "work" / "page.py", fmt="py:percent")
    token = secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_DATA_DIR": str(folder / "data"), "IPYTHONDIR": str(folder / "ipython"),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--IdentityProvider.token={token}", "--LabApp.news_url=None", str(folder / "work")]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        address, until = None, time.monotonic() + 60
        while address is None and time.monotonic() < until:
            time.sleep(0.2)
            for known in (folder / "runtime").glob("jpserver-*.json"):
                address = json.loads(known.read_text())["url"]
        assert address, (folder / "log.txt").read_text()
        yield f"{address}|{token}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make browser")
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def picture(page: Page) -> np.ndarray:
    """The pixels of the decoded image as the browser has it."""
    code = """async () => {
        const image = document.querySelector('img.vae-core-picture');
        const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
        return btoa(String.fromCharCode(...bytes));
    }"""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(page.evaluate(code)))))


def expected(z: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return to_pixels(MODEL.decode(z[None]).mean, 35)[0]


def wait_until(page: Page, true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while True:
        page.wait_for_timeout(500)
        if true():
            return
        if time.monotonic() > until:
            page.screenshot(path="build/browser-failed.png")
            pytest.fail(f"{what}: not within a minute; see build/browser-failed.png")


def there(page: Page, selector: str) -> bool:
    """Asked of the page itself: a locator used while JupyterLab loads keeps looking at the page that was."""
    return page.evaluate("selector => document.querySelectorAll(selector).length", selector) > 0


def wait_for(page: Page, wanted: np.ndarray) -> None:
    wait_until(page, lambda: np.array_equal(picture(page), wanted), "the picture follows the slider")


@pytest.mark.parametrize("name", ["page.ipynb", "page.py"])
def test_the_picture_follows_the_slider(lab: str, page: Page, tmp_path: Path, name: str) -> None:
    address, token = lab.split("|")
    page.goto(f"{address}lab?token={token}&reset")
    wait_until(page, lambda: there(page, ".jp-DirListing-item"), "the list of files appears")
    page.locator(".jp-DirListing-itemText", has_text=name).first.click(button="right")
    page.get_by_text("Open With").hover()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Notebook$")).click()
    wait_until(page, lambda: there(page, ".jp-NotebookPanel .jp-CodeCell"), "the notebook opens")
    wait_until(page, lambda: there(page, '.jp-Notebook-ExecutionIndicator[data-status="idle"]'), "the kernel is ready")
    page.get_by_text("Run", exact=True).click()
    page.locator('li[data-command="runmenu:run-all"]').click()
    wait_until(page, lambda: there(page, "img.vae-core-picture"), "the widget appears")
    zero = torch.zeros(2)
    wait_for(page, expected(zero))
    page.screenshot(path=tmp_path / "before.png")

    handles = page.locator(".noUi-handle")
    assert handles.count() == 2
    handles.nth(0).focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    value = float(page.locator(".widget-readout").nth(0).inner_text())
    assert value > 0
    first = kl_by_dimension(MODEL, IMAGES).argmax().item()  # the most used dimension stands on top
    moved = zero.clone()
    moved[first] = value
    wait_for(page, expected(moved))
    assert not np.array_equal(expected(moved), expected(zero))

    page.get_by_role("button", name="Prior mean").click()
    wait_for(page, expected(zero))
    for button, z in (("Random z", noise((2,), 0, "explore")), ("Encode image", encode_means(MODEL, IMAGES[:1])[0])):
        page.get_by_role("button", name=button).click()
        wait_for(page, expected((z / 0.05).round() * 0.05))  # the sliders' step
    page.screenshot(path=tmp_path / "after.png")
    assert not re.search("Error displaying widget|Traceback", page.content())
