"""What is published, kept, replaced and run again: decided without a kernel, and once with one."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import nbformat.v4 as v4
import pytest
import torch
from checkouts import forget
from click.testing import CliRunner, Result
from conftest import CHECKOUT
from PIL import Image
from test_reproduce import DRAW, small, write_pair  # noqa: F401

from vae_core.cli.main import main
from vae_core.environment import code_digest, package_digest
from vae_core.files import sha256, write_json
from vae_core.plots.figures import Section, image_sections, save
from vae_core.regenerate import record
from vae_core.regenerate.notebook import find_notebooks, outputs_digest
from vae_core.regenerate.record import Outcome, publish
from vae_core.regenerate.reproduce import reproduce, verify

NAME = "00_draws"
LEFT = "what is published is not what its run here left"


def contents(root: Path) -> dict[str, bytes]:
    """The published files of a checkout, notebooks included."""
    paths = [path for folder in ("figures", "notebooks") for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def run(
    root: Path, *, level: float = 0.3, seed: int | None = None, numbers: tuple = (3.0,), name: str = NAME,
    alt: str = "alt", preset: str = "post", settings: dict | None = None, text: str = "drawn\n", svg: bool = False,
    **options,
) -> tuple[Outcome, list[str]]:  # fmt: skip
    """A run of a notebook as if a kernel had made it, published; its outcome, and what was emitted."""
    [notebook] = find_notebooks(root, [name])
    settings = notebook.settings("post", settings or {})
    inputs = record.inputs(notebook.code, settings, record.sweeps(notebook, root)) | record.commit(root)
    outcome = Outcome(notebook, settings, inputs, seconds=2.0, machine="this machine")
    executed = nbformat.reads(notebook.text, as_version=4)
    executed.cells.insert(1, v4.new_code_cell("epochs = 3", metadata={"tags": ["injected-parameters"]}))
    executed.cells[-1].outputs = [v4.new_output("stream", name="stdout", text=text)]
    outcome.output = root / "build" / f"{name}.ipynb"
    outcome.output.parent.mkdir(exist_ok=True)
    outcome.output.write_text(nbformat.writes(executed))
    images = torch.full((1, 1, 4, 4), level)
    if seed is not None:
        images = torch.rand((40, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    files = {}
    folder = root / "build" / "drawn"
    for figure in notebook.figures(settings):
        drawn = image_sections("T", [Section("", images)])
        save(drawn, figure, alt=alt, caption="caption", source="photos-sample: x", svg=svg, folder=folder)
        files |= {path.name: path.read_bytes() for path in folder.glob(f"{figure}.*")}
    rows = [{"claim": claim, "value": value} for claim, value in zip("xyz", numbers, strict=False)]
    rows[1:] = [row | {"tolerance": 0.5} for row in rows[1:]]
    files[f"data/{name}.json"] = json.dumps(rows).encode()
    emitted: list[str] = []
    given = {"preset": preset, "target": None, "republish": False, "emit": emitted.append} | options
    publish(outcome, files, {}, root, **given)
    return outcome, emitted


def entry(root: Path) -> dict:
    return record.entry(root / "figures", NAME)


def reasons(root: Path) -> tuple[list[str], list[str]]:
    """Why the notebook is stale, and why it is to be run."""
    forget()
    [notebook] = find_notebooks(root, [NAME])
    return record.stale(notebook, root), record.to_run(notebook, root)


def command(root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.chdir(root)
    return CliRunner().invoke(main, words)


# --- what a figure depends on ------------------------------------------------------------------


def test_the_package_is_one_digest_of_all_that_a_figure_can_depend_on(tmp_path: Path) -> None:
    names = ["__init__.py", "runs.py", "explorer/explore.js", "study/sweep.py"]
    runners = ["__main__.py", "cli/main.py", "regenerate/record.py"]
    for name in names + runners:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("let a = 1" if name.endswith("js") else "a = 1\n")
    before = package_digest(tmp_path)
    for name in names + runners:
        path = tmp_path / name
        text = path.read_text()
        changed = []
        for more in ("\nb = 2\n", "" if name.endswith("js") else "\n# a comment\n"):
            path.write_text(text + more)
            forget()
            changed.append(package_digest(tmp_path) != before)
        assert changed == [name in names, False], name
        path.write_text(text)
    code = "import vae_core as v\nfiles = !ls\nv.fit"  # which is no Python
    assert record.inputs(code, {}, {})["package"] == package_digest() == package_digest(record.PACKAGE)


def test_a_checkout_whose_package_is_not_the_one_that_runs(small: Path, monkeypatch) -> None:  # noqa: F811
    own = small / "vae_core"
    shutil.copytree(record.PACKAGE, own, ignore=shutil.ignore_patterns("__pycache__"))
    forget()
    record.check_package(small)  # the same code elsewhere will do
    (own / "data.py").write_text("MORE = 1\n")
    forget()
    for word in ("status", "reproduce", "verify"):
        done = command(small, monkeypatch, word)
        assert done.exit_code == 2
        [line] = done.stderr.splitlines()
        assert line.startswith(
            f"vae-core: vae_core is imported from {record.PACKAGE}, and {own} has other code: use the"
        )
        assert f"pip install -e {small}" in line


@pytest.mark.parametrize(
    ("change", "described"),
    [
        ({"cells": "other"}, ["its code cells"]),
        ({"parameters": {"epochs": 2}}, ["parameter epochs"]),
        ({"parameters": {"epochs": 1, "seed": 0}}, ["parameter seed"]),
        ({"package": "1"}, ["the code of vae_core"]),
        ({"versions": {"torch": "9"}}, ["the version of torch"]),
        ({"data": {"mnist": "other"}}, ["the data mnist"]),
        ({"sweeps": {}}, ["the sweep latent_dimension"]),
        ({"commit": "other", "machine": "other"}, []),
    ],
)
def test_changes_are_named(change: dict, described: list[str]) -> None:
    before = {"cells": "c", "parameters": {"epochs": 1}, "package": "0", "versions": {"torch": "2"},
              "data": {"mnist": "m"}, "sweeps": {"latent_dimension": "s"}}  # fmt: skip
    assert record.changes(before, before | change) == described
    assert record.changes({}, before) == ["no record of how they were made"]


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


def test_reasons_are_abridged() -> None:
    assert record.abridge(["a", "b", "c"]) == "a, b, c"
    assert record.abridge(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


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


def test_files_that_a_notebook_reads_are_part_of_what_it_depends_on(small: Path) -> None:  # noqa: F811
    [notebook] = find_notebooks(small)
    notebook = notebook._replace(reads=("tables/a.json",))
    assert record.sweeps(notebook, small) == {}
    (small / "tables").mkdir()
    (small / "tables" / "a.json").write_text("1")
    assert record.sweeps(notebook, small) == {"a": b"1"}
    assert find_notebooks(CHECKOUT, ["05"])[0].reads == ("benchmarks/results/burda_table.json",)


def test_a_repository_around_an_unpacked_archive_is_not_its_commit(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "vae"
    inner.mkdir(parents=True)
    (outer / "a").touch()
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
        git(outer, *words)
    assert record.commit(outer)["clean"]
    assert record.commit(inner) == {"commit": "unknown", "clean": False}


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


# --- once with real kernels --------------------------------------------------------------------


@pytest.mark.notebook
def test_only_what_did_not_run_here_as_it_is_is_run(small: Path) -> None:  # noqa: F811
    lines: list[str] = []
    [outcome] = reproduce(checkout=small, echo=lines.append)
    assert outcome.published
    assert outcome.error is None
    assert lines[0] == "00_draws: to be run: not run in this checkout yet"
    assert lines[-1] == "2 figures made, 2 of them new: figures/"
    inputs = entry(small)["inputs"]
    assert inputs["parameters"]["epochs"] == 3
    assert inputs["seconds"] == max(1, round(outcome.seconds))
    assert reasons(small) == ([], [])

    lines.clear()
    assert reproduce(checkout=small, echo=lines.append) == []
    assert lines == [
        "00_draws: fresh, it ran in this checkout",
        "nothing to do: 2 figures are in figures/; to run all: make figures FORCE=1, or --force",
    ]
    before = contents(small)
    assert verify(checkout=small, echo=lines.append)
    compared = "compared: 1 numbers within their tolerances, 2 figures to 15.0% of their pixels"
    assert f"00_draws: the same ({compared})" in lines
    assert contents(small) == before
    assert (small / "build" / "verify" / "figure_1.png").read_bytes() == before["figures/figure_1.png"]


@pytest.mark.notebook
def test_a_notebook_that_hangs_is_stopped_and_nothing_is_published(small: Path) -> None:  # noqa: F811
    from faults import gone

    write_pair(small / "notebooks", NAME, "import time\ntime.sleep(600)", figures=("figure_{names}",))
    [outcome] = reproduce(checkout=small, timeout=5, echo=lambda _: None)
    assert re.fullmatch(r"no end after 5 s; it was at cell \d", outcome.error)
    assert not (small / "figures" / "record.json").exists()
    assert gone(small) == []


def test_a_second_run_in_the_same_checkout_is_refused(small: Path) -> None:  # noqa: F811
    from filelock import FileLock

    (small / "build").mkdir()
    with FileLock(small / "build" / ".reproduce.lock"), pytest.raises(ValueError, match="another reproduce is at work"):
        reproduce(checkout=small, echo=lambda _: None)
    assert not list((small / "figures").iterdir())


def test_nothing_is_verified_where_nothing_is_published(small: Path) -> None:  # noqa: F811
    with pytest.raises(ValueError, match="00_draws has no published figures: vae-core reproduce 00_draws"):
        verify(checkout=small)


# --- what is published -------------------------------------------------------------------------


def test_an_entry_says_once_from_what_its_figures_and_numbers_are(small: Path) -> None:  # noqa: F811
    outcome, _ = run(small, svg=True)
    assert outcome.published
    assert outcome.new
    published = entry(small)
    assert set(published) == {"inputs", "outputs", "numbers", "notebook"}
    assert published["inputs"] == outcome.inputs | {"machine": "this machine", "seconds": 2}
    assert set(published["outputs"]) == {f"figure_{k}.{kind}" for k in (1, 2) for kind in ("png", "svg")}
    facts = {"alt": "alt", "caption": "caption", "source": "photos-sample: x"}
    for name, output in published["outputs"].items():
        assert output == facts | {"sha256": sha256(small / "figures" / name)}
    assert published["numbers"] == [{"claim": "x", "value": 3.0}]
    assert {path.name for path in (small / "figures").iterdir()} == {"record.json", *published["outputs"]}


def test_the_notebook_is_published_with_its_outputs_and_the_py_stays_the_newer(small: Path) -> None:  # noqa: F811
    pair = small / "notebooks" / f"{NAME}.ipynb"
    run(small)
    cells = nbformat.read(pair, as_version=4).cells
    assert [cell.source for cell in cells] == [cell.source for cell in nbformat.read(pair, as_version=4).cells]
    assert len(cells) == 2  # without papermill's
    assert cells[-1].outputs == [{"output_type": "stream", "name": "stdout", "text": "drawn\n"}]
    assert pair.with_suffix(".py").stat().st_mtime_ns >= pair.stat().st_mtime_ns
    assert outputs_digest(pair.read_text()) == entry(small)["notebook"]
    assert reasons(small) == ([], [])

    before = contents(small)
    run(small, text="drawn again, and the same\n")  # agrees: all stays
    assert contents(small) == before
    run(small, text="played\n", preset="fast")
    assert contents(small) == before

    pair.write_text(pair.read_text().replace("drawn", "edited"))  # the outputs alone
    assert reasons(small) == (["notebooks/00_draws.ipynb has other outputs"],) * 2
    _, emitted = run(small)
    assert emitted == []
    assert contents(small) == before
    run(small, text="another\n", republish=True)
    assert b"another" in pair.read_bytes()


def test_make_sync_brings_the_sources_of_a_pair_together_and_keeps_the_outputs(small: Path) -> None:  # noqa: F811
    run(small)
    text = small / "notebooks" / f"{NAME}.py"
    before = outputs_digest(text.with_suffix(".ipynb").read_text())
    text.write_text(text.read_text() + "\n# %% [markdown]\n# More prose.\n")
    line = re.search(r"^sync:.*\n\t(.*)$", (CHECKOUT / "Makefile").read_text(), re.M)[1]
    line = line.replace("$(BIN)/jupytext", f"{sys.executable} -m jupytext")
    subprocess.run(line, shell=True, cwd=small, check=True, capture_output=True)
    [notebook] = find_notebooks(small)  # whose halves agree
    assert "More prose." in notebook.text
    assert outputs_digest(notebook.text) == before
    assert reasons(small) == ([], [])


def test_a_pair_that_is_edited_while_it_runs_is_not_overwritten(small: Path, monkeypatch) -> None:  # noqa: F811
    pair = small / "notebooks" / f"{NAME}.ipynb"
    [stale] = find_notebooks(small)
    edited = pair.read_text().replace("epochs / 10", "epochs / 20")
    pair.write_text(edited)
    monkeypatch.setattr("test_record.find_notebooks", lambda *_: [stale])
    outcome, _ = run(small)
    assert outcome.aside == "its .ipynb was edited while it ran"
    assert pair.read_text() == edited
    assert not (small / "figures" / "record.json").exists()
    assert (small / "build" / "figures" / "record.json").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"preset": "fast"}, "not the published settings"),
        ({"preset": ""}, "not the published settings"),
        ({"settings": {"data": "cifar10"}}, "made from photos-sample, not cifar10"),
    ],
)
def test_playing_and_stand_ins_publish_nothing(small: Path, options: dict, why: str) -> None:  # noqa: F811
    run(small)
    before = contents(small)
    outcome, _ = run(small, level=0.8, **options)
    assert outcome.aside == why
    assert not outcome.published
    assert contents(small) == before
    assert (small / "build" / "figures" / "figure_1.png").read_bytes() != before["figures/figure_1.png"]
    assert record.entry(small / "build" / "figures", NAME)["inputs"]["parameters"] == outcome.settings


def test_what_others_committed_is_no_reason_to_do_nothing(small: Path) -> None:  # noqa: F811
    run(small)
    assert reasons(small) == ([], [])
    memory = small / "build" / "made" / f"{NAME}.json"
    for spoil in (memory.unlink, lambda: memory.write_text("{}")):
        run(small)
        spoil()
        assert reasons(small) == ([], ["not run in this checkout yet"])


@pytest.mark.parametrize("content", [b"not a picture", None])
def test_a_figure_that_is_lost_or_edited_is_drawn_again(small: Path, content: bytes | None) -> None:  # noqa: F811
    run(small)
    before = contents(small)
    figure = small / "figures" / "figure_1.png"
    figure.unlink() if content is None else figure.write_bytes(content)
    why = f"figures/figure_1.png is {'missing' if content is None else 'another file'}"
    assert reasons(small) == ([why], [why])
    _, emitted = run(small)
    assert len(emitted) == 1
    assert contents(small) == before


def test_an_entry_that_is_edited_by_hand_is_noticed_where_the_notebook_ran(small: Path) -> None:  # noqa: F811
    run(small)
    path = small / "figures" / "record.json"
    before = path.read_text()
    path.write_text(before.replace('"value": 3.0', '"value": 3.5'))
    assert reasons(small) == ([], [LEFT])
    _, emitted = run(small)
    assert emitted == ["00_draws: replaced: x: 3, published 3.5"]
    assert path.read_text() == before
    assert reasons(small) == ([], [])


def test_a_run_from_other_inputs_that_agrees_is_noted_beside_the_entry(small: Path) -> None:  # noqa: F811
    run(small)
    before = entry(small)
    write_pair(small / "notebooks", NAME, DRAW + "print('more')", figures=("figure_{names}",))
    shutil.copy(small / "notebooks" / f"{NAME}.ipynb", small / "notebooks" / "copy")
    assert "its code cells" in reasons(small)[0]
    run(small)
    assert reasons(small) == ([], [])
    after = entry(small)
    assert {key: part for key, part in after.items() if key not in {"agreed", "notebook"}} == {
        key: part for key, part in before.items() if key not in {"notebook"}
    }
    assert after["agreed"]["cells"] != before["inputs"]["cells"]
    lines = record.describe_figure(Path("figure_1.png"), small)
    assert "agreed:      later, at commit unknown, but for its code cells" in lines

    write_json(small / "figures" / "record.json", {NAME: before})  # as git may bring it
    assert "its code cells" in reasons(small)[1]
    run(small)
    assert entry(small)["agreed"] == after["agreed"]


def test_a_notebook_is_replaced_whole_or_kept(small: Path) -> None:  # noqa: F811
    run(small, numbers=(3.0, 1.0, 2.0))
    before = contents(small)
    outcome, emitted = run(small, level=0.3, numbers=(3.0029, 1.4, 2.4))
    assert not outcome.new
    assert contents(small) == before
    outcome, emitted = run(small, numbers=(3.1, 1.4, 2.4))
    assert emitted == ["00_draws: replaced: x: 3.1, published 3"]
    assert [row["value"] for row in entry(small)["numbers"]] == [3.1, 1.4, 2.4]
    outcome, emitted = run(small, numbers=(3.1,))
    assert emitted == ["00_draws: replaced: no number measured for y, no number measured for z"]
    run(small, numbers=(3.1,), seed=0, republish=True)
    outcome, emitted = run(small, numbers=(3.1,), seed=1)
    assert emitted == ["00_draws: replaced: figure_1.png looks different, figure_2.png looks different"]
    outcome, emitted = run(small, numbers=(3.1,), seed=1, alt="another")
    assert emitted == ["00_draws: replaced: figure_1.png has another text, figure_2.png has another text"]


def test_another_parameter_is_recorded_even_if_nothing_else_differs(small: Path) -> None:  # noqa: F811
    run(small)
    for half in (".py", ".ipynb"):
        path = small / "notebooks" / f"{NAME}{half}"
        path.write_text(path.read_text().replace("rate = 0.5", "rate = 0.25"))
    _, emitted = run(small)
    assert emitted == ["00_draws: replaced: its parameters"]
    assert entry(small)["inputs"]["parameters"]["rate"] == 0.25


def test_another_machine_s_last_digits_replace_nothing(small: Path) -> None:  # noqa: F811
    """What another processor would make: other bytes, numbers within their tolerances, pictures that look the same."""
    folder = small / "figures"
    drawn = {"seed": 0, "numbers": (2.0, 1.0), "svg": True}
    run(small, **drawn)

    def elsewhere(value: float, other: float = 1.4) -> dict[str, bytes]:
        """The published set as if another machine had made it."""
        published = entry(small)
        for name, output in published["outputs"].items():
            if name.endswith(".png"):
                picture = Image.open(folder / name).convert("RGB")
                picture.putpixel((0, 0), (0, 0, 0))
                picture.save(folder / name)
            else:
                (folder / name).write_text((folder / name).read_text() + "<!-- drawn elsewhere -->")
            output |= {"sha256": sha256(folder / name), "alt": f"a {value}"}
        for row, number in zip(published["numbers"], (value, other), strict=True):
            row["value"] = number
        published["inputs"] |= {"machine": "another", "commit": "another", "seconds": 1000}
        write_json(folder / "record.json", {NAME: published})
        return contents(small)

    before = elsewhere(2.0015)
    stale, to_run = reasons(small)  # whole, as git may bring it, but not what the run in this checkout left
    assert stale == []
    assert to_run == [LEFT]
    outcome, emitted = run(small, **drawn, alt="a 2.0")
    assert (outcome.published, outcome.new, emitted) == (True, False, [])
    assert contents(small) == before
    assert reasons(small) == ([], [])

    elsewhere(2.02)  # a number that differs by 1%
    _, emitted = run(small, **drawn, alt="a 2.0")
    assert emitted == ["00_draws: replaced: x: 2, published 2.02"]
    assert [row["value"] for row in entry(small)["numbers"]] == [2.0, 1.0]
    assert "another" not in (folder / "record.json").read_text()

    elsewhere(2.0, other=1.6)  # beyond what is stated
    assert run(small, **drawn, alt="a 2.0")[1] == ["00_draws: replaced: y: 1, published 1.6"]

    elsewhere(2.0015)
    outcome, _ = run(small, **drawn, alt="a 2.0", republish=True)
    assert outcome.new
    assert "another" not in (folder / "record.json").read_text()

    elsewhere(2.0015)
    write_pair(small / "notebooks", NAME, DRAW + "# more", figures=("figure_{names}",))  # no machine's doing
    _, [line] = run(small, **drawn | {"seed": 1}, alt="a 2.0")
    assert line == "00_draws: replaced: y: 1, published 1.4, figure_1.png looks different, figure_2.png looks different"


def test_verifying_says_what_it_compared(small: Path) -> None:  # noqa: F811
    run(small)
    before = contents(small)

    def compared(**options) -> str:
        outcome, [line] = run(small, target=small / "build" / "verify", **options)
        assert bool(outcome.differences) == ("NOT the same" in line)
        assert not outcome.published
        return line

    usual = "compared: 1 numbers within their tolerances, 2 figures to 15.0% of their pixels"
    assert compared() == f"00_draws: the same ({usual})"
    assert contents(small) == before
    assert compared(numbers=(3.1,)) == f"00_draws: NOT the same: x: 3.1, published 3 ({usual})"
    (small / "figures" / "figure_2.png").write_bytes(b"another")
    line = "00_draws: NOT the same: figure_2.png was another file than its entry says"
    assert compared() == f"{line} ({usual})"
    (small / "figures" / "figure_2.png").write_bytes(before["figures/figure_2.png"])

    other = entry(small)
    other["inputs"]["versions"] |= {"torch": "0.1"}
    write_json(small / "figures" / "record.json", {NAME: other})
    tight = "1 numbers to a thousandth, 2 figures to 0.5% of their pixels; others are the version of torch"
    assert compared() == f"00_draws: the same (compared: {tight})"


def test_a_figure_that_cannot_be_written_leaves_all_as_it_was(small: Path, monkeypatch) -> None:  # noqa: F811
    run(small)
    before = contents(small)
    (small / "figures" / "figure_2.png").unlink()
    (small / "figures" / "figure_2.png").mkdir()
    outcomes: list[Outcome] = []
    monkeypatch.setattr(
        "test_record.Outcome", lambda *given, **more: outcomes.append(record.Outcome(*given, **more)) or outcomes[-1]
    )
    with pytest.raises(OSError, match=r"cannot|figure_2"):
        run(small, level=0.9)
    assert (outcomes[0].published, outcomes[0].figures) == (False, [])
    left = contents(small)
    assert left == {name: content for name, content in before.items() if name != "figures/figure_2.png"}


# --- what a figure is ---------------------------------------------------------------------------


def test_a_figure_is_described_with_the_commit_that_made_it(small: Path) -> None:  # noqa: F811
    for words in (("init", "-q"), ("add", "notebooks"), ("commit", "-qm", "first")):
        git(small, *words)
    first = git(small, "rev-parse", "HEAD")
    run(small)
    lines = record.describe_figure(Path("figures/figure_1.png"), small)
    for line in (f"commit:      {first}", "clean:       True", "notebook:    00_draws", "threads:     1",
                 "alt:         alt", "remake:      vae-core reproduce 00_draws --force"):  # fmt: skip
        assert line in lines
    assert f"file:        {small / 'figures' / 'figure_1.png'} (this file)" in lines
    assert any(line.startswith("parameters:  data=photos-sample, epochs=3") for line in lines)
    git(small, "add", "figures", "notebooks")
    git(small, "commit", "-qm", "figures")
    run(small)  # the same, from another commit: the entry stays
    assert record.describe_figure(Path("figure_1.png"), small) == lines
    assert git(small, "status", "--porcelain", "figures", "notebooks") == ""
    (small / "figures" / "figure_1.png").write_bytes(b"")
    assert "(NOT this file)" in record.describe_figure(Path("figure_1.png"), small)[0]
    with pytest.raises(ValueError, match=r"no figure other\.png"):
        record.describe_figure(Path("other.png"), small)


def test_a_figure_that_was_played_with_is_described_as_such(small: Path) -> None:  # noqa: F811
    run(small)
    run(small, level=0.7, settings={"epochs": 7}, preset="")
    played = "\n".join(record.describe_figure(small / "build" / "figures" / "figure_1.png", small))
    assert "(this file)" in played
    assert sha256(small / "build" / "figures" / "figure_1.png") in played
    assert "epochs=7" in played
    assert "reproduce 00_draws -p data photos-sample -p epochs 7 -p names 1,2 -p quick False" in played
    assert "epochs=3" in "\n".join(record.describe_figure(Path("figures/figure_1.png"), small))
    stray = small / "build" / "figure_1.png"
    stray.write_bytes(b"")
    with pytest.raises(ValueError, match="is in no record"):
        record.describe_figure(stray, small)


def test_status_names_each_notebook_what_is_stale_and_its_figures(small: Path, monkeypatch) -> None:  # noqa: F811
    lines = command(small, monkeypatch, "status").output.splitlines()
    assert lines[0] == "00_draws: stale; not run in this checkout as it is"
    assert "  no record of how they were made" in lines
    assert "  figures/figure_1.png is missing" in lines
    run(small)
    lines = command(small, monkeypatch, "status").output.splitlines()
    assert lines[0] == "00_draws: fresh; it ran in this checkout"
    assert [line.split() for line in lines[1:]] == [[f"figure_{k}.png", "photos-sample:", "x"] for k in (1, 2)]
    (small / "figures" / "figure_1.png").write_bytes(b"other")
    assert "  figures/figure_1.png is another file\n" in command(small, monkeypatch, "status").output
    described = command(small, monkeypatch, "status", "figures/figure_2.png").output
    assert "(this file)" in described
    write_json(small / "figures" / "record.json", {})
    assert command(small, monkeypatch, "status").output.count("is not in the record") == 2


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "measured by this code"),
        ({"package": "other"}, "not measured by this code: the code of vae_core"),
        ({"versions": {}}, "not measured by this code: the version of matplotlib, the version of numpy"),
        ({"package": None}, "not measured by this code: no record of how they were made"),
    ],
)
def test_status_says_whether_a_sweep_was_measured_by_this_code(
    small: Path, monkeypatch, change: dict, state: str  # noqa: F811
) -> None:  # fmt: skip
    write_pair(small / "notebooks", NAME, DRAW, figures=("figure_{names}",), sweeps=("tiny",))
    now = record.inputs("", {}, {})
    facts = {"package": now["package"], "versions": now["versions"]} | change
    facts = {key: part for key, part in facts.items() if part is not None}
    write_json(small / "figures" / "data" / "sweep_tiny.json", facts)
    [line] = [line for line in command(small, monkeypatch, "status").output.splitlines() if "sweep tiny" in line]
    assert line.startswith(f"  {'sweep tiny':<28} {state}")


# --- the outputs of a committed notebook --------------------------------------------------------


def cleaned(*outputs: dict) -> list:
    """The outputs as they are committed."""
    from vae_core.regenerate.notebook import with_outputs

    source = v4.new_notebook(cells=[v4.new_code_cell("1", id="a"), v4.new_markdown_cell("b", id="b")])
    executed = v4.new_notebook(cells=[v4.new_code_cell("1"), v4.new_markdown_cell("b")])
    executed.cells[0].outputs = [nbformat.from_dict(output) for output in outputs]
    executed.cells[0].execution_count = 4
    executed.cells[0].metadata = {"papermill": {"duration": 1.0}, "execution": {"iopub.status.busy": "2024"}}
    executed.metadata = {"widgets": {"state": {}}, "papermill": {"input_path": "/home/someone/x.ipynb"}}
    executed.cells.insert(0, v4.new_code_cell("a = 1", metadata={"tags": ["injected-parameters"]}))
    page = nbformat.reads(with_outputs(nbformat.writes(source), nbformat.writes(executed)), as_version=4)
    assert page.metadata == {}
    assert [(cell.source, cell.metadata) for cell in page.cells] == [("1", {}), ("b", {})]
    assert page.cells[0].execution_count is None
    return page.cells[0].outputs


def shown(**data: str) -> dict:
    kinds = {"html": "text/html", "plain": "text/plain", "png": "image/png", "markdown": "text/markdown",
             "widget": "application/vnd.jupyter.widget-view+json"}  # fmt: skip
    content = {kinds[kind]: {"model_id": text} if kind == "widget" else text for kind, text in data.items()}
    return {"output_type": "execute_result", "execution_count": 3, "metadata": {}, "data": content}


def test_text_is_kept_without_paths_and_nothing_of_stderr() -> None:
    text = "loss 1.5 nats/image\n/home/someone/figures/a.png\nsaved in /tmp/x/y\nhttps://example.org/a/b\n"
    [stream] = cleaned({"output_type": "stream", "name": "stdout", "text": text})
    assert stream.text == "loss 1.5 nats/image\nhttps://example.org/a/b\n"
    noise = "50%|##   | 1/2\nwarning: the model has collapsed\n/usr/lib/python/x.py:1: UserWarning: no\n"
    assert cleaned({"output_type": "stream", "name": "stderr", "text": noise}) == []


def test_pictures_and_tables_are_kept_and_widgets_pages_and_counts_are_not() -> None:
    assert cleaned(shown(png="iVBOR", plain="Saved(path='/home/a/b.png')"))[0].data == {"image/png": "iVBOR"}
    table = {"html": "<table><tr><td>1</td></tr></table>", "plain": "   a\n0  1"}
    [output] = cleaned(shown(**table))
    assert output.data == {"text/html": table["html"], "text/plain": table["plain"]}
    assert output.execution_count is None
    [output] = cleaned(shown(html='<iframe srcdoc="..."></iframe>', plain="Sliders: open the notebook"))
    assert output.data == {"text/plain": "Sliders: open the notebook"}
    [output] = cleaned(shown(html="<!DOCTYPE html><html>...", png="iVBOR", plain="x"))
    assert output.data == {"image/png": "iVBOR"}
    assert cleaned(shown(html="<iframe></iframe>", plain="<IPython.core.display.HTML object>")) == []
    assert cleaned(shown(widget="a", plain="HBox(children=(...))")) == []
    assert cleaned(shown(plain="<Figure size 720x426 with 0 Axes>")) == []
    [output] = cleaned(shown(plain="PosixPath('/home/someone/figures/a.png')"))
    assert output.data == {"text/plain": "PosixPath('a.png')"}
    [output] = cleaned(shown(markdown="**1**", plain="<IPython.core.display.Markdown object>"))
    assert output.data == {"text/markdown": "**1**"}


def test_the_images_of_a_large_notebook_get_a_palette(tmp_path: Path) -> None:
    import base64
    import io

    import numpy as np

    def coded(side: int) -> str:
        file = io.BytesIO()
        pixels = np.random.default_rng(0).normal(128, 20, (side, side, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "png")
        return base64.b64encode(file.getvalue()).decode()

    def mode(output) -> str:
        return Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).mode

    assert [mode(output) for output in cleaned(shown(png=coded(300)))] == ["RGB"]
    assert [mode(output) for output in cleaned(shown(png=coded(300)), shown(png=coded(700)))] == ["P", "P"]
