"""The project's own rules: layers, sizes, pairs, install lines, quoted numbers."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import jupytext
import pytest
from conftest import CHECKOUT
from readme import refreshed

from vae_core.files import sha256
from vae_core.regenerate.notebook import find_notebooks, outputs_digest

PACKAGE = CHECKOUT / "vae_core"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TRAINING = ("noise", "data", "likelihood", "model", "objective", "train")  # what one reads to follow a training
RECORD = json.loads((CHECKOUT / "figures" / "record.json").read_text())
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.py"))
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
    "train": ("objective", "data"),
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
    "training": 1000,
    "top": 1380,
    "sources": 430,
    "plots": 430,
    "explorer": 340,
    "parallel": 505,
    "study": 1755,
    "regenerate": 1110,
    "cli": 500,
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
    assert sum(lines.values()) <= 7420


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


def faults_of_layout(text: str, *, most: int = 250, middle: int = 4) -> list[str]:
    """In what the text of a .py half is not a page to be read."""
    cells = jupytext.reads(text, fmt="py:percent").cells
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    code = [[line for line in cell.source.splitlines() if line.strip()] for cell in cells if cell.cell_type == "code"]
    imports = [lines for lines in code if any(re.match(r"(import|from) ", line) for line in lines)]
    lengths = [len(lines) for lines in code]
    rules = {
        f"{words} words of prose for {sum(lengths)} lines of code, fewer than 15 a line": words < 15 * sum(lengths),
        f"a median code cell of {median(lengths):g} lines, above {middle}": median(lengths) > middle,
        f"a code cell of {max(lengths)} lines, above 12": max(lengths) > 12,
        f"{len(text.splitlines())} lines, above {most}": len(text.splitlines()) > most,
        f"imports in {len(imports)} cells, not one": len(imports) != 1,
        f"{max(map(len, imports), default=0)} lines of imports, above 6": max(map(len, imports), default=0) > 6,
        "a layout that no formatter made (fmt: skip)": "fmt: skip" in text,
    }
    return [fault for fault, holds in rules.items() if holds]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_read_like_a_book(path: Path) -> None:
    """Of notebook 00 the code is the lesson, so its cells may be longer; 03 has eleven experiments."""
    most, middle = 350 if path.stem.startswith("03") else 250, 6 if path.stem.startswith("00") else 4
    assert faults_of_layout(path.read_text(), most=most, middle=middle) == []


def test_the_layout_of_a_notebook_is_judged() -> None:
    def page(words: int, *cells: int, imports: int = 1) -> str:
        code = ["import torch\n" * imports, *("x = 1\n" * lines for lines in cells)]
        return "\n".join([f"# %% [markdown]\n# {'word ' * words}", *(f"# %%\n{cell}" for cell in code)])

    assert faults_of_layout(page(15 * 14, 4, 4, 4, 1)) == []
    assert faults_of_layout(page(15 * 14 - 1, 4, 4, 4, 1)) == [
        "209 words of prose for 14 lines of code, fewer than 15 a line"
    ]
    assert faults_of_layout(page(999, 5, 5, 1)) == []
    assert faults_of_layout(page(999, 5, 5, 5)) == ["a median code cell of 5 lines, above 4"]
    assert faults_of_layout(page(999, 12, 1)) == []
    assert faults_of_layout(page(999, 13, 1)) == ["a code cell of 13 lines, above 12"]
    assert faults_of_layout(page(999, 1, imports=6)) == []
    assert faults_of_layout(page(999, 1, imports=7)) == ["7 lines of imports, above 6"]
    assert faults_of_layout(page(999, 1) + "\n# %%\nimport os") == ["imports in 2 cells, not one"]
    assert faults_of_layout(page(999, 1) + "\n\n# %%\nx = 1  # fmt: skip") == [
        "a layout that no formatter made (fmt: skip)"
    ]
    assert faults_of_layout(page(999, 1) + "\n# %% [markdown]\n" + "# a\n" * 250)[0].endswith("lines, above 250")


def test_no_layout_of_the_package_is_hidden_from_the_formatter() -> None:
    assert [name for name, path in MODULES.items() if re.search(r"# fmt: (skip|off)", path.read_text())] == []


def faults_of_page(text: str, entry: dict) -> list[str]:
    """What of the outputs in the text of an .ipynb should not be committed, or is not as it was published."""
    notebook = json.loads(text)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    counted = [cell for cell in notebook["cells"] if cell.get("execution_count") is not None]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    words = json.dumps([{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs])
    rules = {
        "an absolute path": re.search(r"/(home|root|Users|tmp|var|work|opt|usr|private|mnt)/\w", words),
        "a widget": "widgets" in notebook["metadata"] or any("widget" in kind for kind in kinds),
        "a page in the page": re.search(r"<(iframe|script|!doctype)", words, re.IGNORECASE),
        "stderr": any(output.get("name") == "stderr" for output in outputs),
        "an execution count or time": counted or any("execution" in cell["metadata"] for cell in notebook["cells"]),
        "an error": any(output["output_type"] == "error" for output in outputs),
        "other outputs than were published": entry.get("notebook", outputs_digest(text)) != outputs_digest(text),
        "no picture": entry.get("notebook") and entry["outputs"] and "image/png" not in kinds,
    }
    return [fault for fault, holds in rules.items() if holds]


def test_notebook_pairs_agree_and_hold_nothing_but_what_was_published() -> None:
    assert len(find_notebooks(CHECKOUT)) == 6  # reading a pair fails when its halves differ
    assert {path.suffix for path in (CHECKOUT / "notebooks").iterdir() if path.is_file()} == {".py", ".ipynb"}
    pages = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    for path in pages:
        assert faults_of_page(path.read_text(), RECORD[path.stem]) == [], path.name
    assert sum(path.stat().st_size for path in pages) < 6e6


def test_the_outputs_of_a_page_are_judged() -> None:
    import nbformat.v4 as v4

    def faults(*outputs: dict, published: bool = True, count: int | None = None, **metadata: dict) -> list[str]:
        cell = v4.new_code_cell("x", outputs=list(outputs), execution_count=count)
        text = json.dumps(v4.new_notebook(cells=[cell], metadata=metadata))
        return faults_of_page(text, {"outputs": {"a.png": {}}, "notebook": outputs_digest(text)} if published else {})

    def data(**kinds: str) -> dict:
        names = {"png": "image/png", "html": "text/html", "widget": "application/vnd.jupyter.widget-view+json"}
        return v4.new_output("display_data", {names[kind]: content for kind, content in kinds.items()})

    assert faults(data(png="iVBOR/home/a")) == []
    assert faults(published=False) == []
    assert faults() == ["no picture"]
    assert faults(v4.new_output("stream", name="stdout", text="1.5 nats/image")) == ["no picture"]
    assert faults(data(png="x"), v4.new_output("stream", text="/home/a/b.png")) == ["an absolute path"]
    assert faults(data(png="x", html="<iframe>")) == ["a page in the page"]
    assert faults(data(png="x", widget="x")) == faults(data(png="x"), widgets={}) == ["a widget"]
    assert faults(data(png="x"), v4.new_output("stream", name="stderr", text="x")) == ["stderr"]
    assert faults(data(png="x"), count=3) == ["an execution count or time"]
    text = json.dumps(v4.new_notebook(cells=[v4.new_code_cell("x")]))
    assert faults_of_page(text, {"outputs": {}, "notebook": "other"}) == ["other outputs than were published"]


def test_notebooks_keep_their_rhythm() -> None:
    for path in NOTEBOOKS:
        notebook = jupytext.read(path)
        text = path.read_text().lower()
        for part in ("your prediction", "claimed against measured", "verdict", "explore", "try it", "further reading"):
            assert part in text, (path.name, part)
        assert notebook.metadata["kernelspec"]["name"] == "python3"


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


def test_the_record_describes_the_figures_that_are_there() -> None:
    folder = CHECKOUT / "figures"
    drawn = {path.name for path in folder.iterdir() if path.suffix in {".png", ".svg", ".html"}}
    assert drawn == {name for entry in RECORD.values() for name in entry["outputs"]}
    assert {path.name for path in folder.iterdir()} == drawn | {"record.json", "data"}
    assert all(re.fullmatch(r"sweep_\w+\.json", path.name) for path in (folder / "data").iterdir())
    assert set(RECORD) == {path.stem for path in NOTEBOOKS}
    for entry in RECORD.values():
        words = "cells parameters package versions data sweeps commit clean machine seconds"
        assert {*words.split()} <= set(entry["inputs"])
        for name, facts in entry["outputs"].items():
            assert facts["sha256"] == sha256(folder / name), name
            assert facts["source"].split(":")[0] in entry["inputs"]["parameters"]["data"].split(",")
            assert len(facts["alt"]) > 40, name
            assert facts["caption"], name
        assert all({"claim", "value", "unit", "seeds", "images", "source"} <= set(row) for row in entry["numbers"])
    for notebook in find_notebooks(CHECKOUT):
        assert RECORD[notebook.name]["outputs"].keys() >= {
            f"{figure}.png" for figure in notebook.figures(notebook.parameters)
        }
        assert RECORD[notebook.name]["inputs"]["parameters"] == notebook.parameters
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10e6


def test_readme_quotes_the_record_and_shows_every_figure_of_the_post() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert refreshed(readme, RECORD) == readme  # else: make readme
    assert len(re.findall(r"<!-- .+? -->\s*-?\d", readme)) >= 6
    nine = [f"latent_dim_{d}" for d in (2, 4, 10)] + [f"cifar_{n}" for n in (200, 100, 25)]
    shown = set(re.findall(r'src="figures/(\w+)\.png" alt="[^"]+"', readme))
    assert shown >= {*nine, *(f"batch_average_{k}" for k in (1, 2, 3))}


def test_numbers_and_alt_texts_of_a_readme_are_brought_up_to_date() -> None:
    outputs = {"a.png": {"alt": "new"}}
    record = {"01": {"numbers": [{"claim": "c", "value": -1.256}, {"claim": "d", "value": 6.7}], "outputs": outputs}}
    old = '<!-- c --> 3.10 and <!-- d -->\n-5, <img src="figures/a.png" alt="old">'
    assert refreshed(old, record) == '<!-- c --> -1.26 and <!-- d -->\n7, <img src="figures/a.png" alt="new">'
    with pytest.raises(KeyError, match="e"):
        refreshed("<!-- e --> 1", record)


def test_the_published_numbers_are_good_enough() -> None:
    """What the notebooks must reach with their default parameters."""
    value = {row["claim"]: row["value"] for entry in RECORD.values() for row in entry["numbers"]}
    bounds = [value[f"test ELBO at {d} latent dimensions"] for d in (2, 4, 10)]
    assert bounds[0] < bounds[1] < bounds[2]
    assert bounds[2] >= -107
    for k in (1, 2, 3):
        assert value[f"share of samples at the mean, before training, pair {k}"] == 0
        assert value[f"share of samples at the mean, mean of squares, pair {k}"] >= 0.95
        assert value[f"share of samples at the mean, sum of squares, pair {k}"] < 0.5
    assert value["test ELBO, by hand"] == pytest.approx(value["test ELBO, package"], abs=1e-3)


def test_command_help_names_every_command() -> None:
    from vae_core.cli.main import main

    for start in ([sys.executable, "-m", "vae_core"], [str(Path(sys.executable).with_name("vae-core"))]):
        text = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True).stdout
        assert set(main.commands) <= set(text.split())
        assert len(main.commands) == 11
