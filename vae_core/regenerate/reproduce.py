"""Notebooks to jobs to figures: regenerates the published set. Knows no model."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_core import files
from vae_core.parallel.engine import GONE, open_engine, usable
from vae_core.regenerate import compare, execute
from vae_core.regenerate import record as fresh
from vae_core.regenerate.notebook import Notebook, find_checkout, find_notebooks, left_alone, parse_parameters
from vae_core.regenerate.progress import Lines
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
    again, unless ``force``. With a ``target`` all are run, and what they make goes there. A notebook that takes more
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
        if preset == "post" and not overrides and not force and not republish and target is None:
            why = {notebook.name: fresh.to_run(notebook, root) for notebook in notebooks}
            for name, reasons in why.items():
                echo(
                    f"{name}: {'to be run: ' + fresh.abridge(reasons) if reasons else 'fresh, it ran in this checkout'}"
                )
            skipped = [notebook for notebook in notebooks if not why[notebook.name]]
            notebooks = [notebook for notebook in notebooks if why[notebook.name]]
            if not notebooks:
                figures = sum(len(one.figures(one.parameters)) for one in skipped)
                echo(f"nothing to do: {figures} figures are in figures/; to run all: make figures FORCE=1, or --force")
                return []
        outcomes = [Outcome(notebook, notebook.settings(preset, overrides)) for notebook in notebooks]
        where: dict[str, Any] = {"engine": engine, "scheduler": scheduler}
        swept = _sweep(outcomes, jobs or usable(), where, root, echo) if preset == "full" else {}
        _run(outcomes, swept, preset if not overrides else "", jobs, where, root, target, republish, timeout, echo)
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
    lock = FileLock(root / "build" / ".reproduce.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another reproduce is at work in {root}: wait for it, or clone elsewhere") from None
    try:
        for part in (root / "figures").rglob(".*.part"):
            part.unlink()
        yield
    finally:
        lock.release()


def _sweep(
    outcomes: list[Outcome], jobs: int, where: dict[str, Any], root: Path, echo: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The results of the sweeps that the notebooks load, by name; a notebook whose sweep failed is marked."""
    wanted = [(outcome, name) for outcome in outcomes for name in outcome.notebook.sweeps]
    if not wanted:
        return {}
    from tqdm import tqdm

    from vae_core.study import sweep as sweeps
    from vae_core.study.catalogue import SWEEPS

    found = {}
    for outcome, name in wanted:
        data = _data_of(name, outcome.notebook, outcome.settings)
        began = time.monotonic()

        with (
            tqdm(desc=f"sweep {name}", unit="run", disable=not sys.stderr.isatty()) as bar,
            open_engine(jobs, compute=True, **where) as engine,
        ):

            def tell(done: int, total: int, name: str = name, bar: Any = bar) -> None:
                if bar.disable:
                    echo(f"sweep {name}: {done} of {total}")
                else:
                    bar.total = total
                    bar.update()

            try:
                facts = sweeps.facts(
                    SWEEPS[name], data, executor=engine.executor, cache=root / "build" / "runs", tell=tell
                )
            except (RuntimeError, OSError, ValueError) as error:
                outcome.error = f"its sweep {name}: {error}"
                continue
        found[name] = facts | {"seconds": round(time.monotonic() - began)}
    return found


def _data_of(sweep: str, notebook: Notebook, settings: dict[str, Any]) -> str:
    """The data set for a sweep of a notebook: its own if the settings name it, else what stands in its place."""
    from vae_core.study.catalogue import SWEEPS

    own, names, usual = SWEEPS[sweep].data, *(str(of["data"]).split(",") for of in (settings, notebook.parameters))
    return own if own in names else names[usual.index(own) if own in usual and len(usual) == len(names) else 0]


def _run(
    outcomes: list[Outcome], swept: dict[str, dict[str, Any]], preset: str, jobs: int | None, where: dict[str, Any],
    root: Path, target: Path | None, republish: bool, timeout: float | None, echo: Callable[[str], None],
) -> None:  # fmt: skip
    """Run the notebooks, and publish what each made as soon as it is over."""
    outcomes = [outcome for outcome in outcomes if outcome.error is None]
    known = {outcome.notebook.name: _expected(root, outcome) for outcome in outcomes}
    expected = {name: seconds for name, seconds in known.items() if seconds}
    many = jobs or min(len(outcomes), usable()) or 1
    lines, told = Lines([outcome.notebook for outcome in outcomes], expected, many, echo), set[str]()

    def longest(outcome: Outcome) -> float:
        return -expected.get(outcome.notebook.name, 10.0 * outcome.notebook.cells)

    def finish(future: Future, outcome: Outcome) -> None:
        own = {name: swept[name] for name in outcome.notebook.sweeps if name in swept}
        try:
            made = _result(future, outcome, root)
            if outcome.error is None:
                publish(outcome, made, own, root, preset, target, republish, lines.say)
                if outcome.aside and outcome.aside not in told:  # early: others may take minutes
                    told.add(outcome.aside)
                    lines.say(f"{outcome.notebook.name} is not published: {outcome.aside}")
        except CancelledError:
            outcome.error = GONE
        except OSError as error:
            outcome.error = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        except Exception as error:  # of the machine it ran on, the cluster or the notebook
            outcome.error = f"{type(error).__name__}: {error}"
        if outcome.error is None:
            shutil.rmtree(root / "build" / "staging" / outcome.notebook.name, ignore_errors=True)
        lines.end(outcome.notebook.name, outcome.error, outcome.seconds)

    with contextlib.closing(lines), open_engine(many, **where) as engine, engine.listen(lines.hear) as topic:
        staging = None if engine.client else root / "build" / "staging"
        queue, running = sorted(outcomes, key=longest), dict[Future, Outcome]()
        while queue or running:
            while queue and len(running) < engine.slots:
                task = _task(queue[0], swept, root, staging, timeout, afresh=target is not None)
                running[engine.submit(execute.run, task, topic)] = queue.pop(0)
            if engine.deserted:
                for future in running:
                    future.cancel()
            for future in wait(running, timeout=5, return_when=FIRST_COMPLETED).done:  # workers may join in between
                finish(future, running.pop(future))


def _task(
    outcome: Outcome, swept: dict[str, dict[str, Any]], root: Path, staging: Path | None, timeout: float | None,
    *, afresh: bool,
) -> dict[str, Any]:  # fmt: skip
    """What :func:`vae_core.execute.run` is given; notes the inputs of the outcome. ``afresh``: reuse no training."""
    notebook, settings = outcome.notebook, outcome.settings
    sweeps = fresh.sweeps(notebook, root) | {
        name: files.to_json(swept[name]) for name in notebook.sweeps if name in swept
    }
    outcome.inputs = fresh.inputs(notebook.code, settings, sweeps) | fresh.commit(root)
    data = str(data_root()) if os.environ.get("VAE_CORE_DATA") else None
    return {
        "name": notebook.name, "source": notebook.text, "code": notebook.code,
        "parameters": settings, "inputs": outcome.inputs, "timeout": timeout, "root": str(root) if staging else None,
        "sweeps": {name: text.decode() for name, text in sweeps.items()}, "data": data,
        "runs": str(root / "build" / "runs") if staging and not afresh else None,
        "folder": str(staging / notebook.name) if staging else None,
    }  # fmt: skip


def _result(future: Future, outcome: Outcome, root: Path) -> dict[str, bytes]:
    """What a notebook made, by path; the outcome is told how it went."""
    result = future.result()
    for fact in ("error", "cell", "seconds", "peak_bytes", "machine"):
        setattr(outcome, fact, result[fact])
    outcome.inputs["data"] = result["data"]
    if result["output"] is not None:
        output = root / "build" / "notebooks" / f"{outcome.notebook.name}.ipynb"
        files.write_bytes(output, result["output"].encode())
        outcome.output = output
    made = result["figures"]
    if outcome.error is None:
        outcome.error = _incomplete(outcome.notebook.figures(outcome.settings), made)
    return made


def _incomplete(declared: list[str], made: dict[str, bytes]) -> str | None:
    """What is wrong with the figures that a notebook declares: not written, damaged, of another width or blank."""
    if missing := [name for name in declared if f"{name}.png" not in made]:
        return f"it did not write the figures it declares: {', '.join(missing)}"
    pictures = {name: content for name, content in made.items() if name.endswith(".png")}
    faults = {name: fault for name, content in pictures.items() if (fault := compare.fault(content))}
    return "; ".join(f"its figure {name.removesuffix('.png')} {fault}" for name, fault in faults.items()) or None


def _expected(root: Path, outcome: Outcome) -> float | None:
    """Seconds that the notebook took when it last ran whole with these parameters, here or where it was published."""
    name = outcome.notebook.name
    with contextlib.suppress(ValueError, OSError, KeyError):
        last = files.read_json(root / "build" / "notebooks" / f"{name}.ipynb")["metadata"]["papermill"]
        if last["parameters"] == outcome.settings and not last["exception"]:
            return last["duration"]
    record = fresh.entry(root / "figures", name).get("inputs", {})
    return record.get("seconds") if record.get("parameters") == outcome.settings else None


def _summary(outcomes: list[Outcome], seconds: float, root: Path, echo: Callable[[str], None]) -> None:
    peak = max((outcome.peak_bytes for outcome in outcomes), default=0)
    failed = [outcome for outcome in outcomes if outcome.error]
    echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} notebooks, {seconds:.0f} s, "
        f"at most {peak / 1e9:.1f} GB a kernel")  # fmt: skip
    for outcome in failed:
        where = f" in cell {outcome.cell}" if outcome.cell is not None else ""
        kept = f"; see {outcome.output.relative_to(root)}" if outcome.output else ""
        echo(f"failed: {outcome.notebook.name}{where}: {outcome.error}{kept}")
    aside: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.aside:
            aside.setdefault(outcome.aside, []).append(outcome.notebook.name)
    for why, names in aside.items():
        echo(f"not published: {', '.join(names)}: {why}")
    folders: dict[Path, list[int]] = {}
    for outcome in outcomes:
        for path in outcome.figures:
            if path.suffix == ".png":
                counts = folders.setdefault(path.parent, [0, 0])
                counts[0] += 1
                counts[1] += outcome.new
    told = [f"{many} in {_place(folder, root)}/ ({new} new, {many - new} as published)"
            if folder == root / "figures" else f"{many} in {_place(folder, root)}/"
            for folder, (many, new) in folders.items()]  # fmt: skip
    echo(f"{sum(many for many, _ in folders.values())} figures made{': ' if told else ''}{', '.join(told)}")


def _place(folder: Path, root: Path) -> Path:
    return folder.relative_to(root) if folder.is_relative_to(root) else folder
