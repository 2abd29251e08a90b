"""Run functions in threads, in processes or on Dask, through one executor interface. Knows nothing of what runs."""

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

NEED = 2 << 30  # bytes that a job may take: the largest notebook took 2.0e9
PATIENCE = 120  # seconds that a cluster may have no worker at all
GONE = "the cluster is gone; the same command goes on from here"
QUIET = {"TQDM_DISABLE": "1"}  # for processes that have not loaded tqdm yet: their bars would write over each other
CGROUPS = {"": ("memory.max", "memory.current", "inactive_file")}  # files of the limit and the use, and what can go
CGROUPS["memory"] = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")  # of version 1
ANSWER = 15  # seconds that a scheduler and its first worker have to answer
_ALONE = threading.RLock()
_LISTENERS: dict[str, Callable[[dict[str, Any]], None]] = {}


@dataclass
class Engine:
    """Where functions run: ``executor.submit`` as in ``concurrent.futures``."""

    executor: Executor
    jobs: int = 1
    client: Any = None  # Dask's, if it is Dask
    _seen: float = 0.0  # when it last had workers

    @property
    def slots(self) -> int:
        """How many jobs can run at once, at this moment. Dask would take more, and let some wait behind others."""
        found = self.jobs
        if self.client is not None:
            with contextlib.suppress(Exception):  # of a scheduler that is gone
                found = sum(self.client.nthreads().values())
        if found or not self._seen:
            self._seen = time.monotonic()
        return max(1, found)

    @property
    def deserted(self) -> bool:
        """Whether it has had no workers for as long as anyone waits."""
        return self.client is not None and bool(self.slots) and time.monotonic() - self._seen > PATIENCE

    def submit(self, function: Callable, *given: Any) -> Future:
        """A call of a function of a module; what goes wrong already now is in the future too."""
        try:
            return self.executor.submit(function, *given)
        except Exception as error:
            broken: Future = Future()
            broken.set_exception(CancelledError() if self.client else error)
            return broken

    @contextlib.contextmanager
    def listen(self, hear: Callable[[dict[str, Any]], None]) -> Iterator[str]:
        """A topic under which functions may :func:`tell`; when it is over, those that ask are told to stop."""
        topic = f"vae_core-{uuid.uuid4().hex}"
        _LISTENERS[topic] = hear
        if self.client is not None:
            self.client.subscribe_topic(topic, lambda event: hear(event[1]))
        try:
            yield topic
        finally:
            del _LISTENERS[topic]
            if self.client is not None:
                with contextlib.suppress(Exception):  # of a scheduler that is gone
                    self.client.unsubscribe_topic(topic)


@contextlib.contextmanager
def open_engine(
    jobs: int, *, engine: str = "local", scheduler: str | None = None, compute: bool = False
) -> Iterator[Engine]:
    """An engine for that many ``jobs`` at once, closed at the end; what still runs when it is interrupted is killed.

    ``engine`` is "local" or "dask", which starts a cluster on this machine; ``scheduler`` is the address of one that
    runs, whose workers count instead of ``jobs``. Locally functions run in threads, for those that start processes
    of their own, or in processes, for those that ``compute``.

    Raises:
        ValueError: when Dask is not installed, or no scheduler with a worker answers at the address.
    """
    if scheduler or engine == "dask":
        with _dask(jobs, scheduler) as client:
            yield Engine(client.get_executor(pure=False), jobs, client)
        return
    before = set(multiprocessing.active_children())
    executor: Executor = ThreadPoolExecutor(jobs)
    if compute:
        context = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
        executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_process)
    try:
        yield Engine(executor, jobs)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_process() -> None:
    """Leave Ctrl-C and progress bars to the parent, and end when the parent is gone."""
    os.environ |= QUIET
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed would leave behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _dask(jobs: int, scheduler: str | None) -> Iterator[Any]:
    try:
        import dask
        import distributed
    except ModuleNotFoundError:
        raise ValueError("Dask is not installed: pip install 'vae_core[cluster]'") from None
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)  # what goes wrong is said by whoever asked
    cluster = client = None
    try:
        if scheduler is None:
            own = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
            # Dask's own variables would make torch slower, and stay in this process
            with dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
                cluster = distributed.LocalCluster(**own, silence_logs=logging.CRITICAL, env=QUIET)
        try:
            if scheduler is not None:
                distributed.comm.get_address_host_port(scheduler, strict=True)
            client = distributed.Client(cluster or scheduler, timeout=ANSWER, set_as_default=False)
            client.wait_for_workers(1, timeout=ANSWER)
        except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
            what = "it has no workers" if client is not None else (str(error).splitlines() or [repr(error)])[0]
            raise ValueError(
                f"no Dask cluster at {scheduler} ({what}): start one with dask scheduler and dask worker"
            ) from None
        yield client
    finally:
        for part in (client, cluster):
            if part is not None:
                with contextlib.suppress(Exception):  # of a scheduler that is gone
                    part.close(timeout=5)
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def tell(topic: str, event: dict[str, Any]) -> None:
    """Say something to whoever listens, from a job, wherever it runs; ``event`` is plain values."""
    if topic in _LISTENERS:
        _LISTENERS[topic](event)
    elif worker := _worker():
        worker.log_event(topic, event)


def unwanted(topic: str) -> Callable[[], bool]:
    """For the thread of a job: a function that says, from any thread, whether nobody waits for the job any more."""
    worker = _worker()
    if worker is None or topic in _LISTENERS:
        return lambda: topic not in _LISTENERS
    from distributed.worker import thread_state

    key = thread_state.key

    def gone() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state != "executing"

    return gone


def scratch() -> str | None:
    """A folder for what a job needs while it runs; ``None`` for the system's."""
    worker = _worker()
    return worker.local_directory if worker else None  # which Dask clears after a worker that was killed


def _worker() -> Any:
    """The Dask worker that runs this, if one does."""
    if "distributed" in sys.modules:
        with contextlib.suppress(ValueError):
            return sys.modules["distributed"].get_worker()
    return None


def usable(need: int = NEED) -> int:
    """How many jobs of ``need`` bytes the cores and the memory that this process may use carry at once; at least 1."""
    import joblib  # heeds affinity and the limits of containers

    return max(1, min(joblib.cpu_count(), usable_memory() // need))


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that are free, also within the limits of this process's containers (cgroups) under ``root``."""
    import psutil

    found = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError):  # of systems that have none
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            for kind in {*kinds.split(",")} & {*CGROUPS}:
                for inner in (PurePosixPath(group), *PurePosixPath(group).parents):
                    folder = root / "sys/fs/cgroup" / kind / inner.relative_to("/")
                    with contextlib.suppress(OSError, ValueError):  # no limit here
                        limit, used = (int((folder / name).read_text()) for name in CGROUPS[kind][:2])
                        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                        found.append(max(0, limit - used + int(facts.get(CGROUPS[kind][2], 0))))
    return min(found)


def finished(
    calls: Iterable[tuple[Callable, tuple]], executor: Executor | None = None
) -> Generator[tuple[int, Any], None, None]:
    """What each call, a function of a module and its arguments, returned or the exception that it raised.

    Each comes with the number of its call, in the order in which they end. Without an ``executor`` they run here, as
    they are asked for. Calls and results travel pickled. When the iterator is closed, what has not begun is cancelled.
    """
    if executor is None:
        for number, (function, given) in enumerate(calls):
            try:
                result = function(*given)
            except Exception as error:
                result = error
            yield number, result
        return
    waiting: dict[Future, int] = {}
    refused: list[tuple[int, Exception]] = []
    try:
        for number, call in enumerate(calls):
            try:
                waiting[executor.submit(_there, pickle.dumps(call))] = number
            except Exception as error:  # it cannot be pickled, or the executor has broken down
                refused.append((number, error))
        yield from refused
        for future in as_completed(list(waiting)):
            try:
                result = pickle.loads(future.result())
            except CancelledError:
                result = RuntimeError(GONE)
            except BrokenProcessPool as error:
                result = RuntimeError(f"{error} Likely for memory: give fewer jobs, smaller data or more memory")
            except Exception as error:
                result = error
            yield waiting.pop(future), result
    finally:
        for future in waiting:
            future.cancel()


def _there(packed: bytes) -> bytes:
    """A call and its result as bytes: tensors would else travel between processes as files in shared memory."""
    function, given = pickle.loads(packed)
    return pickle.dumps(function(*given))


def in_one_line(error: Exception) -> str:
    """What went wrong, without line breaks; the kind of error where its words may not say enough."""
    words = " ".join(str(error).split())
    told = isinstance(error, ValueError | ArithmeticError | RuntimeError | OSError) and words
    return words if told else f"{type(error).__name__}: {words}".removesuffix(": ")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the linear algebra of numpy on one thread: the same bytes whatever runs beside.

    The limits are those of a process, so what several threads do under it, they do one after another.
    """
    import torch
    from threadpoolctl import threadpool_limits

    with _ALONE, threadpool_limits(1, user_api="blas"):
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
