"""Many trainings, here or through any executor, with one cache; small models of one kind are trained as one."""

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_core.data import ImageSet
from vae_core.forecast import collapse_forecast
from vae_core.model import VAE, VAEConfig
from vae_core.parallel.engine import finished, in_one_line, one_thread
from vae_core.parallel.stacked import train_many
from vae_core.runs import (
    Run,
    alone,
    images_digest,
    keep,
    key_of,
    load_run,
    pixels,
    run_facts,
    train_run,
    trained_on,
    unlike,
    warnings,
)
from vae_core.train import TrainConfig

STACKED = 20_000  # weights: models with at most so many are trained many in one program
Ends = list[tuple[Run | None, Any, str | None]]  # of each job: the run, what was measured, what went wrong


class Job(NamedTuple):
    """A training to be done by :func:`fit_many`."""

    model: VAEConfig
    training: TrainConfig
    # or a function without arguments that can be pickled and loads them where the training runs
    images: Tensor | ImageSet | Callable[[], ImageSet]
    measure: Callable[[Run], Any] | None = None  # instead of that of fit_many


class Fitted(NamedTuple):
    """How the job ``jobs[index]`` ended."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    run: Run | None  # None where the training failed; its model is on the CPU
    measured: Any  # what ``measure`` returned
    error: str | None  # one line
    reused: bool  # from the cache


def fit_many(
    jobs: Iterable[Job],
    executor: Executor | None = None,
    *,
    cache: str | Path | None = None,
    measure: Callable[[Run], Any] | None = None,
    quiet: bool = False,
) -> Iterator[Fitted]:
    """Train all ``jobs``, through any executor or one after the other here, and yield each as it ends.

    A job that fails, in training or measuring, does not stop the others: it is yielded with its error. Every training
    takes one thread, so it gives the same bytes wherever it runs, and a worker with other code, versions or images
    refuses. ``measure`` is applied where the training ran. What a run warns of is said here. Without an executor a
    bar shows what takes more than two seconds, unless ``quiet``.

    The folder ``cache`` is looked into before a job is handed out and written when it comes back: it is that of
    :func:`fit` on one thread, and workers need not see it. Jobs that :func:`vae_core.ensemble.train_many` can stack,
    of a model with at most 20,000 weights, are trained as one and kept as stacked: all of them are trained again
    where one is missing. When the iterator is closed, jobs that have not begun are cancelled.

    Raises:
        OSError: when a run cannot be kept.
    """
    from tqdm import tqdm

    jobs = list(jobs)
    plan = list(_plan(jobs, None if cache is None else Path(cache), measure))
    tasks = [one for one in plan if isinstance(one, _Task)]
    results = finished(((task.function, task.given) for task in tasks), executor)
    with tqdm(total=len(jobs), delay=2, leave=False, unit="run", disable=quiet or executor is not None) as bar:
        for one in plan:
            if isinstance(one, Fitted):
                bar.update()
                yield one
        with closing(results):
            for number, result in results:
                task = tasks[number]
                ends = result if isinstance(result, list) else [(None, None, in_one_line(result))] * len(task.indices)
                for index, folder, (run, measured, error) in zip(task.indices, task.folders, ends, strict=True):
                    if run is not None and not task.reused:
                        for line in warnings(run):
                            bar.write(f"warning: training {index + 1} of {len(jobs)}: {line}", file=sys.stderr)
                        run = run if folder is None else _keep_once(run, folder)
                    bar.update()
                    yield Fitted(index, run, measured, error, task.reused)


class _Task(NamedTuple):
    """A call that ends one or several jobs."""

    indices: list[int]
    folders: list[Path | None]
    function: Callable
    given: tuple
    reused: bool = False


def _plan(jobs: list[Job], cache: Path | None, measure: Callable[[Run], Any] | None) -> Iterator[_Task | Fitted]:
    """What is to be done for ``jobs``, and how those ended that need nothing done."""
    _loaded.cache_clear()  # the files may have changed since
    groups: dict[Any, list[int]] = {}
    known: dict[int, str] = {}
    for i, job in enumerate(jobs):
        try:
            sha = known.setdefault(id(job.images), known.get(id(job.images)) or _given(job.images)[1])
            alone = i
            groups.setdefault((job.model, replace(job.training, seed=0, beta=1.0), sha, alone), []).append(i)
        except Exception as error:
            yield Fitted(i, None, None, in_one_line(error), False)
    for (model, _, sha, _), indices in groups.items():
        trainings, measures = [jobs[i].training for i in indices], [jobs[i].measure or measure for i in indices]
        try:
            facts = [run_facts(model, one, sha, threads=1) for one in trainings]
        except ValueError as error:  # no such device
            yield from (Fitted(i, None, None, in_one_line(error), False) for i in indices)
            continue
        folders = [None if cache is None else cache / key_of(one) for one in facts]
        if not all(folder and (folder / "run.json").exists() for folder in folders):
            yield _Task(indices, folders, _train, (model, trainings, jobs[indices[0]].images, facts, measures))
            continue
        for i, folder, how in zip(indices, folders, measures, strict=True):
            try:
                run = load_run(folder or "")
            except ValueError as error:
                yield Fitted(i, None, None, in_one_line(error), False)
                continue
            again = _Task([i], [folder], _measure, ([run], [how]), True)
            yield again if how else Fitted(i, run, None, None, True)


@lru_cache(maxsize=256)
def _weights(config: VAEConfig) -> int:
    return sum(weight.numel() for weight in VAE(config, data_mean=torch.zeros(config.image_shape)).parameters())


def _stacks(job: Job) -> bool:
    """Whether :func:`vae_core.ensemble.train_many` can train the job beside others, and is better at it."""
    one_sample = job.training.importance_samples == 1 and job.model.binarisation == "none"
    return one_sample and _weights(job.model) <= STACKED


@lru_cache(maxsize=8)
def _loaded(packed: bytes) -> tuple[ImageSet, str]:
    given = pickle.loads(packed)()
    return given, images_digest(given.images)


def _given(images: Tensor | ImageSet | Callable[[], ImageSet]) -> tuple[Tensor | ImageSet, str]:
    """Images and their images_digest; what is loaded is kept for the next jobs of this process."""
    return _loaded(pickle.dumps(images)) if callable(images) else (images, images_digest(pixels(images)))


def _train(
    model: VAEConfig, trainings: list[TrainConfig], images: Any, facts: list[dict[str, Any]], measures: list
) -> Ends:
    """Train one job, or stacked ones, where the caller's ``facts`` are true: runs, measurements and errors."""
    with one_thread():
        for _ in range(2):
            given, sha = _given(images)
            found = run_facts(model, trainings[0], sha)
            if not (told := unlike(facts[0], found)):
                break
            _loaded.cache_clear()  # the files may have changed since
        else:
            raise ValueError(f"the worker has another {', another '.join(told)} than the caller: make both the same")
        if len(trainings) > 1:
            return _measure(_fit_stacked(model, trainings, given), measures)
        return _measure([train_run(model, trainings[0], given, quiet=True)], measures)


def _measure(runs: Sequence[Run | str], measures: list) -> Ends:
    """Each run, what was measured of it, and what went wrong."""
    ends: Ends = []
    for run, measure in zip(runs, measures, strict=True):
        if isinstance(run, str):
            ends.append((None, None, run))
            continue
        measured, error = None, None
        try:
            with one_thread():
                measured = measure(run) if measure else None
        except Exception as reason:
            error = in_one_line(reason)
        ends.append((run, measured, error))
    return ends


def _fit_stacked(model: VAEConfig, trainings: list[TrainConfig], given: Tensor | ImageSet) -> list[Run | str]:
    """The runs of trainings in one program; of one that diverged, what happened."""
    images, data = pixels(given), trained_on(given)
    runs: list[Run | str] = []
    for one in train_many(model, trainings, images, quiet=True):
        forecast = collapse_forecast(images, model, one.training.beta) if one.training.beta > 0 else None
        runs.append(Run(one.model, one.records, model, one.training, data, forecast))
        if one.diverged:
            after = one.records[-1].step if one.records else 0
            runs[-1] = f"the loss is not finite after step {after}. Try a smaller learning_rate, or a larger sigma"
    return runs


def _keep_once(run: Run, folder: Path) -> Run:
    """The run, written into its folder unless another process has."""
    with alone(folder):
        return run._replace(path=folder) if (folder / "run.json").exists() else keep(run, folder)
