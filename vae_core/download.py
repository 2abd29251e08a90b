"""Fetch a torchvision data set in bounded time: progress, rate and estimate; a stopped download goes on.

Torchvision checks and unpacks; this brings the archives, because torchvision's own download neither
gives up nor continues.
"""

import time
from pathlib import Path
from typing import Any


class DataUnavailable(RuntimeError):
    """A data set is neither on disk nor, in reasonable time, on the network."""


_unreachable: dict[tuple[str, str], str] = {}  # a notebook asks for two splits; the network is tried once


def download(name: str, dataset: Any, root: Path, stand_in: str, *, wait: bool = False, patience: float = 180) -> None:
    """Fetch a torchvision ``dataset`` class into ``root``, check it and unpack it.

    Ends with :class:`DataUnavailable` if the first byte takes more than 10 s or the rest would take more
    than ``patience`` seconds; with ``wait`` it takes all the time it needs.
    """
    import requests

    if not wait and (name, str(root)) in _unreachable:
        raise DataUnavailable(_unreachable[name, str(root)])
    if hasattr(dataset, "mirrors"):
        raw = root / dataset.__name__ / "raw"
        files = [(raw / file, [mirror + file for mirror in dataset.mirrors], md5) for file, md5 in dataset.resources]
    else:
        files = [(root / dataset.filename, [dataset.url], dataset.tgz_md5)]
    try:
        for path, addresses, md5 in files:
            for address in addresses:
                try:
                    _fetch(address, path, md5, None if wait else patience)
                    break
                except (requests.RequestException, DataUnavailable):
                    if address == addresses[-1]:
                        raise
        dataset(root, train=True, download=True)  # finds the archives, checks them and unpacks
    except (requests.RequestException, DataUnavailable, OSError) as error:
        if isinstance(error, DataUnavailable):
            why = str(error)
        elif isinstance(error, requests.RequestException):
            why = f"cannot be downloaded ({type(error).__name__})"
        else:
            why = f"cannot be kept under {root} ({error.strerror or error})"
        _unreachable[name, str(root)] = (
            f"{name}: {why}; to go on: vae-core data {name} --wait, "
            f"or put torchvision's files under {root}, or use {stand_in}"
        )
        raise DataUnavailable(_unreachable[name, str(root)]) from error


def _fetch(address: str, path: Path, md5: str, patience: float | None) -> None:
    """One file, whole and checked or not at all; what has come so far waits in ``path.part``."""
    import requests
    from filelock import FileLock
    from torchvision.datasets.utils import check_integrity
    from tqdm import tqdm

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(str(part) + ".lock"):
        if check_integrity(path, md5):
            return
        have = part.stat().st_size if part.exists() else 0
        wanted = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(address, stream=True, timeout=10, headers={**wanted, "Accept-Encoding": "identity"}) as reply:
            if reply.status_code == 416:  # nothing beyond what is here: whole, or of another file
                have = 0 if not check_integrity(part, md5) else have
            else:
                reply.raise_for_status()
                have = have if reply.status_code == 206 else 0
                total = have + int(reply.headers.get("Content-Length", 0))
                began, came = time.monotonic(), 0
                with (
                    part.open("ab" if have else "wb") as out,
                    tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=path.name) as bar,
                ):
                    for chunk in reply.iter_content(1 << 14):
                        out.write(chunk)
                        bar.update(len(chunk))
                        came += len(chunk)
                        elapsed = time.monotonic() - began
                        left = (total - have - came) * elapsed / came
                        if patience is not None and elapsed > min(5, patience) and left > patience:
                            raise DataUnavailable(
                                f"{path.name} comes at {came / elapsed / 1000:.0f} kB/s, "
                                f"{left / 60:.0f} more minutes; what came is kept"
                            )
        if not check_integrity(part, md5):
            part.unlink(missing_ok=True)
            raise DataUnavailable(f"{path.name} arrived damaged (wrong checksum) and was removed")
        part.replace(path)
