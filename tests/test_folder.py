import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from vae_core.cli.main import main
from vae_core.cli.runs import data_name
from vae_core.data import ImageSet, load_images
from vae_core.sources import folder
from vae_core.sources.torchvision_files import KNOWN, fingerprint, is_folder

PHOTO = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_said():
    folder._warned.clear()


def save(path: Path, value: int, size=(4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def photograph(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    """A smooth picture in colour, as a camera turned by ``orientation`` keeps it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(PHOTO).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif, quality=90)


def values(path: Path, split: str) -> list[int]:
    return sorted(load_images(str(path), split).images[:, 0, 0, 0].tolist())


def child(code: str, *words: object, **more) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, **more)


# --- what the layout is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "val"),
        ("Train", "Test"),
        ("TRAINING", "validation"),
        ("training", "Testing"),
        ("train", "valid"),
        ("train", "eval"),
    ],
)
def test_splits_are_known_by_their_usual_names(tmp_path, capfd, train, test):
    for i in range(4):
        save(tmp_path / train / "ab"[i % 2] / f"{i}.png", i)
        save(tmp_path / test / "ab"[i % 2] / f"{i}.png", 100 + i)
    assert values(tmp_path, "train") == [0, 1, 2, 3]
    assert values(tmp_path, "test") == [100, 101, 102, 103]
    found = load_images(str(tmp_path), "all")
    assert (found.images[:, 0, 0, 0] % 2).tolist() == found.labels.tolist()  # two classes, not four
    said = capfd.readouterr().err.splitlines()
    assert said == [f"{tmp_path}: 8 images in 2 classes, {train}/ and {test}/ are the splits"]


def test_validation_beside_test_is_in_neither_split_and_that_is_said(tmp_path, capfd):
    for value, name in ((1, "train"), (2, "val"), (3, "test"), (4, "extra")):
        save(tmp_path / name / "a" / "0.png", value)
    save(tmp_path / "montage.png", 5)
    assert values(tmp_path, "train") == [1]
    assert values(tmp_path, "test") == [3]
    assert values(tmp_path, "all") == [1, 3]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    for part in ("train/ and test/ are the splits", "1 images of val/", "1 images of extra/", "1 images of no folder"):
        assert part in said[0]


@pytest.mark.parametrize("names", [("train", "bus"), ("val", "bus"), ("test", "bus")])
def test_one_such_name_alone_is_a_class(tmp_path, capfd, names):
    for value, name in enumerate(sorted(names)):
        save(tmp_path / name / "0.png", value)
    found = load_images(str(tmp_path), "all")
    assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist() == [0, 1]
    assert "2 classes, a tenth, by name, is the test split" in capfd.readouterr().err


def test_class_folders_that_are_links_are_followed_and_loops_are_not(tmp_path):
    save(tmp_path / "elsewhere" / "cats" / "0.png", 0)
    save(tmp_path / "elsewhere" / "dogs.png", 1)
    mine = tmp_path / "mine"
    (mine / "dogs").mkdir(parents=True)
    (mine / "cats").symlink_to(tmp_path / "elsewhere" / "cats", target_is_directory=True)
    (mine / "dogs" / "1.png").symlink_to(tmp_path / "elsewhere" / "dogs.png")
    (mine / "dogs" / "up").symlink_to(mine, target_is_directory=True)
    (mine / "dogs" / "itself").symlink_to(mine / "dogs" / "itself")
    found = load_images(str(mine), "all")
    assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist() == [0, 1]


LEFTOVERS = ["__MACOSX", ".ipynb_checkpoints", "@eaDir", ".Trashes", "$RECYCLE.BIN", "System Volume Information",
             "lost+found", ".hidden"]  # fmt: skip


def test_what_systems_leave_behind_is_no_class(tmp_path):
    save(tmp_path / "cats" / "0.png", 1)
    before = fingerprint(str(tmp_path))
    for name in LEFTOVERS:
        save(tmp_path / name / "0.png", 2)
        save(tmp_path / "cats" / name / "0.png", 2)
    (tmp_path / "cats" / ".DS_Store").write_text("mine")
    assert values(tmp_path, "all") == [1]
    assert fingerprint(str(tmp_path)) == before


# --- what is left out ------------------------------------------------------------------------


def test_what_needs_another_reader_is_counted_with_what_reads_it(tmp_path, capfd):
    save(tmp_path / "a.png", 1)
    for name in ("1.heic", "2.HEIC", "3.jxl"):
        (tmp_path / name).write_bytes(b"a photograph")
    load_images(str(tmp_path), "all")
    [said] = capfd.readouterr().err.splitlines()
    assert "2 .heic files, read after: pip install pillow-heif" in said
    assert "1 .jxl files, to be converted to PNG or JPEG" in said
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match=r"no images in .*; left out: 2 \.heic files, .*pillow-heif"):
        load_images(str(tmp_path), "all")


def test_unreadable_files_are_named_and_each_thing_is_said_once(tmp_path, capfd):
    for part in ("train", "test"):
        save(tmp_path / part / "good.png", 1)
        for i in range(5):
            (tmp_path / part / f"bad{i}.png").write_text("no image")
    (tmp_path / "train" / "bad.png").symlink_to("nowhere.png")
    assert "6 unreadable" in load_images(str(tmp_path), "train").source
    [said] = capfd.readouterr().err.splitlines()
    assert said.endswith("6 unreadable image files are left out: train/bad.png, train/bad0.png, train/bad1.png, ...")
    assert "are the splits" in said
    load_images(str(tmp_path), "test")
    [said] = capfd.readouterr().err.splitlines()
    assert said.endswith("5 unreadable image files are left out: test/bad0.png, test/bad1.png, test/bad2.png, ...")
    assert "are the splits" not in said
    for part in ("train", "test"):
        load_images(str(tmp_path), part)
    assert capfd.readouterr().err == ""


def test_names_that_are_not_utf8_are_read_and_shown(tmp_path, capfd):
    for i in range(30):  # of both splits
        (tmp_path / os.fsdecode(b"caf\xe9")).mkdir(exist_ok=True)
        save(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff%d.png" % i), i)
    (tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xfe.png")).write_text("no image")
    mine = str(tmp_path / os.fsdecode(b"caf\xe9"))
    both = [load_images(mine, split).images[:, 0, 0, 0].tolist() for split in ("train", "test")]
    assert sorted(both[0] + both[1]) == list(range(30))
    assert load_images(mine, "all").source.encode() == "caf�: image folder (png), 1 unreadable left out".encode()
    assert "�.png" in capfd.readouterr().err
    assert fingerprint(mine)


LOAD = """
import os, sys
import numpy as np
from pathlib import Path
from vae_core.sources.folder import read
from vae_core.sources.torchvision_files import fingerprint
mine = Path(sys.argv[1])
def load(folder):
    return read(folder, "all", limit=None, size=None, order=np.arange, name="mine", announce=True)
load(mine / "cats")  # loads the readers
if os.geteuid() == 0:  # who may read everything
    os.setuid(65534)
for what in (lambda: load(mine), lambda: fingerprint(str(mine))):
    try:
        print(len(what()[0]))
    except ValueError as error:
        print(error)
print("torch" in sys.modules)
"""


def test_a_folder_without_permission_is_named():
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder)
        mine.chmod(0o755)
        save(mine / "cats" / "0.png", 1)
        save(mine / "dogs" / "0.png", 1)
        (mine / "dogs").chmod(0)
        told = child(LOAD, mine).stdout.splitlines()
        (mine / "dogs").chmod(0o755)
        (mine / "dogs" / "0.png").chmod(0)
        found = child(LOAD, mine)
    why = "(Permission denied): make it readable, or take it away"
    assert told == [f"the folder {mine}/dogs cannot be read {why}"] * 2 + ["False"]  # a fingerprint needs no torch
    assert found.stdout.splitlines()[0] == "1"
    assert "1 unreadable image files are left out: dogs/0.png" in found.stderr


# --- sizes and memory ------------------------------------------------------------------------

_opened: list[str] | None = None  # while a list: the names of all files that are opened


def _watch(event: str, about: tuple) -> None:
    if event == "open" and _opened is not None:
        _opened.append(str(about[0]))


sys.addaudithook(_watch)


def opened_photographs(path: Path, **settings: object) -> tuple[int, str]:
    """How many were opened, and the shape of the images or what was refused."""
    global _opened
    _opened = []
    try:
        answer = str(tuple(load_images(str(path), "all", **settings).images.shape))
    except ValueError as error:
        answer = str(error)
    count, _opened = sum(name.endswith(".jpg") for name in _opened), None
    return count, answer


def test_different_sizes_are_refused_at_the_first_that_differs(tmp_path):
    for i in range(20):
        photograph(tmp_path / f"{i:02}.jpg", (400, 300), 6 if i == 4 else 1)
    count, refusal = opened_photographs(tmp_path)
    assert count == 5
    assert "has images of different sizes, 400x300 and 300x400: give a size" in refusal


def test_no_more_are_read_than_a_limit_keeps(tmp_path):
    for i in range(20):
        photograph(tmp_path / f"{i}.jpg", (40, 30))
    assert opened_photographs(tmp_path, limit=5, size=8) == (5, "(5, 3, 8, 8)")
    assert opened_photographs(tmp_path, limit=5) == (5, "(5, 3, 30, 40)")
    count, refusal = opened_photographs(tmp_path, limit=21)
    assert (count, refusal[:40]) == (0, "limit 21 is more than the 20 images of " + str(tmp_path)[0])


def test_orientations_are_known(tmp_path):
    photograph(tmp_path / "a.jpg", (40, 30))
    photograph(tmp_path / "b.jpg", (30, 40), 6)
    for i, kind in enumerate(("png", "tif", "webp")):
        photograph(tmp_path / f"{i}.{kind}", (30, 40), 8)
    assert load_images(str(tmp_path), "all").images.shape == (5, 3, 30, 40)


def test_too_many_pixels_are_refused_at_the_first_image(tmp_path):
    photograph(tmp_path / "a.jpg", (4000, 3000))
    for i in range(59):
        os.link(tmp_path / "a.jpg", tmp_path / f"{i}.jpg")
    with pytest.raises(ValueError, match=r"60 images are 2\.2 GB of pixels; give a size .*\(--size 64\), or a limit$"):
        load_images(str(tmp_path), "all")
    assert load_images(str(tmp_path), "all", limit=2).images.shape == (2, 3, 3000, 4000)
    assert load_images(str(tmp_path), "all", size=64).images.shape == (60, 3, 64, 64)


MEMORY = """
import resource, sys
import numpy as np
from pathlib import Path
from vae_core.sources.folder import read
def peak(folder, limit=None, size=None):
    read(Path(sys.argv[1]) / folder, "all", limit=limit, size=size, order=np.arange, name="mine", announce=False)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak("first", 1, 8)
large = peak("large", size=64)
print(large - before, peak("many") - large)
"""


def test_memory_is_that_of_what_is_kept(tmp_path):
    save(tmp_path / "first" / "a.png", 1)
    photograph(tmp_path / "many" / "a.jpg", (2000, 1500))
    for i in range(29):
        os.link(tmp_path / "many" / "a.jpg", tmp_path / "many" / f"{i}.jpg")
    photograph(tmp_path / "large" / "a.jpg", (8000, 6000))
    large, many = map(int, child(MEMORY, tmp_path).stdout.split())
    assert large < 0.3 * 3 * 8000 * 6000  # decoded at an eighth, its pixels are never there
    assert many < 1.4 * 30 * 3 * 2000 * 1500


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [32, 100, 250, 299])
def test_photographs_decoded_small_look_as_those_decoded_whole(tmp_path, orientation, size):
    photograph(tmp_path / "a.jpg", (400, 300) if orientation < 5 else (300, 400), orientation)
    with Image.open(tmp_path / "a.jpg") as opened:
        whole = ImageOps.fit(ImageOps.exif_transpose(opened), (size, size), method=Image.Resampling.LANCZOS)
    difference = np.abs(
        load_images(str(tmp_path), "all", size=size).images[0].permute(1, 2, 0).numpy() - 1.0 * np.asarray(whole)
    )
    assert difference.mean() < 1
    if size > 75:  # never smaller than twice what is asked for, so here whole
        assert difference.max() == 0


@pytest.mark.parametrize("grey_first", [True, False])
def test_grey_and_colour_in_either_order_with_damaged_ones_between(tmp_path, grey_first):
    save(tmp_path / f"{'a' if grey_first else 'z'}.png", 9)
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "m.png")
    (tmp_path / "n.png").write_bytes((tmp_path / "m.png").read_bytes()[:50])  # with its header
    found = load_images(str(tmp_path), "all").images
    expected = [[9, 9, 9], [1, 2, 3]]
    assert found[:, :, 0, 0].tolist() == (expected if grey_first else expected[::-1])


# --- what a name means -----------------------------------------------------------------------


@pytest.fixture
def named(tmp_path, monkeypatch) -> Path:
    """A current folder with folders of images called like data sets, and a root with one in place of CIFAR-10."""
    for name in ("mnist", "MNIST", "cifar10", "digits-sample", "CIFAR-10", "mnist:old", "holiday"):
        save(tmp_path / name / "0.png", 7)
    for part in ("train", "test"):
        save(tmp_path / "root" / "cifar10" / part / "frog" / "0.png", 8, (32, 32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_CORE_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_known_bare_name_is_the_data_set_and_a_path_is_the_folder(named):
    assert load_images("cifar10").source == "cifar10: image folder (png)"
    assert load_images("cifar10").images[0, 0, 0, 0] == 8
    assert load_images("digits-sample").images.shape == (4000, 1, 28, 28)
    for name in ("./cifar10", "~/cifar10", str(named / "cifar10"), Path("cifar10"), "cifar10/"):
        found = load_images(name, "all")
        assert found.images[0, 0, 0, 0] == 7
        assert found.source == "folder cifar10: image folder (png)"
    assert [name for name in (*KNOWN, "MNIST", "./mnist", "holiday", "nowhere") if is_folder(name)] == [
        "MNIST",
        "./mnist",
        "holiday",
    ]


@pytest.mark.parametrize("name", ["./mnist", "./MNIST", "./cifar10", "./digits-sample", "./CIFAR-10", "./mnist:old"])
def test_the_source_of_a_folder_never_has_the_name_of_a_data_set(named, name):
    found = load_images(name, "all")
    assert found.source.split(":")[0].lower() not in KNOWN
    assert found.title not in ("MNIST", "CIFAR-10")


class Run:
    def __init__(self, images: ImageSet) -> None:
        self.data = images


def test_a_run_on_a_folder_called_like_a_data_set_is_measured_on_no_other(named):
    with pytest.raises(ValueError, match="give --data"):
        data_name(Run(load_images("./mnist", "all")), named, None)
    assert data_name(Run(load_images("cifar10")), named, None) == "cifar10"


def test_commands_take_the_data_set_and_not_the_folder_beside_them(named):
    told = CliRunner().invoke(main, ["data", "cifar10"]).stdout.splitlines()
    assert told == [f"cifar10: image folder (png): {split}, 1 images, 32x32, grey" for split in ("train", "test")]
    assert (
        "folder mnist: image folder (png): all, 1 images, 4x4, grey"
        in CliRunner().invoke(main, ["data", "./mnist"]).stdout
    )
    assert "cifar10: image folder (png): 1 images" in CliRunner().invoke(main, ["forecast", "cifar10"]).stdout


# --- fingerprints ----------------------------------------------------------------------------


def test_fingerprints_are_of_what_is_read(named):
    data_set = fingerprint("cifar10")
    assert fingerprint("digits-sample") == fingerprint("mnist") == ""
    save(named / "cifar10" / "1.png", 1)
    assert fingerprint("cifar10") == data_set
    assert len({data_set, fingerprint("./cifar10"), fingerprint("./mnist")}) == 3
    assert fingerprint("./cifar10") == fingerprint("~/cifar10") == fingerprint(str(named / "cifar10"))
    (named / "holiday").rename(named / "root" / "holiday")
    assert fingerprint("holiday") == ""  # nor is it read there
    (named / "root" / "cifar10" / "README.md").write_text("mine")
    assert fingerprint("cifar10") == data_set
    save(named / "root" / "cifar10" / "train" / "frog" / "1.png", 1)
    assert fingerprint("cifar10") != data_set


def test_of_torchvisions_files_those_count_that_are_read(tmp_path):
    for name, inside, files in (
        ("mnist", "MNIST/raw", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]),
        ("cifar10", "cifar-10-batches-py", ["data_batch_1", "test_batch"]),
    ):
        (tmp_path / inside).mkdir(parents=True)
        for file in files:
            (tmp_path / inside / file).write_text("12")
        first = fingerprint(name, tmp_path)
        assert first
        for file in (f"{files[0]}.gz", "readme.html"):
            (tmp_path / inside / file).write_text("leftover")
        assert fingerprint(name, tmp_path) == first
        (tmp_path / inside / files[1]).write_text("123")
        assert fingerprint(name, tmp_path) != first
