"""What a notebook made, and where it belongs: the published set, or aside with a line that says why."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vae_core import fresh, provenance
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
    figures: list[Path] = field(default_factory=list)


def publish(
    outcome: Outcome, made: dict[str, bytes], sweeps: dict[str, dict[str, Any]], root: Path, preset: str,
    target: Path | None, say: Callable[[str], None],
) -> None:  # fmt: skip
    """Write the files ``made`` by a successful run, and what is recorded of them, into ``figures/`` or aside.

    Into ``figures/`` go those of the preset "post" and of the data that the settings name; all else goes to
    ``build/figures/``, or to a ``target``. Of the preset "full" the results of ``sweeps``, by name, are published.
    Nothing is replaced before everything is on disk under other names.

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
    for name in made:
        if name.endswith(".svg"):
            beside = entries[str(PurePosixPath(name).with_suffix(".png"))]
            entries[name] = beside | {"sha256": provenance.digest(made[name])}
    asked = set(str(settings.get("data")).split(","))
    strange = {entry["source"].split(":")[0] for entry in entries.values()} - asked
    why = "" if preset == "post" else "not the published settings"
    if not why and strange:
        why = f"made from {', '.join(sorted(strange))}, not {settings.get('data')}"
    why = why or ("to be compared" if target else "")
    folder = target or (root / "build" / "figures" if why else root / "figures")
    files: dict[Path, bytes] = {}
    for name, facts in sweeps.items():
        named = preset == "full" and facts["source"].split(":")[0] in asked
        command = f"vae-core reproduce {notebook.name} --preset full"
        place = (root / "figures" if named else folder) / "data" / f"sweep_{name}.json"
        made_by = {key: outcome.inputs.get(key) for key in ("commit", "clean")}
        files[place] = provenance.to_json({"command": command, "threads": THREADS} | made_by | facts)
    for name, content in made.items():
        if not name.startswith("data/"):
            files[folder / name] = content
        elif name.endswith(".json"):
            files |= provenance.with_results(folder / "data", notebook.name, json.loads(content))
    manifest = folder / "manifest.json"
    files[manifest] = provenance.to_json(provenance.with_entries(manifest, notebook.name, entries))
    if not why:
        records = fresh.kept(root, notebook.name, outcome.inputs, outcome.seconds)
        files[root / "figures" / "data" / "inputs.json"] = provenance.to_json(records)
    provenance.write_all(files)
    outcome.figures = [folder / name for name in made if not name.startswith("data/")]
    outcome.published = not why
    if why:
        say(f"{notebook.name}: {why}, so its figures stay in {folder.relative_to(root)}/")
