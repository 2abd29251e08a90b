"""What a notebook made, and where it belongs: the published set, or aside with a line that says why."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vae_core import environment
from vae_core.files import digest, figure_facts, read_json, to_json, with_entries, with_results, write_all
from vae_core.regenerate import compare
from vae_core.regenerate import record as fresh
from vae_core.regenerate.notebook import Notebook
from vae_core.regenerate.record import THREADS

KINDS = (".png", ".html")  # what says of itself what it shows


@dataclass
class Outcome:
    """How the run of one notebook ended."""

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
    new: bool = False  # whether they are what this run made, or were there and agree with it


def publish(
    outcome: Outcome, made: dict[str, bytes], sweeps: dict[str, dict[str, Any]], root: Path, preset: str,
    target: Path | None, republish: bool, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Write the files ``made`` by a successful run, and what is recorded of them, into ``figures/`` or aside.

    Into ``figures/`` go those of the preset "post" and of the data that the settings name; all else goes to
    ``build/figures/``, or to a ``target``. What is published of a notebook stays as it is while no number and no
    figure differs by more than :mod:`vae_core.regenerate.compare` allows, and is replaced together, unless it is to be
    ``republish``-ed anyway. Of the preset "full" the results of ``sweeps``, by name, are published. Nothing is replaced
    before everything is on disk under other names.

    Raises:
        OSError, ValueError: for what cannot be written, or is another notebook's figure; nothing has changed then.
    """
    notebook, settings = outcome.notebook, outcome.settings
    figures = {name: content for name, content in made.items() if not name.startswith("data/")}
    rows = [row for name in made.keys() - figures.keys() if name.endswith(".json") for row in json.loads(made[name])]
    rows = [row | {"command": f"vae-core reproduce {notebook.name}"} for row in rows]
    entries = _entries(outcome, figures)
    _check_owners(notebook.name, entries, root)
    asked = {Path(name).name for name in str(settings.get("data")).split(",")}  # a data set, or a folder's path
    strange = {entry["source"].split(":")[0] for entry in entries.values()} - asked
    reasons = [] if preset == "post" else ["not the published settings"]
    if strange:
        reasons.append(f"made from {', '.join(sorted(strange))}, not {settings.get('data')}")
    if target:
        reasons.append("to be compared")
    folder = target or (root / "build" / "figures" if reasons else root / "figures")
    new = bool(reasons or republish)
    if not new and (differ := differences(outcome, figures, rows, folder)):
        new = True
        if fresh.rows(folder, notebook.name):
            say(f"{notebook.name}: replaced: {fresh.few(differ)}")

    files: dict[Path, bytes] = {}
    for name, facts in sweeps.items():
        named = preset == "full" and facts["source"].split(":")[0] in asked
        command = f"vae-core reproduce {notebook.name} --preset full"
        place = (root / "figures" if named else folder) / "data" / f"sweep_{name}.json"
        made_by = {key: outcome.inputs.get(key) for key in ("commit", "clean")}
        files[place] = to_json({"command": command, "threads": THREADS} | made_by | facts)
    if new:
        files |= {folder / name: content for name, content in figures.items()}
        manifest, results = folder / "manifest.json", folder / "data" / "results.json"
        files[manifest] = to_json(with_entries(manifest, notebook.name, entries))
        files[results] = to_json(with_results(results, notebook.name, rows))
    digests = {"numbers": fresh.written_digest(rows), "entries": fresh.written_digest(entries)} if new else {}
    records = fresh.with_record(folder, notebook.name, outcome.inputs | digests, outcome.seconds, new)
    files[folder / "data" / "inputs.json"] = to_json(records)
    write_all(files)
    if not reasons:
        fresh.remember(root, notebook.name, outcome.inputs)
    outcome.aside, outcome.published, outcome.new = "; ".join(reasons), not reasons, new
    outcome.figures = [folder / name for name in figures]


def _check_owners(notebook: str, figures: Iterable[str], root: Path) -> None:
    manifest = read_json(root / "figures" / "manifest.json")
    for name in figures:
        owner = manifest.get(name, {}).get("notebook", notebook)
        if owner != notebook and (root / "notebooks" / f"{owner}.ipynb").exists():
            raise ValueError(f"it made {name}, which is a figure of {owner}: rename one")


def _entries(outcome: Outcome, figures: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What the manifest is to say of the figures; of an SVG, what its PNG says."""
    settings = outcome.settings
    own: dict[str, Any] = {
        "notebook": outcome.notebook.name, "parameters": settings, "seed": settings.get("seed"), "threads": THREADS,
        "versions": environment.versions(), "machine": outcome.machine,
    }  # fmt: skip
    entries = {
        name: own | figure_facts(name, content)
        for name, content in figures.items() if name.endswith(KINDS)
    }  # fmt: skip
    for name in figures.keys() - entries.keys():
        beside = entries[str(PurePosixPath(name).with_suffix(".png"))]
        entries[name] = beside | {"sha256": digest(figures[name])}
    return entries


def differences(outcome: Outcome, figures: dict[str, bytes], rows: list[dict[str, Any]], published: Path) -> list[str]:
    """In what the figures and numbers that a run made differ from those in the folder ``published``, in words."""
    name = outcome.notebook.name
    same = not fresh.changes(fresh.latest(fresh.record(published, name)), outcome.inputs)
    entries = fresh.entries(published, name)
    held = {figure: path.read_bytes() if (path := published / figure).exists() else None for figure in entries}
    told = compare.numbers(rows, fresh.rows(published, name), same_inputs=same) + fresh.by_hand(published, name)
    if any(entry["parameters"] != outcome.settings for entry in entries.values()):
        told.append("its parameters")
    return told + compare.figures(figures, held, _entries(outcome, figures), entries, same_inputs=same)


def in_words(folder: Path, root: Path) -> str:
    """A folder as it is written from the checkout; one outside of it whole."""
    inside = os.path.relpath(folder, root)
    return str(folder) if inside.startswith("..") else inside
