"""What several test files share."""

import os
import shutil
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from checkouts import CHART, DRAW, PRINT, new_checkout, run, write_pair
from faults import end
from playwright.sync_api import Browser, Page, sync_playwright

CHECKOUT = Path(__file__).resolve().parent.parent
if "VAE_CORE_DATA" in os.environ:  # tests start children elsewhere
    os.environ["VAE_CORE_DATA"] = str(Path(os.environ["VAE_CORE_DATA"]).expanduser().resolve())


@pytest.fixture
def shared_data() -> Path:
    """The folder with real MNIST and CIFAR-10: $VAE_CORE_DATA, else the user's cache."""
    from vae_core.data import data_root, on_disk

    root = data_root().resolve()
    if not (on_disk("mnist", root) and on_disk("cifar10", root)):
        pytest.skip(f"needs MNIST and CIFAR-10 under {root}: vae-core data mnist && vae-core data cifar10")
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout in which a test may run and break things."""
    return copy_checkout(tmp_path / "checkout")


def copy_checkout(copy: Path) -> Path:
    """The checkout's notebooks, and what they load, at another place."""
    shutil.copytree(CHECKOUT / "notebooks", copy / "notebooks", ignore=shutil.ignore_patterns(".ipynb*", "build"))
    shutil.copytree(CHECKOUT / "benchmarks" / "results", copy / "benchmarks" / "results")  # notebook 05 shows them
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    (copy / "figures" / "data").mkdir(parents=True)
    for sweep in (CHECKOUT / "figures" / "data").glob("sweep_*.json"):  # what notebooks load
        shutil.copy(sweep, copy / "figures" / "data")
    return copy


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout with one good notebook."""
    root = new_checkout(tmp_path / "small")
    write_pair(root / "notebooks", "00_draws", DRAW, figures=("figure_{names}",))
    return root


@pytest.fixture(scope="session")
def published_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of two notebooks that ran at once by the command, to be read only; OMP_NUM_THREADS was 2."""
    root = new_checkout(tmp_path_factory.mktemp("published") / "published")
    write_pair(root / "notebooks", "00_draws", DRAW, CHART, PRINT, figures=("figure_{names}", "chart"))
    write_pair(root / "notebooks", "01_plain", "x = 1")
    done = run(root, "reproduce", "--jobs", "2", env=os.environ | {"OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "said.txt").write_text(done.stdout)
    return root


@pytest.fixture
def published(published_checkout: Path, tmp_path: Path) -> Path:
    """A copy of it in which a test may run and break things."""
    return Path(shutil.copytree(published_checkout, tmp_path / "published"))


signal.signal(signal.SIGINT, signal.default_int_handler)  # nohup ignores Ctrl-C, and what tests start would too
torch.set_num_threads(1)  # small tensors: threads only get in each other's way


@pytest.fixture(autouse=True)
def _own_figures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes figures into the checkout."""
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    os.environ.pop("VAE_CORE_DEVICE", None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stress: slow and destructive; make stress runs them")
    config.option.markexpr = config.option.markexpr or "not stress"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails leaves nothing running that others would find."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and folder:
        end(folder)
    return report


# --- a real Chromium, for tests/browser -------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make browser")
    with sync_playwright() as playwright:
        quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that lists what it asked of others and what it complained about; a test fails on either."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(20_000)
    asked: list[str] = []
    wrong: list[str] = []
    local = ("http://127.0.0.1", "ws://127.0.0.1", "file:", "data:", "blob:", "about:")
    page.on("request", lambda request: None if request.url.startswith(local) else asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.wrong = wrong  # type: ignore[attr-defined]
    yield page
    context.close()
    assert not asked
    assert not wrong
