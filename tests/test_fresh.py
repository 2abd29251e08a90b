import json
import subprocess
import time
from pathlib import Path

import pytest
from test_reproduce import DRAW, small, write_pair  # noqa: F401

from vae_core import fresh
from vae_core.notebook import find_notebooks
from vae_core.provenance import code_digest, sha256
from vae_core.reproduce import reproduce

CODE = "from vae_core import fit, load_images\nfrom vae_core.explore import explore\n"


def inputs(code: str = CODE) -> dict:
    return fresh.inputs(code, {}, {})


def test_the_code_that_a_notebook_can_reach() -> None:
    reached = set(inputs()["package"])
    assert {
        "__init__.py",
        "runs.py",
        "train.py",
        "model.py",
        "data.py",
        "explore.py",
        "page.py",
        "explore.js",
    } <= reached
    assert not {"reproduce.py", "cli.py", "verdict.py", "rivals.py"} & reached
    assert "verdict.py" in inputs("from vae_core import verdict")["package"]
    assert "pairs.py" in inputs("import vae_core.pairs")["package"]
    assert set(inputs("%matplotlib inline\n!ls\nx = 1")["package"]) == {"__init__.py"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cells": "other"}, ["its code cells"]),
        ({"parameters": {"epochs": 2}}, ["parameter epochs"]),
        ({"parameters": {"epochs": 1, "seed": 0}}, ["parameter seed"]),
        ({"package": {"train.py": "1", "data.py": "2"}}, ["vae_core/data.py", "vae_core/train.py"]),
        ({"versions": {"torch": "9"}}, ["the version of torch"]),
        ({"data": {"mnist": "other"}}, ["the data mnist"]),
        ({"sweeps": {"latent_dimension": "other"}}, ["the sweep latent_dimension"]),
        ({}, []),
    ],
)
def test_changes_are_named(change: dict, told: list[str]) -> None:
    before = {"cells": "c", "parameters": {"epochs": 1}, "package": {"train.py": "0"}, "versions": {"torch": "2"},
              "data": {"mnist": "m"}, "sweeps": {"latent_dimension": "s"}}  # fmt: skip
    assert fresh.changes(before, before | change) == told
    assert fresh.changes({}, before) == ["no record of how they were made"]


def test_comments_docstrings_and_layout_are_no_change_of_code(tmp_path: Path) -> None:
    texts = [
        'def f(x):\n    """Say."""\n    return x + 1\n',
        'def f(x):\n    """Say more."""\n\n    # a comment\n    return (x\n        + 1)\n',
        'def f(x):\n    """Say."""\n    return x + 2\n',
    ]
    paths = [tmp_path / f"{i}.py" for i in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    same, also, other = map(code_digest, paths)
    assert same == also != other


def test_few_reasons() -> None:
    assert fresh.few(["a", "b", "c"]) == "a, b, c"
    assert fresh.few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_other_files_of_a_data_set_are_other_data(tmp_path: Path) -> None:
    from vae_core.download import fingerprint

    assert fingerprint("mnist", tmp_path) == fingerprint("digits-sample", tmp_path) == ""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "a").write_text("12")
    first = fingerprint("mnist", tmp_path)
    assert first
    (raw / "a").write_text("34")
    assert fingerprint("mnist", tmp_path) == first  # names and sizes
    (raw / "a").write_text("345")
    assert fingerprint("mnist", tmp_path) != first
    assert fingerprint(str(raw), tmp_path) == fingerprint("mnist", tmp_path)


def rewritten(small: Path, *cells: str) -> None:  # noqa: F811
    write_pair(small / "notebooks", "00_draws", *cells, figures=("figure_{names}",))


@pytest.mark.notebook
def test_only_what_changed_is_run_again(small: Path) -> None:  # noqa: F811
    said: list[str] = []

    def again(**more) -> list[bool]:
        said.clear()
        return [outcome.published for outcome in reproduce(checkout=small, say=said.append, **more)]

    assert again() == [True]
    assert said[0] == "00_draws: to be run: no record of how they were made, figures/figure_1.png is missing, " \
                      "figures/figure_2.png is missing"  # fmt: skip
    record = json.loads((small / "figures" / "data" / "inputs.json").read_text())["00_draws"]
    assert record["parameters"]["epochs"] == 3
    assert again() == []
    assert said == ["00_draws: fresh", "nothing to do; --force runs them all the same"]
    assert again(force=True) == [True]

    figure = small / "figures" / "figure_1.png"
    digest = sha256(figure)
    figure.write_bytes(b"not a picture")
    assert again() == [True]
    assert said[0] == "00_draws: to be run: figures/figure_1.png is another file"
    assert sha256(figure) == digest

    rewritten(small, DRAW + "print('more')")
    [one] = find_notebooks(small)
    assert fresh.stale(one, small) == ["its code cells"]
    assert again() == [True]
    assert again() == []


@pytest.mark.notebook
def test_a_run_that_failed_leaves_the_record_of_the_last_success(small: Path) -> None:  # noqa: F811
    reproduce(checkout=small)
    before = (small / "figures" / "data" / "inputs.json").read_bytes()
    rewritten(small, DRAW + "raise ValueError('no')")
    [outcome] = reproduce(checkout=small, say=lambda _: None)
    assert "ValueError" in (outcome.error or "")
    assert (small / "figures" / "data" / "inputs.json").read_bytes() == before
    assert fresh.stale(find_notebooks(small)[0], small) == ["its code cells"]


def git(folder: Path, *words: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.notebook
def test_a_figure_tells_its_story_and_keeps_the_commit_that_made_it(small: Path) -> None:  # noqa: F811
    git(small, "init", "-q")
    git(small, "add", "-A")
    git(small, "commit", "-qm", "first")
    reproduce(checkout=small, say=lambda _: None)
    first = subprocess.run(["git", "rev-parse", "HEAD"], cwd=small, capture_output=True, text=True).stdout.strip()
    told = fresh.story(Path("figures/figure_1.png"), small)
    text = "\n".join(told)
    assert f"commit:      {first}, clean" in told
    assert "epochs=3" in text
    assert "sweeps:      none" in told
    assert "threads: 1" in text
    assert "(this file)" in text
    assert "remake:      vae-core reproduce 00_draws --force" in told
    git(small, "add", "-A")
    git(small, "commit", "-qm", "figures")
    reproduce(checkout=small, force=True, say=lambda _: None)  # the same, from another commit: the record stays
    assert fresh.story(Path("figure_1.png"), small) == told
    assert not subprocess.run(["git", "status", "--porcelain", "figures"], cwd=small, capture_output=True).stdout
    (small / "figures" / "figure_1.png").write_bytes(b"")
    assert "NOT this file" in "\n".join(fresh.story(Path("figure_1.png"), small))
    with pytest.raises(ValueError, match="is no published figure"):
        fresh.story(Path("other.png"), small)


@pytest.mark.notebook
def test_verify_compares_bytes_here_and_numbers_elsewhere(small: Path) -> None:  # noqa: F811
    from vae_core.verify import verify

    said: list[str] = []
    with pytest.raises(ValueError, match="has no published figures"):
        verify(checkout=small)
    reproduce(checkout=small, say=lambda _: None)
    results, record = small / "figures" / "data" / "results.json", small / "figures" / "data" / "inputs.json"
    before = {path: path.read_bytes() for path in (small / "figures").rglob("*") if path.is_file()}
    assert verify(checkout=small, say=said.append)
    assert said[-1] == "00_draws: the same (by bytes)"
    assert {path: path.read_bytes() for path in before} == before

    (small / "figures" / "figure_2.png").write_bytes(b"another")
    assert not verify(checkout=small, say=said.append)
    assert said[-1] == "00_draws: NOT the same: figure_2.png (by bytes)"

    record.write_text(record.read_text().replace('"torch": "', '"torch": "0.'))
    assert verify(checkout=small, say=said.append)
    assert said[-1].startswith("00_draws: the same (by numbers, on another machine")
    results.write_text(results.read_text().replace('"value": 3', '"value": 4'))
    assert not verify(checkout=small, say=said.append)
    assert "NOT the same: epochs (3, published 4) (by numbers" in said[-1]
    results.write_text(results.read_text().replace('"value": 4', '"value": 4, "standard_error": 0.6'))
    assert verify(checkout=small, say=said.append)


@pytest.mark.notebook
def test_a_notebook_that_hangs_is_stopped_and_nothing_is_published(small: Path) -> None:  # noqa: F811
    import psutil

    rewritten(small, "import time\nprint('here')", "time.sleep(600)")
    [outcome] = reproduce(checkout=small, timeout=12, say=lambda _: None)
    assert outcome.error == "no end after 12 s; it was at cell 3"
    assert not list((small / "figures").rglob("*.png"))
    time.sleep(2)
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(small) in " ".join(p.info["cmdline"] or [])]


def test_a_second_run_in_the_same_checkout_is_refused(small: Path) -> None:  # noqa: F811
    from filelock import FileLock

    (small / "build").mkdir()
    with FileLock(small / "build" / ".reproduce.lock"), pytest.raises(ValueError, match="another reproduce is at work"):
        reproduce(checkout=small, say=lambda _: None)
    assert not list((small / "figures").iterdir())
