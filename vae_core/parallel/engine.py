"""Run functions in threads, in processes or on Dask, through one executor interface. Knows nothing of what runs."""

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path, PurePosixPath
from typing import Any

JOB_MEMORY = 2 << 30  # bytes that a job may take: the largest notebook took 2.0e9
PATIENCE = 120  # seconds that a cluster may have no worker at all
ANSWER = 15  # seconds that a scheduler and its first worker have to answer
GONE = "the cluster is gone; the same command goes on from here"
QUIET = {"TQDM_DISABLE": "1"}  # for processes that have not loaded tqdm yet: their bars would write over each other
CGROUPS = {"": ("memory.max", "memory.current", "inactive_file")}  # files of the limit and the use, and what can go
CGROUPS["memory"] = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")  # of version 1
_ALONE = threading.RLock()
_LISTENERS: dict[str, Callable[[dict[str, Any]], None]] = {}


@contextlib.contextmanager
def open_engine(
    jobs: int, *, engine: str = "local", scheduler: str | None = None, compute: bool = False
) -> Iterator[Executor]:
    """An executor for that many ``jobs`` at once, closed at the end; what still runs when it is interrupted is killed.

    ``engine`` is "local" or "dask", which starts a cluster on this machine; ``scheduler`` is the address of one that
    runs, whose workers count instead of ``jobs``. Locally functions run in threads, for those that start processes
    of their own, or in processes, for those that ``compute``.

    Raises:
        ValueError: when Dask is not installed, or no scheduler with a worker answers at the address.
    """
    if scheduler or engine == "dask":
        with _dask_client(jobs, scheduler) as client:
            yield Cluster(client)
        return
    executor = Processes(jobs) if compute else ThreadPoolExecutor(jobs)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


class Processes(ThreadPoolExecutor):
    """Threads with a process each, which computes for it. One that dies ends its own call alone, and is replaced."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self._thread, self._starts, self._killed = threading.local(), threading.Lock(), False
        self._pools, self._others = list[ProcessPoolExecutor](), {*multiprocessing.active_children()}

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """A call of a function of a module."""
        return super().submit(self._compute, function, *args, **kwargs)

    def _compute(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        with self._starts:
            if self._killed:
                raise CancelledError
            if getattr(self._thread, "pool", None) is None:
                context = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
                self._thread.pool = ProcessPoolExecutor(1, context, _start_process)
                self._pools.append(self._thread.pool)
            future = self._thread.pool.submit(function, *args, **kwargs)
        try:
            return future.result()
        except BrokenProcessPool:
            self._thread.pool = None
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what runs, or kill it."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        with self._starts:
            self._killed = not wait
        for process in () if wait else {*multiprocessing.active_children()} - self._others:
            process.kill()
        for pool in self._pools:
            pool.shutdown(wait)


def _start_process() -> None:
    """Leave Ctrl-C and progress bars to the parent, and end when the parent is gone."""
    os.environ |= QUIET
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed would leave behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class Cluster(Executor):
    """The workers of a Dask cluster."""

    def __init__(self, client: Any) -> None:
        self.client, self._executor, self._seen = client, client.get_executor(pure=False), time.monotonic()

    @property
    def slots(self) -> int:
        """How many calls can run now, at least 1: Dask suspects all calls of a worker that dies, also those in line.

        All calls are cancelled when there have been no workers for :data:`PATIENCE` seconds.
        """
        threads = 0
        with contextlib.suppress(Exception):  # of a scheduler that is gone
            threads = sum(self.client.nthreads().values())
        if threads:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > PATIENCE:
            self._executor.shutdown(wait=False)
        return max(1, threads)

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """A call of a function of a module."""
        try:
            return self._executor.submit(function, *args, **kwargs)
        except Exception:
            raise CancelledError from None


@contextlib.contextmanager
def _dask_client(jobs: int, scheduler: str | None) -> Iterator[Any]:
    try:
        import dask
        import distributed
    except ModuleNotFoundError:
        raise ValueError("Dask is not installed: pip install 'vae_core[cluster]'") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.utils.silence_logging_cmgr(logging.CRITICAL + 1))  # whoever asked is told
        # Dask's own variables would make torch slower, and stay in this process
        stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {}}))
        place: Any = scheduler
        if scheduler is None:
            options = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "env": QUIET}
            place = stack.enter_context(distributed.LocalCluster(**options, silence_logs=logging.CRITICAL))
        try:
            if scheduler is not None:
                distributed.comm.get_address_host_port(scheduler, strict=True)
            client = stack.enter_context(distributed.Client(place, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=ANSWER)
        except (OSError, ValueError, TypeError, TimeoutError, RuntimeError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise ValueError(
                f"no Dask cluster at {scheduler} ({reason}): start one with dask scheduler and dask worker"
            ) from None
        yield client


@contextlib.contextmanager
def listen(executor: Executor, on_event: Callable[[dict[str, Any]], None]) -> Iterator[str]:
    """A topic under which calls may :func:`emit` events; when it is over, those that ask are told to stop."""
    topic, client = f"vae_core-{uuid.uuid4().hex}", getattr(executor, "client", None)
    _LISTENERS[topic] = on_event
    if client is not None:
        client.subscribe_topic(topic, lambda event: on_event(event[1]))
    try:
        yield topic
    finally:
        del _LISTENERS[topic]
        with contextlib.suppress(Exception):  # of a scheduler that is gone
            if client is not None:
                client.unsubscribe_topic(topic)


def emit(topic: str, event: dict[str, Any]) -> None:
    """Send plain values to whoever listens, from a call, wherever it runs."""
    if topic in _LISTENERS:
        _LISTENERS[topic](event)
    elif worker := _worker():
        worker.log_event(topic, event)


def unwanted(topic: str) -> Callable[[], bool]:
    """For the thread of a call: a function that tells any thread whether nobody waits for the call any more."""
    worker = _worker()
    if worker is None or topic in _LISTENERS:
        return lambda: topic not in _LISTENERS
    key = worker.get_current_task()
    return lambda: getattr(worker.state.tasks.get(key), "state", None) != "executing"


def _worker() -> Any:
    """The Dask worker that runs this, if one does."""
    if "distributed" in sys.modules:
        with contextlib.suppress(ValueError):
            return sys.modules["distributed"].get_worker()
    return None


def finished(
    calls: Iterable[tuple[Callable, tuple]], executor: Executor | None = None
) -> Generator[tuple[int, Any], None, None]:
    """What each call, a function of a module and its arguments, returned or the exception that it raised.

    Each comes with the number of its call, in the order in which they end. Without an ``executor`` they run here, as
    they are asked for. Calls and results travel pickled. When the iterator is closed, what has not begun is cancelled.
    """
    if executor is None:
        for number, (function, args) in enumerate(calls):
            try:
                result = function(*args)
            except Exception as error:
                result = error
            yield number, result
        return
    rest, waiting = enumerate(calls), dict[Future, int]()
    try:
        while True:
            slots = getattr(executor, "slots", math.inf)
            while len(waiting) < slots and (following := next(rest, None)):
                waiting[_submit(executor, following[1])] = following[0]
            if not waiting:
                return
            for future in wait(waiting, timeout=5, return_when=FIRST_COMPLETED).done:  # workers may join in between
                yield waiting.pop(future), _result(future)
    finally:
        for future in waiting:
            future.cancel()


def _submit(executor: Executor, call: tuple[Callable, tuple]) -> Future:
    try:
        return executor.submit(_call, pickle.dumps(call))
    except Exception as error:  # it cannot be pickled, or the executor has broken down
        future: Future = Future()
        future.set_exception(error)
        return future


def _call(packed: bytes) -> bytes:
    """A call and its result as bytes: tensors would else travel between processes as files in shared memory."""
    function, args = pickle.loads(packed)
    return pickle.dumps(function(*args))


def _result(future: Future) -> Any:
    try:
        return pickle.loads(future.result())
    except CancelledError:
        return RuntimeError(GONE)
    except BrokenProcessPool as error:
        return RuntimeError(f"{error} Likely for memory: give fewer jobs, smaller data or more memory")
    except Exception as error:
        return error


def in_one_line(error: Exception) -> str:
    """What went wrong, without line breaks; the kind of error where its words may not say enough."""
    words = " ".join(str(error).split())
    plain = isinstance(error, ValueError | ArithmeticError | RuntimeError | OSError) and words
    return words if plain else f"{type(error).__name__}: {words}".removesuffix(": ")


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


def usable(memory: int = JOB_MEMORY) -> int:
    """How many jobs of so many bytes of ``memory`` the cores and memory that this process may use carry; at least 1."""
    import joblib  # heeds affinity and the limits of containers

    return max(1, min(joblib.cpu_count(), usable_memory() // memory))


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that are free, also within the limits of this process's containers (cgroups) under ``root``."""
    import psutil

    free = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError):  # of systems that have none
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            for kind in {*kinds.split(",")} & {*CGROUPS}:
                for inner in (PurePosixPath(group), *PurePosixPath(group).parents):
                    folder = root / "sys/fs/cgroup" / kind / inner.relative_to("/")
                    with contextlib.suppress(OSError, ValueError):  # no limit here
                        limit, used = (int((folder / name).read_text()) for name in CGROUPS[kind][:2])
                        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                        free.append(max(0, limit - used + int(facts.get(CGROUPS[kind][2], 0))))
    return min(free)
