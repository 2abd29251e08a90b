"""A real Dask scheduler and real workers, as processes of their own on 127.0.0.1."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from test_reproduce import DRAW, run, run_here, small, write_pair  # noqa: F401

from vae_core.parallel import engine as jobs
from vae_core.regenerate.reproduce import reproduce

pytestmark = [
    pytest.mark.notebook,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # sockets that Dask leaves open
]


class Cluster:
    """A scheduler and workers, each with a folder of its own that is not a checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workers = folder, []
        folder.mkdir(exist_ok=True)
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
        until = time.monotonic() + 30
        while not (folder / "scheduler.json").exists() and time.monotonic() < until:
            time.sleep(0.1)
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        with (self.folder / "log.txt").open("a") as log:
            return subprocess.Popen(
                [Path(sys.executable).parent / "dask", *words, "--host", "127.0.0.1", "--no-dashboard"],
                cwd=self.folder, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"} | environment,
            )  # fmt: skip

    def add_worker(self, **environment: str) -> None:
        scratch = self.folder / f"scratch{len(self.workers)}"
        words = ("--nworkers", "1", "--nthreads", "1", "--local-directory", str(scratch))
        self.workers.append(self.start("worker", self.address, *words, **environment))

    def busy(self) -> list[psutil.Process]:
        """The processes that execute notebooks on the workers."""
        found = []
        for worker in self.workers:
            for child in psutil.Process(worker.pid).children(recursive=True):
                if "vae_core.regenerate.execute" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if psutil.pid_exists(process.pid) and process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster")
    try:
        for _ in range(getattr(request, "param", 2)):
            made.add_worker()
        yield made
    finally:
        made.stop()


def wait_for(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def published(root: Path) -> dict[str, bytes]:
    paths = [path for path in (root / "figures").rglob("*") if path.is_file() and path.name != "record.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def waiting(seconds: float, marks: Path) -> str:
    """A cell that takes that long, and leaves a mark for each time that it was begun."""
    return f"import time, uuid\nopen({str(marks)!r} + '/' + uuid.uuid4().hex, 'w').close()\ntime.sleep({seconds})"


def test_the_same_bytes_come_back_from_every_engine(small: Path, cluster: Cluster) -> None:  # noqa: F811
    elsewhere = 'from pathlib import Path\nassert not Path("notebooks").exists() and not Path("build").exists()'
    write_pair(small / "notebooks", "00_draws", DRAW, figures=("figure_{names}",))
    local, dask = small.with_name("local"), small.with_name("dask")
    for other in (local, dask):
        shutil.copytree(small, other)
    [here] = reproduce(checkout=local)
    # a worker sees nothing of the checkout that asks; what it made comes back all the same
    write_pair(small / "notebooks", "00_draws", elsewhere, DRAW, figures=("figure_{names}",))
    said: list[str] = []
    [there] = reproduce(checkout=small, scheduler=cluster.address, say=said.append)
    [embedded] = reproduce(checkout=dask, engine="dask", jobs=1)
    assert [one.error for one in (here, there, embedded)] == [None] * 3
    assert published(small) == published(local) == published(dask)
    assert len(published(local)) == 4  # two figures, manifest, results
    assert (small / "build" / "notebooks" / "00_draws.ipynb").exists()
    assert any("started" in line for line in said)
    assert not list(cluster.folder.glob("scratch*/**/vae_core-*"))
    assert reproduce(checkout=small, scheduler=cluster.address) == []  # fresh


def test_a_worker_that_is_killed_loses_nothing(small: Path, cluster: Cluster, tmp_path: Path) -> None:  # noqa: F811
    marks = tmp_path / "marks"
    marks.mkdir()
    write_pair(small / "notebooks", "00_draws", waiting(5, marks), DRAW, figures=("figure_{names}",))
    write_pair(small / "notebooks", "01_more", waiting(5, marks))
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=small, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: len(list(marks.iterdir())) == 2)
    first = cluster.workers[0]
    doomed = [first.pid, *(child.pid for child in psutil.Process(first.pid).children(recursive=True))]
    spared = ("vae_core.regenerate.execute", "ipykernel_launcher")  # they are to end by themselves
    for pid in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):  # some end by themselves meanwhile
            if not any(name in " ".join(psutil.Process(pid).cmdline()) for name in spared):
                os.kill(pid, signal.SIGKILL)
    told, _ = process.communicate(timeout=90)
    assert process.returncode == 0, told
    assert "2 figures made" in told
    assert len(list(marks.iterdir())) == 3  # one was begun again, on the worker that is left
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in doomed[1:]))
    other = small.with_name("other")
    (other / "notebooks").mkdir(parents=True)
    shutil.copy(small / "pyproject.toml", other)
    write_pair(other / "notebooks", "00_draws", DRAW, figures=("figure_{names}",))
    reproduce(checkout=other)
    assert {name: content for name, content in published(small).items() if name.endswith(".png")} == {
        name: content for name, content in published(other).items() if name.endswith(".png")
    }


def test_a_notebook_that_kills_its_workers_is_given_up_and_the_others_are_done(
    small: Path,  # noqa: F811
    cluster: Cluster,
) -> None:
    kill = "import psutil\npsutil.Process().parent().parent().kill()"  # kernel, its process, the worker
    write_pair(small / "notebooks", "01_kills", kill, "import time; time.sleep(60)")
    killer, good = reproduce(["01", "00"], checkout=small, scheduler=cluster.address)
    assert good.error is None
    assert good.published
    assert "KilledWorker" in killer.error
    assert "01_kills" not in (small / "figures" / "manifest.json").read_text()


@pytest.mark.parametrize("cluster", [1], indirect=True)  # of two, the second may die on the same task: a KilledWorker
def test_a_cluster_without_workers_is_waited_for_and_then_given_up(
    small: Path,  # noqa: F811
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 3)
    marks = tmp_path / "marks"
    marks.mkdir()
    write_pair(small / "notebooks", "01_waits", waiting(100, marks))

    def kill() -> None:
        wait_for(lambda: any(marks.iterdir()))
        worker = psutil.Process(cluster.workers[0].pid)
        for process in (worker, *worker.children(recursive=True)):
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    [outcome] = reproduce(["01"], checkout=small, scheduler=cluster.address)
    killer.join()
    assert outcome.error == jobs.GONE


def test_a_scheduler_that_dies_is_named_and_what_was_done_is_kept(
    small: Path,  # noqa: F811
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    write_pair(small / "notebooks", "01_waits", waiting(100, marks))
    write_pair(small / "notebooks", "02_waits", waiting(100, marks))
    write_pair(small / "notebooks", "03_waits", waiting(100, marks))
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=small, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: len(list(marks.iterdir())) == 2 and (small / "figures" / "data" / "inputs.json").exists())
    cluster.scheduler.kill()
    told, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    for name in ("01_waits", "02_waits", "03_waits"):  # the last had not been handed out
        assert f"failed: {name}: the cluster is gone; the same command goes on from here" in told
    assert "1 of 4 notebooks, " in told
    assert errors == ""
    assert (small / "figures" / "figure_1.png").exists()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_on_for_a_caller_who_is_gone(
    small: Path,  # noqa: F811
    cluster: Cluster,
    tmp_path: Path,
    sign: int,
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    write_pair(small / "notebooks", "00_draws", waiting(100, marks), DRAW)
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=small, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: any(marks.iterdir()))
    kernels = [k for one in cluster.busy() for k in (one, *one.children(recursive=True))]
    assert len(kernels) >= 2
    process.send_signal(sign)
    process.communicate(timeout=30)
    assert process.returncode == (130 if sign == signal.SIGINT else -9)
    assert psutil.wait_procs(kernels, timeout=30)[1] == []
    assert cluster.workers[0].poll() is None
    assert cluster.workers[1].poll() is None


def test_trainings_on_a_cluster_are_those_of_here_and_kept_by_the_caller(cluster: Cluster, tmp_path: Path) -> None:
    import torch

    from vae_core import Job, TrainConfig, VAEConfig, fit_many, load_images

    images = partial(load_images, "digits-sample", limit=100)
    wide, thin = VAEConfig(latent_dim=2, hidden=(100,)), VAEConfig(latent_dim=2, hidden=(8,))
    asked = [Job(model, TrainConfig(epochs=2, seed=seed), images) for model in (wide, thin) for seed in (0, 1)]
    here = {one.index: one for one in fit_many(asked)}
    with jobs.open_engine(1, scheduler=cluster.address) as engine:
        there = list(fit_many(asked, engine.executor, cache=tmp_path / "runs"))
        again = list(fit_many(asked, engine.executor, cache=tmp_path / "runs"))
    assert sorted(one.index for one in there) == [0, 1, 2, 3]
    for one in there:
        assert one.error is None
        weights = one.run.model.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in here[one.index].run.model.state_dict().items())
        assert (one.run.path / "run.json").exists()
    assert all(one.reused for one in again)


def test_the_sweep_of_a_worker_that_is_killed_is_finished_by_the_other(cluster: Cluster, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "sweep", "cifar_blur", "--set", "data.name=photos-sample",
         "--set", "data.limit=20", "--set", "train.epochs=1500", "--set", "train.seed=0", "--set", "data.seed=0",
         "--set", "model.latent_dim=2",
         "--set", "model.architecture=mlp", "--set", "model.hidden=32", "--scheduler", cluster.address,
         "-o", str(tmp_path)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")},
    )  # fmt: skip
    wait_for(lambda: any((tmp_path / "runs").glob("*/run.json")))
    first = psutil.Process(cluster.workers[0].pid)
    for doomed in (first, *first.children(recursive=True)):
        doomed.kill()
    told, errors = process.communicate(timeout=200)
    assert process.returncode == 0, told + errors
    total = int(told.splitlines()[0].split()[2].rstrip(":"))
    assert f"{total} of {total}:" in told
    rows = (tmp_path / "sweep.csv").read_text().splitlines()
    assert len(rows) == total + 1


def test_a_worker_with_other_code_is_refused_by_name(small: Path, tmp_path: Path) -> None:  # noqa: F811
    from vae_core.regenerate.record import PACKAGE

    other = tmp_path / "other"
    shutil.copytree(PACKAGE, other / "vae_core", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "vae_core" / "data.py").open("a") as code:
        code.write("\nCHANGED = True\n")
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.add_worker(PYTHONPATH=str(other))
        [outcome] = reproduce(checkout=small, scheduler=cluster.address)
    finally:
        cluster.stop()
    assert outcome.error.startswith("not run: the code of vae_core on ")
    assert not (small / "figures" / "manifest.json").exists()


@pytest.mark.parametrize(("address", "why"), [
    ("tcp://127.0.0.1:9", "Timed out trying to connect"),
    ("tcp://127.0.0.1", "missing port number"),
    ("nonsense", "Must include protocol"),
    ("carrier://pigeon:1", "unknown address scheme"),
])  # fmt: skip
def test_no_scheduler_is_one_line(small: Path, monkeypatch, address: str, why: str) -> None:  # noqa: F811
    monkeypatch.setattr(jobs, "ANSWER", 1)
    done = run_here(small, "reproduce", "--scheduler", address)
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"vae-core: no Dask cluster at {address} (")
    assert why in line
    assert not list((small / "figures").iterdir())


def test_a_scheduler_without_workers_is_one_line(small: Path, monkeypatch, tmp_path: Path) -> None:  # noqa: F811
    monkeypatch.setattr(jobs, "ANSWER", 2)
    cluster = Cluster(tmp_path / "cluster")
    try:
        with pytest.raises(ValueError, match=r"it has no workers\): start one with dask scheduler and dask worker"):
            reproduce(checkout=small, scheduler=cluster.address)
    finally:
        cluster.stop()
