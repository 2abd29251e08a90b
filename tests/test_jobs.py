import io
import os
import pickle
import subprocess
import sys
import time

import psutil
import pytest

from vae_core.parallel import engine as jobs


@pytest.mark.parametrize("compute", [False, True])
def test_functions_run_and_answer(compute: bool) -> None:
    with jobs.open_engine(2, compute=compute) as executor:
        asked = [executor.submit(divmod, 7, n) for n in (2, 3)]
        assert [future.result() for future in asked] == [(3, 1), (2, 1)]
        assert (executor.submit(os.getpid).result() == os.getpid()) is not compute


def here() -> tuple[bool, str | None]:
    """Whether progress bars are shown, and how memory goes back to the system."""
    from tqdm import tqdm

    return not tqdm([], file=io.StringIO()).disable, os.environ.get("MALLOC_TRIM_THRESHOLD_")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that Dask leaves open
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_processes_show_no_bars_and_allocate_as_here(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    before = here()
    with jobs.open_engine(1, engine=engine, compute=True) as executor:
        assert executor.submit(here).result() == (False, None)
    assert here() == before


def test_calls_send_events_to_whoever_listens_and_know_when_nobody_does() -> None:
    events: list[dict] = []
    with jobs.open_engine(1) as executor:
        with jobs.listen(executor, events.append) as topic:
            executor.submit(jobs.emit, topic, {"cell": 1}).result()
            unwanted = executor.submit(jobs.unwanted, topic).result()
            assert not unwanted()
        assert unwanted()
        executor.submit(jobs.emit, topic, {"cell": 2}).result()
    assert events == [{"cell": 1}]


def test_cores_and_memory_set_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    first = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); "
    code = first + "from vae_core.parallel import engine as jobs; print(jobs.usable(1))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "64")
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    monkeypatch.setattr(jobs, "usable_memory", lambda: 5 * jobs.JOB_MEMORY + 1)
    assert jobs.usable() == 5
    monkeypatch.setattr(jobs, "usable_memory", lambda: 1)
    assert jobs.usable() == 1


V2 = {"memory.max": "1000000\n", "memory.current": "400000\n", "memory.stat": "anon 3\ninactive_file 100000"}
NONE = {"memory.max": "max\n"}


@pytest.mark.parametrize(("groups", "files", "least"), [
    ("0::/a/b\n", {"a/b": V2}, 700_000),
    ("0::/a/b\n", {"a": V2 | {"memory.max": "500000"}, "a/b": V2 | NONE}, 200_000),  # a limit of a group around it
    ("0::/\n", {"": V2 | {"memory.max": "9"}}, 0),
    ("0::/a/b\n", {"a/b": V2 | NONE}, None),
    ("0::/a/b\n", {"other": V2}, None),
    ("4:memory:/c\n0::/a/b\n", {"a/b": V2}, 700_000),
    (None, {}, None),
])  # fmt: skip
def test_the_memory_of_containers_is_heeded(tmp_path, groups: str | None, files: dict, least: int | None) -> None:
    for folder, content in files.items():
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (place / name).write_text(text)
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    usable = jobs.usable_memory(tmp_path)
    assert usable == least if least is not None else 10**7 < usable <= psutil.virtual_memory().total


def test_under_one_thread_threads_go_one_after_another() -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def work(_: int) -> None:
        with jobs.one_thread():
            seen.append(("in", torch.get_num_threads()))
            time.sleep(0.05)
            seen.append(("out", torch.get_num_threads()))

    with jobs.open_engine(3) as executor:
        list(executor.map(work, range(3)))
    assert seen == [("in", 1), ("out", 1)] * 3
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_process_that_the_system_killed_ends_its_call_alone() -> None:
    calls = [(time.sleep, (1.5,)), *[(abs, (-3,))] * 3, (os._exit, (1,)), (divmod, (7, 2)), (divmod, (7, "x"))]
    with jobs.open_engine(2, compute=True) as executor:
        first = dict(jobs.finished(calls, executor))
        assert dict(jobs.finished([(divmod, (7, 3))], executor)) == {0: (2, 1)}
    memory = "Likely for memory: give fewer jobs, smaller data or more memory"
    assert str(first.pop(4)).endswith(memory)
    assert "unsupported operand" in str(first.pop(6))
    assert first == {0: None, 1: 3, 2: 3, 3: 3, 5: (3, 1)}


def test_what_cannot_be_pickled_is_refused_elsewhere_and_runs_here() -> None:
    with jobs.open_engine(1, compute=True) as executor, pytest.raises((AttributeError, pickle.PicklingError)):
        dict(jobs.finished([(lambda: 1, ()), (divmod, (7, 2))], executor))
    assert dict(jobs.finished([(lambda: 1, ())])) == {0: 1}  # here nothing has to be


SLEEPS = """
import multiprocessing, time
from vae_core.parallel import engine as jobs
if __name__ == "__main__":
    with jobs.open_engine(2, compute=True) as executor:
        waits = [executor.submit(time.sleep, 100) for _ in range(5)]
        while len(multiprocessing.active_children()) < 2: time.sleep(0.1)
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        waits[0].result()
"""


@pytest.mark.parametrize("sign", [2, 9])
def test_processes_end_with_whoever_asked(tmp_path, sign: int) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(children) == 2
    time.sleep(1)  # until they have begun
    process.send_signal(sign)
    process.communicate(timeout=20)
    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_without_dask_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ValueError, match=r"not installed: pip install 'vae_core\[cluster\]'"),
        jobs.open_engine(1, engine="dask"),
    ):
        pass
