"""Kill -9 at seeded moments, full disks, folders that cannot be written."""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults import gone, kill, published, start, whole
from test_reproduce import DRAW, run, small, write_pair  # noqa: F401

from vae_core.regenerate.record import PACKAGE, forget
from vae_core.regenerate.reproduce import reproduce

pytestmark = pytest.mark.notebook
SLOWLY = "import time; time.sleep({})"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of three notebooks of about two seconds, all published."""
    root = tmp_path_factory.mktemp("faults") / "finished"
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "vae_core"\n')
    for i in range(3):
        draw = DRAW.replace("00_draws", f"0{i}_draws").replace("figure_{name}", f"figure{i}_{{name}}")
        write_pair(root / "notebooks", f"0{i}_draws", SLOWLY.format(2), draw, figures=(f"figure{i}_{{names}}",))
    assert all(outcome.published for outcome in reproduce(checkout=root, jobs=3))
    return root


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_kill_9_a_plain_rerun_ends_in_the_same_bytes(finished: Path, tmp_path: Path, seed: int) -> None:
    root = tmp_path / "killed"
    shutil.copytree(finished, root)
    wanted = published(finished)
    shutil.rmtree(root / "figures")
    process = start(root, "--jobs", "2")
    time.sleep(random.Random(seed).uniform(1, 8))
    assert process.poll() is None
    survivors = kill(process)
    assert survivors == []
    assert gone(root) == []
    assert whole(root) == []
    done = run(root, "reproduce", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert published(root) == wanted


def test_what_was_killed_while_it_wrote_leaves_no_parts(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "killed"
    shutil.copytree(finished, root)
    part = root / "figures" / ".figure0_1.png.123.part"
    part.write_bytes(b"half")
    (root / "figures" / "figure0_1.png").write_bytes(b"half")  # as if it had been killed between two files
    [outcome] = reproduce(checkout=root)
    assert outcome.notebook.name == "00_draws"
    assert published(root) == published(finished)


@pytest.mark.parametrize(("limit", "where"), [(2_000, "process"), (200_000, "figure")])
def test_a_full_disk_is_named_and_the_published_set_stays(
    finished: Path, tmp_path: Path, limit: int, where: str
) -> None:
    root = tmp_path / "full"
    shutil.copytree(finished, root)
    before = published(root)
    large = """\
import torch
from vae_core.plots.figures import Section, image_sections, save
noise = torch.rand((40, 3, 64, 64), generator=torch.Generator().manual_seed(0))
save(image_sections("T", [Section("", noise)]), "figure0_1", alt="a", caption="c", source="photos-sample: x")
"""
    write_pair(root / "notebooks", "00_draws", large, figures=("figure0_1",))
    done = subprocess.run(
        [sys.executable, "-m", "vae_core", "reproduce", "00", "--jobs", "1"],
        cwd=root, capture_output=True, text=True, timeout=120,
        # no file can grow beyond: what a full disk does, without filling one
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode in (1, 2)
    told = done.stdout + done.stderr
    assert "File too large" in told, told
    assert "Traceback" not in told
    assert published(root) == before
    assert not list((root / "figures").rglob(".*.part"))
    done = run(root, "reproduce", "00")  # with room again
    assert done.returncode == 0, done.stdout
    assert published(root) != before


def test_a_full_disk_while_publishing_fails_that_notebook_alone(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "full"
    shutil.copytree(finished, root)
    before = published(root)
    shutil.rmtree(root / "figures")
    real = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if "figure1_2" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    first, second, third = reproduce(checkout=root, jobs=2)
    assert (first.error, third.error) == (None, None)
    assert second.figures == []
    assert "figure1_2.png (No space left on device): free or choose another place" in second.error
    left = published(root)
    assert not [name for name in left if "figure1" in name]  # none of its figures, not even the one that had room
    assert "01_draws" not in (root / "figures" / "manifest.json").read_text()
    monkeypatch.undo()
    [again] = reproduce(checkout=root)
    assert again.notebook.name == "01_draws"
    assert published(root) == before


@pytest.mark.parametrize("folder", ["build", "figures"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(
    small: Path,  # noqa: F811
    folder: str,
) -> None:
    (small / folder).write_text("a file where the folder should be")
    done = run(small, "reproduce")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert f"{folder} cannot be written" in line


def test_a_kernel_that_answers_nothing_at_all_is_stopped(small: Path) -> None:  # noqa: F811
    write_pair(small / "notebooks", "01_stopped", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")
    [outcome] = reproduce(["01"], checkout=small, timeout=6)
    assert outcome.error.startswith("no end after 6 s")
    assert gone(small) == []


def test_package_code_that_changes_while_a_notebook_runs_is_noticed(small: Path) -> None:  # noqa: F811
    root = small / "more"
    shutil.copytree(PACKAGE, root / "vae_core", ignore=shutil.ignore_patterns("__pycache__"))
    path = root / "vae_core" / "data.py"
    edit = f'with open({str(path)!r}, "a") as code:\n    code.write("\\nCHANGED = 1")'
    write_pair(small / "notebooks", "00_draws", DRAW, edit, figures=("figure_{names}",))
    done = run(small, "reproduce", env=os.environ | {"PYTHONPATH": str(root)})
    assert done.returncode == 1
    assert "failed: 00_draws: the code of vae_core changed while it ran" in done.stdout, done.stdout
    assert not (small / "figures" / "manifest.json").exists()


def test_the_first_notebook_may_fetch_the_data(small: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    folder = tmp_path / "pictures"
    folder.mkdir()
    fetch = f"from PIL import Image\nImage.new('L', (4, 4)).save({str(folder / 'a.png')!r})"
    parameters = f'data = "{folder}"\nepochs = 1\nnames = "1,2"\nseed = 0'
    write_pair(small / "notebooks", "00_draws", fetch, parameters=parameters)
    write_pair(small / "notebooks", "01_more", "x = 1", parameters=parameters)
    first, second = reproduce(checkout=small, jobs=1)
    assert (first.error, second.error) == (None, None)
    forget()
    assert reproduce(checkout=small) == []  # what was there in the end is what counts


def test_the_same_bytes_whatever_the_number_of_jobs(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "one"
    shutil.copytree(finished, root)
    shutil.rmtree(root / "figures")
    assert all(outcome.published for outcome in reproduce(checkout=root, jobs=1))
    assert published(root) == published(finished)
    manifest = json.loads((root / "figures" / "manifest.json").read_text())
    assert {entry["threads"] for entry in manifest.values()} == {1}


def test_kernels_have_one_thread_whatever_the_environment_says(small: Path, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    check = "import os, torch\nassert torch.get_num_threads() == 1 and os.environ['OMP_NUM_THREADS'] == '1'"
    write_pair(small / "notebooks", "00_draws", check, DRAW, figures=("figure_{names}",))
    [outcome] = reproduce(checkout=small, jobs=1)
    assert outcome.error is None
    assert os.environ["OMP_NUM_THREADS"] == "2"
