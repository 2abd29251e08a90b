"""The execution of one notebook as a process of its own, ``python -m vae_core.execute task.json``.

Progress goes to standard output, one JSON object a line. When standard input ends, because whoever asked is gone, the
process ends and its kernel with it.
"""

import contextlib
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vae_core import fresh, jobs, provenance

THREADS = 1  # of every reproduced kernel: the same bytes however many run at once
STARTS = 60  # seconds to wait for kernels that start before this one


def run(task: dict[str, Any], topic: str) -> dict[str, Any]:
    """Run a notebook, here or on a worker of a cluster; what it made, as bytes.

    The ``task``: name, source (the text of the .ipynb), code, parameters, sweeps (text by name), inputs (which must be
    the same where it runs), timeout in seconds or None, and folders or None: data, runs, folder (for files of its own)
    and root (the current one), where None stands for temporary ones. The result: error or None, cell, seconds,
    peak_bytes, machine, data (fingerprints, when it was over), output (the text of the executed notebook, maybe
    partial, or None), figures (bytes by path).
    Cells are told under ``topic``.
    """
    unwanted = jobs.unwanted(topic)
    with _folder(task["folder"]) as folder:
        (folder / "sweeps").mkdir()
        for name, text in task["sweeps"].items():
            (folder / "sweeps" / f"sweep_{name}.json").write_text(text, encoding="utf-8")
        (folder / "source.ipynb").write_text(task["source"], encoding="utf-8")
        (folder / "task.json").write_text(json.dumps(task | {"source": "", "sweeps": [*task["sweeps"]]}))
        began = time.monotonic()
        told, error = _child(task, folder, lambda cell: jobs.tell(topic, {"notebook": task["name"], "cell": cell}),
                             unwanted)  # fmt: skip
        output = folder / "executed.ipynb"
        made = folder / "figures"
        return {
            "error": error or (told.get("failed") or {}).get("error"),
            "cell": (told.get("failed") or {}).get("cell"),
            "seconds": time.monotonic() - began,
            "peak_bytes": told.get("peak_bytes", 0),
            "data": told.get("data", {}),
            "machine": provenance.machine(),
            "output": output.read_text(encoding="utf-8") if output.exists() else None,
            "figures": {
                str(path.relative_to(made)): path.read_bytes() for path in sorted(made.rglob("*")) if path.is_file()
            },
        }


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    """An empty folder, which stays if it was ``given``."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="vae_core-", dir=jobs.scratch()) as temporary:
            yield Path(temporary)
        return
    folder = Path(given)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder


def _child(
    task: dict[str, Any], folder: Path, cell: Callable[[int], None], unwanted: Callable[[], bool]
) -> tuple[dict[str, Any], str | None]:
    """Start the process and wait for it; the last that it told, and what stopped it if it did not end by itself."""
    errors = folder / "stderr.txt"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vae_core.execute", str(folder / "task.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=_environment(task, folder),
            cwd=task["root"] or folder,
            text=True,
            start_new_session=True,
        )
    last: dict[str, Any] = {}
    stopped: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        import psutil

        until = time.monotonic() + (task["timeout"] or float("inf"))
        while not ended.wait(0.5):
            if time.monotonic() > until:
                stopped.append(f"no end after {task['timeout']:g} s; it was at cell {last.get('cell', 0)}")
            elif unwanted():
                stopped.append("nobody waits for it any more")
            if stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    own = psutil.Process(process.pid)
                    for one in (own, *own.children(recursive=True)):
                        one.kill()  # a kernel may be in no state to see that it is alone
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with process:
            for line in process.stdout or ():
                last = json.loads(line)
                if "cell" in last:
                    cell(last["cell"])
    finally:
        ended.set()
        watcher.join()
    if "failed" in last and not stopped:
        return last, None
    ending = errors.read_text().strip().splitlines()[-1:]
    found = f"its process ended with code {process.returncode}" + (f": {ending[0]}" if ending else "")
    return last, stopped[0] if stopped else found


def _environment(task: dict[str, Any], folder: Path) -> dict[str, str]:
    """The variables of the process and of its kernel."""
    data = os.environ.get("VAE_CORE_DATA") or task["data"]
    environment = os.environ | {
        "VAE_CORE_FIGURES": str(folder / "figures"), "VAE_CORE_SWEEPS": str(folder / "sweeps"),
        "VAE_CORE_RUNS": os.environ.get("VAE_CORE_RUNS") or task["runs"] or str(folder / "runs"),
        "VAE_CORE_DEVICE": "cpu", "PYTHONHASHSEED": "0",
    }  # fmt: skip
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    if data:
        environment["VAE_CORE_DATA"] = str(Path(data).resolve())
    environment.pop("MPLBACKEND", None)  # would reach the kernel and hide inline figures
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers of many small results; it slows torch
    environment.pop("TQDM_DISABLE", None)  # that of workers; an executed notebook shows its bars
    return environment


def failure(executed: Any) -> dict[str, Any] | None:
    """The first cell that failed in an executed notebook: its number, from 1, among the source's cells, and its error.

    Papermill takes ``sys.exit(0)`` for success, and a cell that never ran leaves no error; both count here.
    """
    number = 0
    for cell in executed.cells:
        if {"injected-parameters", "papermill-error-cell-tag"} & set(cell.metadata.get("tags", [])):
            continue  # papermill's own
        number += 1
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                return {"cell": number, "error": f"{output.ename}: {output.evalue}".strip()}
        if cell.execution_count is None:
            return {"cell": number, "error": "the cell was never executed"}
    return None


def execute(source: Path, output: Path, parameters: dict[str, Any], tell: Any) -> dict[str, Any] | None:
    """Run the notebook ``source`` into the file ``output``, telling of each cell; the failure, or ``None``.

    Kernels that start at the same moment can pick the same ports: all but one die before their first cell. So they
    start one after another, by a lock of the user's, and one that dies all the same is started again.
    """
    import nbformat
    import papermill
    from filelock import FileLock, Timeout
    from jupyter_core.paths import jupyter_runtime_dir
    from papermill.exceptions import PapermillException

    runtime = Path(jupyter_runtime_dir())
    starting = FileLock(runtime / "vae_core.lock")
    begun = False

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal begun
        begun = True
        starting.release()
        tell(cell=cell_index)

    for attempt in (1, 2, 3):
        try:
            runtime.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout):
                starting.acquire(timeout=STARTS)
            papermill.execute_notebook(
                str(source),
                str(output),
                parameters=parameters,
                kernel_name="python3",
                progress_bar=False,
                on_cell_start=cell_starts,
                store_widget_state=False,
            )
            break
        except PapermillException as error:
            return failure(nbformat.read(output, as_version=4)) or {"cell": None, "error": str(error).strip()}
        except Exception as error:
            if begun or attempt == 3:
                return {"cell": None, "error": f"{type(error).__name__}: {error}"}
            time.sleep(attempt + random.random())
        finally:
            starting.release()
    return failure(nbformat.read(output, as_version=4))


def main() -> int:
    """Read the task named on the command line, run it, say how it went."""
    path = Path(sys.argv[1]).resolve()
    task, folder = json.loads(path.read_text(encoding="utf-8")), path.parent

    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the words of libraries, and of the kernel, are none of ours

    def tell(**event: Any) -> None:
        print(json.dumps(event), file=channel, flush=True)

    def watch() -> None:
        import psutil

        sys.stdin.read()
        for one in psutil.Process().children(recursive=True):
            one.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    sweeps = {name: (folder / "sweeps" / f"sweep_{name}.json").read_bytes() for name in task["sweeps"]}
    here = fresh.inputs(task["code"], task["parameters"], sweeps)
    if task["folder"]:  # the machine that asked: the first of the notebooks may have fetched the data meanwhile
        task["inputs"]["data"] = here["data"]
    if differs := fresh.changes(task["inputs"], here):
        error = f"not run: {fresh.few(differs)} on {platform.node()} not as where it was asked for"
        tell(failed={"cell": None, "error": error}, peak_bytes=0)
        return 1
    failed = execute(folder / "source.ipynb", folder / "executed.ipynb", task["parameters"], tell)
    fresh.forget()
    after = fresh.inputs(task["code"], task["parameters"], sweeps)
    if failed is None and (differs := fresh.changes(here | {"data": after["data"]}, after)):
        failed = {"cell": None, "error": f"{fresh.few(differs)} changed while it ran"}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tell(failed=failed, peak_bytes=peak, data=after["data"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
