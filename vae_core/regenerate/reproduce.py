"""Notebooks to jobs to figures: regenerates the published set. Knows no model."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_core import files
from vae_core.parallel.engine import finished, in_one_line, listen, open_engine, usable
from vae_core.regenerate import compare, execute, record
from vae_core.regenerate.notebook import Notebook, find_checkout, find_notebooks, left_alone, parse_parameters
from vae_core.regenerate.progress import Progress
from vae_core.regenerate.record import Outcome, publish
from vae_core.sources.torchvision_files import data_root

Echo = Callable[[str], None]


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
    echo: Echo = print,
) -> list[Outcome]:
    """Execute notebooks and put their figures where they belong; one outcome a notebook.

    What is published, and what is replaced, :func:`vae_core.regenerate.record.publish` decides. A notebook that
    succeeded in this checkout with the same inputs, and whose figures are as it left them, is not run again, unless
    ``force``. With a ``target`` all are run, and their outputs go there. A notebook that takes more than ``timeout``
    seconds is stopped, and counts as failed. With the preset "full" the sweeps whose results the notebooks load are
    run first. The same bytes come out of each ``engine`` (:func:`vae_core.parallel.engine.open_engine`), and with any
    number of ``jobs``.

    Raises:
        ValueError: before anything runs, on unknown names or parameters, another run in the same checkout, or a
            cluster that does not answer.
    """
    root, began = find_checkout(checkout), time.monotonic()
    record.check_package(root)
    notebooks = find_notebooks(root, names)
    overrides = parse_parameters(notebooks, parameters)
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
        ready = [outcome for outcome in outcomes if not outcome.error]
        ready.sort(
            key=lambda each: -record.entry(root / "figures", each.notebook.name).get("inputs", {}).get("seconds", 0)
        )
        home = root if (engine, scheduler) == ("local", None) else None
        cache = root / "build" / "runs" if home and not target else None
        tasks = [_task(outcome, swept, root) | {"root": home, "runs": cache, "timeout": timeout} for outcome in ready]
        progress = Progress({outcome.notebook.name: outcome.notebook.cells for outcome in ready}, echo)
        with (
            contextlib.closing(progress),
            open_engine(jobs or min(len(ready), usable()) or 1, **where) as executor,
            listen(executor, progress.on_event) as topic,
        ):
            for number, result in finished(((execute.run, (task, topic)) for task in tasks), executor):
                outcome = ready[number]
                try:
                    outputs = _take(result, outcome, root)
                    sweeps = {name: swept[name] for name in outcome.notebook.sweeps if name in swept}
                    kind = "" if overrides else preset
                    if outcome.error is None:
                        publish(outcome, outputs, sweeps, root, kind, target, republish, progress.echo)
                except Exception as error:  # of the machine it ran on, the cluster or the disk
                    outcome.error = in_one_line(error)
                progress.end(outcome.notebook.name, outcome.error, outcome.seconds)
        _summary(outcomes, time.monotonic() - began, root, echo)
    return outcomes


def verify(names: Sequence[str] = (), *, checkout: Path | None = None, **options: Any) -> bool:
    """Run notebooks again, into ``build/verify/``; whether all agree with what is in ``figures/``, on any machine.

    Raises:
        ValueError: as :func:`reproduce`, and where nothing is published of a notebook.
    """
    root = find_checkout(checkout)
    record.check_package(root)
    for notebook in find_notebooks(root, names):
        if not record.entry(root / "figures", notebook.name):
            raise ValueError(f"{notebook.name} has no published figures: vae-core reproduce {notebook.name}")
    outcomes = reproduce(names, checkout=root, target=root / "build" / "verify", **options)
    return not any(outcome.error or outcome.differences for outcome in outcomes)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """No other run in the checkout meanwhile, and nothing left of one that was killed while it wrote."""
    for folder in (root / "build", root / "figures"):
        folder.mkdir(exist_ok=True)
    try:
        with FileLock(root / "build" / ".reproduce.lock", timeout=0):
            for part in (root / "figures").rglob(".*.part"):
                part.unlink()
            yield
    except Timeout:
        raise ValueError(f"another reproduce is at work in {root}: wait for it, or clone elsewhere") from None


def _to_run(notebooks: list[Notebook], root: Path, echo: Echo) -> list[Notebook]:
    """Those that have not run in this checkout as they are."""
    stale = []
    for notebook in notebooks:
        why = record.to_run(notebook, root)
        stale += [notebook] if why else []
        words = f"to be run: {record.abridge(why)}" if why else "fresh, it ran in this checkout"
        echo(f"{notebook.name}: {words}")
    if not stale:
        figures = sum(len(notebook.figures(notebook.parameters)) for notebook in notebooks)
        echo(f"nothing to do: {figures} figures are in figures/; to run all: make figures FORCE=1, or --force")
    return stale


def _sweep(outcomes: list[Outcome], jobs: int, where: dict[str, Any], root: Path, echo: Echo) -> dict[str, Any]:
    """The results of the sweeps that the notebooks load, by name; a notebook whose sweep failed is marked."""
    from vae_core.study import sweep
    from vae_core.study.catalogue import SWEEPS

    results: dict[str, Any] = {}
    for outcome, name in [(each, name) for each in outcomes for name in each.notebook.sweeps]:
        data, began = _data_of(name, outcome.notebook, outcome.settings), time.monotonic()

        def on_point(done: int, total: int, name: str = name) -> None:
            echo(f"sweep {name}: {done} of {total}")

        try:
            with open_engine(jobs, compute=True, **where) as executor:
                options: dict[str, Any] = {"executor": executor, "cache": root / "build" / "runs"}
                results[name] = sweep.facts(SWEEPS[name], data, on_event=on_point, **options)
        except (RuntimeError, OSError, ValueError) as error:
            outcome.error = f"its sweep {name}: {error}"
        else:
            results[name]["seconds"] = round(time.monotonic() - began)
    return results


def _data_of(sweep: str, notebook: Notebook, settings: dict[str, Any]) -> str:
    """The data set for a sweep of a notebook: its usual if the settings name it, else what stands in its place."""
    from vae_core.study.catalogue import SWEEPS

    usual, names, usuals = SWEEPS[sweep].data, *(str(of["data"]).split(",") for of in (settings, notebook.parameters))
    paired = usual in usuals and len(usuals) == len(names)
    return usual if usual in names else names[usuals.index(usual) if paired else 0]


def _task(outcome: Outcome, swept: dict[str, Any], root: Path) -> dict[str, Any]:
    """What :func:`vae_core.regenerate.execute.run` is to run; notes the inputs."""
    notebook = outcome.notebook
    sweeps = record.sweeps(notebook, root)
    sweeps |= {name: files.to_json(swept[name]) for name in notebook.sweeps if name in swept}
    outcome.inputs = record.inputs(notebook.code, outcome.settings, sweeps) | record.commit(root)
    texts = {name: text.decode() for name, text in sweeps.items()}
    data = str(data_root()) if os.environ.get("VAE_CORE_DATA") else None
    task = {"name": notebook.name, "source": notebook.text, "code": notebook.code}
    return task | {"parameters": outcome.settings, "sweeps": texts, "data": data}


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
        figures = result["figures"]
        outcome.inputs["data"] = result["inputs"]["data"]  # it may have fetched them
        missing = [name for name in outcome.notebook.figures(outcome.settings) if f"{name}.png" not in figures]
        faults = {Path(name).stem: compare.fault(figures[name]) for name in figures if name.endswith(".png")}
        if others := record.changes(outcome.inputs, outcome.inputs | result["inputs"]):
            outcome.error = f"{record.abridge(others)} changed while it ran, or is another where it ran"
        elif missing:
            outcome.error = f"it did not write the figures it declares: {', '.join(missing)}"
        elif any(faults.values()):
            outcome.error = "; ".join(f"its figure {name} {fault}" for name, fault in faults.items() if fault)
    return result["figures"]


def _summary(outcomes: list[Outcome], seconds: float, root: Path, echo: Echo) -> None:
    peak = max(outcome.peak_bytes for outcome in outcomes)
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
    drawn = [(path.parent, outcome.new) for outcome in outcomes for path in outcome.figures if path.suffix == ".png"]
    folders = {folder.relative_to(root) if folder.is_relative_to(root) else folder for folder, _ in drawn}
    places = f": {', '.join(f'{folder}/' for folder in sorted(folders))}" if folders else ""
    echo(f"{len(drawn)} figures made, {sum(new for _, new in drawn)} of them new{places}")
