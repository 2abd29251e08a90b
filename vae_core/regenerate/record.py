"""What the figures of a notebook depend on, and what of it has changed since they were made. Loads nothing heavy."""

import contextlib
import hashlib
import json
import shlex
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from vae_core import environment, files
from vae_core.environment import package_digest
from vae_core.regenerate.notebook import Notebook
from vae_core.sources.torchvision_files import fingerprint

PACKAGE = Path(__file__).parents[1]
ENTRY = {"notebook", "parameters", "sha256", "source", "alt", "caption", "seed", "versions", "threads", "machine"}


def inputs(code: str, settings: dict[str, Any], sweeps: Mapping[str, bytes]) -> dict[str, Any]:
    """Digests of a notebook's code cells, of the package, of its data and of the results of ``sweeps`` that it loads
    (files by name); versions; parameters. Prose is no part of it.

    Not for several threads at once: Python 3.11 cannot parse in two.
    """
    names = str(settings.get("data", "")).split(",")
    return {
        "cells": hashlib.sha256(code.encode()).hexdigest(),
        "parameters": settings,
        "package": package_digest(),
        "versions": environment.libraries(),
        "data": {name: _fingerprint(name) for name in names if name},
        "sweeps": {name: files.digest(content) for name, content in sweeps.items()},
    }


def check_package(root: Path) -> None:
    """Nothing, if the package that runs is that of the checkout.

    Raises:
        ValueError: where the checkout has a package of its own with other code, as in a second worktree.
    """
    own = root / "vae_core"
    if (
        (own / "__init__.py").exists()
        and own.resolve() != PACKAGE.resolve()
        and package_digest(own) != package_digest()
    ):
        raise ValueError(
            f"vae_core is imported from {PACKAGE}, and {own} has other code: "
            f"use the environment that make puts into {root / '.venv'}, or: pip install -e {root}"
        )


def of_sweeps() -> dict[str, Any]:
    """As :func:`inputs`, of the declared sweeps."""
    return inputs("", {}, {})


def measured_otherwise(name: str, root: Path) -> list[str]:
    """What of code and versions is not as it was when a published sweep was measured, or why that is unknown."""
    try:
        then = files.read_json(root / "figures" / "data" / f"sweep_{name}.json")
    except ValueError as error:
        return [str(error)]
    if "package" not in then:
        return ["no record of its code"]
    now = of_sweeps()
    return changes(now | {part: then[part] for part in ("package", "versions")}, now)


def forget() -> None:
    """Read files anew from now on."""
    for cached in (package_digest, _fingerprint):
        cached.cache_clear()


def sweeps(notebook: Notebook, root: Path) -> dict[str, bytes]:
    """The published results of the sweeps that a notebook loads, and other files it reads: by name, those there are."""
    paths = {name: root / "figures" / "data" / f"sweep_{name}.json" for name in notebook.sweeps}
    paths |= {Path(name).stem: root / name for name in notebook.reads}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def commit(root: Path) -> dict[str, Any]:
    """The commit that is checked out, and whether notebooks and package are as it has them."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() == root.resolve():  # not of a repository around it
            changed = git("status", "--porcelain", "--", "notebooks", "vae_core", "requirements.lock")
            return {"commit": git("rev-parse", "HEAD"), "clean": not changed}
    except (OSError, subprocess.CalledProcessError):
        pass
    return {"commit": "unknown", "clean": False}


def record(folder: Path, name: str) -> dict[str, Any]:
    """What the figures of a notebook in a folder such as ``figures/`` were made from; empty where that is unknown."""
    return files.read_json(folder / "data" / "inputs.json").get(name, {})


def with_record(folder: Path, name: str, made: dict[str, Any], seconds: float, new: bool) -> dict[str, Any]:
    """The records of a folder after a run from the inputs ``made``.

    Where its figures are ``new`` the record is of it. Else it says from which inputs a later run agreed, if they
    are others. Of ``seconds`` the most are kept: those of a run that found no training to reuse.
    """
    records = files.read_json(folder / "data" / "inputs.json")
    before = records.get(name, {})
    if new:
        return records | {name: made | {"seconds": max(round(seconds), before.get("seconds", 0))}}
    return records | ({name: before | {"agreed": made}} if changes(latest(before), made) else {})


def latest(record: dict[str, Any]) -> dict[str, Any]:
    """The inputs from which what is recorded was made, or with which a later run agreed."""
    return record.get("agreed") or record


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, in words; nothing where the figures would come out the same."""
    if not before:
        return ["no record of how they were made"]
    told = ["its code cells"] if before.get("cells") != now["cells"] else []
    told += ["the code of vae_core"] if before.get("package") != now["package"] else []
    for kind, words in (("parameters", "parameter {}"), ("versions", "the version of {}"), ("data", "the data {}"),
                        ("sweeps", "the sweep {}")):  # fmt: skip
        old, new = before.get(kind, {}), now.get(kind, {})
        told += [words.format(key) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return told


def few(reasons: list[str]) -> str:
    """The first reasons, and how many more there are."""
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The numbers of a notebook in a folder such as ``figures/``."""
    return files.read_json(folder / "data" / "results.json").get(name, [])


def written_digest(content: Any) -> str:
    """A digest of the numbers of a notebook, or of its entries in the manifest."""
    return files.digest(json.dumps(content, sort_keys=True).encode())


def entries(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """What the manifest of a folder such as ``figures/`` says of the figures of a notebook; whole entries alone."""
    manifest = files.read_json(folder / "manifest.json")
    return {figure: entry for figure, entry in manifest.items() if entry.keys() >= ENTRY and entry["notebook"] == name}


def by_hand(folder: Path, name: str) -> list[str]:
    """Whether numbers or entries of a notebook are not those of its record, in words."""
    made = record(folder, name)
    told = []
    for what, now, file in (("numbers", rows, "results.json"), ("entries", entries, "manifest.json")):
        if what in made and made[what] != written_digest(now(folder, name)):
            told.append(f"its {what} in {file} were changed by hand")
    return told


def _wrong(figures: dict[str, str], folder: Path) -> list[str]:
    """Which of the figures, digests by name, are not as they were written."""
    told = []
    for name, digest in sorted(figures.items()):
        path = folder / name
        if not path.exists():
            told.append(f"{folder.name}/{name} is missing")
        elif files.sha256(path) != digest:
            told.append(f"{folder.name}/{name} is another file")
    return told


def stale(notebook: Notebook, root: Path) -> list[str]:
    """Why the published figures and numbers of a notebook are not those that it would make now; empty if they are."""
    folder, settings = root / "figures", notebook.settings("post", {})
    listed = entries(folder, notebook.name)
    told = changes(latest(record(folder, notebook.name)), inputs(notebook.code, settings, sweeps(notebook, root)))
    told += [f"figures/{name}.png has no entry in the manifest" for name in notebook.figures(settings)
             if f"{name}.png" not in listed]  # fmt: skip
    told += _wrong({name: entry["sha256"] for name, entry in listed.items()}, folder)
    return told + by_hand(folder, notebook.name)


def remember(root: Path, name: str, made: dict[str, Any]) -> None:
    """Note in ``build/`` that a run of this checkout succeeded: its inputs, and the published figures as they are."""
    figures = {figure: entry["sha256"] for figure, entry in entries(root / "figures", name).items()}
    files.write_json(root / "build" / "made" / f"{name}.json", {"inputs": made, "figures": figures})


def to_run(notebook: Notebook, root: Path) -> list[str]:
    """Why a notebook is to be run in this checkout; empty if it ran here with these inputs, and all is as it left it.

    What others committed is no reason to do nothing.
    """
    memory: dict[str, Any] = {}
    with contextlib.suppress(ValueError):  # damaged: as if it had not run
        memory = files.read_json(root / "build" / "made" / f"{notebook.name}.json")
    if not memory.keys() >= {"inputs", "figures"}:
        return ["not run in this checkout yet"]
    now = inputs(notebook.code, notebook.settings("post", {}), sweeps(notebook, root))
    told = changes(memory["inputs"], now) + _wrong(memory["figures"], root / "figures")
    return list(dict.fromkeys(told + stale(notebook, root)))


_fingerprint = cache(fingerprint)


def _agreed(made: dict[str, Any]) -> str:
    """In what a later run that came to the same differed from the one that made the figures."""
    later = made.get("agreed")
    return (
        f"later, at commit {later['commit']}, but for {few(changes(made, later))}" if later else "no later run differed"
    )


def story(path: Path, root: Path) -> list[str]:
    """From what a figure was made, a line each: of that very file, by what is recorded in its folder.

    Raises:
        ValueError: for a file that is not there, or that the manifest beside it does not know.
    """
    held = next((one for one in (path, root / path, root / "figures" / path.name) if one.is_file()), None)
    if held is None:
        raise ValueError(f"no figure {path}: vae-core status lists those that are published")
    entry = files.read_json(held.parent / "manifest.json").get(held.name)
    if entry is None or not entry.keys() >= ENTRY:
        raise ValueError(f"{held} is in no manifest: vae-core status lists the figures that are published")
    made = record(held.parent, entry["notebook"])
    same = "this file" if files.sha256(held) == entry["sha256"] else "NOT this file"
    remake = ["vae-core", "reproduce", entry["notebook"]]
    if held.parent.resolve() == (root / "figures").resolve():
        remake.append("--force")
    else:
        remake += [word for key, value in entry["parameters"].items() for word in ("-p", key, str(value))]
    facts = {
        "file": str(held),
        "sha256": f"{entry['sha256']} ({same})",
        "notebook": f"{entry['notebook']}, code cells {made.get('cells', 'unknown')[:12]}",
        "commit": f"{made.get('commit', 'unknown')}, {'clean' if made.get('clean') else 'with changes or unknown'}",
        "package": str(made.get("package", "unknown"))[:12],
        "agreed": _agreed(made),
        "data": f"{entry['source']}; " + ", ".join(f"{k} {v[:12]}" for k, v in made.get("data", {}).items()),
        "sweeps": ", ".join(f"{k} {v[:12]}" for k, v in made.get("sweeps", {}).items()) or "none",
        "parameters": ", ".join(f"{k}={v!r}" for k, v in entry["parameters"].items()),
        "seed": entry["seed"],
        "versions": ", ".join(f"{k} {v}" for k, v in made.get("versions", entry["versions"]).items()),
        "device": f"cpu, threads: {entry['threads']}, {entry['machine']}",
        "alt text": entry["alt"],
        "remake": shlex.join(remake),
    }
    return [f"{name + ':':<12} {fact}" for name, fact in facts.items()]


THREADS = 1  # of every reproduced kernel: the same bytes however many run at once
