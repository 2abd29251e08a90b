"""The real notebooks, executed with papermill: each once with its preset "fast", and two of them once more."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import CHECKOUT, copy_checkout
from test_project import faults_of_page
from test_reproduce import DRAW, PARAMETERS, small, write_pair  # noqa: F401

from vae_core.data import data_root, on_disk
from vae_core.files import sha256
from vae_core.regenerate.notebook import find_notebooks, with_outputs
from vae_core.regenerate.record import Outcome
from vae_core.regenerate.reproduce import reproduce

pytestmark = pytest.mark.notebook
SAME = "02_cifar_blur"  # which is run twice


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


class Run(NamedTuple):
    """What became of all notebooks."""

    root: Path
    outcomes: list[Outcome]
    before: dict[str, str]  # digests of the published set

    @property
    def record(self) -> dict:
        return json.loads((self.root / "build" / "figures" / "record.json").read_text())

    def executed(self, name: str) -> dict:
        return json.loads((self.root / "build" / "notebooks" / f"{name}.ipynb").read_text())


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """All notebooks, two at a time, in a checkout whose sweep of latent dimensions has rows that nobody measured."""
    root = data_root().resolve()
    if not (on_disk("mnist", root) and on_disk("cifar10", root)):
        pytest.skip(f"needs MNIST and CIFAR-10 under {root}: vae-core data mnist && vae-core data cifar10")
    checkout = copy_checkout(tmp_path_factory.mktemp("fast") / "checkout")
    sweep = checkout / "figures" / "data" / "sweep_latent_dimension.json"
    facts = json.loads(sweep.read_text())
    facts["rows"] = [row | {"nll": row["nll"] + 1000} for row in facts["rows"]]
    sweep.write_text(json.dumps(facts))
    before = digests(checkout / "figures") | digests(checkout / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VAE_CORE_BUILD", raising=False)
        outcomes = reproduce(checkout=checkout, preset="fast", jobs=2)
    yield Run(checkout, outcomes, before)
    shutil.rmtree(checkout)


def test_all_notebooks_run_and_publish_nothing(fast: Run) -> None:
    assert [outcome.error for outcome in fast.outcomes] == [None] * 6
    assert max(outcome.peak_bytes for outcome in fast.outcomes) < 2e9
    assert digests(fast.root / "figures") | digests(fast.root / "notebooks") == fast.before
    drawn = {path.name for path in (fast.root / "build" / "figures").glob("*.png")}
    declared = {f"{f}.png" for o in fast.outcomes for f in o.notebook.figures(o.settings)}
    assert drawn >= declared
    assert len(declared) >= 25
    assert drawn == {name for entry in fast.record.values() for name in entry["outputs"] if name.endswith(".png")}


def test_pages_show_pictures_and_tables_and_are_clean_when_published(fast: Run) -> None:
    for outcome in fast.outcomes:
        executed = fast.executed(outcome.notebook.name)
        code = [cell for cell in executed["cells"] if cell["cell_type"] == "code"]
        shown = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
        assert "image/png" in shown
        assert shown & {"text/html", "text/markdown"}
        assert "application/vnd.jupyter.widget-view+json" not in shown  # a widget is dead without its kernel
        assert not executed["metadata"].get("widgets")
        page = with_outputs(outcome.notebook.text, json.dumps(executed))
        assert faults_of_page(page, {}) == []
        assert page.count('"image/png": "') >= len(outcome.notebook.figures(outcome.settings)) // 2
        assert len(page) < 1.3e6


def test_a_notebook_quotes_the_sweeps_of_its_checkout(fast: Run) -> None:
    numbers = fast.record["01_latent_dimension"]["numbers"]
    nll = [row["value"] for row in numbers if row["claim"].startswith("sweep: NLL")]
    assert len(nll) >= 2
    assert min(nll) > 1000


def test_plain_papermill_from_any_folder_draws_the_same_bytes_and_leaves_the_published_figures_alone(
    fast: Run, tmp_path: Path, monkeypatch
) -> None:
    """The command of the README, in a folder that is not the checkout; and so a second run of one notebook."""
    monkeypatch.delenv("VAE_CORE_BUILD")
    before = digests(CHECKOUT / "figures") | digests(CHECKOUT / "notebooks")
    output = tmp_path / "some" / "where" / "out.ipynb"
    output.parent.mkdir(parents=True)
    source = CHECKOUT / "notebooks" / f"{SAME}.ipynb"
    [notebook] = find_notebooks(CHECKOUT, [SAME])
    words = [word for key, value in notebook.presets["fast"].items() for word in ("-p", key, str(value))]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    subprocess.run(
        [sys.executable, "-m", "papermill", str(source), str(output), *words],
        cwd=tmp_path, check=True, capture_output=True, timeout=500,
        env=os.environ | threads | {"VAE_CORE_SWEEPS": str(CHECKOUT / "figures" / "data"), "VAE_CORE_DEVICE": "cpu"},
    )  # fmt: skip
    assert digests(CHECKOUT / "figures") | digests(CHECKOUT / "notebooks") == before
    drawn = {path.name: sha256(path) for path in (tmp_path / "build" / "figures").glob("*.png")}
    assert drawn == {n: f["sha256"] for n, f in fast.record[SAME]["outputs"].items() if n.endswith(".png")}
    assert len(drawn) >= 4


def test_without_data_and_network_the_embedded_set_stands_in_and_says_so(
    small: Path, tmp_path: Path, monkeypatch  # noqa: F811
) -> None:  # fmt: skip
    """An empty data folder and a proxy that refuses: the notebook runs with its defaults, and publishes nothing."""
    monkeypatch.setenv("VAE_CORE_DATA", str(tmp_path / "empty"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    draw = DRAW.replace("load_images(data)", "load_images(data, substitute=True)")
    parameters = PARAMETERS.replace("photos-sample", "cifar10")
    write_pair(small / "notebooks", "00_draws", draw, figures=("figure_{names}",), parameters=parameters)
    [outcome] = reproduce(checkout=small, echo=lambda _: None)
    assert outcome.error is None
    assert outcome.aside == "made from photos-sample, not cifar10"
    assert not list((small / "figures").iterdir())
    executed = outcome.output.read_text()
    assert "photos-sample (32x32 crops of photographs that come with scikit-image) stands in for cifar10" in executed
