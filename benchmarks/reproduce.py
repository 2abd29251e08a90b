"""What ``vae-core reproduce`` costs and gains: two jobs against one, Dask against processes, all against papermill.

Every way runs all notebooks from no kept training, in a copy of the checkout, and the ways take turns. Times are wall
clock; ratios are taken within a turn, and medians over the turns. "papermill" is its own command, a notebook after
the other, with the same parameters and one thread.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from vae_core import environment, files
from vae_core.regenerate.notebook import find_notebooks

CHECKOUT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "reproduce.json"
BIN = Path(sys.executable).parent
WAYS = {
    "papermill": [],
    "jobs 1": ["--jobs", "1"],
    "jobs 2": ["--jobs", "2"],
    "dask, 2 workers": ["--jobs", "2", "--engine", "dask"],
}


def seconds(way: str, preset: str, root: Path) -> float:
    """The wall time of all notebooks, by one way."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"VAE_CORE_RUNS": f"{folder}/runs", "VAE_CORE_BUILD": folder}
        commands = [[str(BIN / "vae-core"), "reproduce", "--preset", preset, "--force", *WAYS[way]]]
        if way == "papermill":
            threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            environment |= dict.fromkeys(threads, "1") | {"VAE_CORE_DEVICE": "cpu", "PYTHONHASHSEED": "0"}
            commands = []
            for notebook in find_notebooks(root):
                given = []
                for name, value in notebook.settings(preset, {}).items():
                    given += ["-r" if isinstance(value, str) else "-p", name, str(value)]
                command = [str(BIN / "papermill"), str(notebook.path), f"{folder}/out.ipynb", "--no-progress-bar"]
                commands.append(command + given)
        began = time.monotonic()
        for command in commands:
            subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
        return time.monotonic() - began


@click.command()
@click.option("--preset", type=click.Choice(["fast", "post"]), default="fast", show_default=True)
@click.option("--turns", type=click.IntRange(1), default=3, show_default=True)
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), help="Only these ways.")
def main(preset: str, turns: int, ways: tuple[str, ...]) -> None:
    """Time all notebooks: about 20 minutes on two cores with "fast", most of two hours with "post" and three turns."""
    taken: dict[str, list[float]] = {way: [] for way in ways or WAYS}
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        root = Path(folder) / "vae_core"
        subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(root)], check=True)
        count = len(find_notebooks(root))
        for turn in range(turns):
            for way, times in taken.items():
                times.append(seconds(way, preset, root))
                click.echo(f"turn {turn + 1}: {way}: {times[-1]:.1f} s")
    found: dict[str, Any] = {"seconds": {way: round(statistics.median(times), 1) for way, times in taken.items()}}
    for name, one, other in (
        ("jobs 2 over jobs 1", "jobs 2", "jobs 1"),
        ("jobs 1 over papermill", "jobs 1", "papermill"),
        ("dask over jobs 2", "dask, 2 workers", "jobs 2"),
    ):
        if one in taken and other in taken:
            ratios = [a / b for a, b in zip(taken[one], taken[other], strict=True)]
            found[name] = round(statistics.median(ratios), 3)
    if {"jobs 1", "papermill"} <= taken.keys():
        extra = [a - 1.05 * b for a, b in zip(taken["jobs 1"], taken["papermill"], strict=True)]
        found["seconds a notebook beyond papermill and 5%"] = round(statistics.median(extra) / count, 2)
    for name, value in found.items():
        click.echo(f"{name}: {value}")
    facts = {"turns": turns, "versions": environment.versions(), "machine": environment.machine(), "all": taken}
    results = files.read_json(RESULT) | {preset: found | facts}
    files.write_json(RESULT, results)


if __name__ == "__main__":
    main()
