"""The real notebooks, executed with papermill."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

from vae_core.files import sha256
from vae_core.regenerate.reproduce import reproduce

pytestmark = pytest.mark.notebook


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_all_notebooks_run_and_two_runs_give_the_same_bytes(checkout: Path, shared_data: Path) -> None:
    import shutil

    seen = []
    for _ in range(2):
        outcomes = reproduce(checkout=checkout, preset="fast")
        assert [outcome.error for outcome in outcomes] == [None] * 6
        assert max(outcome.peak_bytes for outcome in outcomes) < 2e9
        seen.append(digests(checkout / "build" / "figures"))
        del seen[-1]["data/inputs.json"]  # holds seconds
        executed = [json.loads(path.read_text()) for path in sorted((checkout / "build" / "notebooks").glob("*.ipynb"))]
        shutil.rmtree(checkout / "build")
    assert seen[0] == seen[1]
    assert len([name for name in seen[0] if name.endswith(".png")]) == 30
    assert {path.name for path in (checkout / "figures").iterdir()} == {"data"}
    for notebook in executed:
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        shown = {kind for cell in code for output in cell["outputs"] for kind in output.get("data", {})}
        assert {"image/png", "text/markdown", "text/html"} <= shown
        assert "application/vnd.jupyter.widget-view+json" not in shown  # a widget is dead without its kernel
        assert not notebook["metadata"].get("widgets")
        assert "srcdoc=" in json.dumps(code)
    text = json.dumps(executed)
    assert text.count("Not the post's setting: no verdict.") == 8


def test_a_notebook_quotes_the_sweeps_of_its_checkout(checkout: Path) -> None:
    sweep = checkout / "figures" / "data" / "sweep_latent_dimension.json"
    facts = json.loads(sweep.read_text())
    facts["rows"] = [row | {"nll": row["nll"] + 1000} for row in facts["rows"] if row["dim"] < 3]
    sweep.write_text(json.dumps(facts))
    published = digests(checkout / "figures")
    small = {"data": "digits-sample", "images": 500, "latent_dims": 2, "epochs": 1}
    given = [(key, str(value)) for key, value in small.items()]
    [outcome] = reproduce(["01"], checkout=checkout, preset="fast", parameters=given)
    assert outcome.error is None
    quoted = json.loads((checkout / "build" / "figures" / "data" / "results.json").read_text())["01_latent_dimension"]
    nll = {row["claim"]: row["value"] for row in quoted if row["claim"].startswith("sweep: NLL")}
    assert set(nll) == {f"sweep: NLL at {d} latent dimensions" for d in (1, 2)}
    assert min(nll.values()) > 1000
    assert digests(checkout / "figures") == published  # such a run publishes nothing


def test_the_exercises_in_code_run(checkout: Path, shared_data: Path) -> None:
    """The lines of code that "Try it" asks for in notebooks 02, 03 and 04: one more recipe, or step."""
    for name, line, recipe in (
        ("02_cifar_blur", "recipes = {", '"a tenth": math.sqrt(1 / 20)'),
        ("03_batch_average", "recipes = {", '"threshold": math.sqrt(97)'),
        ("04_sharper_images", "changes = RUNGS | {", '"half beta": {"beta": 0.5}'),
    ):
        for half in (".py", ".ipynb"):
            path = checkout / "notebooks" / f"{name}{half}"
            text = path.read_text()
            assert recipe.replace('"', '"' if half == ".py" else '\\"') in text  # as the exercise says
            assert text.count(line) == 1
            path.write_text(text.replace(line, line + (recipe if half == ".py" else recipe.replace('"', '\\"')) + ", "))
    outcomes = reproduce(["02", "03", "04"], checkout=checkout, preset="fast")
    assert [outcome.error for outcome in outcomes] == [None, None, None]


def test_plain_papermill_from_any_folder_leaves_the_published_figures_alone(tmp_path: Path, monkeypatch) -> None:
    """The command of the README, on the embedded data, in a folder that is not the checkout."""
    monkeypatch.delenv("VAE_CORE_FIGURES")
    before = digests(CHECKOUT / "figures")
    output = tmp_path / "some" / "where" / "out.ipynb"
    output.parent.mkdir(parents=True)
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(CHECKOUT / "notebooks" / "01_latent_dimension.ipynb"),
        str(output),
    ]
    # papermill makes a whole number of the last
    words = ["-p", "epochs", "1", "-p", "data", "digits-sample", "-p", "images", "1000", "-p", "latent_dims", "2"]
    subprocess.run([*command, *words], cwd=tmp_path, check=True, capture_output=True, timeout=200)
    assert digests(CHECKOUT / "figures") == before
    drawn = {path.name for path in (tmp_path / "build" / "figures").glob("*.png")}
    assert {"latent_dim_2.png", "latent_plane.png"} <= drawn
    assert "digits-sample" in output.read_text()


def test_without_data_and_network_the_embedded_set_stands_in_and_says_so(
    checkout: Path, tmp_path: Path, monkeypatch
) -> None:
    """An empty data folder and a proxy that refuses: the notebook runs, and publishes nothing."""
    monkeypatch.setenv("VAE_CORE_DATA", str(tmp_path / "empty"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    said: list[str] = []
    [outcome] = reproduce(["03"], checkout=checkout, preset="fast", say=said.append)
    assert outcome.error is None
    manifest = json.loads((checkout / "build" / "figures" / "manifest.json").read_text())
    assert {entry["source"].split(":")[0] for entry in manifest.values()} == {"photos-sample"}
    executed = outcome.output.read_text()
    assert "photos-sample (32x32 crops of photographs that come with scikit-image) stands in for cifar10" in executed
    assert "CIFAR-10, pair" not in executed
