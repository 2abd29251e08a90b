import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT
from PIL import Image
from test_reproduce import DRAW, small, write_pair  # noqa: F401

from vae_core.environment import code_digest, package_digest
from vae_core.files import sha256, with_results, write_json
from vae_core.regenerate import record as fresh
from vae_core.regenerate.notebook import find_notebooks
from vae_core.regenerate.publish import Outcome
from vae_core.regenerate.reproduce import _expected, reproduce


def test_the_package_is_one_digest_of_all_that_a_figure_can_depend_on(tmp_path: Path) -> None:
    """However a notebook imports it: by lazy names, under another name, or with lines that are no Python."""
    folder = tmp_path / "vae_core"
    shutil.copytree(fresh.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = package_digest(folder)
    assert before == package_digest() == fresh.inputs("import vae_core as v\nfiles = !ls\nv.fit", {}, {})["package"]
    noticed = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".py", ".js"}):
        text = path.read_text()
        path.write_text(text + ("\n// more" if path.suffix == ".js" else "\nMORE = 1\n"))
        fresh.forget()
        noticed[path.relative_to(folder).as_posix()] = package_digest(folder) != before
        path.write_text(text + ("" if path.suffix == ".js" else "\n# a comment\n"))
        fresh.forget()
        assert package_digest(folder) == before, path.name
    runners = {name for name in noticed if name.split("/")[0] in {"cli", "regenerate", "__main__.py"}}
    assert {name for name, seen in noticed.items() if not seen} == runners
    assert {"__init__.py", "runs.py", "explorer/explore.js", "study/sweep.py", "parallel/engine.py"} <= set(noticed)


def test_a_checkout_whose_package_is_not_the_one_that_runs(small: Path) -> None:  # noqa: F811
    own = small / "vae_core"
    shutil.copytree(fresh.PACKAGE, own, ignore=shutil.ignore_patterns("__pycache__"))
    fresh.forget()
    fresh.check_package(small)  # the same code elsewhere will do
    (own / "data.py").write_text("MORE = 1\n")
    fresh.forget()
    for words in (["status"], ["reproduce"], ["verify"]):
        script = Path(sys.executable).with_name("vae-core")  # python -m would take the package of the current folder
        done = subprocess.run([script, *words], cwd=small, capture_output=True, text=True)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith(
            f"vae-core: vae_core is imported from {fresh.PACKAGE}, and {own} has other code: use the"
        )
        assert f"pip install -e {small}" in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cells": "other"}, ["its code cells"]),
        ({"parameters": {"epochs": 2}}, ["parameter epochs"]),
        ({"parameters": {"epochs": 1, "seed": 0}}, ["parameter seed"]),
        ({"package": "1"}, ["the code of vae_core"]),
        ({"versions": {"torch": "9"}}, ["the version of torch"]),
        ({"data": {"mnist": "other"}}, ["the data mnist"]),
        ({"sweeps": {"latent_dimension": "other"}}, ["the sweep latent_dimension"]),
        ({}, []),
    ],
)
def test_changes_are_named(change: dict, told: list[str]) -> None:
    before = {"cells": "c", "parameters": {"epochs": 1}, "package": "0", "versions": {"torch": "2"},
              "data": {"mnist": "m"}, "sweeps": {"latent_dimension": "s"}}  # fmt: skip
    assert fresh.changes(before, before | change) == told
    assert fresh.changes({}, before) == ["no record of how they were made"]


def test_comments_docstrings_and_layout_are_no_change_of_code(tmp_path: Path) -> None:
    texts = [
        'def f(x):\n    """Say."""\n    return x + 1\n',
        'def f(x):\n    """Say more."""\n\n    # a comment\n    return (x\n        + 1)\n',
        "def f(x):\n    return x + 1\n",
        'def f(x):\n    """Say."""\n    return x + 2\n',
    ]
    paths = [tmp_path / f"{i}.py" for i in range(4)]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    same, also, bare, other = map(code_digest, paths)
    assert same == also == bare != other


def test_few_reasons() -> None:
    assert fresh.few(["a", "b", "c"]) == "a, b, c"
    assert fresh.few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_other_files_of_a_data_set_are_other_data(tmp_path: Path) -> None:
    from vae_core.sources.torchvision_files import fingerprint

    assert fingerprint("mnist", tmp_path) == fingerprint("digits-sample", tmp_path) == ""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = raw / "train-images-idx3-ubyte"
    images.write_text("12")
    first = fingerprint("mnist", tmp_path)
    assert first
    images.write_text("34")
    assert fingerprint("mnist", tmp_path) == first  # names and sizes
    (raw / "train-images-idx3-ubyte.gz").write_text("left over")
    assert fingerprint("mnist", tmp_path) == first
    images.write_text("345")
    assert fingerprint("mnist", tmp_path) != first


def rewritten(small: Path, *cells: str) -> None:  # noqa: F811
    write_pair(small / "notebooks", "00_draws", *cells, figures=("figure_{names}",))


@pytest.mark.notebook
def test_only_what_did_not_run_here_as_it_is_is_run(small: Path) -> None:  # noqa: F811
    said: list[str] = []

    def again(**more) -> list[bool]:
        said.clear()
        return [outcome.published for outcome in reproduce(checkout=small, say=said.append, **more)]

    assert again() == [True]
    assert said[0] == "00_draws: to be run: not run in this checkout yet"
    assert said[-1] == "2 figures made: 2 in figures/ (2 new, 0 as published)"
    record = json.loads((small / "figures" / "data" / "inputs.json").read_text())["00_draws"]
    assert record["parameters"]["epochs"] == 3
    assert again() == []
    assert said == [
        "00_draws: fresh, it ran in this checkout",
        "nothing to do: 2 figures are in figures/; to run all: make figures FORCE=1, or --force",
    ]
    assert again(force=True) == [True]
    assert said[-1] == "2 figures made: 2 in figures/ (0 new, 2 as published)"

    shutil.rmtree(small / "build")
    [one] = find_notebooks(small)
    known = json.loads((small / "figures" / "data" / "inputs.json").read_text())["00_draws"]["seconds"]
    assert known > 0
    assert _expected(small, Outcome(one, one.settings("post", {}))) == known  # by it what remains is told
    assert _expected(small, Outcome(one, one.settings("fast", {}))) is None
    # what others made is no reason to do nothing
    assert again() == [True]
    assert said[-1] == "2 figures made: 2 in figures/ (0 new, 2 as published)"
    (small / "build" / "made" / "00_draws.json").write_text("{")  # damaged: as if it had not run
    assert again() == [True]

    figure = small / "figures" / "figure_1.png"
    digest = sha256(figure)
    for content in (b"not a picture", None):
        figure.unlink() if content is None else figure.write_bytes(content)
        assert again() == [True]
        why = "is missing" if content is None else "is another file"
        assert said[0] == f"00_draws: to be run: figures/figure_1.png {why}"
        assert sha256(figure) == digest

    rewritten(small, DRAW + "print('more')")
    [one] = find_notebooks(small)
    assert fresh.stale(one, small) == fresh.to_run(one, small) == ["its code cells"]
    before = fresh.record(small / "figures", "00_draws")
    assert again() == [True]
    assert again() == []
    after = fresh.record(small / "figures", "00_draws")  # of the run that made the figures, and of one that agreed
    assert {key: fact for key, fact in after.items() if key != "agreed"} == before
    assert after["agreed"]["cells"] != before["cells"]
    assert "agreed:      later, at commit unknown, but for its code cells" in fresh.story(Path("figure_1.png"), small)

    (small / "figures" / "data" / "inputs.json").write_text(json.dumps({"00_draws": before}))  # as git may bring it
    assert fresh.to_run(one, small) == ["its code cells"]
    assert again() == [True]
    assert fresh.record(small / "figures", "00_draws")["agreed"] == after["agreed"]


@pytest.mark.notebook
@pytest.mark.parametrize("clone", [False, True])
@pytest.mark.parametrize(("file", "old", "new"), [
    ("data/results.json", '"value": 3', '"value": 3.0001'),
    ("manifest.json", '"alt": "alt"', '"alt": "alt 9.5%"'),
    ("manifest.json", '"machine"', '"mashine"'),
])  # fmt: skip
def test_what_is_edited_by_hand_is_noticed_and_made_again(
    small: Path, file: str, old: str, new: str, clone: bool  # noqa: F811
) -> None:  # fmt: skip
    reproduce(checkout=small, say=lambda _: None)
    path = small / "figures" / file
    before = path.read_text()
    path.write_text(before.replace(old, new))
    assert path.read_text() != before
    if clone:
        shutil.rmtree(small / "build")
    [one] = find_notebooks(small)
    what = "entries" if file == "manifest.json" else "numbers"
    assert f"its {what} in {path.name} were changed by hand" in fresh.stale(one, small)
    assert fresh.to_run(one, small)
    said: list[str] = []
    [outcome] = reproduce(checkout=small, say=said.append)
    assert outcome.published
    assert any(line.startswith("00_draws: replaced: ") for line in said)
    assert path.read_text() == before
    assert fresh.stale(one, small) == fresh.to_run(one, small) == []


@pytest.mark.notebook
def test_numbers_that_are_no_longer_measured_go(small: Path) -> None:  # noqa: F811
    reproduce(checkout=small, say=lambda _: None)
    rewritten(small, "\n".join(line for line in DRAW.splitlines() if not line.startswith("save_results")))
    for _ in range(2):
        reproduce(checkout=small, force=True, say=lambda _: None)
        assert fresh.rows(small / "figures", "00_draws") == fresh.stale(find_notebooks(small)[0], small) == []


@pytest.mark.notebook
def test_a_figure_of_another_notebook_is_not_taken(small: Path) -> None:  # noqa: F811
    reproduce(checkout=small, say=lambda _: None)
    before = {path: path.read_bytes() for path in (small / "figures").rglob("*") if path.is_file()}
    write_pair(small / "notebooks", "01_takes", DRAW, figures=("figure_{names}",))
    [outcome] = reproduce(["01"], checkout=small, say=lambda _: None)
    assert "it made figure_1.png, which is a figure of 00_draws: rename one" in outcome.error
    assert {path: path.read_bytes() for path in before} == before


def test_files_that_a_notebook_reads_are_part_of_what_it_depends_on(small: Path) -> None:  # noqa: F811
    [one] = find_notebooks(small)
    one = one._replace(reads=("tables/a.json",))
    assert fresh.sweeps(one, small) == {}
    (small / "tables").mkdir()
    (small / "tables" / "a.json").write_text("1")
    assert fresh.sweeps(one, small) == {"a": b"1"}
    assert find_notebooks(CHECKOUT, ["05"])[0].reads == ("benchmarks/results/burda_table.json",)


NOISE = """\
import torch
from vae_core.plots.figures import Section, image_sections, save, save_results
noise = torch.rand((40, 3, 32, 32), generator=torch.Generator().manual_seed({seed}))
save(image_sections("T", [Section("", noise)]), "figure_1", alt="a {value}", caption="c",
     source="photos-sample: x", svg=True)
save_results("00_draws", [{{"claim": "x", "value": {value}}}, {{"claim": "y", "value": 1.0, "tolerance": 0.5}}])
"""


@pytest.mark.notebook
def test_another_machine_s_last_digits_replace_nothing(small: Path) -> None:  # noqa: F811
    """What another processor would make: other bytes, numbers within their tolerances, pictures that look the same."""
    folder = small / "figures"
    write_pair(small / "notebooks", "00_draws", NOISE.format(seed=0, value=2.0), figures=("figure_1",))
    [outcome] = reproduce(checkout=small, say=lambda _: None)
    assert outcome.error is None

    def elsewhere(value: float, other: float = 1.4) -> dict[Path, bytes]:
        """The published set as if another machine had made it."""
        picture = Image.open(folder / "figure_1.png").convert("RGB")
        picture.putpixel((0, 0), (0, 0, 0))
        picture.save(folder / "figure_1.png")
        svg = folder / "figure_1.svg"
        svg.write_text(svg.read_text() + "<!-- drawn elsewhere -->")
        rows = fresh.rows(folder, "00_draws")
        rows[0]["value"], rows[1]["value"] = value, other
        entries = json.loads((folder / "manifest.json").read_text())
        for name, entry in entries.items():
            entry |= {"machine": "another", "sha256": sha256(folder / name), "alt": f"a {value}"}
        records = json.loads((folder / "data" / "inputs.json").read_text())
        records["00_draws"] |= {"numbers": fresh.written_digest(rows), "commit": "another", "seconds": 1000}
        records["00_draws"]["entries"] = fresh.written_digest(entries)
        results = folder / "data" / "results.json"
        write_json(results, with_results(results, "00_draws", rows))
        write_json(folder / "manifest.json", entries)
        write_json(folder / "data" / "inputs.json", records)
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    said: list[str] = []
    shutil.rmtree(small / "build")
    before = elsewhere(2.0015)
    [outcome] = reproduce(checkout=small, say=said.append)
    assert outcome.published
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert said[-1] == "1 figures made: 1 in figures/ (0 new, 1 as published)"
    assert reproduce(checkout=small, say=said.append) == []

    elsewhere(2.02)  # a number that is another by 1%
    [one] = find_notebooks(small)
    assert fresh.stale(one, small) == []  # whole, as git may bring it, but not what the run in this checkout left
    assert fresh.to_run(one, small) == ["figures/figure_1.svg is another file"]
    reproduce(checkout=small, force=True, say=said.append)
    assert "00_draws: replaced: x: 2, published 2.02" in said
    assert [row["value"] for row in fresh.rows(folder, "00_draws")] == [2.0, 1.0]
    assert "another" not in (folder / "manifest.json").read_text()

    elsewhere(2.0, other=1.6)  # beyond what is stated
    reproduce(checkout=small, force=True, say=said.append)
    assert "00_draws: replaced: y: 1, published 1.6" in said

    elsewhere(2.0015)
    reproduce(checkout=small, republish=True, say=said.append)
    assert fresh.rows(folder, "00_draws")[0]["value"] == 2.0
    assert "another" not in (folder / "manifest.json").read_text()

    elsewhere(2.0015)
    write_pair(small / "notebooks", "00_draws", NOISE.format(seed=1, value=2.0), figures=("figure_1",))
    reproduce(checkout=small, say=said.append)  # other code: no machine's doing
    assert "00_draws: replaced: y: 1, published 1.4, figure_1.png looks different" in said


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
    with pytest.raises(ValueError, match=r"no figure other\.png"):
        fresh.story(Path("other.png"), small)


@pytest.mark.notebook
def test_a_figure_that_was_played_with_tells_its_own_story(small: Path) -> None:  # noqa: F811
    reproduce(checkout=small, say=lambda _: None)
    reproduce(checkout=small, parameters=[("epochs", "7")], say=lambda _: None)
    played = "\n".join(fresh.story(Path("build/figures/figure_1.png"), small))
    assert "(this file)" in played
    assert sha256(small / "build" / "figures" / "figure_1.png") in played
    assert "epochs=7" in played
    assert "reproduce 00_draws -p data photos-sample -p epochs 7 -p names 1,2 -p quick False" in played
    assert "epochs=3" in "\n".join(fresh.story(Path("figures/figure_1.png"), small))
    stray = small / "build" / "figure_1.png"
    stray.write_bytes(b"")
    with pytest.raises(ValueError, match="is in no manifest"):
        fresh.story(stray, small)


def test_a_repository_around_an_unpacked_archive_is_not_its_commit(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "vae"
    inner.mkdir(parents=True)
    (outer / "a").touch()
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        git(outer, *words)
    assert fresh.commit(outer)["clean"]
    assert fresh.commit(inner) == {"commit": "unknown", "clean": False}


@pytest.mark.notebook
def test_verify_says_what_it_compared(small: Path) -> None:  # noqa: F811
    from vae_core.regenerate.verify import verify

    said: list[str] = []
    with pytest.raises(ValueError, match="has no published figures"):
        verify(checkout=small)
    reproduce(checkout=small, say=lambda _: None)
    results, record = small / "figures" / "data" / "results.json", small / "figures" / "data" / "inputs.json"
    before = {path: path.read_bytes() for path in (small / "figures").rglob("*") if path.is_file()}
    assert verify(checkout=small, say=said.append)
    compared = "compared: 1 numbers within their tolerances, 2 figures to 15.0% of their pixels"
    assert said[-1] == f"00_draws: the same ({compared})"
    assert {path: path.read_bytes() for path in before} == before

    (small / "figures" / "figure_2.png").write_bytes(b"another")
    assert not verify(checkout=small, say=said.append)
    assert said[-1] == f"00_draws: NOT the same: figure_2.png was another file than its entry says ({compared})"
    (small / "figures" / "figure_2.png").write_bytes(before[small / "figures" / "figure_2.png"])

    results.write_text(results.read_text().replace('"value": 3', '"value": 3.1'))
    assert not verify(checkout=small, say=said.append)
    assert "NOT the same: epochs: 3, published 3.1, its numbers in results.json were changed by hand" in said[-1]
    results.write_bytes(before[results])

    record.write_text(record.read_text().replace('"torch": "', '"torch": "0.'))
    assert verify(checkout=small, say=said.append)
    assert "1 numbers to a thousandth, 2 figures to 0.5% of their pixels; others are the version of torch" in said[-1]


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
