"""The project's own rules: layers, sizes, pairs, install lines, quoted numbers."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from conftest import CHECKOUT

from vae_core.regenerate.notebook import find_notebooks

PACKAGE = CHECKOUT / "vae_core"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TRAINING = ("noise", "data", "likelihood", "model", "objective", "train")  # what one reads to follow a training
# who may import whom, at module level or inside functions; each also what those below it may. Ground floor first.
LAYERS = {
    "noise": (),
    "files": (),
    "quality": ("noise",),
    "sources": ("files",),
    "environment": ("files",),
    "likelihood": ("noise",),
    "data": ("sources", "noise"),
    "model": ("likelihood",),
    "objective": ("model",),
    "forecast": ("objective",),
    "latent": ("objective",),
    "metrics": ("objective", "data"),
    "train": ("metrics",),
    "runs": ("train", "forecast", "environment"),
    "scores": ("runs", "quality", "metrics"),
    "plots": ("files",),
    "explorer": ("latent", "data", "plots"),
    "parallel": ("runs",),
    "study": ("parallel", "plots", "scores", "latent"),
    "regenerate": ("study",),
    "cli": ("regenerate", "explorer"),
}
# lines at most: the six rooms of a training together, the other rooms of the top level together, each wing
BUDGETS = {
    "training": 1120,
    "top": 1830,
    "sources": 500,
    "plots": 510,
    "explorer": 370,
    "parallel": 720,
    "study": 1750,
    "regenerate": 1540,
    "cli": 620,
}


def imports(path: Path) -> set[str]:
    """The rooms and wings that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vae_core":
            found |= {*(node.module or "").split(".")[1:2]} or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vae_core.")}
    return found - {"__version__"}


def below(room: str) -> set[str]:
    return set(LAYERS[room]).union(*map(below, LAYERS[room]))


def test_every_module_imports_only_what_is_below_it() -> None:
    rooms = {name.split("/")[0] for name in MODULES} - {"__init__", "__main__"}
    assert rooms == set(LAYERS)
    for name, path in MODULES.items():
        room = name.split("/")[0]
        if room in rooms:
            assert imports(path) - {room} <= below(room), name
    assert imports(MODULES["__init__"]) == set()
    assert imports(MODULES["__main__"]) == {"cli"}


def test_no_two_modules_of_a_wing_import_each_other() -> None:
    known = {"vae_core." + name.replace("/", "."): name for name in MODULES}

    def own(name: str) -> set[str]:
        """The modules of the same wing that a module imports."""
        found = set()
        for node in ast.walk(ast.parse(MODULES[name].read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {
                    known.get(f"{node.module}.{alias.name}", known.get(node.module or "")) for alias in node.names
                }
        return {other for other in found if other and other.split("/")[0] == name.split("/")[0]} - {name}

    def reached(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        return own(name).union(*(reached(other, seen | {name}) for other in own(name) - seen))

    assert [name for name in MODULES if "/" in name and name in reached(name)] == []


def test_the_house_stays_small() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    rooms: dict[str, int] = {}
    for name, count in lines.items():
        room = name.split("/")[0] if "/" in name else "training" if name in TRAINING else "top"
        rooms[room] = rooms.get(room, 0) + count
    assert {room: count for room, count in rooms.items() if count > BUDGETS[room]} == {}
    assert sum(lines.values()) <= 8400


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("torch", "torchvision", "matplotlib", "ipywidgets")
    code = f"import sys, vae_core; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_package_answers_for_all_its_public_names() -> None:
    import vae_core

    for name in vae_core.__all__:
        assert getattr(vae_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vae_core.nothing  # noqa: B018


def test_notebook_pairs_are_in_sync_and_without_outputs() -> None:
    assert len(find_notebooks(CHECKOUT)) == 6  # reading a pair fails when its halves differ
    assert {path.suffix for path in (CHECKOUT / "notebooks").iterdir() if path.is_file()} == {".py", ".ipynb"}
    for path in (CHECKOUT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text())["cells"]:
            assert not cell.get("outputs"), path.name
            assert cell.get("execution_count") is None, path.name


def test_notebooks_keep_their_rhythm() -> None:
    for path in (CHECKOUT / "notebooks").glob("*.py"):
        notebook = jupytext.read(path)
        text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").lower()
        for part in ("your prediction", "claimed against measured", "verdict", "explore", "try it", "further reading"):
            assert part in text or (part == "verdict" and "conclusion" in path.read_text()), (path.name, part)
        assert notebook.metadata["kernelspec"]["name"] == "python3"
        for cell in notebook.cells:
            if cell.cell_type == "code":
                assert "class " not in cell.source, path.name
                assert len(cell.source.splitlines()) <= 22, (path.name, cell.source)


def test_parameters_are_plain_scalars() -> None:
    for notebook in find_notebooks(CHECKOUT):
        assert {type(value) for value in notebook.parameters.values()} <= {int, float, str, bool}
        assert "seed" in notebook.parameters
        assert "data" in notebook.parameters
        assert set(notebook.presets) == {"fast", "full"}


def test_conda_and_make_install_the_same() -> None:
    make = re.search(r"^INSTALL := (.*)$", (CHECKOUT / "Makefile").read_text(), re.M)[1]
    conda = re.findall(r"^      - (.*)$", (CHECKOUT / "environment.yml").read_text(), re.M)
    assert " ".join(conda) == make


def test_the_lock_holds_every_dependency() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cluster"], *extras["dev"]]
    wanted.remove("vae_core[cluster]")  # the project itself
    locked = {
        line.split("==")[0].lower().replace("_", "-") for line in (CHECKOUT / "requirements.lock").read_text().split()
    }
    for line in wanted:
        assert re.match(r"[\w-]+", line)[0].lower() in locked, line


def test_the_manifest_describes_the_figures_that_are_there() -> None:
    from vae_core.files import sha256

    manifest = json.loads((CHECKOUT / "figures" / "manifest.json").read_text())
    drawn = {path.name for path in (CHECKOUT / "figures").iterdir() if path.suffix in {".png", ".svg", ".html"}}
    assert drawn == set(manifest)
    for name, entry in manifest.items():
        assert entry["sha256"] == sha256(CHECKOUT / "figures" / name), name
        assert entry["threads"] == 1
        assert entry["source"].split(":")[0] in entry["parameters"]["data"].split(",")
        assert len(entry["alt"]) > 40, name
        assert entry["caption"], name
    for notebook in find_notebooks(CHECKOUT):
        for figure in notebook.figures(notebook.parameters):
            assert manifest[f"{figure}.png"]["notebook"] == notebook.name
            assert manifest[f"{figure}.png"]["parameters"] == notebook.parameters
    assert sum(path.stat().st_size for path in (CHECKOUT / "figures").rglob("*") if path.is_file()) < 10e6


def test_readme_shows_every_figure_of_the_post_with_its_alt_text() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    manifest = json.loads((CHECKOUT / "figures" / "manifest.json").read_text())
    nine = [f"latent_dim_{d}" for d in (2, 4, 10)] + [f"cifar_{n}" for n in (200, 100, 25)]
    shown = set(re.findall(r'src="figures/(\w+)\.png"', readme))
    for name in shown | {*nine, *(f"batch_average_{k}" for k in (1, 2, 3))}:
        assert f'src="figures/{name}.png" alt="{manifest[name + ".png"]["alt"]}"' in readme, name


def test_numbers_in_the_readme_are_the_measured_ones() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    results = json.loads((CHECKOUT / "figures" / "data" / "results.json").read_text())
    measured = {row["claim"]: row["value"] for rows in results.values() for row in rows}
    quoted = re.findall(r"<!-- (.+?) -->\s*(-?\d+(?:\.\d+)?)", readme)
    assert len(quoted) >= 6
    for claim, number in quoted:
        digits = len(number.partition(".")[2])
        assert float(number) == pytest.approx(measured[claim], abs=0.5 * 10**-digits), claim


def test_the_published_numbers_are_good_enough() -> None:
    """What the notebooks must reach with their default parameters."""
    results = json.loads((CHECKOUT / "figures" / "data" / "results.json").read_text())
    value = {row["claim"]: row["value"] for rows in results.values() for row in rows}
    bounds = [value[f"test ELBO at {d} latent dimensions"] for d in (2, 4, 10)]
    assert bounds[0] < bounds[1] < bounds[2]
    assert bounds[2] >= -107
    for k in (1, 2, 3):
        assert value[f"share of samples at the mean, before training, pair {k}"] == 0
        assert value[f"share of samples at the mean, mean of squares, pair {k}"] >= 0.95
        assert value[f"share of samples at the mean, sum of squares, pair {k}"] < 0.5
    assert value["test ELBO, by hand"] == pytest.approx(value["test ELBO, package"], abs=1e-3)


def test_command_help_names_every_command() -> None:
    for start in ([sys.executable, "-m", "vae_core"], [str(Path(sys.executable).with_name("vae-core"))]):
        told = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True).stdout
        assert {
            "reproduce",
            "status",
            "data",
            "forecast",
            "runs",
            "evaluate",
            "compare",
            "export",
            "verify",
            "sweep",
        } <= set(told.split())
