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
from conftest import CHECKOUT
from faults import end, gone
from test_charts import HOSTILE
from test_reproduce import DRAW, run, small, write_pair  # noqa: F401

pytestmark = pytest.mark.notebook
CHART = """\
from vae_core.plots.charts import Dot, dots
save(dots("T", [Dot("a", 1.25), Dot("b", 1.5)], label="nats"), "chart", alt="a", caption="c", source=source)
"""
WAITS = 'open({!r}, "w").close(); import time; time.sleep(100)'


def pictures(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "figures").glob("*.png")}


def executed(root: Path, name: str) -> list[str]:
    """What the code cells of an executed notebook printed."""
    cells = nbformat.read(root / "build" / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return ["".join(output.get("text", "") for output in cell.get("outputs", [])).strip() for cell in cells]


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


def test_what_the_user_has_set_changes_no_figure_and_no_kernel(small: Path, tmp_path: Path) -> None:  # noqa: F811
    cell = "import sys\nprint(sys.executable)"
    write_pair(small / "notebooks", "00_draws", DRAW, CHART, cell, figures=("figure_{names}", "chart"))
    done = run(small, "reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = pictures(small)
    assert len(wanted) == 3
    environment = hostile(tmp_path / "home", small)
    shutil.rmtree(small / "figures")
    done = run(small, "reproduce", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pictures(small) == wanted
    assert executed(small, "00_draws")[-1] == sys.executable


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A checkout of a user who has no home, and for whom nothing else can be written."""
    root = Path(tempfile.mkdtemp())
    try:
        (root / "notebooks").mkdir()
        (root / "pyproject.toml").write_text('[project]\nname = "vae_core"\n')
        write_pair(root / "notebooks", "00_draws", DRAW, figures=("figure_{names}",))
        yield root
    finally:
        end(root)
        shutil.rmtree(root)


def test_a_user_without_a_home_makes_the_figures(foreign: Path) -> None:
    more: dict = {}
    reach = all(path.stat().st_mode & 1 for path in (*CHECKOUT.parents, *Path(sys.executable).resolve().parents))
    if os.geteuid() == 0 and reach:
        for path in (foreign, *foreign.rglob("*")):
            os.chown(path, 65534, 65534)
        more = {"user": 65534, "group": 65534, "extra_groups": []}
    home = "/" if more or os.geteuid() else "/proc/none"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "VAE_CORE_"))}
    done = run(foreign, "reproduce", env=kept | {"HOME": home}, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(pictures(foreign)) == {"figure_1.png", "figure_2.png"}


@pytest.mark.parametrize("mine", ["mine", "~/mine"])
def test_folders_are_those_of_where_the_user_stands(small: Path, tmp_path: Path, mine: str) -> None:  # noqa: F811
    cell = """\
import os
from vae_core.sources.torchvision_files import data_root
from vae_core.runs import runs_folder
print(runs_folder(), data_root(), os.environ["VAE_CORE_DATA"])
"""
    write_pair(small / "notebooks", "00_draws", cell)
    names = dict.fromkeys(("VAE_CORE_RUNS", "VAE_CORE_DATA", "VAE_CORE_FIGURES", "VAE_CORE_SWEEPS"), mine)
    stands, home = small / "notebooks", tmp_path / "home"
    home.mkdir()
    cache = {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")}
    done = run(stands, "reproduce", env=os.environ | names | {"HOME": str(home)} | cache)
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = home / "mine" if mine.startswith("~") else stands / "mine"
    assert executed(small, "00_draws")[-1].split() == [str(wanted)] * 3


def test_a_kernel_that_the_system_killed_is_named_with_its_cell_and_what_to_do(small: Path) -> None:  # noqa: F811
    kill = "import os, signal\nos.kill(os.getpid(), signal.{})"
    write_pair(small / "notebooks", "00_draws", kill.format("SIGKILL"), "x = 1")
    write_pair(small / "notebooks", "01_more", "x = 1", kill.format("SIGSEGV"))
    parent = "import os, psutil\npsutil.Process().parent().kill()"
    write_pair(small / "notebooks", "02_more", parent, "import time; time.sleep(100)")
    done = run(small, "reproduce", "--jobs", "3")
    assert done.returncode == 1
    memory = "died: killed by the system, likely for memory; give fewer --jobs, smaller data or more memory"
    assert f"failed: 00_draws in cell 2: its kernel {memory}; see build/notebooks/00_draws.ipynb" in done.stdout
    assert "failed: 01_more in cell 3: its kernel died with code -11; see" in done.stdout
    assert f"failed: 02_more: its process, at cell 2, {memory}" in done.stdout
    assert gone(small) == []


def test_sigterm_ends_a_run_that_hears_no_ctrl_c_and_leaves_nothing(small: Path, tmp_path: Path) -> None:  # noqa: F811
    waiting = tmp_path / "waiting"
    write_pair(small / "notebooks", "01_waits", WAITS.format(str(waiting)))
    process = subprocess.Popen(
        ["sh", "-c", f"trap '' INT; exec '{sys.executable}' -m vae_core reproduce"],
        cwd=small, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (waiting.exists() and (small / "figures" / "figure_2.png").exists()) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 143
    assert told.splitlines() == [
        f"vae-core: Ctrl-C is ignored here; to stop: kill {process.pid}",
        "vae-core: stopped; finished work is kept",
    ]
    assert gone(small) == []
    assert (small / "figures" / "figure_1.png").exists()
    assert not list(tmp_path.glob("vae_core-*"))


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
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
    assert (process.returncode, told) == (code, "vae-core: stopped; finished work is kept\n")
    assert gone(tmp_path) == []


@pytest.mark.parametrize(("words", "code"), [
    (["reproduce"], 0), (["reproduce", "nothing"], 2), (["status"], 0),
    (["sweep", "latent_dimension", "--set", "data.name=nothing"], 2),
])  # fmt: skip
def test_closed_streams_change_no_exit_code(small: Path, words: list[str], code: int) -> None:  # noqa: F811
    write_pair(small / "notebooks", "00_draws", "x = 1")
    for closed in ("2>&-", ">&-", ">&- 2>&- <&-"):
        shutil.rmtree(small / "build", ignore_errors=True)
        shell = f"'{sys.executable}' -m vae_core \"$@\" {closed}"
        done = subprocess.run(["sh", "-c", shell, "sh", *words], cwd=small, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, (closed, done.stdout, done.stderr)
        assert "Traceback" not in done.stdout + done.stderr


def test_what_is_wrong_with_a_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").mkdir()
    done = run(tmp_path, "evaluate", "run")
    assert done.returncode == 2
    assert done.stderr == "vae-core: run/run.json: Is a directory\n"


def test_whoever_reads_only_the_first_line_hears_no_complaint(small: Path) -> None:  # noqa: F811
    shell = f"'{sys.executable}' -m vae_core status | head -1"
    done = subprocess.run(["sh", "-c", shell], cwd=small, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("00_draws: stale: no record of how they were made, ")
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


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
