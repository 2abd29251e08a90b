"""What is around a run changes nothing in it: homes, configuration, closed streams, signals that nobody hears."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from checkouts import CHART, DRAW, new_checkout, pictures, run, run_here, write_pair
from conftest import CHECKOUT
from faults import end, gone
from test_charts import HOSTILE

from vae_core.regenerate import execute

pytestmark = pytest.mark.notebook


def hostile(home: Path, root: Path) -> dict[str, str]:
    """A user who has set what can be set; the variables of that user."""
    settings = "".join(f"{key}: {value}\n" for key, value in HOSTILE.items())
    breaks = "import matplotlib.figure\nmatplotlib.figure.Figure.savefig = lambda *_, **__: 1 / 0\n"
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
    for path in (home / ".config" / "matplotlib" / "matplotlibrc", home / "other.rc", root / "matplotlibrc"):
        path.write_text(settings)
    (home / ".ipython" / "profile_default" / "startup" / "00.py").write_text(breaks)
    (home / "start.py").write_text(breaks)
    for data in (home / ".local" / "share" / "jupyter", home / "jupyter"):
        (data / "kernels" / "python3").mkdir(parents=True)
        spec = {"argv": ["false", "{connection_file}"], "display_name": "Other", "language": "python"}
        (data / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")  # the fonts that matplotlib has found
    return os.environ | {
        "HOME": str(home), "XDG_CACHE_HOME": cache, "MATPLOTLIBRC": str(home / "other.rc"),
        "JUPYTER_PATH": str(home / "jupyter"), "PYTHONSTARTUP": str(home / "start.py"),
    }  # fmt: skip


def test_what_the_user_has_set_changes_no_figure_and_no_kernel(published: Path, tmp_path: Path) -> None:
    wanted = pictures(published)
    environment = hostile(tmp_path / "home", published)
    shutil.rmtree(published / "figures")
    done = run(published, "reproduce", "00", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pictures(published) == wanted
    cells = nbformat.read(published / "build" / "notebooks" / "00_draws.ipynb", as_version=4).cells
    assert cells[-1].outputs[0].text.split()[0] == sys.executable


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A checkout of a user who has no home, and for whom nothing else can be written."""
    folder = Path(tempfile.mkdtemp())
    root = new_checkout(folder / "foreign")
    try:
        write_pair(root / "notebooks", "00_draws", DRAW, CHART, figures=("figure_{names}", "chart"))
        yield root
    finally:
        end(root)
        shutil.rmtree(folder)


def test_a_user_without_a_home_makes_the_figures(foreign: Path) -> None:
    more: dict = {}
    reach = all(path.stat().st_mode & 1 for path in (*CHECKOUT.parents, *Path(sys.executable).resolve().parents))
    if os.geteuid() == 0 and reach:
        for path in (foreign.parent, *foreign.parent.rglob("*")):
            os.chown(path, 65534, 65534)
        more = {"user": 65534, "group": 65534, "extra_groups": []}
    home = "/" if more or os.geteuid() else "/proc/none"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "VAE_CORE_"))}
    done = run(foreign, "reproduce", env=kept | {"HOME": home}, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(pictures(foreign)) == {"figure_1.png", "figure_2.png", "chart.png"}


@pytest.mark.parametrize("mine", ["mine", "~/mine"])
def test_folders_are_those_of_where_the_user_stands(tmp_path: Path, monkeypatch, mine: str) -> None:
    home, stands = tmp_path / "home", tmp_path / "stands"
    for folder in (home, stands):
        folder.mkdir()
    monkeypatch.chdir(stands)
    monkeypatch.setenv("HOME", str(home))
    for name in ("VAE_CORE_RUNS", "VAE_CORE_DATA", "VAE_CORE_BUILD", "VAE_CORE_SWEEPS"):
        monkeypatch.setenv(name, mine)
    variables = execute._environment({"data": None, "runs": str(tmp_path / "checkout")}, tmp_path / "run")
    wanted = home / "mine" if mine.startswith("~") else stands / "mine"
    assert variables["VAE_CORE_RUNS"] == variables["VAE_CORE_DATA"] == str(wanted)
    assert variables["VAE_CORE_BUILD"] == str(tmp_path / "run")
    assert variables["VAE_CORE_SWEEPS"] == str(tmp_path / "run" / "sweeps")


@pytest.mark.parametrize(("sign", "code"), [
    (signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.stress)
])  # fmt: skip
def test_a_sweep_ends_in_one_line(tmp_path: Path, sign: int, code: int) -> None:
    settings = (
        "data.name=digits-sample",
        "data.limit=1000",
        "model.latent_dim=2",
        "train.seed=0",
        "train.epochs=1,9999",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "sweep", "latent_dimension", "--jobs", "1", "-o", "out",
         *(word for setting in settings for word in ("--set", setting))],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")},
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*/run.json")) and time.monotonic() < until:
        time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(sign)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told.splitlines()[-1]) == (code, "vae-core: stopped; finished work is kept")
    assert "Traceback" not in told
    assert gone(tmp_path) == []


@pytest.mark.parametrize(("words", "closed", "code"), [
    (["reproduce", "01", "--force"], ">&- 2>&- <&-", 0), (["reproduce", "nothing"], "2>&-", 2), (["status"], ">&-", 0),
    (["sweep", "latent_dimension", "--set", "data.name=nothing"], "2>&-", 2),
])  # fmt: skip
def test_closed_streams_change_no_exit_code(published: Path, words: list[str], closed: str, code: int) -> None:
    shell = f"'{sys.executable}' -m vae_core \"$@\" {closed}"
    done = subprocess.run(["sh", "-c", shell, "sh", *words], cwd=published, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stdout + done.stderr


def test_what_is_wrong_with_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    done = run_here(tmp_path, "evaluate", "run")
    assert done.exit_code == 2
    assert done.stderr == "vae-core: run/run.json: Is a directory\n"


def test_whoever_reads_only_the_first_line_hears_no_complaint(small: Path) -> None:
    shell = f"'{sys.executable}' -m vae_core status | head -1"
    done = subprocess.run(["sh", "-c", shell], cwd=small, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("00_draws: stale; not run in this checkout as it is")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.stress
def test_tests_hear_ctrl_c_also_where_it_is_ignored_and_what_fails_is_ended(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").symlink_to(CHECKOUT / "tests" / "conftest.py")
    (tmp_path / "test_one.py").write_text(f"""\
import signal, subprocess, sys

def test_one(tmp_path):
    code = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    subprocess.Popen(["sleep", "1000"], cwd=tmp_path, start_new_session=True)
    open({str(tmp_path / "begun")!r}, "w").close()
    assert False
""")
    shell = f"trap '' INT; exec '{sys.executable}' -m pytest -q -p no:cacheprovider --basetemp=base test_one.py"
    path = os.pathsep.join([str(CHECKOUT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PYTHONPATH": path})  # fmt: skip
    assert (tmp_path / "begun").exists(), done.stdout
    assert "assert False" in done.stdout
    assert gone(tmp_path, patience=5) == []


def test_make_lab_starts_for_root_too() -> None:
    told = subprocess.run(["make", "-n", "lab", "READY="], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert ("--allow-root" in told.stdout.split()) is (os.geteuid() == 0)
