"""The execution of one notebook as a process of its own, ``python -m vae_core.regenerate.execute task.json``.

Progress goes to standard output, one JSON object a line. When standard input ends, because whoever asked is gone, the
process ends and its kernel with it.
"""

import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vae_core import environment
from vae_core.parallel import engine as jobs
from vae_core.regenerate import record as fresh
from vae_core.regenerate.record import THREADS

LONG = 60  # characters: of a temporary folder in which a path still is short enough for a socket


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
    place = next((one for one in (jobs.scratch(), tempfile.gettempdir()) if one and len(one) <= LONG), "/tmp")
    short = tempfile.TemporaryDirectory(prefix="vae_core-", dir=place, ignore_cleanup_errors=True)
    with _folder(task["folder"]) as folder, short as sockets:
        (folder / "sweeps").mkdir()
        for name, text in task["sweeps"].items():
            (folder / "sweeps" / f"sweep_{name}.json").write_text(text, encoding="utf-8")
        (folder / "source.ipynb").write_text(task["source"], encoding="utf-8")
        (folder / "task.json").write_text(json.dumps(task | {"source": "", "sweeps": [*task["sweeps"]]}))
        began = time.monotonic()
        told, error = _child(task, folder, sockets,
                             lambda cell: jobs.tell(topic, {"notebook": task["name"], "cell": cell}),
                             unwanted)  # fmt: skip
        output = folder / "executed.ipynb"
        made = folder / "figures"
        return {
            "error": error or (told.get("failed") or {}).get("error"),
            "cell": (told.get("failed") or {}).get("cell"),
            "seconds": time.monotonic() - began,
            "peak_bytes": told.get("peak_bytes", 0),
            "data": told.get("data", {}),
            "machine": environment.machine(),
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
    task: dict[str, Any], folder: Path, sockets: str, cell: Callable[[int], None], unwanted: Callable[[], bool]
) -> tuple[dict[str, Any], str | None]:
    """Start the process and wait for it; the last that it told, and what stopped it if it did not end by itself."""
    errors = folder / "stderr.txt"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "vae_core.regenerate.execute", str(folder / "task.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=_environment(task, folder, sockets),
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
    found = _died(f"its process, at cell {last.get('cell', 0)},", process.returncode)
    found += f": {ending[0]}" if ending else ""
    return last, stopped[0] if stopped else found


def _died(what: str, code: int | None) -> str:
    """What to say of a process that ended with such a code before it was done."""
    if code == -signal.SIGKILL:
        return f"{what} died: killed by the system, likely for memory; give fewer --jobs, smaller data or more memory"
    return f"{what} died with code {code}"


def _environment(task: dict[str, Any], folder: Path, sockets: str) -> dict[str, str]:
    """The variables of the process and of its kernel, where nothing is left of what the user set for Jupyter."""
    data = os.environ.get("VAE_CORE_DATA") or task["data"]
    runs = os.environ.get("VAE_CORE_RUNS") or task["runs"] or folder / "runs"
    environment = os.environ | {
        "VAE_CORE_FIGURES": str(folder / "figures"), "VAE_CORE_SWEEPS": str(folder / "sweeps"),
        "VAE_CORE_RUNS": str(Path(runs).expanduser().resolve()), "JUPYTER_RUNTIME_DIR": sockets,
        "VAE_CORE_DEVICE": "cpu", "PYTHONHASHSEED": "0", "MATPLOTLIBRC": os.devnull,
    }  # fmt: skip
    environment |= dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"), str(folder / "jupyter"))
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
    if data:
        environment["VAE_CORE_DATA"] = str(Path(data).expanduser().resolve())
    for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP"):
        environment.pop(name, None)
    environment.pop("MPLBACKEND", None)  # would reach the kernel and hide inline figures
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)  # Dask's, for workers of many small results; it slows torch
    environment.pop("TQDM_DISABLE", None)  # that of workers; an executed notebook shows its bars
    return environment


def failure(executed: Any) -> dict[str, Any] | None:
    """The first cell that failed in an executed notebook: its number, from 1, among the source's cells, and its error.

    Papermill takes ``sys.exit(0)`` for success, and a cell that never ran leaves no error; both count here.
    """
    for number, cell in enumerate(_own(executed.cells), start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        for output in cell.outputs:
            if output.output_type == "error":
                return {"cell": number, "error": f"{output.ename}: {output.evalue}".strip()}
        if cell.execution_count is None:
            return {"cell": number, "error": "the cell was never executed"}
    return None


def _own(cells: Any) -> list[Any]:
    """Those of the cells that are the source's, not papermill's."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    return [cell for cell in cells if not added & set(cell.metadata.get("tags", []))]


def execute(source: Path, output: Path, parameters: dict[str, Any], tell: Any) -> dict[str, Any] | None:
    """Run the notebook ``source`` into the file ``output``, telling of each cell; the failure, or ``None``."""
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

        def __init__(self, **given: Any) -> None:
            native = KernelSpecManager(kernel_dirs=[])
            file = str(Path(os.environ["JUPYTER_RUNTIME_DIR"]) / "k.json")
            super().__init__(kernel_spec_manager=native, transport="ipc", connection_file=file, **given)
            kernels.append(self)

    def cell_starts(cell: Any, cell_index: int) -> None:
        nonlocal begun, process
        begun, process = cell_index, kernels[0].provisioner.process
        tell(cell=cell_index)

    try:
        papermill.execute_notebook(
            str(source),
            str(output),
            parameters=parameters,
            kernel_name="python3",
            kernel_manager_class=Kernel,
            start_timeout=300,
            progress_bar=False,
            on_cell_start=cell_starts,
            store_widget_state=False,
        )
    except DeadKernelError:
        ran = _own(nbformat.read(output, as_version=4).cells[: begun + 1])
        return {"cell": len(ran) or None, "error": _died("its kernel", process and process.returncode)}
    except PapermillException as error:
        return failure(nbformat.read(output, as_version=4)) or {"cell": None, "error": str(error).strip()}
    except Exception as error:
        return {"cell": None, "error": f"{type(error).__name__}: {error}"}
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
        shutil.rmtree(os.environ["JUPYTER_RUNTIME_DIR"], ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    sweeps = {name: (folder / "sweeps" / f"sweep_{name}.json").read_bytes() for name in task["sweeps"]}
    here = fresh.inputs(task["code"], task["parameters"], sweeps)
    if task["folder"]:  # the machine that asked: the first of the notebooks may have fetched the data meanwhile
        task["inputs"]["data"] = here["data"]
    if differs := fresh.changes(task["inputs"], here):
        error = f"not run: {fresh.abridge(differs)} on {platform.node()} not as where it was asked for"
        tell(failed={"cell": None, "error": error}, peak_bytes=0)
        return 1
    failed = execute(folder / "source.ipynb", folder / "executed.ipynb", task["parameters"], tell)
    fresh.forget()
    after = fresh.inputs(task["code"], task["parameters"], sweeps)
    if failed is None and (differs := fresh.changes(here | {"data": after["data"]}, after)):
        failed = {"cell": None, "error": f"{fresh.abridge(differs)} changed while it ran"}
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    tell(failed=failed, peak_bytes=peak, data=after["data"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
