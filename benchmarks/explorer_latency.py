"""From a key press on a slider to the changed picture, for each way of making latent sliders.

A real JupyterLab and the exported page from disk, in one run of one headless Chromium. The clock is the browser's: it
starts with the time stamp of the key event and stops when the pixels are on the canvas, or when the new picture of
matplotlib has been decoded.
"""

import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import jupytext
from playwright.sync_api import Locator, Page, sync_playwright

from vae_core import VAE, VAEConfig, environment, export_page, files

RESULT = Path(__file__).parent / "results" / "explorer_latency.json"
MLP = VAEConfig(latent_dim=10, hidden=(256, 256))
CONV = VAEConfig((3, 32, 32), 10, (16, 32, 64), "conv", likelihood="gaussian", sigma=0.5)
NOTEBOOK = """\
# %%
import json, time
from pathlib import Path
import matplotlib.pyplot as plt
import torch
from ipywidgets import FloatSlider, interact
from vae_core import VAE, VAEConfig, explore
models = [VAE(VAEConfig(**settings)) for settings in json.loads(Path("models.json").read_text())]
# %%
@interact(first=FloatSlider(min=-3, max=3, step=0.02))
def show(first):
    z = torch.zeros(1, 10)
    z[0, 0] = first
    with torch.no_grad():
        plt.imshow(models[0].decode(z).mean[0, 0], cmap="gray")
    plt.show()
# %%
began = time.perf_counter()
explorer = explore(models[0])
display(explorer)
sent = sum(len(getattr(explorer.canvas, key)) for key in ("_esm", "description", "weights", "codes", "pictures"))
Path("opening.json").write_text(json.dumps({"seconds": time.perf_counter() - began, "bytes": sent}))
# %%
explore(models[1])
# %%
FloatSlider(min=-3, max=3, step=0.02)
"""
FIRST = """
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    put.apply(this, given);
    if (this.canvas.classList.contains('vae-core-picture')) window.firstPicture ??= performance.now();
};"""
CLOCK = """() => {
    addEventListener('keydown', (event) => { window.began = event.timeStamp; }, true);
    const stop = () => { if (window.done) window.done(performance.now() - window.began); window.done = null; };
    const put = CanvasRenderingContext2D.prototype.putImageData;
    window.drawn = 0;
    CanvasRenderingContext2D.prototype.putImageData = function (...given) {
        put.apply(this, given);
        if (this.canvas.classList.contains('vae-core-picture')) { window.drawn++; stop(); }
    };
    new MutationObserver((changes) => {
        for (const change of changes) for (const node of change.addedNodes) {
            const image = node.querySelector?.('img');
            if (image) image.decode().then(stop);
        }
    }).observe(document.body, { childList: true, subtree: true });
}"""


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab over a notebook, with its token."""
    notebook = jupytext.reads(NOTEBOOK, "py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "work").mkdir()
    jupytext.write(notebook, folder / "work" / "page.ipynb")
    settings = [{"latent_dim": 10, "hidden": [256, 256]}, CONV.__dict__]
    (folder / "work" / "models.json").write_text(json.dumps(settings))
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{kind.upper()}_DIR": str(folder / kind) for kind in ("config", "runtime", "data")}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--IdentityProvider.token={token}", "--LabApp.news_url=None", str(folder / "work")]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    try:
        for _ in range(300):
            known = list((folder / "runtime").glob("jpserver-*.json"))
            if known:
                break
            time.sleep(0.2)
        yield f"{json.loads(known[0].read_text())['url']}lab/tree/page.ipynb?token={token}&reset"
    finally:
        server.terminate()
        server.wait(20)


def presses(page: Page, slider: Locator, changes: int) -> list[float]:
    """Milliseconds from key to picture; the first five are for warming up."""
    slider.scroll_into_view_if_needed()
    slider.focus()
    waits = []
    for turn in range(changes + 5):
        page.evaluate("() => { window.waiting = new Promise((done) => { window.done = done; }); }")
        page.keyboard.press("ArrowRight" if turn % 40 < 20 else "ArrowLeft")
        waits.append(page.evaluate("() => window.waiting"))
        page.wait_for_timeout(30)
    return waits[5:]


def dragged(page: Page, slider: Locator) -> tuple[float, float]:
    """Pictures a second while a slider is dragged, and moves of the mouse that the page took in a second."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    code = "() => new Promise((done) => requestAnimationFrame(() => done([window.drawn, performance.now()])))"
    first, began = page.evaluate(code)
    for step in range(400):
        page.mouse.move(x + 40 * ((step % 80) / 40 - 1 if step % 160 < 80 else 1 - (step % 80) / 40), y)
    last, ended = page.evaluate(code)
    page.mouse.up()
    second = (ended - began) / 1000
    return (last - first) / second, 400 / second


def summary(values: list[float]) -> dict[str, float]:
    p95 = statistics.quantiles(values, n=20)[-1]
    return {"median_ms": round(statistics.median(values), 2), "p95_ms": round(p95, 2), "changes": len(values)}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--changes", default=100, show_default=True, help="Key presses on each path.")
@click.option("--to", default=RESULT, type=click.Path(path_type=Path), help="File for the numbers.")
def main(changes: int, to: Path) -> None:
    """Time a key press on a slider to the changed picture, in JupyterLab and in the page without a server."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise click.ClickException("needs Chromium: make browser")
    load = round(os.getloadavg()[0], 1)
    paths: dict[str, dict[str, float]] = {}
    drags: dict[str, float] = {}
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, lab(Path(folder)) as address:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.add_init_script(FIRST)
        page.goto(address)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)
        page.wait_for_timeout(3000)
        if page.locator(".jp-Dialog").count():  # which kernel? the one it offers
            page.locator(".jp-Dialog .jp-mod-accept").click()
            page.wait_for_timeout(3000)
        news = page.locator(".Toastify__toast button", has_text="No")
        if news.count():  # it would lie over a slider
            news.first.click()
        page.get_by_text("Run", exact=True).click()
        page.locator('li[data-command="runmenu:run-all"]').click()
        page.wait_for_function("document.querySelectorAll('.vae-core-picture[role=img]').length == 2", timeout=90_000)
        page.wait_for_timeout(3000)
        page.locator(".jp-CodeCell .jp-InputArea-editor").nth(2).click()
        page.evaluate("() => { window.firstPicture = undefined; window.ran = performance.now(); }")
        page.keyboard.press("Shift+Enter")
        page.wait_for_function("window.firstPicture")
        page.wait_for_timeout(2000)
        page.evaluate(CLOCK)
        for name, at in (("interact with imshow", 1), ("explore, mlp", 2), ("explore, conv", 3)):
            slider = page.locator(".jp-CodeCell").nth(at).locator(".noUi-handle").first
            paths[name] = summary(presses(page, slider, changes))
            if at > 1:
                drags[name] = round(dragged(page, slider)[0], 1)
        alone = page.locator(".jp-CodeCell").nth(4).locator(".noUi-handle").first
        facts["moves a second that JupyterLab takes from a FloatSlider alone"] = round(dragged(page, alone)[1], 1)
        facts["opening an explorer in JupyterLab, ms"] = page.evaluate("() => window.firstPicture - window.ran")
        facts["opening: of which Python"] = json.loads((Path(folder) / "work" / "opening.json").read_text())
        for name, config in (("page, mlp", MLP), ("page, conv", CONV)):
            path = export_page(VAE(config), Path(folder) / "page.html")
            page.goto(path.as_uri())
            page.wait_for_selector(".vae-core-picture")
            page.wait_for_timeout(500)
            facts[f"first picture of the {name} from disk, ms"] = page.evaluate("() => window.firstPicture")
            page.evaluate(CLOCK)
            slider = page.locator(".vae-core-slider input").first
            paths[name] = summary(presses(page, slider, changes))
            drags[name] = round(dragged(page, slider)[0], 1)
        browser.close()
    slowest = paths["interact with imshow"]["median_ms"]
    for name, path in paths.items():
        path["times_faster"] = round(slowest / path["median_ms"], 1)
        rate = f", {drags[name]:.0f} pictures a second while dragging" if name in drags else ""
        click.echo(
            f"{name:<22} median {path['median_ms']:7.2f} ms, p95 {path['p95_ms']:7.2f}, "
            f"{path['times_faster']:5.1f} times{rate}"
        )
    for name, fact in facts.items():
        click.echo(f"{name}: {fact}")
    content = {"load_before": load, "cores": os.cpu_count(), "paths": paths, "pictures_a_second": drags, **facts}
    files.write_json(to, content | {"versions": environment.versions(), "machine": environment.machine()})


if __name__ == "__main__":
    sys.exit(main())
