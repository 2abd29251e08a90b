"""What is left after ``vae-core reproduce`` was killed, for tests and for ``make stress``."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


def start(root: Path, *words: str) -> subprocess.Popen:
    """``vae-core reproduce`` in a checkout, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", *words],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def kill(process: subprocess.Popen, patience: float = 30) -> list[psutil.Process]:
    """``kill -9``, of that one process alone; what of its children and theirs is still there after some time."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return psutil.wait_procs(children, timeout=patience)[1]


def about(root: Path) -> list[psutil.Process]:
    """The processes that have to do with a checkout."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(root) in word for word in words):
            found.append(process)
    return found


def gone(root: Path, patience: float = 30) -> list[psutil.Process]:
    """The processes of a checkout that do not end."""
    until = time.monotonic() + patience
    while (found := about(root)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def end(root: Path) -> None:
    """Kill the processes of a folder, but those through which this process itself computes."""
    for process in about(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "multiprocessing" not in " ".join(process.info["cmdline"] or []):
                for one in (*process.children(recursive=True), process):
                    one.kill()


def files_of(root: Path) -> dict[str, str]:
    """The digests of all files under ``figures/`` but the record, which holds times."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "figures").rglob("*"))
        if path.is_file() and path.name != "record.json"
    }


def whole(root: Path) -> list[str]:
    """What of the published set is broken: pictures that are cut short, lists that are not JSON."""
    import json

    from PIL import Image

    broken = []
    for path in (root / "figures").rglob("*"):
        try:
            if path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except (OSError, ValueError) as error:
            broken.append(f"{path.name}: {error}")
    return broken
