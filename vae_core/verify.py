"""Whether figures that were made again are the published ones, by numbers and by how they look."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_core import compare, fresh, provenance
from vae_core.notebook import find_checkout, find_notebooks
from vae_core.reproduce import reproduce


def verify(
    names: tuple[str, ...] = (), *, checkout: Path | None = None, say: Callable[[str], None] = print, **where: Any
) -> bool:
    """Make the figures of notebooks again, into ``build/verify/``; whether they agree with those in ``figures/``.

    They agree as :func:`vae_core.compare.numbers` and :func:`vae_core.compare.looks_same` say, on any machine.
    ``where`` is handed on: jobs, engine and scheduler.

    Raises:
        ValueError: as :func:`vae_core.reproduce.reproduce`, and for a notebook of which nothing is published.
    """
    root = find_checkout(checkout)
    chosen = find_notebooks(root, names)
    manifest = provenance.read_json(root / "figures" / "manifest.json")
    for notebook in chosen:
        if not any(entry["notebook"] == notebook.name for entry in manifest.values()):
            raise ValueError(f"{notebook.name} has no published figures: vae-core reproduce {notebook.name}")
    target = root / "build" / "verify"
    outcomes = reproduce([one.name for one in chosen], checkout=root, target=target, say=say, **where)
    agree = True
    for outcome in outcomes:
        name = outcome.notebook.name
        if outcome.error is not None:
            say(f"{name}: not compared, it failed")
            agree = False
            continue
        figures = [figure for figure, entry in manifest.items() if entry["notebook"] == name
                   and not figure.endswith(".svg")]  # each is the PNG of its name, drawn again  # fmt: skip
        rows = fresh.rows(root / "figures", name)
        wrong = compare.numbers(fresh.rows(target, name), rows) + _look_different(figures, target, root / "figures")
        told = f"{len(rows)} numbers within their tolerances, {len(figures)} figures by how they look"
        say(f"{name}: {f'NOT the same: {fresh.few(wrong)}' if wrong else 'the same'} (compared: {told})")
        agree = agree and not wrong
    return agree


def _look_different(figures: list[str], made: Path, published: Path) -> list[str]:
    told = []
    for name in figures:
        paths = made / name, published / name
        if missing := next((path for path in paths if not path.exists()), None):
            told.append(f"{missing.parent.name}/{name} is missing")
        elif not compare.looks_same(*(path.read_bytes() for path in paths), name):
            told.append(f"{name} looks different")
    return told
