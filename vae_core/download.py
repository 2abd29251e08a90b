"""Fetch a torchvision data set in bounded time: progress, rate and estimate; a stopped download goes on.

Torchvision checks and unpacks; this brings the archives, because torchvision's own download neither
gives up nor continues.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

UNPACKED = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw", "cifar10": "cifar-10-batches-py"}


class DataUnavailable(RuntimeError):
    """A data set is neither on disk nor, in reasonable time, on the network."""


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder of data sets: ``root``, else ``$VAE_CORE_DATA``, else the user's cache folder."""
    if root is None:
        root = os.environ.get("VAE_CORE_DATA")
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("vae_core", appauthor=False)
    return Path(root).expanduser()


def fingerprint(name: str, root: str | os.PathLike | None = None) -> str:
    """A digest of the names and sizes of a data set's files; empty where there are none, as for what is built in."""
    unpacked, found = data_root(root) / UNPACKED.get(name, name), hashlib.sha256()
    folder = unpacked if unpacked.is_dir() else data_root(root) / name if name in UNPACKED else Path(name)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    for path in files:
        found.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
    return found.hexdigest() if files else ""


_unreachable: dict[tuple[str, str], str] = {}  # a notebook asks for two splits; the network is tried once


def download(name: str, dataset: Any, root: Path, stand_in: str, *, wait: bool = False, patience: float = 180) -> None:
    """Fetch a torchvision ``dataset`` class into ``root``, check it and unpack it.

    Ends with :class:`DataUnavailable` if the first byte takes more than 10 s or a file would take more
    than ``patience`` seconds in all; with ``wait`` it takes all the time it needs.
    """
    import requests
    from filelock import FileLock, Timeout

    if not wait and (name, str(root)) in _unreachable:
        raise DataUnavailable(_unreachable[name, str(root)])
    if hasattr(dataset, "mirrors"):
        raw = root / dataset.__name__ / "raw"
        files = [(raw / file, [mirror + file for mirror in dataset.mirrors], md5) for file, md5 in dataset.resources]
    else:
        files = [(root / dataset.filename, [dataset.url], dataset.tgz_md5)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock", timeout=-1 if wait else patience):
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
        elif isinstance(error, Timeout):
            why = "is still being fetched by another process"
        else:
            why = f"cannot be kept under {root} ({error.strerror or error})"
        _unreachable[name, str(root)] = (
            f"{name}: {why}; to go on: vae-core data {name} --wait, "
            f"or put torchvision's files under {root}, or use {stand_in}"
        )
        raise DataUnavailable(_unreachable[name, str(root)]) from error


def _fetch(address: str, path: Path, md5: str, patience: float | None) -> None:
    """One file, whole and checked or not at all; what has come so far waits in ``path.part``."""
    from torchvision.datasets.utils import check_integrity

    part = path.with_name(path.name + ".part")
    if check_integrity(path, md5):
        return
    if not check_integrity(part, md5):
        _receive(address, part, path.name, patience)
    if not check_integrity(part, md5):
        part.unlink(missing_ok=True)
        raise DataUnavailable(f"{path.name} arrived damaged (wrong checksum) and was removed")
    part.replace(path)


def _receive(address: str, part: Path, name: str, patience: float | None) -> None:
    """What is missing from ``part``, added to it as it comes."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(address, stream=True, timeout=(3, 10), headers=headers) as reply:
        if reply.status_code == 416:  # nothing beyond what is here; whether it is the file, the checksum tells
            return
        reply.raise_for_status()
        have = have if reply.status_code == 206 else 0
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        part.parent.mkdir(parents=True, exist_ok=True)
        began, came = time.monotonic(), 0
        with (
            part.open("ab" if have else "wb") as out,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name) as bar,
        ):
            while chunk := _chunk(reply):
                out.write(chunk)
                bar.update(len(chunk))
                came += len(chunk)
                elapsed = time.monotonic() - began
                left = (total - have - came) * elapsed / came if total else 0.0
                if patience is not None and elapsed > min(5, patience) and elapsed + left > patience:
                    more = f"{left / 60:.0f} more minutes" if total else "and nobody says how much is left"
                    raise DataUnavailable(
                        f"{name} comes at {came / elapsed / 1000:.0f} kB/s, {more}; what came is kept"
                    )
        if total and have + came < total:
            raise requests.ConnectionError("the connection was closed early")


def _chunk(reply: Any) -> bytes:
    """What has arrived, at once, be it little; nothing at the end."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        return reply.raw.read1(1 << 16)
    except HTTPError as error:
        raise requests.ConnectionError(error) from error
