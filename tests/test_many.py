import functools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vae_core import Job, TrainConfig, VAEConfig, fit, fit_many, load_images
from vae_core.model import VAE
from vae_core.parallel.engine import open_engine
from vae_core.runs import Run, find_runs, load_run

IMAGES = torch.randint(0, 256, (50, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MODEL = VAEConfig(image_shape=(1, 6, 6), latent_dim=3, hidden=(8,))
CONFIG = TrainConfig(epochs=4, batch_size=10, seed=4, log_every=5)
JOBS = [Job(MODEL, replace(CONFIG, seed=seed), IMAGES) for seed in range(3)]


def last_kl(run: Run) -> float:
    return run.records[-1].kl


def other_code() -> None:
    import vae_core.runs

    vae_core.runs.code_digest = lambda path: "other" if path.stem == "train" else "same"


def die(run: Run) -> None:
    os._exit(1)


def one_of_two(run: Run) -> float:
    if run.train_config.seed == 1:
        raise KeyError("seed 1")
    return last_kl(run)


def slow(seconds: float, mark: Path, run: Run) -> None:
    mark.touch()
    time.sleep(seconds)


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with open_engine(2, compute=True) as executor:
        yield executor


def in_order(results: Iterator) -> list:
    return sorted(results, key=lambda one: one.index)


def same(one: VAE, other: VAE) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == name2 and torch.equal(a, b) for (name, a), (name2, b) in pairs)


def timeless(run: Run) -> list:
    return [record._replace(seconds=0.0) for record in run.records]


def test_the_same_bytes_here_and_in_processes_and_by_fit(pool, tmp_path: Path, capfd) -> None:
    here = in_order(fit_many(JOBS, measure=last_kl))
    there = in_order(fit_many(JOBS, pool, measure=last_kl, cache=tmp_path))
    assert [one.index for one in there] == [0, 1, 2]
    for one, other in zip(here, there, strict=True):
        assert one.error is other.error is None
        assert one.run is not None
        assert other.run is not None
        assert same(one.run.model, other.run.model)
        assert timeless(one.run) == timeless(other.run)
        assert one.measured == other.measured == one.run.records[-1].kl
        assert other.run.path is not None
        assert same(load_run(other.run.path).model, one.run.model)
    assert capfd.readouterr().out == ""  # nothing from the workers
    for job, one in zip(JOBS, there, strict=True):
        alone = fit(job.model, job.training, IMAGES, cache=tmp_path)
        assert alone.path == one.run.path
        assert same(alone.model, one.run.model)
    assert len(find_runs(tmp_path)) == 3


def test_saved_runs_are_reused_and_measured(pool, tmp_path: Path) -> None:
    first = fit(MODEL, JOBS[1].training, IMAGES, cache=tmp_path)
    stamp = (first.path / "run.json").stat().st_mtime_ns
    for executor in (None, pool):
        results = in_order(fit_many(JOBS, executor, cache=tmp_path, measure=last_kl))
        assert [one.reused for one in results] == [executor is not None, True, executor is not None]
        assert [one.measured for one in results] == [one.run.records[-1].kl for one in results]
        assert results[1].run.path == first.path
    assert all(one.reused and one.run.path and one.measured is None for one in fit_many(JOBS, cache=tmp_path))
    assert (first.path / "run.json").stat().st_mtime_ns == stamp


def test_every_training_takes_one_thread_and_leaves_their_number(monkeypatch) -> None:
    seen = []
    before, set_threads = torch.get_num_threads(), torch.set_num_threads
    monkeypatch.setattr("torch.set_num_threads", lambda n: (seen.append(n), set_threads(n)))
    [one] = fit_many(JOBS[:1], measure=lambda run: torch.get_num_threads())
    assert one.measured == 1
    assert torch.get_num_threads() == before
    assert seen[-1] == before


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_failure_does_not_stop_the_others(pool, tmp_path: Path, where: str) -> None:
    executor = pool if where == "there" else None
    wild = replace(MODEL, likelihood="gaussian", sigma=1e-4)
    jobs = [
        Job(wild, replace(CONFIG, learning_rate=1e30, epochs=20), IMAGES),
        Job(MODEL, replace(CONFIG, batch_size=51), IMAGES),
        JOBS[0],
        Job(MODEL, CONFIG, functools.partial(load_images, "nowhere")),
    ]
    results = in_order(fit_many(jobs, executor, cache=tmp_path))
    assert [one.error is None for one in results] == [False, False, True, False]
    assert "not finite" in results[0].error
    assert "larger than the data set" in results[1].error
    assert "no data set or folder" in results[3].error
    assert not any("\n" in one.error for one in results if one.error)
    assert [one.run is None for one in results] == [one.error is not None for one in results]
    assert len(find_runs(tmp_path)) == 1


def test_a_measurement_that_fails_leaves_the_run(tmp_path: Path) -> None:
    results = in_order(fit_many(JOBS[:2], measure=one_of_two, cache=tmp_path))
    assert [one.error for one in results] == [None, "KeyError: 'seed 1'"]
    assert results[1].run.path is not None


def test_a_dead_worker_ends_its_own_job_alone(pool, tmp_path: Path) -> None:
    jobs = [JOBS[0], JOBS[1]._replace(measure=die), JOBS[2]]
    results = in_order(fit_many(jobs, pool, cache=tmp_path))
    assert [one.error is None for one in results] == [True, False, True]
    assert "terminated abruptly" in results[1].error
    assert [one.reused for one in in_order(fit_many(JOBS, cache=tmp_path))] == [True, False, True]


def test_a_worker_of_another_executor_with_other_code_refuses_and_says_which() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=other_code) as executor:
        [one] = fit_many(JOBS[:1], executor)
    assert one.run is None
    assert "another code of train" in one.error
    assert "version of" not in one.error


def test_images_are_loaded_where_they_are_needed_and_anew_each_time(pool, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(6):
        Image.new("L", (8, 8), 40 * i).save(tmp_path / f"{i}.png")
    load = functools.partial(load_images, str(tmp_path), "all")
    job = Job(replace(MODEL, image_shape=(1, 8, 8)), replace(CONFIG, batch_size=2), load)
    for n in (6, 7):  # a file more, and no worker keeps the old ones
        results = list(fit_many([job, job._replace(training=replace(job.training, seed=9))], pool))
        assert [(one.error, one.run.data.images) for one in results] == [(None, n)] * 2
        Image.new("L", (8, 8), 255).save(tmp_path / "6.png")


def test_runs_are_yielded_as_they_end_and_the_rest_is_cancelled(pool, tmp_path: Path) -> None:
    seconds = (2.0, 0.0, 2.0, *[0.0] * 6)
    waits = [functools.partial(slow, wait, tmp_path / str(i)) for i, wait in enumerate(seconds)]
    jobs = [Job(MODEL, replace(CONFIG, seed=i), IMAGES, wait) for i, wait in enumerate(waits)]
    stream = fit_many(jobs, pool)
    assert next(stream).index == 1
    stream.close()
    [one] = fit_many(JOBS[:1], pool)  # behind those that had begun
    assert one.error is None
    assert "1" in {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "8").exists()


def test_warnings_of_workers_are_shown_here_and_saved(pool, tmp_path: Path, capfd) -> None:
    naive = VAEConfig(image_shape=(1, 6, 6), hidden=(600,), likelihood="gaussian", sigma=18**0.5)
    list(fit_many([JOBS[0], Job(naive, CONFIG, IMAGES[:20])], pool, cache=tmp_path))
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: training 2 of 2: collapse is certain")
    saved = [json.loads((path / "run.json").read_text())["warnings"] for path in find_runs(tmp_path)]
    assert sorted(map(len, saved)) == [0, 1]
