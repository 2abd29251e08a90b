"""Whether figures that are drawn again are the published ones, by numbers and by how they look."""

from pathlib import Path
from typing import Any

from vae_core.regenerate import record
from vae_core.regenerate.notebook import find_checkout, find_notebooks
from vae_core.regenerate.reproduce import reproduce


def verify(names: tuple[str, ...] = (), *, checkout: Path | None = None, **options: Any) -> bool:
    """Run notebooks again, into ``build/verify/``; whether all agree with what is in ``figures/``, on any machine.

    Raises:
        ValueError: as :func:`vae_core.regenerate.reproduce.reproduce`, and where nothing is published of a notebook.
    """
    root = find_checkout(checkout)
    record.check_package(root)
    for notebook in find_notebooks(root, names):
        if not record.entry(root / "figures", notebook.name):
            raise ValueError(f"{notebook.name} has no published figures: vae-core reproduce {notebook.name}")
    outcomes = reproduce(names, checkout=root, target=root / "build" / "verify", **options)
    return not any(outcome.error or outcome.differences for outcome in outcomes)
