"""Many trainings, here or through any executor, with one cache."""

import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from torch import Tensor

from vae_core import runs
from vae_core.data import ImageSet
from vae_core.model import VAEConfig
from vae_core.parallel.engine import finished, in_one_line, one_thread
from vae_core.runs import Run
from vae_core.train import TrainConfig


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
    refuses. ``measure`` is applied where the training ran. Warnings are written here. Without an executor a bar shows
    what takes more than two seconds, unless ``quiet``.

    The folder ``cache`` is that of :func:`fit` on one thread; workers need not see it. When the iterator is closed,
    jobs that have not begun are cancelled.

    Raises:
        OSError: when a run cannot be kept.
    """
    from tqdm import tqdm

    jobs, calls, places, batch = list(jobs), [], [], uuid4().hex
    digests: dict[int, str] = {}  # of bare images that several jobs share
    with tqdm(total=len(jobs), delay=2, leave=False, unit="run", disable=quiet or executor is not None) as bar:
        for index, job in enumerate(jobs):
            try:
                digest = digests[id(job.images)] = digests.get(id(job.images)) or _load(job.images, batch)[1]
                facts = runs.run_facts(job.model, job.training, digest, threads=1)
                folder = None if cache is None else Path(cache) / runs.key_of(facts)
                saved_run = runs.load_run(folder) if folder and (folder / "run.json").exists() else None
            except Exception as reason:
                bar.update()
                yield Fitted(index, None, None, in_one_line(reason), False)
                continue
            places.append((index, folder, saved_run is not None))
            calls.append((_fit, (job._replace(measure=job.measure or measure), facts, saved_run, batch)))
        with closing(finished(calls, executor)) as results:
            for number, result in results:
                index, folder, reused = places[number]
                run, measured, error = (None, None, in_one_line(result)) if isinstance(result, Exception) else result
                if run is not None and not reused:
                    for line in runs.warnings(run):
                        bar.write(f"warning: training {index + 1} of {len(jobs)}: {line}", file=sys.stderr)
                    if folder is not None:
                        with runs.alone(folder):  # another process may have trained it meanwhile
                            there = (folder / "run.json").exists()
                            run = run._replace(path=folder) if there else runs.keep(run, folder)
                bar.update()
                yield Fitted(index, run, measured, error, reused)


def _fit(job: Job, facts: dict[str, Any], run: Run | None, batch: str) -> tuple[Run, Any, str | None]:
    """Train, unless there is a ``run``, where the caller's ``facts`` are true; the run, its measurement, an error."""
    with one_thread():
        if run is None:
            images, digest = _load(job.images, batch)
            if differences := runs.unlike(facts, runs.run_facts(job.model, job.training, digest)):
                names = ", another ".join(differences)
                raise ValueError(f"the worker has another {names} than the caller: make both the same")
            run = runs.train_run(job.model, job.training, images, quiet=True)
        try:
            return run, job.measure(run) if job.measure else None, None
        except Exception as error:
            return run, None, in_one_line(error)


def _load(images: Tensor | ImageSet | Callable[[], ImageSet], batch: str) -> tuple[Tensor | ImageSet, str]:
    """Images and their digest; what is loaded stays for the other jobs of a ``batch`` in this process."""
    return (
        _loaded(pickle.dumps(images), batch) if callable(images) else (images, runs.images_digest(runs.pixels(images)))
    )


@lru_cache(maxsize=8)
def _loaded(packed: bytes, batch: str) -> tuple[ImageSet, str]:
    images = pickle.loads(packed)()
    return images, runs.images_digest(images.images)
