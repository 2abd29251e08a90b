"""Whether figures that were made again are the published ones: by bytes where they must be, else by numbers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_core import fresh, provenance
from vae_core.notebook import find_checkout, find_notebooks
from vae_core.reproduce import reproduce


def verify(
    names: tuple[str, ...] = (), *, checkout: Path | None = None, say: Callable[[str], None] = print, **where: Any
) -> bool:
    """Make the figures of notebooks again, into ``build/verify/``; whether they agree with those in ``figures/``.

    On the machine and with the versions of the record the bytes must be the same. Elsewhere the numbers of
    ``results.json`` must: within twice the standard error of their difference. ``where`` is handed on: jobs, engine
    and scheduler.

    Raises:
        ValueError: as :func:`vae_core.reproduce.reproduce`, and for a notebook of which nothing is published.
    """
    root = find_checkout(checkout)
    chosen = find_notebooks(root, names)
    manifest = provenance.read_json(root / "figures" / "manifest.json")
    for notebook in chosen:
        if not any(entry["notebook"] == notebook.name for entry in manifest.values()):
            raise ValueError(f"{notebook.name} has no published figures: vae-core reproduce {notebook.name}")
    outcomes = reproduce(
        [one.name for one in chosen], checkout=root, target=root / "build" / "verify", say=say, **where
    )
    agree = True
    for outcome in outcomes:
        name = outcome.notebook.name
        if outcome.error is not None:
            say(f"{name}: not compared, it failed")
            agree = False
            continue
        own = {path: entry for path, entry in manifest.items() if entry["notebook"] == name}
        same = fresh.record(root, name).get("versions") == outcome.inputs["versions"]
        same = same and {entry["machine"] for entry in own.values()} == {outcome.machine}
        compare, by = (_bytes, "bytes") if same else (_numbers, "numbers, on another machine or with other versions")
        wrong = compare(root, name, list(own))
        say(f"{name}: {'the same' if not wrong else 'NOT the same: ' + fresh.few(wrong)} (by {by})")
        agree = agree and not wrong
    return agree


def _bytes(root: Path, name: str, files: list[str]) -> list[str]:
    """The published files of a notebook that came out different."""
    made, published = root / "build" / "verify", root / "figures"
    paths = [(made / file, published / file) for file in files]
    return [b.name for a, b in paths if not a.exists() or not b.exists() or a.read_bytes() != b.read_bytes()]


def _numbers(root: Path, name: str, files: list[str]) -> list[str]:
    """The claims of a notebook whose numbers differ by more than chance."""
    made, published = (
        {row["claim"]: row for row in json.loads((folder / "data" / "results.json").read_text()).get(name, [])}
        for folder in (root / "build" / "verify", root / "figures")
    )
    wrong = sorted(made.keys() ^ published.keys())
    for claim in made.keys() & published.keys():
        a, b = made[claim], published[claim]
        error = 2 * math.hypot(a.get("standard_error") or 0, b.get("standard_error") or 0)
        if not math.isclose(a["value"], b["value"], rel_tol=1e-6, abs_tol=error):
            wrong.append(f"{claim} ({a['value']:.4g}, published {b['value']:.4g})")
    return wrong
