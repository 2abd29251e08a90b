import gzip
import hashlib
import io
import pickle
import re
import resource
import struct
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from vae_core.data import load_images, on_disk
from vae_core.sources import torchvision_files
from vae_core.sources.torchvision_files import DataUnavailable, _unreachable, download

ARCHIVE = "cifar-10-python.tar.gz"
RATES = {"slow": 50_000, "trickle": 5000, "endless": 50_000, "fading": 5000}  # bytes per second


class Server(ThreadingHTTPServer):
    """Serves ``/<how>/<file>``, and how it does is in the address; knows what was asked and what was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.seen: list[dict] = []
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that gives up is what the tests are about

    def close(self):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        how, name = self.path.strip("/").split("/")
        data = self.server.files[name]
        seen = {"path": self.path, "range": self.headers["Range"], "sent": 0}
        self.server.seen.append(seen)
        if how == "hang":
            self.server.closing.wait(30)
            return
        if how == "missing":
            self.send_error(404)
            return
        if how == "damaged":
            data = bytes(len(data))
        start = int(seen["range"].removeprefix("bytes=").removesuffix("-")) if seen["range"] else 0
        if how == "whole":  # knows no ranges
            start = 0
        if start and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if how != "endless":
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) // 2 if how == "dropped" else len(data)
        head = end - 100_000 if how == "fading" else start  # so much at once
        rate = RATES.get(how, 1e9)
        began, at = time.monotonic(), start
        while at < end:
            piece = data[at : head if at < head else min(end, at + max(1, min(1 << 16, int(rate / 20))))]
            at += len(piece)
            seen["sent"] += len(piece)  # before: whoever has the last byte may look at once
            self.wfile.write(piece)
            if self.server.closing.wait(max(0, (at - head) / rate - time.monotonic() + began)):
                return


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    _unreachable.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    serving = Server()
    yield serving
    serving.close()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def random_bytes(n: int) -> bytes:
    return np.random.default_rng(0).bytes(n)


def cifar(server: Server, how: str, n: int = 40) -> type[datasets.CIFAR10]:
    """CIFAR-10 of n + 10 images of noise, about 3 kB each; the server serves it in this way."""
    parts = {}
    for name, count in (("data_batch_1", n), ("test_batch", 10)):
        data = np.frombuffer(random_bytes(count * 3072), dtype=np.uint8).reshape(count, 3072)
        parts[name] = pickle.dumps({"data": data, "labels": [i % 10 for i in range(count)]})
    parts["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in parts.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    server.files[ARCHIVE] = packed.getvalue()
    attributes = {
        "url": f"{server.address}/{how}/{ARCHIVE}",
        "tgz_md5": md5(packed.getvalue()),
        "train_list": [["data_batch_1", md5(parts["data_batch_1"])]],
        "test_list": [["test_batch", md5(parts["test_batch"])]],
        "meta": {"filename": "batches.meta", "key": "label_names", "md5": md5(parts["batches.meta"])},
    }
    return type("CIFAR10", (datasets.CIFAR10,), attributes)


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def mnist(server: Server, *ways: str, n: int = 30) -> type[datasets.MNIST]:
    """MNIST of n + 10 digits of noise, with one mirror for each way of serving."""
    resources = []
    for part, count in (("train", n), ("t10k", 10)):
        pixels = np.frombuffer(random_bytes(count * 784), dtype=np.uint8).reshape(count, 28, 28)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in ((f"{part}-images-idx3-ubyte.gz", pixels), (f"{part}-labels-idx1-ubyte.gz", labels)):
            server.files[name] = idx(array)
            resources.append((name, md5(server.files[name])))
    mirrors = [f"{server.address}/{how}/" for how in ways]
    return type("MNIST", (datasets.MNIST,), {"mirrors": mirrors, "resources": resources})


def fetch(dataset, root: Path, **options) -> None:
    download("cifar10", dataset, root, "photos-sample", **options)


# --- what works ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["quick", "whole"])
def test_mnist_is_downloaded_once_and_loaded(server, monkeypatch, tmp_path, how):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, how))
    train = load_images("mnist", root=tmp_path / "new" / "folder")
    test = load_images("mnist", "test", root=tmp_path / "new" / "folder")
    assert train.images.shape == (30, 1, 28, 28)
    assert train.images.numpy().tobytes() == random_bytes(30 * 784)
    assert test.labels.tolist() == list(range(10))
    assert train.source.startswith("mnist:")
    assert sorted(seen["path"] for seen in server.seen) == sorted(f"/{how}/{name}" for name in server.files)
    assert not list(tmp_path.rglob("*.part"))


def test_cifar10_is_downloaded_and_loaded(server, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "CIFAR10", cifar(server, "quick"))
    train = load_images("cifar10", root=tmp_path)
    assert train.images.shape == (40, 3, 32, 32)
    assert train.images.numpy().tobytes() == random_bytes(40 * 3072)
    assert train.labels.tolist() == [i % 10 for i in range(40)]
    assert load_images("cifar10", "test", root=tmp_path).images.shape == (10, 3, 32, 32)
    assert len(server.seen) == 1


@pytest.mark.parametrize("first", ["missing", "damaged", "dropped"])
def test_the_second_mirror_is_used_when_the_first_fails(server, monkeypatch, tmp_path, first):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, first, "quick"))
    assert load_images("mnist", root=tmp_path).images.numpy().tobytes() == random_bytes(30 * 784)
    assert [seen["path"].split("/")[1] for seen in server.seen] == [first, "quick"] * 4


# --- what stops, and goes on -----------------------------------------------------------------


def test_given_up_then_continued_with_wait(server, tmp_path):
    dataset = cifar(server, "slow", n=23)  # 100 kB at 50 kB/s
    part = tmp_path / f"{ARCHIVE}.part"
    with pytest.raises(DataUnavailable, match="kB/s"):
        fetch(dataset, tmp_path, patience=0.5)
    kept = part.read_bytes()
    whole = server.files[ARCHIVE]
    assert 16_000 < len(kept) < len(whole)
    assert whole.startswith(kept)

    dataset.url = f"{server.address}/quick/{ARCHIVE}"
    fetch(dataset, tmp_path, wait=True)
    first, second = server.seen
    assert first["range"] is None
    assert second["range"] == f"bytes={len(kept)}-"
    assert second["sent"] == len(whole) - len(kept)
    assert (tmp_path / ARCHIVE).read_bytes() == whole
    assert not part.exists()
    assert len(dataset(tmp_path).data) == 23


@pytest.mark.parametrize(("how", "sent"), [("quick", 100_000), ("whole", 0)])
def test_a_stopped_download_goes_on_or_begins_again(server, tmp_path, how, sent):
    dataset = cifar(server, how)
    whole = server.files[ARCHIVE]
    (tmp_path / f"{ARCHIVE}.part").write_bytes(whole[:sent] if sent else b"some of another file")
    fetch(dataset, tmp_path)
    assert [seen["range"] for seen in server.seen] == [f"bytes={sent or 20}-"]
    assert server.seen[0]["sent"] == len(whole) - sent
    assert (tmp_path / ARCHIVE).read_bytes() == whole


def test_a_dropped_connection_keeps_what_came(server, tmp_path):
    dataset = cifar(server, "dropped")
    with pytest.raises(DataUnavailable, match="cannot be downloaded"):
        fetch(dataset, tmp_path)
    whole = server.files[ARCHIVE]
    kept = (tmp_path / f"{ARCHIVE}.part").read_bytes()
    assert len(kept) > len(whole) // 2 - 20_000
    assert whole.startswith(kept)
    dataset.url = f"{server.address}/quick/{ARCHIVE}"
    fetch(dataset, tmp_path, wait=True)
    assert server.seen[1]["sent"] == len(whole) - len(kept)


@pytest.mark.parametrize("how", ["quick", "whole"])
def test_stopped_between_the_last_byte_and_the_renaming(server, tmp_path, how):
    dataset = cifar(server, how)
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.files[ARCHIVE])
    fetch(dataset, tmp_path)
    assert len(dataset(tmp_path).data) == 40
    assert sum(seen["sent"] for seen in server.seen) == 0


@pytest.mark.parametrize("excess", [0, 5])
def test_a_rest_of_another_file_is_removed(server, tmp_path, excess):
    dataset = cifar(server, "quick")
    (tmp_path / f"{ARCHIVE}.part").write_bytes(bytes(len(server.files[ARCHIVE]) - 10 + 3 * excess))
    with pytest.raises(DataUnavailable, match="damaged"):
        fetch(dataset, tmp_path)
    assert not (tmp_path / f"{ARCHIVE}.part").exists()
    fetch(dataset, tmp_path, wait=True)
    assert (tmp_path / ARCHIVE).read_bytes() == server.files[ARCHIVE]


def test_an_archive_on_disk_is_not_fetched_again(server, tmp_path):
    dataset = cifar(server, "missing")
    (tmp_path / ARCHIVE).write_bytes(server.files[ARCHIVE])
    fetch(dataset, tmp_path)
    assert server.seen == []
    assert on_disk("cifar10", tmp_path)
    assert len(dataset(tmp_path, train=False).data) == 10


# --- what is given up ------------------------------------------------------------------------


BAD = ("hang", "slow", "trickle", "endless", "fading", "busy")  # the last is what another process is fetching


@pytest.fixture(scope="module")
def given_up(tmp_path_factory):
    """What each bad server leads to, all at once because they take their time: message, folder."""
    server, outcomes = Server(), {}
    server.files[ARCHIVE] = bytes(20_000_000)

    def attempt(how, root, **options):
        url = f"{server.address}/{'slow' if how in {'busy', 'other'} else how}/{ARCHIVE}"
        try:
            fetch(type("CIFAR10", (datasets.CIFAR10,), {"url": url}), root, **options)
        except DataUnavailable as error:
            outcomes[how] = str(error), root

    roots = {how: tmp_path_factory.mktemp(how) for how in BAD}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision_files, "FIRST_BYTE", 1.0)
        patch.setattr(torchvision_files, "MEASURED", 1.0)
        other = threading.Thread(target=attempt, args=("other", roots["busy"]), kwargs={"wait": True})
        other.start()
        while not server.seen:
            time.sleep(0.01)
        patience = {"slow": {}, "hang": {}}  # given up long before; the others are by then
        with ThreadPoolExecutor(len(BAD)) as pool:
            for how in BAD:
                pool.submit(attempt, how, roots[how], **patience.get(how, {"patience": 1.0}))
    server.close()
    other.join()
    return outcomes


def test_what_is_waited_for_is_seconds():
    assert (torchvision_files.FIRST_BYTE, torchvision_files.MEASURED) == (10, 5)


@pytest.mark.parametrize("how", ["slow", "trickle", "endless", "fading"])
def test_a_slow_server_is_given_up_and_what_came_is_kept(given_up, how):
    message, root = given_up[how]
    assert "kB/s" in message
    assert "what came is kept" in message
    assert "vae-core data cifar10 --wait" in message
    assert message.endswith("or use photos-sample")
    assert "\n" not in message
    assert 0 < (root / f"{ARCHIVE}.part").stat().st_size < 20_000_000


def test_rate_and_estimate_of_a_slow_server(given_up):
    rate, minutes = re.search(r"comes at (\d+) kB/s, (\d+) more minutes", given_up["slow"][0]).groups()
    assert 0 < int(rate) <= 55  # 50, if the machine is not busy
    assert int(minutes) == pytest.approx(20_000 / int(rate) / 60, abs=1, rel=0.1)


def test_no_first_byte(given_up):
    message, root = given_up["hang"]
    assert message.startswith("cifar10: cannot be downloaded (ReadTimeout)")
    assert not list(root.glob("*.gz"))


def test_while_another_fetches_it(given_up):
    message, _ = given_up["busy"]
    assert message.startswith("cifar10: is still being fetched by another process")
    assert "vae-core data cifar10 --wait" in message
    assert "cannot be kept" not in message


def test_wrong_checksum(server, tmp_path):
    with pytest.raises(
        DataUnavailable, match=rf"{ARCHIVE} arrived damaged \(wrong checksum\) and was removed"
    ) as error:
        fetch(cifar(server, "damaged"), tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*.gz")) + list(tmp_path.glob("*.part"))
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_not_found(server, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, "missing", "missing"))
    with pytest.raises(
        DataUnavailable, match=r"mnist: cannot be downloaded .*vae-core data mnist --wait.*digits-sample"
    ):
        load_images("mnist", root=tmp_path)
    assert not list(tmp_path.rglob("*.gz"))
    assert not on_disk("mnist", tmp_path)


def test_a_failure_is_remembered_until_wait(server, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, "missing"))
    messages = set()
    for split in ("train", "test", "train"):
        with pytest.raises(DataUnavailable) as error:
            load_images("mnist", split, root=tmp_path)
        messages.add(str(error.value))
    assert len(messages) == 1
    assert len(server.seen) == 1
    with pytest.raises(DataUnavailable):
        load_images("mnist", root=tmp_path / "another")
    assert len(server.seen) == 2
    datasets.MNIST.mirrors = [f"{server.address}/quick/"]
    assert len(load_images("mnist", root=tmp_path, wait=True).images) == 30


def test_a_failure_is_remembered_for_a_minute(server, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, "missing"))
    for seconds, tries in ((0, 1), (50, 1), (70, 2), (0, 2)):
        for key, (why, then) in _unreachable.items():
            _unreachable[key] = why, then - seconds  # so much earlier
        with pytest.raises(DataUnavailable):
            load_images("mnist", root=tmp_path)
        assert len(server.seen) == tries
        if seconds == 50:
            _unreachable.update({key: (why, then + 50) for key, (why, then) in _unreachable.items()})


def test_a_root_that_cannot_be(server, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "MNIST", mnist(server, "quick"))
    (tmp_path / "file").touch()
    with pytest.raises(DataUnavailable, match=r"mnist: cannot be kept under .*file/data \(Not a directory\)") as error:
        load_images("mnist", root=tmp_path / "file" / "data")
    assert "\n" not in str(error.value)


def test_a_full_disk(server, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # files end there, as on a full disk
    try:
        with pytest.raises(DataUnavailable, match=r"cifar10: cannot be kept under .* \(File too large\)"):
            fetch(cifar(server, "quick"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / ARCHIVE).exists()


# --- several at once -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("fetched", [False, True])
def test_several_at_once_end_with_one_good_file(server, monkeypatch, tmp_path, name, fetched):
    dataset = mnist(server, "quick", n=1000) if name == "mnist" else cifar(server, "quick", n=500)
    monkeypatch.setattr(datasets, dataset.__name__, dataset)
    if fetched:  # and not yet unpacked
        folder = tmp_path / "MNIST" / "raw" if name == "mnist" else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in server.files.items():
            (folder / file).write_bytes(content)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: load_images(name, root=tmp_path), range(8)))
    assert all(torch.equal(one.images, found[0].images) for one in found)
    assert found[0].images.numpy().tobytes() == random_bytes(found[0].images.numel())
    assert len(server.seen) == (0 if fetched else len(server.files))
    assert not list(tmp_path.rglob("*.part"))
