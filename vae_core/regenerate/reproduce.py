"""Notebooks to jobs to figures: regenerates the published set. Knows no model."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_core import files
from vae_core.parallel.engine import finished, in_one_line, listen, open_engine, usable
from vae_core.regenerate import compare, execute
from vae_core.regenerate import record as fresh
from vae_core.regenerate.notebook import Notebook, find_checkout, find_notebooks, left_alone, parse_parameters
from vae_core.regenerate.progress import Progress
from vae_core.regenerate.record import Outcome, publish
from vae_core.sources.torchvision_files import data_root


def reproduce(
    names: Sequence[str] = (),
    *,
    preset: str = "post",
    parameters: Sequence[tuple[str, str]] = (),
    checkout: Path | None = None,
    jobs: int | None = None,
    engine: str = "local",
    scheduler: str | None = None,
    force: bool = False,
    republish: bool = False,
    target: Path | None = None,
    timeout: float | None = None,
    echo: Callable[[str], None] = print,
) -> list[Outcome]:
    """Execute notebooks and put their figures where they belong; one outcome a notebook.

    A published figure is replaced only after its notebook succeeded, and only with preset "post",
    unchanged parameters and the named data; everything else stays under ``build/figures/``. It is replaced only if a
    number of its notebook has changed beyond its tolerance, or if it looks different; with ``republish`` always. A
    notebook that succeeded in this checkout with the same inputs, and whose figures are as it left them, is not run
    again, unless ``force``. With a ``target`` all are run, and their outputs go there. A notebook that takes more
    than ``timeout`` seconds is stopped, and counts as failed. With the preset "full" the sweeps whose results the
    notebooks load are run first. ``engine`` and ``scheduler`` are those of
    :func:`vae_core.parallel.engine.open_engine`; the same bytes come out of each, and with any number of ``jobs``.

    Raises:
        ValueError: before anything runs, on unknown names or parameters, a folder that cannot be written, another
            run in the same checkout, or a cluster that does not answer.
    """
    root = find_checkout(checkout)
    fresh.check_package(root)
    notebooks = find_notebooks(root, names)
    overrides = parse_parameters(notebooks, parameters)
    began = time.monotonic()
    if others := left_alone(root):
        echo(others)
    with _alone(root):
        if preset == "post" and not (overrides or force or republish or target):
            notebooks = _to_run(notebooks, root, echo)
        if not notebooks:
            return []
        outcomes = [Outcome(notebook, notebook.settings(preset, overrides)) for notebook in notebooks]
        where: dict[str, Any] = {"engine": engine, "scheduler": scheduler}
        swept = _sweep(outcomes, jobs or usable(), where, root, echo) if preset == "full" else {}

        def publish_one(outcome: Outcome, made: dict[str, bytes], echo: Callable[[str], None]) -> None:
            sweeps = {name: swept[name] for name in outcome.notebook.sweeps if name in swept}
            publish(outcome, made, sweeps, root, "" if overrides else preset, target, republish, echo)

        ready = [outcome for outcome in outcomes if outcome.error is None]
        tasks = [_task(outcome, swept, root, timeout, where, reuse=target is None) for outcome in ready]
        _run(ready, tasks, jobs or min(len(ready), usable()) or 1, where, root, publish_one, echo)
        _summary(outcomes, time.monotonic() - began, root, echo)
    return outcomes


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """No other run in the checkout meanwhile, and nothing left of one that was killed while it wrote."""
    for folder in (root / "build", root / "figures"):
        try:
            folder.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"{folder} cannot be written ({error.strerror}): free it or clone elsewhere") from None
    try:
        with FileLock(root / "build" / ".reproduce.lock", timeout=0):
            for part in (root / "figures").rglob(".*.part"):
                part.unlink()
            yield
    except Timeout:
        raise ValueError(f"another reproduce is at work in {root}: wait for it, or clone elsewhere") from None


def _to_run(notebooks: list[Notebook], root: Path, echo: Callable[[str], None]) -> list[Notebook]:
    """Those that have not run in this checkout as they are."""
    reasons = {notebook.name: fresh.to_run(notebook, root) for notebook in notebooks}
    for name, why in reasons.items():
        echo(f"{name}: {'to be run: ' + fresh.abridge(why) if why else 'fresh, it ran in this checkout'}")
    stale = [notebook for notebook in notebooks if reasons[notebook.name]]
    if not stale:
        figures = sum(len(notebook.figures(notebook.parameters)) for notebook in notebooks)
        echo(f"nothing to do: {figures} figures are in figures/; to run all: make figures FORCE=1, or --force")
    return stale


def _sweep(
    outcomes: list[Outcome], jobs: int, where: dict[str, Any], root: Path, echo: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The results of the sweeps that the notebooks load, by name; a notebook whose sweep failed is marked."""
    from tqdm import tqdm

    from vae_core.study import sweep as sweeps
    from vae_core.study.catalogue import SWEEPS

    results = {}
    for outcome, name in [(each, name) for each in outcomes for name in each.notebook.sweeps]:
        data, began = _data_of(name, outcome.notebook, outcome.settings), time.monotonic()
        with tqdm(desc=f"sweep {name}", unit="run", disable=not sys.stderr.isatty()) as bar:

            def on_point(done: int, total: int, name: str = name, bar: Any = bar) -> None:
                bar.total = total
                bar.update()
                if bar.disable:
                    echo(f"sweep {name}: {done} of {total}")

            try:
                with open_engine(jobs, compute=True, **where) as executor:
                    cache = root / "build" / "runs"
                    facts = sweeps.facts(SWEEPS[name], data, executor=executor, cache=cache, on_event=on_point)
            except (RuntimeError, OSError, ValueError) as error:
                outcome.error = f"its sweep {name}: {error}"
                continue
        results[name] = facts | {"seconds": round(time.monotonic() - began)}
    return results


def _data_of(sweep: str, notebook: Notebook, settings: dict[str, Any]) -> str:
    """The data set for a sweep of a notebook: its own if the settings name it, else what stands in its place."""
    from vae_core.study.catalogue import SWEEPS

    own, names, usual = SWEEPS[sweep].data, *(str(of["data"]).split(",") for of in (settings, notebook.parameters))
    return own if own in names else names[usual.index(own) if own in usual and len(usual) == len(names) else 0]


def _task(
    outcome: Outcome,
    swept: dict[str, dict[str, Any]],
    root: Path,
    timeout: float | None,
    where: dict[str, Any],
    *,
    reuse: bool,
) -> dict[str, Any]:
    """What :func:`vae_core.regenerate.execute.run` is to do; notes the inputs. ``reuse``: kept trainings, too."""
    notebook, here = outcome.notebook, where == {"engine": "local", "scheduler": None}
    sweeps = fresh.sweeps(notebook, root)
    sweeps |= {name: files.to_json(swept[name]) for name in notebook.sweeps if name in swept}
    outcome.inputs = fresh.inputs(notebook.code, outcome.settings, sweeps) | fresh.commit(root)
    return {
        "name": notebook.name,
        "source": notebook.text,
        "code": notebook.code,
        "parameters": outcome.settings,
        "sweeps": {name: text.decode() for name, text in sweeps.items()},
        "timeout": timeout,
        "data": str(data_root()) if os.environ.get("VAE_CORE_DATA") else None,
        "root": str(root) if here else None,
        "runs": str(root / "build" / "runs") if here and reuse else None,
    }


def _run(
    outcomes: list[Outcome],
    tasks: list[dict[str, Any]],
    jobs: int,
    where: dict[str, Any],
    root: Path,
    publish_one: Callable[[Outcome, dict[str, bytes], Callable[[str], None]], None],
    echo: Callable[[str], None],
) -> None:
    """Run the notebooks, the longest first, and publish each as soon as it is over."""
    order = sorted(range(len(outcomes)), key=lambda i: -_expected(root, outcomes[i]))
    progress = Progress({outcome.notebook.name: outcome.notebook.cells for outcome in outcomes}, echo)
    told = set[str]()
    with (
        contextlib.closing(progress),
        open_engine(jobs, **where) as executor,
        listen(executor, progress.on_event) as topic,
    ):
        for number, result in finished(((execute.run, (tasks[i], topic)) for i in order), executor):
            outcome = outcomes[order[number]]
            try:
                made = _take(result, outcome, root)
                if outcome.error is None:
                    publish_one(outcome, made, progress.echo)
            except Exception as error:  # of the machine it ran on, the cluster or the disk
                outcome.error = in_one_line(error)
            progress.end(outcome.notebook.name, outcome.error, outcome.seconds)
            if outcome.aside and outcome.aside not in told:  # early: others may take minutes
                told.add(outcome.aside)
                progress.echo(f"{outcome.notebook.name} is not published: {outcome.aside}")


def _take(result: Any, outcome: Outcome, root: Path) -> dict[str, bytes]:
    """The figures of a notebook, by path; how it went goes into the outcome, the executed notebook into ``build/``."""
    if isinstance(result, Exception):
        raise result
    for fact in ("error", "cell", "seconds", "peak_bytes", "machine"):
        setattr(outcome, fact, result[fact])
    if result["output"] is not None:
        outcome.output = root / "build" / "notebooks" / f"{outcome.notebook.name}.ipynb"
        files.write_bytes(outcome.output, result["output"].encode())
    if outcome.error is None:
        outcome.inputs["data"] = result["inputs"]["data"]  # it may have fetched them
        if others := fresh.changes(outcome.inputs, outcome.inputs | result["inputs"]):
            outcome.error = f"{fresh.abridge(others)} changed while it ran, or is another where it ran"
        else:
            outcome.error = _incomplete(outcome.notebook.figures(outcome.settings), result["figures"])
    return result["figures"]


def _incomplete(declared: list[str], made: dict[str, bytes]) -> str | None:
    """What is wrong with the figures that a notebook declares: not written, damaged, of another width or blank."""
    if missing := [name for name in declared if f"{name}.png" not in made]:
        return f"it did not write the figures it declares: {', '.join(missing)}"
    faults = {name: compare.fault(content) for name, content in made.items() if name.endswith(".png")}
    return (
        "; ".join(f"its figure {name.removesuffix('.png')} {fault}" for name, fault in faults.items() if fault) or None
    )


def _expected(root: Path, outcome: Outcome) -> float:
    """About how many seconds a notebook takes: as where it was published, else by its number of cells."""
    record = fresh.entry(root / "figures", outcome.notebook.name).get("inputs", {})
    same = record.get("parameters") == outcome.settings
    return record.get("seconds", 0.0) if same else 10.0 * outcome.notebook.cells


def _summary(outcomes: list[Outcome], seconds: float, root: Path, echo: Callable[[str], None]) -> None:
    peak = max((outcome.peak_bytes for outcome in outcomes), default=0)
    failed = [outcome for outcome in outcomes if outcome.error]
    ended = f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks, {seconds:.0f} s"
    echo(f"{ended}, at most {peak / 1e9:.1f} GB a kernel")
    for outcome in failed:
        where = f" in cell {outcome.cell}" if outcome.cell is not None else ""
        output = f"; see {outcome.output.relative_to(root)}" if outcome.output else ""
        echo(f"failed: {outcome.notebook.name}{where}: {outcome.error}{output}")
    for why in dict.fromkeys(outcome.aside for outcome in outcomes if outcome.aside):
        names = ", ".join(outcome.notebook.name for outcome in outcomes if outcome.aside == why)
        echo(f"not published: {names}: {why}")
    counts: dict[Path, list[int]] = {}
    for outcome in outcomes:
        for path in outcome.figures:
            if path.suffix == ".png":
                count = counts.setdefault(path.parent, [0, 0])
                count[not outcome.new] += 1
    places = []
    for folder, (new, agreed) in counts.items():
        place = folder.relative_to(root) if folder.is_relative_to(root) else folder
        detail = f" ({new} new, {agreed} as published)" if folder == root / "figures" else ""
        places.append(f"{new + agreed} in {place}/{detail}")
    total = sum(map(sum, counts.values()))
    echo(f"{total} figures made{': ' if places else ''}{', '.join(places)}")
