"""The execution of one notebook as a process of its own, ``python -m vae_core.regenerate.execute task.json``.

Progress goes to standard output, one JSON object a line. When standard input ends, because whoever asked is gone, the
process ends and its kernel with it.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from vae_core import environment
from vae_core.parallel.engine import emit, unwanted
from vae_core.regenerate import record
from vae_core.regenerate.record import THREADS

SHORT = 60  # characters: of a temporary folder in which a path is no longer than a socket's may be


def run(task: dict[str, Any], topic: str) -> dict[str, Any]:
    """Run a notebook in a temporary folder, here or on a worker of a cluster; its outputs, as bytes.

    The ``task``: name, source (the text of the .ipynb), code, parameters, sweeps (text by name), timeout in seconds or
    None, and paths or None: data, runs and root (where it runs), where None stands for the temporary folder. The
    result: error or None, cell, seconds, peak_bytes, machine, inputs (as they were when it was over), output (the text
    of the executed notebook, maybe partial, or None), figures (bytes by path). Cells are events of the ``topic``.
    """
    place = tempfile.gettempdir() if len(tempfile.gettempdir()) <= SHORT else "/tmp"
    with tempfile.TemporaryDirectory(prefix="vae_core-", dir=place, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        (folder / "sweeps").mkdir()
        for name, text in task["sweeps"].items():
            (folder / "sweeps" / f"sweep_{name}.json").write_text(text, encoding="utf-8")
        (folder / "source.ipynb").write_text(task["source"], encoding="utf-8")
        (folder / "task.json").write_text(json.dumps({k: task[k] for k in ("code", "parameters", "sweeps")}))
        began = time.monotonic()
        last, error = _child(task, folder, topic)
        output, figures = folder / "executed.ipynb", folder / "figures"
        failed = last["failed"] or {"error": None, "cell": None} if "failed" in last else {"error": error, "cell": None}
        return failed | {
            "seconds": time.monotonic() - began,
            "peak_bytes": last.get("peak_bytes", 0),
            "inputs": last.get("inputs", {}),
            "machine": environment.machine(),
            "output": output.read_text(encoding="utf-8") if output.exists() else None,
            "figures": {str(p.relative_to(figures)): p.read_bytes() for p in sorted(figures.rglob("*")) if p.is_file()},
        }


def _child(task: dict[str, Any], folder: Path, topic: str) -> tuple[dict[str, Any], str]:
    """Start the process and wait for it; its last event, and what stopped it if it did not end by itself."""
    last: dict[str, Any] = {}
    stopped, over, nobody_waits, errors = "", False, unwanted(topic), folder / "stderr.txt"
    until = time.monotonic() + (task["timeout"] or float("inf"))
    words = [sys.executable, "-m", "vae_core.regenerate.execute", str(folder / "task.json")]
    options: dict[str, Any] = {"cwd": task["root"] or folder, "env": _environment(task, folder)}
    options |= {"stdin": subprocess.PIPE, "start_new_session": True}
    with (
        (folder / "events.txt").open("w") as out,
        (folder / "events.txt").open() as lines,
        errors.open("w") as err,
        subprocess.Popen(words, stdout=out, stderr=err, **options) as process,
    ):
        while not (over or stopped):
            time.sleep(0.1)
            over = process.poll() is not None
            for line in lines:
                last = json.loads(line)
                if "cell" in last:
                    emit(topic, {"notebook": task["name"], "cell": last["cell"]})
            if time.monotonic() > until:
                stopped = f"no end after {task['timeout']:g} s; it was at cell {last.get('cell', 0)}"
            elif nobody_waits():
                stopped = "nobody waits for it any more"
        for each in [] if over else [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()  # a kernel may be in no state to see that it is alone
    died = _died(f"its process, at cell {last.get('cell', 0)},", process.returncode)
    return last, stopped or ": ".join([died, *errors.read_text().strip().splitlines()[-1:]])


def _died(what: str, code: int | None) -> str:
    """How a process ended that was not done."""
    if code == -signal.SIGKILL:
        return f"{what} died: killed by the system, likely for memory; give fewer --jobs, smaller data or more memory"
    return f"{what} died with code {code}"


def _environment(task: dict[str, Any], folder: Path) -> dict[str, str]:
    """The variables of the process and of its kernel, where nothing is left of what the user set for Jupyter."""
    data = os.environ.get("VAE_CORE_DATA") or task["data"]
    runs = os.environ.get("VAE_CORE_RUNS") or task["runs"] or folder / "runs"
    variables = dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(folder / "jupyter"))
    variables |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    variables |= dict.fromkeys(("VAE_CORE_BUILD", "JUPYTER_RUNTIME_DIR"), str(folder))
    variables |= {"VAE_CORE_SWEEPS": str(folder / "sweeps"), "MATPLOTLIBRC": os.devnull}
    variables |= {"VAE_CORE_DEVICE": "cpu", "PYTHONHASHSEED": "0"}
    paths = {"VAE_CORE_RUNS": runs} | ({"VAE_CORE_DATA": data} if data else {})
    variables |= {name: str(Path(path).expanduser().resolve()) for name, path in paths.items()}
    foreign = {"JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP"}
    foreign.add("MPLBACKEND")  # would reach the kernel and hide inline figures
    foreign.add("MALLOC_TRIM_THRESHOLD_")  # Dask's, for workers of many small results; it slows torch
    foreign.add("TQDM_DISABLE")  # that of workers; an executed notebook shows its bars
    return {name: value for name, value in os.environ.items() if name not in foreign} | variables


def failure(executed: Any) -> dict[str, Any] | None:
    """The first cell that failed in an executed notebook: its number, from 1, among the source's cells, and its error.

    Papermill takes ``sys.exit(0)`` for success, and a cell that never ran leaves no error; both count here.
    """
    for number, cell in enumerate(_source_cells(executed.cells), start=1):
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                return {"cell": number, "error": f"{output.ename}: {output.evalue}".strip()}
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            return {"cell": number, "error": "the cell was never executed"}
    return None


def _source_cells(cells: Any) -> list[Any]:
    """Those of the cells that papermill has not added."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    return [cell for cell in cells if not added & set(cell.metadata.get("tags", []))]


def execute(
    source: Path, output: Path, parameters: dict[str, Any], on_cell: Callable[[int], None]
) -> dict[str, Any] | None:
    """Run the notebook ``source`` into the file ``output``, with a call for each cell; the failure, or ``None``."""
    import nbformat
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillException

    kernels: list[Any] = []
    begun, process = -1, None

    class Kernel(AsyncKernelManager):
        """This interpreter, whatever kernels are installed, at sockets that no other kernel can take."""

        def __init__(self, **kwargs: Any) -> None:
            kwargs |= {"kernel_spec_manager": KernelSpecManager(kernel_dirs=[]), "transport": "ipc"}
            super().__init__(connection_file=f"{os.environ['JUPYTER_RUNTIME_DIR']}/k.json", **kwargs)
            kernels.append(self)

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal begun, process
        begun, process = cell_index, kernels[0].provisioner.process
        on_cell(cell_index)

    options = {"kernel_name": "python3", "kernel_manager_class": Kernel, "start_timeout": 300}
    options |= {"progress_bar": False, "on_cell_start": cell_starts, "store_widget_state": False}
    reason = None
    try:
        papermill.execute_notebook(str(source), str(output), parameters=parameters, **options)
    except DeadKernelError:
        ran = _source_cells(nbformat.read(output, as_version=4).cells[: begun + 1])
        return {"cell": len(ran) or None, "error": _died("its kernel", process and process.returncode)}
    except PapermillException as error:
        reason = {"cell": None, "error": str(error).strip()}
    except Exception as error:
        return {"cell": None, "error": f"{type(error).__name__}: {error}"}
    return failure(nbformat.read(output, as_version=4)) or reason


def main() -> int:
    """Run the task named on the command line; how it went is the last event."""
    path = Path(sys.argv[1]).resolve()
    task, folder, over = json.loads(path.read_text()), path.parent, threading.Event()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the words of libraries, and of the kernel, are none of ours

    def write(**event: Any) -> None:
        print(json.dumps(event), file=channel, flush=True)

    def end_with_parent() -> None:
        sys.stdin.read()
        if not over.is_set():  # else it is about to read the outputs
            for each in psutil.Process().children(recursive=True):
                each.kill()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    source, output = folder / "source.ipynb", folder / "executed.ipynb"
    failed = execute(source, output, task["parameters"], lambda cell: write(cell=cell))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    sweeps = {name: text.encode() for name, text in task["sweeps"].items()}
    over.set()
    write(failed=failed, peak_bytes=peak, inputs=record.inputs(task["code"], task["parameters"], sweeps))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
