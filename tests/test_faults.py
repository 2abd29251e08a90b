"""Kill -9 at seeded moments, full disks, folders that cannot be written."""

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkouts import forget, new_checkout, run, write_pair
from faults import files_of, gone, kill, start, whole

from vae_core.regenerate.record import PACKAGE
from vae_core.regenerate.reproduce import Outcome, publish, reproduce

pytestmark = pytest.mark.notebook


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.stress) for seed in range(2, 9))])
def test_after_kill_9_a_plain_rerun_ends_in_the_same_bytes(published: Path, seed: int) -> None:
    wanted = files_of(published)
    shutil.rmtree(published / "figures")
    process = start(published, "--jobs", "2")
    time.sleep(random.Random(seed).uniform(1, 8))
    assert process.poll() is None
    assert kill(process) == []
    assert gone(published) == []
    assert whole(published) == []
    done = run(published, "reproduce", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_of(published) == wanted


def test_what_was_killed_while_it_wrote_leaves_no_parts(published: Path) -> None:
    wanted = files_of(published)
    part = published / "figures" / ".figure_1.png.123.part"
    part.write_bytes(b"half")
    (published / "figures" / "figure_1.png").write_bytes(b"half")  # as if it had been killed between two files
    [outcome] = reproduce(checkout=published)
    assert outcome.notebook.name == "00_draws"
    assert files_of(published) == wanted


@pytest.mark.parametrize(("limit", "where"), [(2_000, "process"), (200_000, "figure")])
def test_a_full_disk_is_named_and_the_published_set_stays(published: Path, limit: int, where: str) -> None:
    before = files_of(published)
    large = """\
import os
from PIL import Image
os.makedirs(os.environ["VAE_CORE_BUILD"] + "/figures")
Image.effect_noise((720, 720), 99).save(os.environ["VAE_CORE_BUILD"] + "/figures/large.png")
"""
    write_pair(published / "notebooks", "02_large", large, figures=("large",))
    done = subprocess.run(
        [sys.executable, "-m", "vae_core", "reproduce", "02", "--jobs", "1"],
        cwd=published, capture_output=True, text=True, timeout=240,
        # no file can grow beyond: what a full disk does, without filling one
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode in (1, 2)
    told = done.stdout + done.stderr
    assert "File too large" in told, told
    assert "Traceback" not in told
    assert files_of(published) == before
    assert not list((published / "figures").rglob(".*.part"))


def test_a_full_disk_while_publishing_changes_nothing(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_core.regenerate import record as fresh
    from vae_core.regenerate.notebook import find_notebooks

    before, real = files_of(published), Path.write_bytes
    notebook = find_notebooks(published)[0]
    outcome = Outcome(notebook, notebook.parameters, fresh.inputs(notebook.code, notebook.parameters, {}))
    pictures = {path.name: path.read_bytes() for path in (published / "figures").glob("*.png")}
    for path in (published / "figures").glob("*.png"):
        path.unlink()

    def write(path: Path, content: bytes) -> int:
        if "figure_2" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(OSError, match=r"figure_2.png \(No space left on device\): free or choose another place"):
        publish(outcome, pictures, {}, published, "post", None, True, print)
    assert outcome.figures == []
    assert files_of(published) == {name: digest for name, digest in before.items() if not name.endswith(".png")}
    monkeypatch.undo()
    publish(outcome, pictures, {}, published, "post", None, True, print)
    assert files_of(published).keys() == before.keys()


def test_package_code_that_changes_while_a_notebook_runs_is_noticed(tmp_path: Path) -> None:
    root = new_checkout(tmp_path / "asks")
    more = tmp_path / "more"
    shutil.copytree(PACKAGE, more / "vae_core", ignore=shutil.ignore_patterns("__pycache__"))
    path = more / "vae_core" / "data.py"
    write_pair(root / "notebooks", "00_edits", f'open({str(path)!r}, "a").write("\\nCHANGED = 1")')
    done = run(root, "reproduce", env=os.environ | {"PYTHONPATH": str(more)})
    assert done.returncode == 1
    assert "failed: 00_edits: the code of vae_core changed while it ran" in done.stdout, done.stdout
    assert not (root / "figures" / "record.json").exists()


def test_the_first_notebook_may_fetch_the_data(tmp_path: Path) -> None:
    root, folder = new_checkout(tmp_path / "fetches"), tmp_path / "pictures"
    folder.mkdir()
    fetch = f"from PIL import Image\nImage.new('L', (4, 4)).save({str(folder / 'a.png')!r})"
    parameters = f'data = "{folder}"\nepochs = 1\nnames = "1,2"\nseed = 0'
    write_pair(root / "notebooks", "00_fetches", fetch, parameters=parameters)
    write_pair(root / "notebooks", "01_more", "x = 1", parameters=parameters)
    first, second = reproduce(checkout=root, jobs=1)
    assert (first.error, second.error) == (None, None)
    forget()
    assert reproduce(checkout=root) == []  # what was there in the end is what counts
