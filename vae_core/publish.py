"""What a notebook made, and where it belongs: the published set, or aside with a line that says why."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vae_core import compare, fresh, provenance
from vae_core.execute import THREADS
from vae_core.notebook import Notebook

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
    replaced: list[Path] = field(default_factory=list)  # of them those that are other files now


def publish(
    outcome: Outcome, made: dict[str, bytes], sweeps: dict[str, dict[str, Any]], root: Path, preset: str,
    target: Path | None, republish: bool, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Write the files ``made`` by a successful run, and what is recorded of them, into ``figures/`` or aside.

    Into ``figures/`` go those of the preset "post" and of the data that the settings name; all else goes to
    ``build/figures/``, or to a ``target``. A published figure that looks the same stays as it is while no number of
    the notebook has changed beyond its tolerance, unless all are to be ``republish``-ed. Of the preset "full" the
    results of ``sweeps``, by name, are published. Nothing is replaced before everything is on disk under other names.

    Raises:
        OSError: when something cannot be written; nothing has changed then.
    """
    notebook, settings = outcome.notebook, outcome.settings
    own: dict[str, Any] = {
        "notebook": notebook.name, "parameters": settings, "seed": settings.get("seed"), "threads": THREADS,
        "versions": provenance.versions(), "machine": outcome.machine,
    }  # fmt: skip
    entries = {
        name: own | provenance.figure_facts(name, content)
        for name, content in made.items() if name.endswith(KINDS)
    }  # fmt: skip
    asked = {Path(name).name for name in str(settings.get("data")).split(",")}  # a data set, or a folder's path
    strange = {entry["source"].split(":")[0] for entry in entries.values()} - asked
    reasons = [] if preset == "post" else ["not the published settings"]
    if strange:
        reasons.append(f"made from {', '.join(sorted(strange))}, not {settings.get('data')}")
    if target:
        reasons.append("to be compared")
    outcome.aside = "; ".join(reasons)
    folder = target or (root / "build" / "figures" if reasons else root / "figures")
    rows = [row for name, content in made.items() if name.startswith("data/") and name.endswith(".json")
            for row in json.loads(content)]  # fmt: skip

    published = fresh.rows(folder, notebook.name)
    told = [] if reasons or republish else compare.numbers(rows, published)
    if published and fresh.record(folder, notebook.name).get("numbers", now := fresh.numbers_digest(published)) != now:
        told.append("its numbers in results.json were changed by hand")
    others = {} if reasons or republish or told else _others(made, entries, folder)
    everything = bool(reasons or republish or told)
    replaced = {name: content for name, content in made.items()
                if not name.startswith("data/") and (everything or name in others)}  # fmt: skip
    if not reasons and (told or others) and published:
        say(f"{notebook.name}: {fresh.few([*told, *others.values()])}: replaced")
    for name in made:
        if name.endswith(".svg"):
            beside = entries[str(PurePosixPath(name).with_suffix(".png"))]
            entries[name] = beside | {"sha256": provenance.digest(made[name])}
    for name in entries.keys() - replaced.keys():
        entries[name]["sha256"] = provenance.sha256(folder / name)

    files: dict[Path, bytes] = {}
    for name, facts in sweeps.items():
        named = preset == "full" and facts["source"].split(":")[0] in asked
        command = f"vae-core reproduce {notebook.name} --preset full"
        place = (root / "figures" if named else folder) / "data" / f"sweep_{name}.json"
        made_by = {key: outcome.inputs.get(key) for key in ("commit", "clean")}
        files[place] = provenance.to_json({"command": command, "threads": THREADS} | made_by | facts)
    files |= {folder / name: content for name, content in replaced.items()}
    if rows and everything:
        files |= provenance.with_results(folder / "data", notebook.name, rows)
        published = [row | {"command": f"vae-core reproduce {notebook.name}"} for row in rows]
    manifest = folder / "manifest.json"
    files[manifest] = provenance.to_json(provenance.with_entries(manifest, notebook.name, entries, anew=republish))
    facts = outcome.inputs | {"numbers": fresh.numbers_digest(published)}
    records = fresh.with_record(folder, notebook.name, facts, outcome.seconds, bool(replaced))
    files[folder / "data" / "inputs.json"] = provenance.to_json(records)
    provenance.write_all(files)
    if not reasons:
        fresh.remember(root, notebook.name, outcome.inputs)
    outcome.figures = [folder / name for name in made if not name.startswith("data/")]
    outcome.replaced = [folder / name for name in replaced]
    outcome.published = not reasons


def _others(made: dict[str, bytes], entries: dict[str, dict[str, Any]], folder: Path) -> dict[str, str]:
    """The figures to replace although the numbers are the published ones, by name, with the reason for each.

    An SVG follows its PNG; a page, which holds the models, follows any picture.
    """
    manifest = provenance.read_json(folder / "manifest.json")
    others: dict[str, str] = {}
    for name in sorted(entries, key=lambda name: name.endswith(".html")):
        path, entry = folder / name, manifest.get(name)
        if entry is None or not path.exists():
            others[name] = f"{name} is new"
        elif provenance.sha256(path) != entry["sha256"]:
            others[name] = f"{name} was another file than its entry"
        elif not compare.looks_same(made[name], path.read_bytes(), name) or (name.endswith(".html") and others):
            others[name] = f"{name} looks different"
        elif any(compare.words(entry[part]) != compare.words(entries[name][part]) for part in ("alt", "caption")):
            others[name] = f"{name} has another text"
        elif entry["parameters"] != entries[name]["parameters"]:
            others[name] = f"{name} has other parameters"
    for name in made:
        png = str(PurePosixPath(name).with_suffix(".png"))
        if name.endswith(".svg") and (png in others or not (folder / name).exists()
                                      or provenance.sha256(folder / name) != manifest.get(name, {}).get("sha256")):  # fmt: skip
            others[name] = others.get(png, f"{name} was another file than its entry")
    return others


def in_words(folder: Path, root: Path) -> str:
    """A folder as it is written from the checkout; one outside of it whole."""
    inside = os.path.relpath(folder, root)
    return str(folder) if inside.startswith("..") else inside
