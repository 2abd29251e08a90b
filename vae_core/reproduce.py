"""Notebooks to jobs to figures: regenerates the published set. Knows no model."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_core import fresh, provenance
from vae_core.notebook import Notebook, find_checkout, find_notebooks, parse_parameters

KINDS = (".png", ".html")  # what says of itself what it shows
THREADS = 1  # of every reproduced kernel: the same bytes however many run at once


@dataclass
class Outcome:
    """How the run of one notebook ended."""

    notebook: Notebook
    settings: dict[str, Any]
    output: Path  # the executed notebook, whole or partial
    error: str | None = None
    cell: int | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    published: bool = False
    figures: list[Path] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)  # as they were when it began


def reproduce(
    names: Sequence[str] = (),
    *,
    preset: str = "post",
    parameters: Sequence[tuple[str, str]] = (),
    checkout: Path | None = None,
    jobs: int | None = None,
    force: bool = False,
    target: Path | None = None,
    timeout: float | None = None,
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Execute notebooks and put their figures where they belong; one outcome a notebook.

    A published figure is replaced only after its notebook succeeded, and only with preset "post",
    unchanged parameters and the named data; everything else stays under ``build/figures/``. A notebook whose published
    figures are those that it would make is not run again, unless ``force``. With a ``target`` all are run, and what
    they make goes there. A notebook that takes more than ``timeout`` seconds is stopped, and counts as failed.

    Raises:
        ValueError: before anything runs, on unknown names or parameters, a folder that cannot be written, or another
            run in the same checkout.
    """
    root = find_checkout(checkout)
    notebooks = find_notebooks(root, names)
    overrides = parse_parameters(notebooks, parameters)
    for folder in (root / "build", root / "figures"):
        try:
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"{folder} cannot be written ({error.strerror}): free it or clone elsewhere") from None
    if preset == "post" and not overrides and not force and target is None:
        why = {notebook.name: fresh.stale(notebook, root) for notebook in notebooks}
        for name, reasons in why.items():
            say(f"{name}: {'to be run: ' + fresh.few(reasons) if reasons else 'fresh'}")
        notebooks = [notebook for notebook in notebooks if why[notebook.name]]
        if not notebooks:
            say("nothing to do; --force runs them all the same")
            return []
    lock = FileLock(root / "build" / ".reproduce.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another reproduce is at work in {root}: wait for it, or clone elsewhere") from None
    lines = _Lines(notebooks, say)
    running: list[subprocess.Popen] = []
    placing = threading.Lock()

    settings = {notebook.name: notebook.settings(preset, overrides) for notebook in notebooks}
    # here and not in the threads: Python 3.11 cannot parse in two threads at once
    inputs = {notebook.name: fresh.inputs(notebook, settings[notebook.name]) for notebook in notebooks}

    def work(notebook: Notebook) -> Outcome:
        outcome = _run(notebook, settings[notebook.name], root, running, lines, timeout)
        outcome.inputs = inputs[notebook.name]
        with placing:
            _place(outcome, root, preset if not overrides else "", say=lines.say, target=target)
        return outcome

    began = time.monotonic()
    pool = ThreadPoolExecutor(jobs or min(len(notebooks), _cores()))
    try:
        longest_first = sorted(notebooks, key=lambda notebook: -notebook.cells)  # as far as cells can tell
        asked = {notebook.name: pool.submit(work, notebook) for notebook in longest_first}
        outcomes = [asked[notebook.name].result() for notebook in notebooks]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.kill()  # its kernel sees that it is gone and ends
        raise
    finally:
        pool.shutdown()
        lines.close()
        lock.release()
    _summary(outcomes, time.monotonic() - began, root, say)
    return outcomes


def _run(
    notebook: Notebook,
    settings: dict[str, Any],
    root: Path,
    running: list[subprocess.Popen],
    lines: "_Lines",
    timeout: float | None,
) -> Outcome:
    """Run one notebook as a process of its own, with figures into a place of its own."""
    staging = root / "build" / "staging" / notebook.name
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    output = root / "build" / "notebooks" / f"{notebook.name}.ipynb"
    outcome = Outcome(notebook, settings, output)
    job = staging / "job.json"
    job.write_text(json.dumps({"notebook": str(notebook.path), "output": str(outcome.output), "parameters": settings}))
    environment = os.environ | {
        "VAE_CORE_FIGURES": str(staging / "figures"), "VAE_CORE_DEVICE": "cpu", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    if environment.get("VAE_CORE_DATA"):
        environment["VAE_CORE_DATA"] = str(Path(environment["VAE_CORE_DATA"]).resolve())
    environment.pop("MPLBACKEND", None)  # would reach the kernel and hide inline figures
    began = time.monotonic()
    with (staging / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "vae_core.notebook", str(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            cwd=root,
            text=True,
            start_new_session=True,
        )
    running.append(process)
    last: dict[str, Any] = {}
    lines.start(notebook)
    watch = threading.Timer(timeout or 0, process.kill)  # its kernel sees that it is gone, and ends
    if timeout:
        watch.start()
    with process:
        for line in process.stdout or ():
            try:
                last = json.loads(line)
            except ValueError:
                continue  # a library's own words
            if "cell" in last:
                lines.cell(notebook, last["cell"])
    watch.cancel()
    outcome.seconds = time.monotonic() - began
    if "failed" not in last and timeout and outcome.seconds >= timeout:
        outcome.error = f"no end after {timeout:g} s; it was at cell {last.get('cell', 0)}"
    elif "failed" not in last:
        ending = (staging / "stderr.txt").read_text().strip().splitlines()[-1:]
        outcome.error = f"its process ended with code {process.returncode}" + (f": {ending[0]}" if ending else "")
    else:
        outcome.peak_bytes = last["peak_bytes"]
        failed = last["failed"] or {}
        outcome.error, outcome.cell = failed.get("error"), failed.get("cell")
    if outcome.error is None:
        wanted = [staging / "figures" / f"{name}.png" for name in notebook.figures(settings)]
        missing = [path.stem for path in wanted if not path.exists()]
        if missing:
            outcome.error = f"it did not write the figures it declares: {', '.join(missing)}"
        outcome.figures = sorted(path for path in (staging / "figures").rglob("*") if path.is_file())
    lines.end(notebook, outcome)
    return outcome


def _place(outcome: Outcome, root: Path, preset: str, say: Callable[[str], None], target: Path | None) -> None:
    """Move the figures of a successful run to ``figures/``, or to ``build/figures/`` with a line that says why.

    Of a run of the unchanged preset "full", the results of its sweeps are published.
    """
    if outcome.error is not None:
        return
    notebook, settings = outcome.notebook, outcome.settings
    staged = root / "build" / "staging" / notebook.name / "figures"
    own: dict[str, Any] = {
        "notebook": notebook.name,
        "parameters": settings,
        "seed": settings.get("seed"),
        "threads": THREADS,
    }
    entries = {path.name: own | provenance.figure_facts(path) for path in outcome.figures if path.suffix in KINDS}
    for path in outcome.figures:
        if path.suffix == ".svg":
            entries[path.name] = entries[path.with_suffix(".png").name] | {"sha256": provenance.sha256(path)}
    sources = {entry["source"].split(":")[0] for entry in entries.values()}
    asked = set(str(settings.get("data")).split(","))
    why = "" if preset == "post" else "not the published settings"
    if not why and sources - asked:
        why = f"made from {', '.join(sorted(sources))}, not {settings.get('data')}"
    why = why or ("to be compared" if target else "")
    target = target or (root / "build" / "figures" if why else root / "figures")
    for path in outcome.figures:
        if path.name.startswith("sweep_"):
            facts = provenance.read_json(path)
            named = preset == "full" and facts["source"].split(":")[0] in asked
            command = f"vae-core reproduce {notebook.name} --preset full"
            made = {"command": command, "parameters": settings, "threads": THREADS, "seconds": round(outcome.seconds)}
            folder = root / "figures" if named else target
            provenance.write_json(folder / "data" / path.name, made | facts)
        elif path.parent.name != "data":
            provenance.write_bytes(target / path.relative_to(staged), path.read_bytes())
        elif path.suffix == ".json":
            provenance.merge_results(target / "data", notebook.name, json.loads(path.read_text()))
    provenance.update_manifest(target / "manifest.json", notebook.name, entries)
    if not why:
        fresh.keep(root, notebook.name, outcome.inputs)
    outcome.published = not why
    outcome.figures = [target / path.relative_to(staged) for path in outcome.figures if path.parent.name != "data"]
    shutil.rmtree(staged.parent, ignore_errors=True)
    if why:
        say(f"{notebook.name}: {why}, so its figures stay in {target.relative_to(root)}/")


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _summary(outcomes: list[Outcome], seconds: float, root: Path, say: Callable[[str], None]) -> None:
    figures = sum(path.suffix == ".png" for outcome in outcomes for path in outcome.figures)
    peak = max((outcome.peak_bytes for outcome in outcomes), default=0)
    failed = [outcome for outcome in outcomes if outcome.error]
    say(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks, {figures} figures, "
        f"{seconds:.0f} s, at most {peak / 1e9:.1f} GB a kernel"
    )
    for outcome in failed:
        where = f" in cell {outcome.cell}" if outcome.cell is not None else ""
        kept = f"; see {outcome.output.relative_to(root)}" if outcome.output.exists() else ""
        say(f"failed: {outcome.notebook.name}{where}: {outcome.error}{kept}")


class _Lines:
    """Progress: a moving line a notebook on a terminal, plain lines elsewhere."""

    def __init__(self, notebooks: Sequence[Notebook], say: Callable[[str], None]) -> None:
        from tqdm import tqdm

        self._say, self._lock = say, threading.Lock()
        width = max((len(n.name) for n in notebooks), default=0)
        self._bars = {
            n.name: tqdm(
                total=n.cells,
                desc=n.name.ljust(width),
                position=i,
                unit="cell",
                disable=not sys.stderr.isatty(),
                bar_format="{desc} {n_fmt}/{total_fmt} cells {bar} {elapsed}",
            )
            for i, n in enumerate(notebooks)
        }
        self._plain = not sys.stderr.isatty()

    def say(self, line: str) -> None:
        with self._lock:
            if self._plain:
                self._say(line)
            else:
                next(iter(self._bars.values())).write(line)

    def start(self, notebook: Notebook) -> None:
        self._bars[notebook.name].reset(total=notebook.cells)
        if self._plain:
            self.say(f"{notebook.name}: started, {notebook.cells} cells")

    def cell(self, notebook: Notebook, number: int) -> None:
        with self._lock:
            bar = self._bars[notebook.name]
            bar.update(number - bar.n)

    def end(self, notebook: Notebook, outcome: Outcome) -> None:
        with self._lock:
            bar = self._bars[notebook.name]
            bar.update(0 if outcome.error else notebook.cells - bar.n)
            bar.refresh()
        self.say(f"{notebook.name}: {'failed' if outcome.error else 'done'} after {outcome.seconds:.0f} s")

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()
