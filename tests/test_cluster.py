"""A real Dask scheduler and real workers, as processes of their own on 127.0.0.1.

Most is tested where it is decided, by functions that sleep or kill themselves; what takes whole notebooks is run by
``make stress``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from checkouts import DRAW, new_checkout, pictures, run_here, write_pair

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
        file = folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", str(file))
        wait_for(file.exists)
        self.address = json.loads(file.read_text())["address"]

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

    def kill(self, worker: subprocess.Popen) -> None:
        """``kill -9`` of a worker, of the process that would start it again, and of what it runs."""
        process = psutil.Process(worker.pid)
        for each in (process, *process.children(recursive=True)):
            each.kill()
        worker.wait()

    def busy(self) -> list[psutil.Process]:
        """The processes that execute notebooks on the workers."""
        children = [psutil.Process(worker.pid).children(recursive=True) for worker in self.workers]
        return [child for each in children for child in each if "regenerate.execute" in " ".join(child.cmdline())]

    def refill(self) -> None:
        """Two workers, whatever befell those before."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            self.add_worker()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                self.kill(process)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cluster]]:
    started: list[Cluster] = []
    yield started
    for each in started:
        each.stop()


@pytest.fixture
def cluster(clusters: list[Cluster], tmp_path: Path) -> Cluster:
    """One that is used again, unless a test has killed its scheduler."""
    if not clusters or clusters[-1].scheduler.poll() is not None:
        clusters.append(Cluster(tmp_path / "cluster"))
    clusters[-1].refill()
    return clusters[-1]


def after(seconds: float, function: Callable, *args: object) -> None:
    threading.Timer(seconds, function, args).start()


# --- numbers and bytes are those of here ---


def test_the_same_bytes_come_back_from_a_cluster(published: Path, cluster: Cluster) -> None:
    """A worker sees nothing of the checkout that asks; what it made comes back all the same."""
    elsewhere = 'from pathlib import Path\nassert not Path("notebooks").exists() and not Path("build").exists()'
    write_pair(published / "notebooks", "02_elsewhere", elsewhere)
    before = pictures(published)
    for path in (published / "figures").glob("*.png"):
        path.unlink()
    lines: list[str] = []
    outcomes = reproduce(checkout=published, scheduler=cluster.address, echo=lines.append)
    assert [(outcome.notebook.name, outcome.error) for outcome in outcomes] == [
        ("00_draws", None),
        ("02_elsewhere", None),
    ]
    assert pictures(published) == before
    assert (published / "build" / "notebooks" / "02_elsewhere.ipynb").exists()
    assert {"00_draws: started, 4 cells", "02_elsewhere: started, 2 cells"} <= {*lines}
    assert reproduce(checkout=published, scheduler=cluster.address) == []  # fresh


def test_trainings_on_a_cluster_are_those_of_here_and_kept_by_the_caller(cluster: Cluster, tmp_path: Path) -> None:
    import torch

    from vae_core import Job, TrainConfig, VAEConfig, fit_many, load_images

    images, model = partial(load_images, "digits-sample", limit=100), VAEConfig(latent_dim=2, hidden=(8,))
    asked = [Job(model, TrainConfig(epochs=2, seed=seed), images) for seed in range(3)]
    here = {one.index: one for one in fit_many(asked)}
    with jobs.open_engine(1, scheduler=cluster.address) as executor:
        there = list(fit_many(asked, executor, cache=tmp_path / "runs"))
        again = list(fit_many(asked, executor, cache=tmp_path / "runs"))
    assert sorted(one.index for one in there) == [0, 1, 2]
    for one in there:
        assert one.error is None
        weights = one.run.model.state_dict()
        assert all(torch.equal(weights[k], v) for k, v in here[one.index].run.model.state_dict().items())
        assert (one.run.path / "run.json").exists()
    assert all(one.reused for one in again)


# --- what dies loses nothing ---


def test_a_worker_that_is_killed_loses_nothing(cluster: Cluster) -> None:
    after(1.5, cluster.kill, cluster.workers[0])
    with jobs.open_engine(1, scheduler=cluster.address) as executor:
        results = dict(jobs.finished([(time.sleep, (3,)), (time.sleep, (3,)), *[(abs, (-3,))] * 4], executor))
    assert results == {0: None, 1: None, 2: 3, 3: 3, 4: 3, 5: 3}


def test_a_call_that_kills_its_workers_is_given_up_and_the_others_are_done(cluster: Cluster) -> None:
    calls = [(os._exit, (1,)), *[(time.sleep, (0.5,))] * 6, (divmod, (7, "x"))]
    with jobs.open_engine(1, scheduler=cluster.address) as executor:
        results = dict(jobs.finished(calls, executor))
    assert type(results.pop(0)).__name__ == "KilledWorker"
    assert "unsupported operand" in str(results.pop(7))
    assert set(results.values()) == {None}


def test_a_cluster_without_workers_is_refused(cluster: Cluster, monkeypatch) -> None:
    for worker in cluster.workers:
        cluster.kill(worker)
    monkeypatch.setattr(jobs, "ANSWER", 2)
    with (
        pytest.raises(ValueError, match=r"0/1 workers.*: start one with dask scheduler and dask worker"),
        jobs.open_engine(1, scheduler=cluster.address),
    ):
        pass


def test_a_scheduler_that_dies_is_named_in_one_line_and_what_was_done_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    root, marks = new_checkout(tmp_path / "dies"), tmp_path / "marks"
    marks.mkdir()
    write_pair(root / "notebooks", "00_plain", "x = 1")
    for name in ("01_waits", "02_waits", "03_waits"):
        write_pair(root / "notebooks", name, f"import time\nopen('{marks}/{name}', 'w').close()\ntime.sleep(100)")
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: len(list(marks.iterdir())) == 2 and (root / "build" / "made" / "00_plain.json").exists())
    kernels = cluster.busy()
    cluster.scheduler.kill()
    told, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    for name in ("01_waits", "02_waits", "03_waits"):  # the last had not been handed out
        assert f"failed: {name}: the cluster is gone; the same command goes on from here" in told
    assert "1 of 4 notebooks, " in told
    assert errors == ""
    assert len(kernels) == 2


def test_nothing_goes_on_for_a_caller_who_is_gone(cluster: Cluster, tmp_path: Path) -> None:
    """Ctrl-C instead of ``kill -9``: in ``make stress``."""
    gone_caller(cluster, tmp_path, signal.SIGKILL)


@pytest.mark.stress
def test_nothing_goes_on_for_a_caller_who_pressed_ctrl_c(cluster: Cluster, tmp_path: Path) -> None:
    gone_caller(cluster, tmp_path, signal.SIGINT)


def gone_caller(cluster: Cluster, tmp_path: Path, sign: int) -> None:
    root, begun = new_checkout(tmp_path / "gone"), tmp_path / "begun"
    write_pair(root / "notebooks", "00_waits", f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(100)")
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(begun.exists)
    kernels = [k for one in cluster.busy() for k in (one, *one.children(recursive=True))]
    assert len(kernels) >= 2
    process.send_signal(sign)
    process.communicate(timeout=60)
    assert process.returncode == (130 if sign == signal.SIGINT else -9)
    assert psutil.wait_procs(kernels, timeout=60)[1] == []
    assert [worker.poll() for worker in cluster.workers] == [None, None]


@pytest.mark.stress
def test_the_notebooks_of_a_worker_that_is_killed_are_run_by_the_other(cluster: Cluster, tmp_path: Path) -> None:
    root, marks = new_checkout(tmp_path / "killed"), tmp_path / "marks"
    marks.mkdir()
    wait = f"import time, uuid\nopen({str(marks)!r} + '/' + uuid.uuid4().hex, 'w').close()\ntime.sleep(5)"
    write_pair(root / "notebooks", "00_draws", wait, DRAW, figures=("figure_{names}",))
    write_pair(root / "notebooks", "01_more", wait)
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--scheduler", cluster.address],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(lambda: len(list(marks.iterdir())) == 2)
    [notebook, *_] = cluster.busy()
    worker, starter = notebook.parents()[:2]
    for doomed in (starter, worker):  # the notebook's process is to end by itself
        doomed.kill()
    told, _ = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert "2 figures made" in told
    assert len(list(marks.iterdir())) == 3  # one was begun again, on the worker that is left
    wait_for(lambda: not notebook.is_running())


@pytest.mark.stress
def test_the_sweep_of_a_worker_that_is_killed_is_finished_by_the_other(cluster: Cluster, tmp_path: Path) -> None:
    settings = ("data.name=photos-sample", "data.limit=20", "train.epochs=1500", "train.seed=0", "data.seed=0",
                "model.latent_dim=2", "model.architecture=mlp", "model.hidden=32")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "sweep", "cifar_blur", "--scheduler", cluster.address, "-o", str(tmp_path),
         *(word for setting in settings for word in ("--set", setting))],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")},
    )  # fmt: skip
    wait_for(lambda: any((tmp_path / "runs").glob("*/run.json")))
    cluster.kill(cluster.workers[0])
    told, errors = process.communicate(timeout=300)
    assert process.returncode == 0, told + errors
    total = int(told.splitlines()[0].split()[2].rstrip(":"))
    assert f"{total} of {total}:" in told
    assert len((tmp_path / "sweep.csv").read_text().splitlines()) == total + 1


@pytest.mark.stress
def test_a_cluster_that_is_started_for_the_purpose_makes_the_same_bytes(published: Path) -> None:
    before = pictures(published)
    [outcome] = reproduce(["00"], checkout=published, engine="dask", jobs=1, force=True, republish=True)
    assert outcome.error is None
    assert pictures(published) == before


# --- what is refused ---


def test_a_worker_with_other_code_publishes_nothing(clusters: list[Cluster], tmp_path: Path) -> None:
    from vae_core.regenerate.record import PACKAGE

    root, other = new_checkout(tmp_path / "asks"), tmp_path / "other"
    write_pair(root / "notebooks", "00_plain", "x = 1")
    shutil.copytree(PACKAGE, other / "vae_core", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "vae_core" / "data.py").open("a") as code:
        code.write("\nCHANGED = True\n")
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.add_worker(PYTHONPATH=str(other))
        [outcome] = reproduce(checkout=root, scheduler=cluster.address)
    finally:
        cluster.stop()
    assert outcome.error == "the code of vae_core changed while it ran, or is another where it ran"
    assert not (root / "figures" / "record.json").exists()


@pytest.mark.parametrize(("address", "why"), [
    ("tcp://127.0.0.1:9", "Timed out trying to connect"),
    ("tcp://127.0.0.1", "missing port number"),
    ("nonsense", "missing port number"),
    ("carrier://pigeon:1", "unknown address scheme"),
])  # fmt: skip
def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch, address: str, why: str) -> None:
    monkeypatch.setattr(jobs, "ANSWER", 1)
    root = new_checkout(tmp_path / "asks")
    write_pair(root / "notebooks", "00_plain", "x = 1")
    done = run_here(root, "reproduce", "--scheduler", address)
    assert done.exit_code == 2
    [line] = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"vae-core: no Dask cluster at {address} (")
    assert why in line
    assert not list((root / "figures").iterdir())
