"""Whether figures that are drawn again are the published ones, by numbers and by how they look."""

from pathlib import Path
from typing import Any

from vae_core.regenerate import record
from vae_core.regenerate.notebook import find_checkout, find_notebooks
from vae_core.regenerate.reproduce import reproduce


def verify(names: tuple[str, ...] = (), *, checkout: Path | None = None, **options: Any) -> bool:
    """Run notebooks again, into ``build/verify/``; whether all agree with what is in ``figures/``, on any machine.

    ``options`` are those of :func:`vae_core.regenerate.reproduce.reproduce`.

    Raises:
        ValueError: as there, and for a notebook of which nothing is published.
    """
    root = find_checkout(checkout)
    record.check_package(root)
    chosen = [notebook.name for notebook in find_notebooks(root, names)]
    for name in chosen:
        if not record.entry(root / "figures", name):
            raise ValueError(f"{name} has no published figures: vae-core reproduce {name}")
    outcomes = reproduce(chosen, checkout=root, target=root / "build" / "verify", **options)
    return not any(outcome.error or outcome.differences for outcome in outcomes)
