"""A real JupyterLab in a real Chromium: sliders and tools move, and the picture is the decoded image of their place."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import jupytext
import numpy as np
import pytest
import torch
from playwright.sync_api import Page

from vae_core import VAE, VAEConfig
from vae_core.latent import encode_means, kl_by_dimension
from vae_core.plots.figures import to_pixels

pytestmark = pytest.mark.browser
NOTEBOOK = """\
# %% [markdown]
# # A page for a test
# %%
import json
from pathlib import Path
import torch
from vae_core import VAE, VAEConfig, explore
images = (torch.arange(5 * 64) % 251).reshape(5, 1, 8, 8).byte()
explorer = explore(VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=5), images)

def keep(one, name):
    def write(change):
        Path("part").write_text(json.dumps(change.new))
        Path("part").replace(name)
    one.observe(write, "z")

keep(explorer, "z.json")
explorer
# %%
explorer.z = (1.013, -0.5)
# %%
large = explore({"a": VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(65000,)), seed=5)})
keep(large, "large.json")
large
"""
MODEL = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=5)
LARGE = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(65000,)), seed=5)
IMAGES = (torch.arange(5 * 64) % 251).reshape(5, 1, 8, 8).byte()


class Lab(NamedTuple):
    """A running JupyterLab."""

    address: str
    token: str
    folder: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
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
                try:
                    address = json.loads(known.read_text())["url"]
                except ValueError:
                    continue  # half written
        assert address, (folder / "log.txt").read_text()
        yield Lab(address, token, folder / "work")
    finally:
        server.terminate()
        server.wait(20)


def picture(page: Page, at: int = 0) -> np.ndarray:
    """The pixels of a decoded image as the browser has it."""
    code = """at => {
        const canvas = document.querySelectorAll('canvas.vae-core-picture[role=img]')[at];
        return Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data);
    }"""
    return np.array(page.evaluate(code, at)).reshape(8, 8, 4)[..., :3]


def expected(z: torch.Tensor, model: VAE = MODEL, kept: bool = False) -> np.ndarray:
    """What torch decodes with the weights that the browser has, rounded to float16 unless the kernel decodes."""
    model = deepcopy(model)
    with torch.no_grad():
        for weight in () if kept else (*model.decoder.parameters(), model.output_bias):
            weight.copy_(weight.half().float())
        return to_pixels(model.decode(z[None]).mean)[0].astype(int)


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


def wait_for(page: Page, wanted: np.ndarray, at: int = 0) -> None:
    wait_until(page, lambda: np.abs(picture(page, at) - wanted).max() <= 1, "the picture follows")


def run_all(lab: Lab, page: Page, name: str) -> None:
    """Open a notebook as a reader does, run it, and wait until the picture is that of the z set from Python."""
    (lab.folder / "z.json").unlink(missing_ok=True)
    page.goto(f"{lab.address}lab?token={lab.token}&reset")
    wait_until(page, lambda: there(page, ".jp-DirListing-item"), "the list of files appears")
    page.locator(".jp-DirListing-itemText", has_text=name).first.click(button="right")
    page.get_by_text("Open With").hover()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Notebook$")).click()
    wait_until(page, lambda: there(page, ".jp-NotebookPanel .jp-CodeCell"), "the notebook opens")
    wait_until(page, lambda: there(page, '.jp-Notebook-ExecutionIndicator[data-status="idle"]'), "the kernel is ready")
    for _ in range(3):  # on a busy machine JupyterLab can lose what is asked of a kernel that has just started
        page.get_by_text("Run", exact=True).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        page.wait_for_timeout(2000)
        if page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[*\d]+\]")).count():
            break
    wait_until(page, lambda: page.locator("canvas.vae-core-picture[role=img]").count() == 2, "the widgets appear")
    wait_for(page, expected(torch.tensor([1.02, -0.5])))  # set from Python, to where a slider can stand
    z = lab.folder / "z.json"
    wait_until(page, lambda: z.exists() and json.loads(z.read_text()) == [1.02, -0.5], "Python and picture agree")


def check(page: Page) -> None:
    """Nothing is wrong on the page but what JupyterLab says of itself."""
    assert not re.search("Error displaying widget|Traceback", page.content())
    known = re.compile("status of 40|favicon|WebSocket|Could not determine jupyterlab build status")
    page.wrong[:] = [line for line in page.wrong if not known.search(line)]


def test_the_text_of_a_pair_opens_as_a_notebook_with_sliders(lab: Lab, page: Page) -> None:
    run_all(lab, page, "page.py")
    check(page)


def test_sliders_and_tools_move_the_picture(lab: Lab, page: Page) -> None:
    run_all(lab, page, "page.ipynb")
    kept = lab.folder / "z.json"
    page.screenshot(path="build/lab-light.png")

    box = page.locator(".jp-OutputArea-output", has=page.locator(".vae-core")).first
    handles = box.locator(".noUi-handle")
    assert handles.count() == 2
    handles.nth(0).focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    first = kl_by_dimension(MODEL, IMAGES).argmax().item()  # the most used dimension stands on top
    moved = torch.tensor([1.02, -0.5])
    moved[first] += 0.16
    readout = box.locator(".widget-readout").nth(0)
    wait_until(page, lambda: float(readout.inner_text()) == round(moved[first].item(), 2), "eight steps to the right")
    wait_for(page, expected(moved))
    wait_until(page, lambda: np.allclose(json.loads(kept.read_text()), moved.tolist()), "Python has the new z")

    handles.nth(0).dblclick()  # back to 0, that one alone
    moved[first] = 0
    wait_for(page, expected(moved))
    box.get_by_role("button", name="Random z").click()
    wait_until(page, lambda: abs(json.loads(kept.read_text())[0] - moved[0].item()) > 1e-3, "another z")
    page.wait_for_timeout(500)
    wait_for(page, expected(torch.tensor(json.loads(kept.read_text()))))
    box.get_by_role("button", name="encode image 3").click()
    wait_for(page, expected((encode_means(MODEL, IMAGES[3:4])[0] / 0.02).round() * 0.02))
    box.get_by_role("button", name="Prior mean").click()
    wait_for(page, expected(torch.zeros(2)))
    pad = box.locator(".vae-core-pad")
    pad.focus()
    page.keyboard.press("ArrowRight")  # JupyterLab keeps its hands off
    wait_for(page, expected(torch.tensor([0.1, 0.0])))

    assert "too large for the browser" in page.locator(".vae-core-note").inner_text()
    wait_for(page, expected(torch.zeros(2), LARGE, kept=True), at=1)
    page.get_by_role("button", name="Random z").nth(1).click()
    other = lab.folder / "large.json"
    wait_until(page, lambda: other.exists() and any(json.loads(other.read_text())), "Python has the z of the second")
    wait_for(page, expected(torch.tensor(json.loads(other.read_text())), LARGE, kept=True), at=1)
    names = [handle.get_attribute("aria-label") for handle in box.locator(".noUi-handle").all()]
    assert all(re.match(r"z\[\d\] \d\.\d\d nats", name) for name in names)
    page.locator(".lm-MenuBar-itemLabel", has_text="Settings").click()
    page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^JupyterLab Dark$")).click()
    page.wait_for_timeout(1500)
    page.screenshot(path="build/lab-dark.png")
    check(page)
