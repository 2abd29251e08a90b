"""Whether figures that were made again are the published ones, by numbers and by how they look."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_core.regenerate import compare
from vae_core.regenerate import record as fresh
from vae_core.regenerate.notebook import find_checkout, find_notebooks
from vae_core.regenerate.publish import differences
from vae_core.regenerate.reproduce import reproduce


def verify(
    names: tuple[str, ...] = (), *, checkout: Path | None = None, say: Callable[[str], None] = print, **where: Any
) -> bool:
    """Make the figures of notebooks again, into ``build/verify/``; whether they agree with those in ``figures/``.

    They agree as :func:`vae_core.compare.numbers` and :func:`vae_core.compare.figures` say, on any machine.
    ``where`` is handed on: jobs, engine and scheduler.

    Raises:
        ValueError: as :func:`vae_core.reproduce.reproduce`, and for a notebook of which nothing is published.
    """
    root = find_checkout(checkout)
    fresh.check_package(root)
    chosen = find_notebooks(root, names)
    for notebook in chosen:
        if not fresh.entries(root / "figures", notebook.name):
            raise ValueError(f"{notebook.name} has no published figures: vae-core reproduce {notebook.name}")
    target = root / "build" / "verify"
    outcomes = reproduce([one.name for one in chosen], checkout=root, target=target, echo=say, **where)
    agree = True
    for outcome in outcomes:
        name = outcome.notebook.name
        if outcome.error is not None:
            say(f"{name}: not compared, it failed")
            agree = False
            continue
        published, rows = root / "figures", fresh.rows(target, name)
        figures = {path.relative_to(target).as_posix(): path.read_bytes() for path in outcome.figures}
        wrong = differences(outcome, figures, rows, published)
        otherwise = fresh.changes(fresh.latest(fresh.record(published, name)), outcome.inputs)
        share = compare.SHARE if otherwise else compare.SHARE_OF_MACHINES
        told = f"{len(rows)} numbers {'to a thousandth' if otherwise else 'within their tolerances'}, "
        told += f"{len(figures)} figures to {share:.1%} of their pixels"
        told += f"; others are {fresh.few(otherwise)}" if otherwise else ""
        say(f"{name}: {f'NOT the same: {fresh.few(wrong)}' if wrong else 'the same'} (compared: {told})")
        agree = agree and not wrong
    return agree
