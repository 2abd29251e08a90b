"""What the figures of a notebook depend on, and what of it has changed since they were made. Loads nothing heavy."""

import ast
import hashlib
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from vae_core import _HOME, provenance
from vae_core.download import fingerprint
from vae_core.notebook import Notebook

PACKAGE = Path(__file__).parent
LIBRARIES = (*provenance.PACKAGES, "scipy", "scikit-learn", "pillow")


def inputs(code: str, settings: dict[str, Any], sweeps: Mapping[str, bytes]) -> dict[str, Any]:
    """Digests of a notebook's code cells, of the package code that it can reach, of its data and of the results of
    ``sweeps`` that it loads (files by name); versions; parameters. Prose is no part of it.

    Not for several threads at once: Python 3.11 cannot parse in two.
    """
    names = str(settings.get("data", "")).split(",")
    return {
        "cells": hashlib.sha256(code.encode()).hexdigest(),
        "parameters": settings,
        "package": {name: _code(path) for name, path in sorted(_reached(code).items())},
        "versions": provenance.versions() | {name: metadata.version(name) for name in LIBRARIES},
        "data": {name: _fingerprint(name) for name in names if name},
        "sweeps": {name: provenance.digest(content) for name, content in sweeps.items()},
    }


def of_sweeps() -> dict[str, Any]:
    """As :func:`inputs`, of the declared sweeps: of what is trained and measured, not of how it is handed out."""
    return inputs("from vae_core import declared", {}, {})


def measured_otherwise(name: str, root: Path) -> list[str]:
    """What of code and versions is not as it was when a published sweep was measured, or why that is unknown."""
    try:
        then = provenance.read_json(root / "figures" / "data" / f"sweep_{name}.json")
    except ValueError as error:
        return [str(error)]
    if "package" not in then:
        return ["no record of its code"]
    now = of_sweeps()
    return changes(now | {part: then[part] for part in ("package", "versions")}, now)


def forget() -> None:
    """Read files anew from now on."""
    for kept in (_needs, _fingerprint, _code):
        kept.cache_clear()


def sweeps(notebook: Notebook, root: Path) -> dict[str, bytes]:
    """The published results of the sweeps that a notebook loads: files by name, of those that there are."""
    paths = {name: root / "figures" / "data" / f"sweep_{name}.json" for name in notebook.sweeps}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def commit(root: Path) -> dict[str, Any]:
    """The commit that is checked out, and whether notebooks and package are as it has them."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "notebooks", "vae_core", "requirements.lock")
        return {"commit": git("rev-parse", "HEAD"), "clean": not changed}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown", "clean": False}


def record(root: Path, name: str) -> dict[str, Any]:
    """What the published figures of a notebook were made from; empty where there are none."""
    return provenance.read_json(root / "figures" / "data" / "inputs.json").get(name, {})


def kept(root: Path, name: str, made: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The records with what the figures of a notebook were made from; one that says the same stays as it is.

    Of ``seconds`` the most are kept: those of a run that found no training to reuse.
    """
    records = provenance.read_json(root / "figures" / "data" / "inputs.json")
    if not changes(records.get(name, {}), made):
        return records
    most = max(round(seconds), records.get(name, {}).get("seconds", 0))
    return records | {name: made | {"seconds": most}}


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, in words; nothing where the figures would come out the same."""
    if not before:
        return ["no record of how they were made"]
    told = ["its code cells"] if before.get("cells") != now["cells"] else []
    for kind, words in (("parameters", "parameter {}"), ("package", "vae_core/{}"), ("versions", "the version of {}"),
                        ("data", "the data {}"), ("sweeps", "the sweep {}")):  # fmt: skip
        old, new = before.get(kind, {}), now.get(kind, {})
        told += [words.format(key) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return told


def few(reasons: list[str]) -> str:
    """The first reasons, and how many more there are."""
    return ", ".join(reasons[:3]) + (f" and {len(reasons) - 3} more" if len(reasons) > 3 else "")


def stale(notebook: Notebook, root: Path) -> list[str]:
    """Why the published figures of a notebook are not those that it would make now; empty if they are."""
    settings = notebook.settings("post", {})
    told = changes(record(root, notebook.name), inputs(notebook.code, settings, sweeps(notebook, root)))
    manifest = provenance.read_json(root / "figures" / "manifest.json")
    own = {name: entry for name, entry in manifest.items() if entry["notebook"] == notebook.name}
    missing = {f"{name}.png" for name in notebook.figures(settings)} - set(own)
    for name in sorted(missing | set(own)):
        path = root / "figures" / name
        if not path.exists():
            told.append(f"figures/{name} is missing")
        elif name not in own or provenance.sha256(path) != own[name]["sha256"]:
            told.append(f"figures/{name} is another file")
    return told


def _reached(code: str) -> dict[str, Path]:
    """The files of the package that a notebook's code can reach by imports, by name."""
    found: dict[str, Path] = {}
    waiting = set(_imports(code))
    while waiting:
        path = PACKAGE / f"{waiting.pop()}.py"
        if path.name not in found and path.exists():
            more, read = _needs(path)
            found |= {path.name: path} | {name: PACKAGE / name for name in read}
            waiting |= more
    return found


@cache
def _needs(path: Path) -> tuple[set[str], list[str]]:
    """The modules that a module imports, and the files beside it that it reads."""
    text = path.read_text(encoding="utf-8")
    return _imports(text), re.findall(r"with_name\(\"([\w.]+)\"\)", text)


def _imports(code: str) -> set[str]:
    """The modules of the package that code imports, also by the package's own names."""
    found = {"__init__"}
    for node in ast.walk(ast.parse(re.sub(r"^\s*[%!].*$", "", code, flags=re.MULTILINE))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vae_core":
            inner = (node.module or "").split(".")[1:]
            found |= set(inner[:1]) or {_HOME.get(alias.name, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vae_core.")}
    return found


_fingerprint, _code = cache(fingerprint), cache(provenance.code_digest)


def story(path: Path, root: Path) -> list[str]:
    """From what a published figure was made, a line each.

    Raises:
        ValueError: for a file that the manifest does not know.
    """
    entry = provenance.read_json(root / "figures" / "manifest.json").get(path.name)
    if entry is None:
        raise ValueError(f"{path} is no published figure: vae-core status lists them")
    made = record(root, entry["notebook"])
    held = root / "figures" / path.name
    same = "this file" if held.exists() and provenance.sha256(held) == entry["sha256"] else "NOT this file"
    code = hashlib.sha256("".join(made.get("package", {}).values()).encode()).hexdigest()
    facts = {
        "sha256": f"{entry['sha256']} ({same})",
        "notebook": f"{entry['notebook']}, code cells {made.get('cells', 'unknown')[:12]}",
        "commit": f"{made.get('commit', 'unknown')}, {'clean' if made.get('clean') else 'with changes or unknown'}",
        "package": f"{len(made.get('package', {}))} files, {code[:12]}",
        "data": f"{entry['source']}; " + ", ".join(f"{k} {v[:12]}" for k, v in made.get("data", {}).items()),
        "sweeps": ", ".join(f"{k} {v[:12]}" for k, v in made.get("sweeps", {}).items()) or "none",
        "parameters": ", ".join(f"{k}={v!r}" for k, v in entry["parameters"].items()),
        "seed": entry["seed"],
        "versions": ", ".join(f"{k} {v}" for k, v in made.get("versions", entry["versions"]).items()),
        "device": f"cpu, threads: {entry['threads']}, {entry['machine']}",
        "alt text": entry["alt"],
        "remake": f"vae-core reproduce {entry['notebook']} --force",
    }
    return [f"{name + ':':<12} {fact}" for name, fact in facts.items()]
