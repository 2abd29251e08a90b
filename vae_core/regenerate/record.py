"""What each notebook's figures and numbers were made from, what has changed since, and what becomes of a new run.

``record.json`` has an entry a notebook: ``inputs``; ``outputs``, by file name; ``numbers``; ``notebook``, the digest of
the outputs in its ``.ipynb``; and ``agreed``, other inputs from which a later run agreed.
"""

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from vae_core import environment, files
from vae_core.environment import package_digest
from vae_core.regenerate import compare
from vae_core.regenerate.notebook import Notebook, outputs_digest, with_outputs
from vae_core.sources.torchvision_files import fingerprint

PACKAGE = Path(__file__).parents[1]
THREADS = 1  # of every reproduced kernel: the same bytes however many run at once
PARTS = {"cells": "its code cells", "package": "the code of vae_core"}
PARTS |= {"parameters": "parameter ", "versions": "the version of ", "data": "the data ", "sweeps": "the sweep "}
UNKNOWN = ["no record of how they were made"]
Entry = dict[str, Any]
_fingerprint = cache(fingerprint)


def inputs(code: str, settings: dict[str, Any], sweeps: Mapping[str, bytes]) -> dict[str, Any]:
    """Digests of a notebook's code cells, the package, its data and the ``sweeps`` it loads; versions; parameters.

    Prose is no part of it. Not for several threads at once: Python 3.11 cannot parse in two.
    """
    names = filter(None, str(settings.get("data", "")).split(","))
    return {
        "cells": files.digest(code.encode()),
        "parameters": settings,
        "package": package_digest(),
        "versions": environment.libraries(),
        "data": {name: _fingerprint(name) for name in names},
        "sweeps": {name: files.digest(content) for name, content in sweeps.items()},
    }


def check_package(root: Path) -> None:
    """Refuse a checkout with another package than the one that runs, as a second worktree may have, by a ValueError."""
    beside = root / "vae_core"
    if (beside / "__init__.py").exists() and package_digest(beside) != package_digest():
        remedy = f"use the environment that make puts into {root / '.venv'}, or: pip install -e {root}"
        raise ValueError(f"vae_core is imported from {PACKAGE}, and {beside} has other code: {remedy}")


def sweeps(notebook: Notebook, root: Path) -> dict[str, bytes]:
    """The published results of the sweeps that a notebook loads, and other files it reads: by name, those there are."""
    paths = {name: root / "figures" / "data" / f"sweep_{name}.json" for name in notebook.sweeps}
    paths |= {Path(name).stem: root / name for name in notebook.reads}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def commit(root: Path) -> dict[str, Any]:
    """The commit that is checked out, and whether notebooks and package are as it has them."""
    git = partial(subprocess.check_output, cwd=root, text=True, stderr=subprocess.DEVNULL)
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        folder, head = git(["git", "rev-parse", "--show-toplevel", "HEAD"]).splitlines()
        if Path(folder).resolve() == root.resolve():  # not of a repository around it
            changed = git(["git", "status", "--porcelain", "--", "notebooks", "vae_core", "requirements.lock"])
            return {"commit": head, "clean": not changed}
    return {"commit": "unknown", "clean": False}


def entry(folder: Path, name: str) -> Entry:
    """What is recorded of a notebook in a folder such as ``figures/``; empty where that is nothing."""
    return files.read_json(folder / "record.json").get(name, {})


def latest(entry: Entry) -> dict[str, Any]:
    """The inputs from which what is recorded was made, or with which a later run agreed."""
    return entry.get("agreed") or entry.get("inputs", {})


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two inputs, in words; nothing where the figures would come out the same."""
    if not before:
        return [*UNKNOWN]
    differences = []
    for part, words in PARTS.items():
        old, new = ({"": value} if isinstance(value, str) else value or {} for value in (before.get(part), now[part]))
        differences += [words + key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return differences


def abridge(reasons: list[str]) -> str:
    """The first reasons, and how many more there are."""
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def stale(notebook: Notebook, root: Path) -> list[str]:
    """Why what is published of a notebook is not what it would publish now; empty if it is."""
    folder, published = root / "figures", entry(root / "figures", notebook.name)
    now = inputs(notebook.code, notebook.settings("post", {}), sweeps(notebook, root))
    outputs = dict.fromkeys(f"{name}.png" for name in notebook.figures(notebook.parameters))
    reasons = changes(latest(published), now)
    for name, facts in (outputs | published.get("outputs", {})).items():
        if not (folder / name).exists():
            reasons.append(f"figures/{name} is missing")
        elif not facts or facts["sha256"] != files.sha256(folder / name):
            reasons.append(f"figures/{name} is {'another file' if facts else 'not in the record'}")
    other = published and outputs_digest(notebook.text) != published.get("notebook")
    return reasons + ([f"notebooks/{notebook.name}.ipynb has other outputs"] if other else [])


def to_run(notebook: Notebook, root: Path) -> list[str]:
    """Why a notebook is to be run in this checkout; empty if it ran here with these inputs, and all is as it left it.

    What others committed is no reason to do nothing.
    """
    left = files.read_json(root / "build" / "made" / f"{notebook.name}.json")
    if not left:
        return ["not run in this checkout yet"]
    same = left == entry(root / "figures", notebook.name)
    return ([] if same else ["what is published is not what its run here left"]) + stale(notebook, root)


def sweep_changes(name: str, root: Path) -> list[str]:
    """What of code and versions has changed since a published sweep was measured, or why that is unknown."""
    then, now = files.read_json(root / "figures" / "data" / f"sweep_{name}.json"), inputs("", {}, {})
    return changes(now | {part: then[part] for part in ("package", "versions")}, now) if "package" in then else UNKNOWN


def describe_figure(path: Path, root: Path) -> list[str]:
    """From what a figure was drawn, a line each: of that very file, by the record in its folder.

    Raises:
        ValueError: for a file that is not there, or that the record beside it does not know.
    """
    file = next((place for place in (path, root / path, root / "figures" / path.name) if place.is_file()), None)
    if file is None:
        raise ValueError(f"no figure {path}: vae-core status lists those that are published")
    records = files.read_json(file.parent / "record.json")
    name = next((name for name in records if file.name in records[name].get("outputs", {})), "")
    if not name:
        raise ValueError(f"{file} is in no record: vae-core status lists the figures that are published")
    before, words = records[name]["inputs"], ["--force"]
    if file.parent.resolve() != (root / "figures").resolve():
        words = [word for key, value in before["parameters"].items() for word in ("-p", key, str(value))]
    facts = records[name]["outputs"][file.name] | {"notebook": name} | before | {"threads": THREADS}
    if later := records[name].get("agreed"):
        facts["agreed"] = f"later, at commit {later['commit']}, but for {abridge(changes(before, later))}"
    facts["remake"] = shlex.join(["vae-core", "reproduce", name, *words])
    lines = [f"{'file:':<12} {file} ({'this' if files.sha256(file) == facts['sha256'] else 'NOT this'} file)"]
    for key, fact in facts.items():
        words = [f"{part}={value}" for part, value in fact.items()] if isinstance(fact, dict) else [str(fact)]
        lines.append(f"{key + ':':<12} {', '.join(words)}")
    return lines


@dataclass
class Outcome:
    """How the run of a notebook ended."""

    notebook: Notebook
    settings: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)  # as they were when it was asked for
    error: str | None = None
    cell: int | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    machine: str = ""  # where it ran
    output: Path | None = None  # the executed notebook, whole or partial
    published: bool = False
    aside: str = ""  # why its figures are not in figures/
    figures: list[Path] = field(default_factory=list)
    new: bool = False  # whether they are what this run drew, or were there and agree with it
    differences: list[str] = field(default_factory=list)  # from what is published, in words


def publish(
    outcome: Outcome,
    run: Mapping[str, bytes],
    sweeps: Mapping[str, Entry],
    root: Path,
    preset: str,
    target: Path | None,
    republish: bool,
    emit: Callable[[str], None],
) -> None:
    """Write the files of a successful run, and its entry in the record, into ``figures/`` or aside.

    Into ``figures/`` go those of the preset "post" and of the data that the settings name; all else goes to
    ``build/figures/``, or to a ``target``, to be compared. What is published of a notebook, the outputs in its
    ``.ipynb`` included, stays while no number and no figure differs by more than :mod:`vae_core.regenerate.compare`
    allows, and is replaced together, or if it is to be ``republish``-ed. Of the preset "full" the results of
    ``sweeps``, by name, are published. Nothing is replaced before everything is on disk under other names.

    Raises:
        OSError: for what cannot be written; nothing has changed then.
    """
    notebook, published = outcome.notebook, root / "figures"
    figures = {name: content for name, content in run.items() if not name.startswith("data/")}
    new = _entry(outcome, figures, [run[name] for name in run.keys() - figures.keys() if name.endswith(".json")])
    asked = {Path(name).name for name in str(outcome.settings.get("data")).split(",")}  # sets, or a folder's path
    strange = {facts["source"].split(":")[0] for facts in new["outputs"].values()} - asked
    reasons = {
        "not the published settings": preset != "post",
        f"made from {', '.join(sorted(strange))}, not {outcome.settings.get('data')}": strange,
        "its .ipynb was edited while it ran": notebook.path.read_text(encoding="utf-8") != notebook.text,
        "to be compared": target,
    }
    outcome.aside = "; ".join(reason for reason, holds in reasons.items() if holds)
    folder = target or (root / "build" / "figures" if outcome.aside else published)
    before = entry(folder, notebook.name)
    new["inputs"]["seconds"] = max(round(outcome.seconds), before.get("inputs", {}).get("seconds", 0))
    if target or not outcome.aside:
        outcome.differences = _compare(new, figures, published, notebook.name, emit, verifying=bool(target))
    outcome.new = bool(outcome.aside or republish or outcome.differences or not before)
    contents = {folder / name: content for name, content in figures.items()} if outcome.new else {}
    if not outcome.new:
        new = before | ({"agreed": new["inputs"]} if changes(latest(before), new["inputs"]) else {})
    lost = outcome.new or outputs_digest(notebook.text) != before.get("notebook")
    if lost and outcome.output and not outcome.aside:
        page = with_outputs(notebook.text, outcome.output.read_text(encoding="utf-8"))
        contents[notebook.path], new["notebook"] = page.encode(), outputs_digest(page)
    records = files.read_json(folder / "record.json") | {notebook.name: new}
    contents[folder / "record.json"] = files.to_json(records)
    origin = {"command": f"vae-core reproduce {notebook.name} --preset full", "threads": THREADS}
    origin |= {key: outcome.inputs.get(key) for key in ("commit", "clean")}
    for name, facts in sweeps.items():
        place = published if preset == "full" and facts["source"].split(":")[0] in asked else folder
        contents[place / "data" / f"sweep_{name}.json"] = files.to_json(origin | facts)
    files.write_all(contents)
    outcome.published, outcome.figures = not outcome.aside, [folder / name for name in figures]
    if notebook.path in contents:
        os.utime(notebook.path.with_suffix(".py"))  # the newer of the pair, so that Jupyter opens both
    if outcome.published:
        files.write_json(root / "build" / "made" / f"{notebook.name}.json", new)


def _entry(outcome: Outcome, figures: Mapping[str, bytes], numbers: list[bytes]) -> Entry:
    """What is to be recorded of a run; of an SVG, the texts of its PNG."""
    outputs = {}
    for name, content in figures.items():
        drawn = name.replace(".svg", ".png")
        outputs[name] = files.figure_facts(drawn, figures[drawn]) | {"sha256": files.digest(content)}
    rows = [row for content in numbers for row in json.loads(content)]
    return {"inputs": outcome.inputs | {"machine": outcome.machine}, "outputs": outputs, "numbers": rows}


def _compare(
    new: Entry, figures: Mapping[str, bytes], folder: Path, name: str, emit: Callable[[str], None], *, verifying: bool
) -> list[str]:
    """In what a run differs from what is published in ``folder``, in words, which are emitted."""
    before = entry(folder, name)
    changed, outputs = changes(latest(before), new["inputs"]), before.get("outputs", {})
    differences = compare.numbers(new["numbers"], before.get("numbers", []), same_inputs=not changed)
    if before and before["inputs"].get("parameters") != new["inputs"]["parameters"]:
        differences.append("its parameters")
    for figure in sorted(figures.keys() | outputs.keys()):
        sides = figures.get(figure), new["outputs"].get(figure), folder / figure, outputs.get(figure)
        why = compare.figure(*sides, same_inputs=not changed)
        differences += [f"{figure} {why}"] if why else []
    if verifying:
        share = compare.SHARE if changed else compare.SHARE_OF_MACHINES
        scope = f"{len(new['numbers'])} numbers {'to a thousandth' if changed else 'within their tolerances'}, "
        scope += f"{len(figures)} figures to {share:.1%} of their pixels"
        scope += f"; others are {abridge(changed)}" if changed else ""
        verdict = f"NOT the same: {abridge(differences)}" if differences else "the same"
        emit(f"{name}: {verdict} (compared: {scope})")
    elif before and differences:
        emit(f"{name}: replaced: {abridge(differences)}")
    return differences
