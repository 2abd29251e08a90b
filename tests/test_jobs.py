import io
import os
import subprocess
import sys
import time

import psutil
import pytest

from vae_core import jobs


@pytest.mark.parametrize("compute", [False, True])
def test_functions_run_and_answer(compute: bool) -> None:
    with jobs.open_engine(2, compute=compute) as engine:
        asked = [engine.executor.submit(divmod, 7, n) for n in (2, 3)]
        assert [one.result() for one in asked] == [(3, 1), (2, 1)]
        assert (engine.executor.submit(os.getpid).result() == os.getpid()) is not compute


def here() -> tuple[bool, str | None]:
    """Whether progress bars are shown, and how memory goes back to the system."""
    from tqdm import tqdm

    return not tqdm([], file=io.StringIO()).disable, os.environ.get("MALLOC_TRIM_THRESHOLD_")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that Dask leaves open
@pytest.mark.parametrize("engine", ["local", "dask"])
def test_processes_show_no_bars_and_allocate_as_here(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    before = here()
    with jobs.open_engine(1, engine=engine, compute=True) as opened:
        assert opened.executor.submit(here).result() == (False, None)
    assert here() == before


def test_jobs_tell_whoever_listens_and_know_when_nobody_does() -> None:
    heard: list[dict] = []
    with jobs.open_engine(1) as engine:
        with engine.listen(heard.append) as topic:
            engine.executor.submit(jobs.tell, topic, {"cell": 1}).result()
            unwanted = engine.executor.submit(jobs.unwanted, topic).result()
            assert not unwanted()
        assert unwanted()
        engine.executor.submit(jobs.tell, topic, {"cell": 2}).result()
    assert heard == [{"cell": 1}]


def test_cores_and_memory_set_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    first = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}]); "
    code = first + "from vae_core import jobs; print(jobs.usable(1))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "64")
    monkeypatch.setattr("joblib.cpu_count", lambda: 64)
    monkeypatch.setattr(jobs, "usable_memory", lambda: 5 * jobs.NEED + 1)
    assert jobs.usable() == 5
    monkeypatch.setattr(jobs, "usable_memory", lambda: 1)
    assert jobs.usable() == 1


@pytest.mark.parametrize(("limits", "least"), [
    ({"/a/b": "1000000\n"}, 1000000 - 400000 + 100000), ({"/a": "500000", "/a/b": "max\n"}, 200000), ({"/": "9"}, 0),
    ({"/a/b": "max"}, None), ({"/other": "5"}, None), (None, None),
])  # fmt: skip
def test_the_memory_of_containers_is_heeded(monkeypatch, limits: dict | None, least: int | None) -> None:
    def read(path, *_: object, **__: object) -> str:
        group = "/" + str(path.parent).removeprefix("/sys/fs/cgroup").strip("/")
        if str(path) == "/proc/self/cgroup" and limits is not None:
            return "0::/a/b\n"
        if limits is None or group not in limits:
            raise FileNotFoundError
        known = {
            "memory.max": limits[group],
            "memory.current": "400000\n",
            "memory.stat": "anon 3\ninactive_file 100000",
        }
        return known[path.name]

    monkeypatch.setattr("pathlib.Path.read_text", read)
    found = jobs.usable_memory()
    assert found == least if least is not None else 10**7 < found <= psutil.virtual_memory().total


def test_under_one_thread_threads_go_one_after_another() -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)

    def work(_: int) -> None:
        with jobs.one_thread():
            seen.append(("in", torch.get_num_threads()))
            time.sleep(0.05)
            seen.append(("out", torch.get_num_threads()))

    with jobs.open_engine(3) as engine:
        list(engine.executor.map(work, range(3)))
    assert seen == [("in", 1), ("out", 1)] * 3
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


SLEEPS = """
import os, sys, time
from vae_core import jobs
if __name__ == "__main__":
    with jobs.open_engine(2, compute=True) as engine:
        asked = [engine.executor.submit(time.sleep, 100) for _ in range(5)]
        while len(engine.executor._processes) < 2: time.sleep(0.1)
        print(*engine.executor._processes, flush=True)
        asked[0].result()
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
