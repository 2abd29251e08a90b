"""Calls of functions, here or through any executor, one after the other as they end. Knows no model."""

import pickle
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from typing import Any

Call = tuple[Callable, tuple]  # a function of a module, and its arguments


def finished(calls: Iterable[Call], executor: Executor | None = None) -> Generator[tuple[int, Any], None, None]:
    """The number of each call, and what it returned or the exception that it raised, in the order in which they end.

    Without an ``executor`` they run here, as they are asked for. Calls and results travel pickled. When the iterator
    is closed, what has not begun is cancelled.
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and the linear algebra of numpy on one thread: the same bytes whatever runs beside."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
