"""Fetch a torchvision data set in bounded time: progress, rate and estimate; a stopped download goes on.

Torchvision checks and unpacks; this brings the archives, because torchvision's own download neither
gives up nor continues.
"""

import contextlib
import hashlib
import math
import os
import time
from pathlib import Path
from typing import Any

from vae_core.sources.samples import SAMPLES

_IDX = tuple(f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
UNPACKED = {  # of what torchvision unpacks, the folder and the files that are read
    "mnist": ("MNIST/raw", _IDX),
    "fashion-mnist": ("FashionMNIST/raw", _IDX),
    "cifar10": ("cifar-10-batches-py", _BATCHES),
}
KNOWN = (*UNPACKED, *SAMPLES)
REMEMBERED = 60  # seconds in which a host that could not be reached is not asked again
FIRST_BYTE = 10  # seconds in which something must come
MEASURED = 5  # seconds after which a rate is believed


class DataUnavailable(RuntimeError):
    """A data set is neither on disk nor, in reasonable time, on the network."""


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder of data sets, absolute: ``root``, else ``$VAE_CORE_DATA``, else the user's cache folder.

    The variable is made absolute in the environment too, so that it means the same elsewhere and in children.
    """
    if root is None and (variable := os.environ.get("VAE_CORE_DATA")):
        root = os.environ["VAE_CORE_DATA"] = str(Path(variable).expanduser().absolute())
    if not root:
        import platformdirs

        root = platformdirs.user_cache_dir("vae_core", appauthor=False)
    return Path(root).expanduser().absolute()


def is_folder(name: str) -> bool:
    """Whether ``name`` is the path of a folder, and not a known data set; ``./mnist`` is one, if it is there."""
    try:
        return name not in KNOWN and bool(name) and Path(name).expanduser().is_dir()
    except (OSError, RuntimeError):  # out of reach, or nobody's home
        return False


def unpacked(name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether a data set's files are there as torchvision unpacks them; it finds out itself if some are missing."""
    folder, files = UNPACKED[name]
    return (data_root(root) / folder / files[0]).is_file()


def image_folder(name: str, root: str | os.PathLike | None = None) -> Path | None:
    """The folder of images that ``name`` means: one of the user's, or one in place of a data set's own files."""
    if name not in UNPACKED:
        return Path(name).expanduser().absolute() if is_folder(name) else None
    folder = data_root(root) / name
    both = all((folder / split).is_dir() for split in ("train", "test"))
    return folder if both and not unpacked(name, root) else None


def fingerprint(name: str, root: str | os.PathLike | None = None) -> str:
    """A digest of the names and sizes of the files that are read of a data set; empty where there are none."""
    if (folder := image_folder(name, root)) is not None:
        from vae_core.sources.folder import look

        files = look(folder).files
    else:
        home, names = UNPACKED.get(name, ("", ()))
        folder = data_root(root) / home
        files = sorted((file,) for file in names if (folder / file).is_file())
    digest = hashlib.sha256()
    for parts in files:
        size = 0  # of a broken link
        with contextlib.suppress(OSError):
            size = folder.joinpath(*parts).stat().st_size
        digest.update(f"{'/'.join(parts)} {size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest() if files else ""


_unreachable: dict[tuple[str, str], tuple[str, float]] = {}  # why, and when; a notebook asks for two splits at once


def download(name: str, dataset: Any, root: Path, stand_in: str, *, wait: bool = False, patience: float = 180) -> None:
    """Fetch a torchvision ``dataset`` class into ``root``, check it and unpack it.

    With ``wait`` it takes all the time it needs.

    Raises:
        DataUnavailable: if the first byte takes over FIRST_BYTE seconds, or a file would take over ``patience`` in all.
    """
    from filelock import FileLock, Timeout
    from requests import RequestException

    why, then = _unreachable.get((name, str(root)), ("", -math.inf))
    if not wait and time.monotonic() - then < REMEMBERED:
        raise DataUnavailable(why)
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
                        _fetch(address, path, md5, math.inf if wait else patience)
                        break
                    except (RequestException, DataUnavailable):
                        if address == addresses[-1]:
                            raise
            dataset(root, train=True, download=True)  # finds the archives, checks them and unpacks
    except (DataUnavailable, OSError) as error:
        why = f"cannot be kept under {root} ({getattr(error, 'strerror', None) or error})"
        if isinstance(error, DataUnavailable):
            why = str(error)
        elif isinstance(error, RequestException):
            why = f"cannot be downloaded ({type(error).__name__})"
        elif isinstance(error, Timeout):
            why = "is still being fetched by another process"
        remedies = f"vae-core data {name} --wait, or put torchvision's files under {root}, or use {stand_in}"
        _unreachable[name, str(root)] = f"{name}: {why}; to go on: {remedies}", time.monotonic()
        raise DataUnavailable(_unreachable[name, str(root)][0]) from error


def _fetch(address: str, path: Path, md5: str, patience: float) -> None:
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


def _receive(address: str, part: Path, name: str, patience: float) -> None:
    """What is missing from ``part``, added to it as it comes."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(address, stream=True, timeout=(3, FIRST_BYTE), headers=headers) as reply:
        if reply.status_code == 416:  # nothing beyond what is here; whether it is the file, the checksum tells
            return
        reply.raise_for_status()
        have = have if reply.status_code == 206 else 0
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        part.parent.mkdir(parents=True, exist_ok=True)
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name)
        began, came = time.monotonic(), 0
        with part.open("ab" if have else "wb") as out, bar:
            for chunk in reply.iter_content(1024):  # small, so that a trickle is seen
                out.write(chunk)
                bar.update(len(chunk))
                came += len(chunk)
                elapsed = time.monotonic() - began
                left = (total - have - came) * elapsed / came if total else 0.0
                if elapsed > min(MEASURED, patience) and elapsed + left > patience:
                    more = f"{left / 60:.0f} more minutes" if total else "and nobody says how much is left"
                    rate = f"{came / elapsed / 1000:.0f} kB/s"
                    raise DataUnavailable(f"{name} comes at {rate}, {more}; what came is kept")
        if total and have + came < total:
            raise requests.ConnectionError("the connection was closed early")
