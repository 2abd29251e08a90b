"""Run functions in threads, in processes or on Dask, through one executor interface. Knows nothing of what runs."""

import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

JOB_MEMORY = 2 << 30  # bytes that a job may take: the largest notebook took 2.0e9
ANSWER = 15  # seconds that a scheduler and its first worker have to answer
GONE = "the cluster is gone; the same command goes on from here"
QUIET = {"TQDM_DISABLE": "1"}  # for processes that have not loaded tqdm yet: their bars would write over each other
_LOCK = threading.RLock()
_LISTENERS: dict[str, Callable[[dict[str, Any]], None]] = {}


@contextlib.contextmanager
def open_engine(
    jobs: int, *, engine: str = "local", scheduler: str | None = None, compute: bool = False
) -> Iterator[Executor]:
    """An executor for that many ``jobs`` at once, closed at the end; what still runs when it is interrupted is killed.

    ``engine`` is "local" or "dask", which starts a cluster on this machine; ``scheduler`` is the address of one that
    runs, whose workers count instead of ``jobs``. Locally functions run in threads, for those that start processes
    themselves, or in processes, for those that ``compute``.

    Raises:
        ValueError: when Dask is not installed, or no scheduler with a worker answers at the address.
    """
    if scheduler or engine == "dask":
        with _dask(jobs, scheduler) as executor:
            yield executor
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
    """Threads with a process each, which computes for it. One that dies ends its call alone, and is replaced."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        context = multiprocessing.get_context("spawn")  # torch and its threads do not survive a fork
        self._new = functools.partial(ProcessPoolExecutor, 1, context, _start_process)
        self._pools, self._others = queue.SimpleQueue[ProcessPoolExecutor](), {*multiprocessing.active_children()}
        for _ in range(jobs):
            self._pools.put(self._new())

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """A call of a function of a module."""
        return super().submit(self._compute, function, *args, **kwargs)

    def _compute(self, function: Callable, *args: Any, **kwargs: Any) -> Any:
        pool = self._pools.get()
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            pool = self._new()
            raise
        finally:
            self._pools.put(pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what runs, or kill it."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for process in () if wait else {*multiprocessing.active_children()} - self._others:
            process.kill()
        while wait and not self._pools.empty():
            self._pools.get().shutdown()


def _start_process() -> None:
    """Leave Ctrl-C and progress bars to the parent, and end when the parent is gone."""
    os.environ |= QUIET
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # a process that is killed would leave the usual semaphore behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextlib.contextmanager
def _dask(jobs: int, scheduler: str | None) -> Iterator[Any]:
    try:
        import dask
        import distributed
    except ModuleNotFoundError:
        raise ValueError("Dask is not installed: pip install 'vae_core[cluster]'") from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(distributed.utils.silence_logging_cmgr(logging.CRITICAL + 1))  # errors reach the caller
        # Dask's variables would make torch slower, and stay in this process
        stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": {}}))
        options: Any = {"dashboard_address": "127.0.0.1:0", "env": QUIET, "silence_logs": logging.CRITICAL}
        options |= {"n_workers": jobs, "threads_per_worker": 1}
        place = scheduler or stack.enter_context(distributed.LocalCluster(**options))
        try:
            client = stack.enter_context(distributed.Client(place, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=ANSWER)
        except Exception as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            remedy = "start one with dask scheduler and dask worker"
            raise ValueError(f"no Dask cluster at {scheduler} ({reason}): {remedy}") from None
        executor = client.get_executor(pure=False)
        executor.client = client
        yield executor


@contextlib.contextmanager
def listen(executor: Executor, on_event: Callable[[dict[str, Any]], None]) -> Iterator[str]:
    """A topic under which calls may :func:`emit` events; when it is over, their results are :func:`unwanted`."""
    topic, client = f"vae_core-{uuid.uuid4().hex}", getattr(executor, "client", None)
    _LISTENERS[topic] = on_event
    if client is not None:
        client.subscribe_topic(topic, lambda event: on_event(event[1]))
    try:
        yield topic
    finally:
        del _LISTENERS[topic]


def emit(topic: str, event: dict[str, Any]) -> None:
    """Send plain values to whoever listens, from a call, wherever it runs."""
    if topic in _LISTENERS:
        _LISTENERS[topic](event)
    elif worker := _worker():
        worker.log_event(topic, event)


def unwanted(topic: str) -> Callable[[], bool]:
    """For the thread of a call: a function that says in any thread whether nobody waits for the call any more."""
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
    """What each call returned or the exception that it raised, with its number, in the order in which they end.

    A call is a function of a module and its arguments. Without an ``executor`` they run here, as they are asked for.
    When the iterator is closed, what has not begun is cancelled.
    """
    if executor is None:
        for number, (function, args) in enumerate(calls):
            yield number, _attempt(function, *args)
        return
    numbers = {executor.submit(_call, pickle.dumps(call)): number for number, call in enumerate(calls)}
    try:
        for future in as_completed(numbers):
            packed = _attempt(future.result)
            yield numbers.pop(future), packed if isinstance(packed, Exception) else pickle.loads(packed)
    finally:
        for future in numbers:
            future.cancel()


def _call(packed: bytes) -> bytes:
    """A call and its result as bytes: tensors would else travel between processes as files in shared memory."""
    function, args = pickle.loads(packed)
    return pickle.dumps(function(*args))


def _attempt(function: Callable, *args: Any) -> Any:
    try:
        return function(*args)
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

    with _LOCK, threadpool_limits(1, user_api="blas"):
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

    free, groups = psutil.virtual_memory().available, root / "proc/self/cgroup"
    group = groups.read_text().partition("0::/")[2].strip() if groups.exists() else ""
    for folder in (root / "sys/fs/cgroup" / group / "limit").parents:
        with contextlib.suppress(OSError, ValueError):  # no limit here
            limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            free = min(free, max(0, limit - used + int(facts["inactive_file"])))
    return free
