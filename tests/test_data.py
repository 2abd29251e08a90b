import os
import socket
import struct
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

from vae_core.cli.main import main
from vae_core.data import DataUnavailable, as_seen, batches, binarise, data_root, load_images
from vae_core.sources import torchvision_files as download

EXIF_ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Every data set's address is a port that refuses connections."""
    download._unreachable.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:  # bound, so that nobody else takes the port, and never listening
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [address])
        monkeypatch.setattr(FashionMNIST, "mirrors", [address])
        monkeypatch.setattr(CIFAR10, "url", address + "cifar-10-python.tar.gz")
        yield


def save(path: Path, value, size=(8, 8)) -> None:
    """An image of one value: a number makes it grey, three make it coloured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def small_mnist(tmp_path):
    """20 training and 10 test digits in torchvision's files."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    for part, chosen in (("train", slice(20)), ("t10k", slice(20, 30))):
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels[chosen])
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(30, dtype=np.uint8)[chosen] % 10)
    return tmp_path / "data"


def as_set(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "meant"), [("mnits", "mnist"), ("cifar-10", "cifar10"), ("MNIST", "mnist")])
def test_an_unknown_name_gets_a_hint(name, meant):
    with pytest.raises(ValueError, match=f"{name}.*did you mean {meant}") as error:
        load_images(name)
    assert "photos-sample" in str(error.value)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(ValueError, match=r"known: mnist, .*digits-sample.*or the path of a folder") as error:
        load_images("./no/such/folder")
    assert "did you mean" not in str(error.value)


def test_bad_split():
    with pytest.raises(ValueError, match="split must be one of train, test, all, not 'valid'"):
        load_images("photos-sample", "valid")


def test_all_is_not_a_split_of_mnist(small_mnist):
    with pytest.raises(ValueError, match="train and test"):
        load_images("mnist", "all", root=small_mnist)


@pytest.mark.parametrize("argument", ["limit", "size"])
@pytest.mark.parametrize("value", [0, -1, True, 2.5, "8"])
def test_bad_limit_and_bad_size(tmp_path, argument, value):
    save(tmp_path / "a.png", 1)
    with pytest.raises(ValueError, match=f"{argument} must be a whole number above 0, not {value!r}"):
        load_images(str(tmp_path), "all", **{argument: value})


def test_limit_above_what_there_is(tmp_path, small_mnist):
    with pytest.raises(ValueError, match="limit 21 is more than the 20 images of mnist train"):
        load_images("mnist", root=small_mnist, limit=21)
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", i)
    with pytest.raises(ValueError, match="limit 4 is more than the 3"):
        load_images(str(tmp_path / "images"), "all", limit=4)
    assert len(load_images(str(tmp_path / "images"), "all", limit=3).images) == 3


def test_data_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("VAE_CORE_DATA", str(tmp_path / "variable"))
    assert data_root(tmp_path / "argument") == tmp_path / "argument"
    assert data_root() == tmp_path / "variable"
    monkeypatch.setenv("VAE_CORE_DATA", "~/images")
    assert data_root() == Path.home() / "images"
    cache = Path(platformdirs.user_cache_dir("vae_core", appauthor=False))
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("VAE_CORE_DATA")
        else:
            monkeypatch.setenv("VAE_CORE_DATA", unset)
        assert data_root() == cache


def test_a_relative_data_root_means_the_same_after_a_change_of_folder_and_in_children(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAE_CORE_DATA", "mine")
    assert data_root() == tmp_path / "mine"
    monkeypatch.chdir("/")
    assert data_root() == tmp_path / "mine"
    assert os.environ["VAE_CORE_DATA"] == str(tmp_path / "mine")
    assert data_root("~/other") == Path.home() / "other"
    assert data_root("other") == Path("/other")


def test_to_on_the_command_line_knows_the_home_and_kernels_that_start_elsewhere_get_the_same(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert CliRunner().invoke(main, ["data", "--to", "~/data"]).output.startswith(f"in {tmp_path}/home/data:")
    monkeypatch.setenv("VAE_CORE_DATA", "~/images")
    assert CliRunner().invoke(main, ["runs", "nowhere"]).exit_code == 2  # whatever the command
    assert os.environ["VAE_CORE_DATA"] == f"{tmp_path}/home/images"


# --- the named data sets ---------------------------------------------------------------------


def test_mnist_from_torchvision_files(shared_data):
    train, test = (load_images("mnist", split, root=shared_data) for split in ("train", "test"))
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]  # as published
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.images.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.source.startswith("mnist:")
    assert train.title == "MNIST"


def test_mnist_is_found_through_the_variable(monkeypatch, small_mnist):
    monkeypatch.setenv("VAE_CORE_DATA", str(small_mnist))
    assert load_images("mnist").images.shape == (20, 1, 28, 28)


def test_a_read_only_root_will_do_and_nothing_is_written(small_mnist):
    folders = [small_mnist, small_mnist / "MNIST", small_mnist / "MNIST" / "raw"]

    def state():
        return [(path, path.stat().st_mtime_ns) for path in sorted(small_mnist.rglob("*"))]

    before = state()
    for folder in folders:
        folder.chmod(0o555)  # binds everyone but root; for root, nothing may change
    try:
        assert len(load_images("mnist", "test", root=small_mnist).images) == 10
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert state() == before


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train-images-idx3-ubyte", lambda data: b""),
        ("train-images-idx3-ubyte", lambda data: data[:5000]),
        ("train-images-idx3-ubyte", lambda data: b"<html>" * 1000),
        ("train-labels-idx1-ubyte", lambda data: data[:-3]),
        ("train-labels-idx1-ubyte", lambda data: data[:7] + b"\x0f" + data[8:23]),  # whole, for 15 digits of the 20
    ],
    ids=["empty", "cut short", "another format", "labels cut short", "fewer labels"],
)
def test_damaged_files_are_named_with_the_way_on(small_mnist, file, damage):
    path = small_mnist / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"mnist under .* cannot be read .*; delete it there and run") as error:
        load_images("mnist", root=small_mnist)
    assert str(error.value).endswith("vae-core data mnist")
    assert "\n" not in str(error.value)


def test_cifar10_from_an_image_folder(shared_data):
    test = load_images("cifar10", "test", root=shared_data)
    train = load_images("cifar10", "train", root=shared_data, limit=500)
    assert test.images.shape == (2000, 3, 32, 32)
    assert train.images.shape == (500, 3, 32, 32)
    assert test.images.dtype == torch.uint8
    assert test.labels.bincount().tolist() == [200] * 10
    assert test.source.startswith("cifar10:")
    assert "jpg" in test.source
    assert not as_set(train.images) & as_set(test.images)


def test_digits_sample():
    train, test = load_images("digits-sample"), load_images("digits-sample", "test")
    assert train.images.shape == (4000, 1, 28, 28)
    assert test.images.shape == (1000, 1, 28, 28)
    assert train.images.dtype == torch.uint8
    assert train.images.max() == 255
    assert train.labels.bincount().tolist() == [400] * 10
    assert test.labels.bincount().tolist() == [100] * 10
    assert not as_set(train.images) & as_set(test.images)
    assert train.source.startswith("digits-sample:")


def test_photos_sample_splits_by_photograph():
    parts = {split: load_images("photos-sample", split) for split in ("train", "test", "all")}
    for part in parts.values():
        assert part.images.shape[1:] == (3, 32, 32)
        assert part.images.dtype == torch.uint8
        assert part.source.startswith("photos-sample:")
    train, test, both = (parts[split] for split in ("train", "test", "all"))
    assert len(train.images) + len(test.images) == len(both.images)
    assert not as_set(train.images) & as_set(test.images)
    assert not set(train.labels.tolist()) & set(test.labels.tolist())  # a label is a photograph
    assert set(both.labels.tolist()) == set(train.labels.tolist()) | set(test.labels.tolist())


# --- stand-ins -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stand_in", "shape"), [("mnist", "digits-sample", (1, 28, 28)), ("cifar10", "photos-sample", (3, 32, 32))]
)
def test_a_stand_in_is_announced_and_keeps_its_own_name(tmp_path, capfd, name, stand_in, shape):
    found = load_images(name, "test", root=tmp_path, limit=50, substitute=True)
    said = [line for line in capfd.readouterr().err.splitlines() if "stands in for" in line]
    assert len(said) == 1
    assert said[0].startswith(stand_in)
    assert said[0].endswith(name)
    assert found.source.startswith(f"{stand_in}:")
    assert found.title == stand_in
    assert found.images.shape == (50, *shape)


@pytest.mark.parametrize(
    ("name", "stand_in"),
    [("mnist", "digits-sample"), ("fashion-mnist", "digits-sample"), ("cifar10", "photos-sample")],
)
def test_nothing_stands_in_unasked(tmp_path, name, stand_in):
    with pytest.raises(DataUnavailable, match=rf"^{name}: cannot be downloaded") as error:
        load_images(name, root=tmp_path)
    assert f"vae-core data {name} --wait" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert str(error.value).endswith(f"or use {stand_in}")
    assert "\n" not in str(error.value)


def test_what_stands_in_is_said_once(tmp_path, capfd):
    for split in ("train", "test", "train"):
        load_images("mnist", split, root=tmp_path, limit=5, substitute=True)
    assert capfd.readouterr().err.count("stands in for mnist") == 1
    load_images("fashion-mnist", root=tmp_path, limit=5, substitute=True)
    assert capfd.readouterr().err.count("stands in for fashion-mnist") == 1


def test_nothing_stands_in_for_what_is_there(small_mnist, capfd):
    assert load_images("mnist", root=small_mnist, substitute=True).source.startswith("mnist:")
    assert capfd.readouterr().err == ""


# --- limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "split"), [("photos-sample", "train"), ("cifar10", "test")])
def test_limits_are_nested_and_depend_on_the_seed_alone(shared_data, name, split):
    many = load_images(name, split, root=shared_data, limit=100, seed=3)
    few = load_images(name, split, root=shared_data, limit=25, seed=3)
    other = load_images(name, split, root=shared_data, limit=100, seed=4)
    assert len(many.images) == len(many.labels) == 100
    assert torch.equal(many.images, load_images(name, split, root=shared_data, limit=100, seed=3).images)
    assert torch.equal(few.images, many.images[:25])
    assert torch.equal(few.labels, many.labels[:25])
    assert len(many.labels.unique()) > 1  # a draw, not the beginning
    assert not torch.equal(many.images, other.images)
    assert as_set(many.images) != as_set(other.images)


# --- folders ---------------------------------------------------------------------------------


def test_class_subfolders_are_the_labels(tmp_path):
    for value, name in ((10, "ants"), (20, "bees"), (20, "bees"), (30, "cats/tame")):
        save(tmp_path / name / f"{value}-{len(list(tmp_path.rglob('*.png')))}.png", value)
    found = load_images(str(tmp_path), "all")
    assert found.images.shape == (4, 1, 8, 8)
    assert found.images.dtype == torch.uint8
    assert found.labels.tolist() == [0, 1, 1, 2]
    assert found.images[:, 0, 0, 0].tolist() == [10, 20, 20, 30]
    assert found.source == f"{tmp_path.name}: image folder (png)"


def test_what_is_no_image_or_hidden_is_passed_over(tmp_path, capfd):
    save(tmp_path / "one.png", 1)
    save(tmp_path / "TWO.PNG", 2)
    save(tmp_path / ".three.png", 3)
    save(tmp_path / ".thumbnails" / "four.png", 4)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "paper.pdf").write_text("a format that Pillow writes and cannot read")
    (tmp_path / "folder.png").mkdir()
    assert sorted(load_images(str(tmp_path), "all").images[:, 0, 0, 0].tolist()) == [1, 2]
    assert "left out" not in capfd.readouterr().err


@pytest.mark.parametrize("classes", ["", "one/"])
def test_train_and_test_folders(tmp_path, classes):
    for i in range(5):
        save(tmp_path / "train" / f"{classes}{i}.png", i)
    for i in range(5, 8):
        save(tmp_path / "test" / f"{classes}{i}.png", i)
    for split, expected in (("train", range(5)), ("test", range(5, 8)), ("all", range(8))):
        assert sorted(load_images(str(tmp_path), split).images[:, 0, 0, 0].tolist()) == list(expected)


@pytest.mark.parametrize("classes", ["", "{odd}/"])
def test_without_train_and_test_a_tenth_is_held_out_by_name(tmp_path, classes):
    def add(numbers):
        for i in numbers:
            save(tmp_path / classes.format(odd=i % 2) / f"{i}.png", i, (2, 2))

    def held(split):
        return set(load_images(str(tmp_path), split).images[:, 0, 0, 0].tolist())

    add(range(200))
    train, test = held("train"), held("test")
    assert not train & test
    assert train | test == held("all") == set(range(200))
    assert 8 <= len(test) <= 35
    add(range(200, 250))  # more files move none that was there
    assert train <= held("train")
    assert test <= held("test")


def test_too_few_files_to_hold_one_out(tmp_path):
    save(tmp_path / "a.png", 1)  # by its name, not of the test split
    assert len(load_images(str(tmp_path), "train").images) == 1
    with pytest.raises(ValueError, match="no images left for the test split"):
        load_images(str(tmp_path), "test")


@pytest.mark.parametrize("by_folder", [True, False])
def test_a_class_has_one_label_in_every_split(tmp_path, by_folder):
    if by_folder:
        for path in ("train/a/1", "train/b/2", "train/c/3", "test/b/4", "test/c/5"):
            save(tmp_path / f"{path}.png", "abc".index(path.split("/")[1]))
    else:
        save(tmp_path / "a" / "only.png", 0)  # in one of the two splits
        for i in range(100):
            save(tmp_path / "b" / f"{i}.png", 1, (8, 8))
    for split in ("train", "test", "all"):
        found = load_images(str(tmp_path), split)
        assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist()


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=r"no images in .*expected files such as \.png or \.jpg"):
        load_images(str(tmp_path))


def corrupt(folder: Path) -> None:
    """Three files, each broken in its own way."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "cut.png")
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:2000])
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty.bmp").touch()


def test_corrupt_files_are_left_out_and_counted(tmp_path, capfd):
    for i in range(4):
        save(tmp_path / f"{i}.png", i)
    corrupt(tmp_path)
    found = load_images(str(tmp_path), "all")
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert len(found.labels) == 4
    assert found.source == f"{tmp_path.name}: image folder (png), 3 unreadable left out"
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith("3 unreadable image files are left out: cut.png, empty.bmp, text.jpg")
    assert load_images(str(tmp_path), "all", limit=4).images.shape[0] == 4  # the limit is of readable files


def test_only_corrupt_files(tmp_path):
    corrupt(tmp_path)
    with pytest.raises(ValueError, match="none of the 3 image files can be read"):
        load_images(str(tmp_path), "all")


def test_mixed_sizes_need_a_size(tmp_path):
    save(tmp_path / "a.png", 1, (8, 6))
    save(tmp_path / "b.png", 2, (20, 30))
    with pytest.raises(ValueError, match=r"different sizes, 8x6 and 20x30: give a size .*size=32") as error:
        load_images(str(tmp_path), "all")
    assert "\n" not in str(error.value)
    found = load_images(str(tmp_path), "all", size=16)
    assert found.images.shape == (2, 1, 16, 16)
    assert found.images[:, 0, 8, 8].tolist() == [1, 2]


@pytest.mark.parametrize("size", [(60, 20), (20, 60)])
def test_the_centre_survives_the_crop(tmp_path, size):
    image = Image.new("L", size, 0)
    left, top = (size[0] - 20) // 2, (size[1] - 20) // 2
    image.paste(200, (left, top, left + 20, top + 20))
    image.save(tmp_path / "a.png")
    found = load_images(str(tmp_path), "all", size=10).images
    assert found.shape == (1, 1, 10, 10)
    assert found.min() > 180  # nothing of the black sides, but for the filter's breath of them


# --- pixels ----------------------------------------------------------------------------------

COLOUR = (10, 200, 30)
WHITE = (255, 255, 255)
FIFTH = (206, 244, 210)  # a fifth of the colour on white


def image(mode, value):
    if mode == "P":
        return Image.new("RGB", (8, 8), value).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    return Image.new(mode, (8, 8), value)


@pytest.mark.parametrize(
    ("mode", "value", "suffix", "options", "expected"),
    [
        ("1", 1, "png", {}, [255]),
        ("1", 0, "png", {}, [0]),
        ("1", 0, "png", {"transparency": 0}, [255]),
        ("L", 100, "png", {}, [100]),
        ("L", 100, "png", {"transparency": 100}, [255]),
        ("LA", (100, 255), "png", {}, [100]),
        ("LA", (100, 0), "png", {}, [255]),
        ("P", COLOUR, "png", {}, COLOUR),
        ("P", COLOUR, "gif", {"transparency": 0}, WHITE),
        ("P", COLOUR, "png", {"transparency": bytes([51])}, FIFTH),
        ("RGB", COLOUR, "bmp", {}, COLOUR),
        ("RGB", COLOUR, "png", {"transparency": COLOUR}, WHITE),
        ("RGBA", (*COLOUR, 255), "png", {}, COLOUR),
        ("RGBA", (*COLOUR, 0), "png", {}, WHITE),
        ("RGBA", (*COLOUR, 51), "png", {}, FIFTH),
        ("CMYK", (0, 255, 255, 0), "tif", {}, (255, 0, 0)),
        ("CMYK", (0, 0, 0, 0), "jpg", {}, WHITE),
        ("I;16", 100 * 257, "png", {}, [100]),
        ("I;16", 200, "png", {}, [1]),  # dark, and not brightened
        ("I", 100 * 257, "tif", {}, [100]),
        ("F", 100.0, "tif", {}, [100]),
        ("F", 0.4, "tif", {}, [102]),
    ],
)
def test_every_mode_becomes_eight_bits_on_white(tmp_path, mode, value, suffix, options, expected):
    image(mode, value).save(tmp_path / f"a.{suffix}", **options)
    with Image.open(tmp_path / f"a.{suffix}") as saved:
        assert saved.mode == mode
    found = load_images(str(tmp_path), "all").images
    assert found.dtype == torch.uint8
    assert found.shape == (1, len(expected), 8, 8)
    for channel, level in zip(found[0], expected, strict=True):
        assert channel.unique().tolist() == [level]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, suffix):
    stored = Image.new("L", (16, 8), 0)
    stored.paste(255, (0, 0, 16, 4))  # the upper half is white
    stored.paste(128, (0, 0, 8, 4))  # and left of it grey
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # shown with the first row at the right and the first column at the top
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    found = load_images(str(tmp_path), "all").images[0, 0].float()
    assert found.shape == (16, 8)
    corners = [found[2, 6], found[13, 6], found[2, 1], found[13, 1]]
    assert corners == pytest.approx([128, 255, 0, 0], abs=8)


def test_grey_and_colour_together_have_three_channels(tmp_path):
    save(tmp_path / "a.png", 100)
    assert load_images(str(tmp_path), "all").images.shape == (1, 1, 8, 8)
    save(tmp_path / "b.png", COLOUR)
    found = load_images(str(tmp_path), "all").images
    assert found.shape == (2, 3, 8, 8)
    assert found[0, :, 0, 0].tolist() == [100] * 3
    assert found[1, :, 0, 0].tolist() == list(COLOUR)


# --- batches ---------------------------------------------------------------------------------


def order(seed: int, epoch: int) -> list[float]:
    images = torch.arange(50, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return torch.cat(list(batches(images, 8, seed=seed, epoch=epoch)))[:, 0, 0, 0].tolist()


def test_batches_hold_every_image_once():
    images = torch.arange(50, dtype=torch.uint8)[:, None, None, None] * torch.ones(1, 3, 2, 2, dtype=torch.uint8) * 5
    parts = list(batches(images, 8, seed=0, epoch=0))
    assert [len(part) for part in parts] == [8] * 6 + [2]
    assert {part.dtype for part in parts} == {torch.float32}
    together = torch.cat(parts)
    assert together.shape == (50, 3, 2, 2)
    assert together.min() == 0
    assert together.max() == pytest.approx(245 / 255)
    assert torch.equal((together[:, 0, 0, 0] * 255).round().sort().values, torch.arange(0, 250, 5).float())
    assert as_set((together * 255).round().byte()) == as_set(images)


def test_the_order_depends_on_seed_and_epoch_alone():
    first = order(seed=1, epoch=0)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    assert order(seed=1, epoch=0) == first
    assert order(seed=1, epoch=1) != first
    assert order(seed=2, epoch=0) != first
    assert order(seed=2, epoch=1) != order(seed=1, epoch=2)
    assert first != sorted(first)


# --- black and white -------------------------------------------------------------------------


GREY = torch.randint(0, 256, (40, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_share_of_on_pixels_is_the_grey_level():
    levels = torch.tensor([0, 1, 30, 128, 200, 254, 255], dtype=torch.uint8)
    drawn = binarise(levels.repeat(100_000, 1, 1, 1), 3, "share")
    assert drawn.dtype == torch.uint8
    assert set(drawn.unique().tolist()) == {0, 255}
    share, p = drawn.double().mean((0, 1, 2)) / 255, levels.double() / 255
    assert ((share - p).abs() <= 4 * (p * (1 - p) / 100_000).sqrt()).all()  # black and white exactly


def test_pixels_are_drawn_apart_from_one_another():
    drawn = binarise(torch.full((20_000, 1, 1, 3), 128, dtype=torch.uint8), 0, "apart").flatten(1).double()
    assert (torch.corrcoef(drawn.T) - torch.eye(3)).abs().max() < 0.03  # four standard errors
    assert (torch.corrcoef(drawn.reshape(6000, 10).T) - torch.eye(10)).abs().max() < 0.06


def test_a_draw_depends_on_its_key_alone():
    first = binarise(GREY, 1, 2, "draw")
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global state must not matter
    assert torch.equal(binarise(GREY.clone(), 1, 2, "draw"), first)
    for key in ((2, 1, "draw"), (1, 2, "other"), (1, 3, "draw"), (1 + 2**32, 2, "draw")):
        assert not torch.equal(binarise(GREY, *key), first), key


def test_black_and_white_images_stay_as_they_are():
    images = binarise(GREY, 0, "first")
    assert torch.equal(binarise(images, 1, "second"), images)
    assert torch.equal(binarise(images / 255, 1, "second"), images / 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_and_floats_give_the_same_picture(dtype):
    floats = binarise(GREY.to(dtype) / 255, 7, "same")
    assert floats.dtype == dtype
    assert torch.equal(floats, binarise(GREY, 7, "same").to(dtype) / 255)


def test_a_draw_leaves_images_and_global_random_states_alone():
    images, states = GREY.clone(), (torch.random.get_rng_state(), np.random.get_state()[1].tolist())  # noqa: NPY002
    binarise(images, 0, "draw")
    binarise(images / 255, 0, "draw")
    assert torch.equal(images, GREY)
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002


def test_images_are_as_the_model_means_them():
    assert as_seen(GREY, "none", 0, "key") is GREY
    assert torch.equal(as_seen(GREY, "dynamic", 4, "key"), binarise(GREY, 4, "key"))
    fixed = binarise(GREY, 0, "once")
    assert as_seen(fixed, "static", 4, "key") is fixed  # not drawn again


@pytest.mark.parametrize("level", [1, 127, 254])
def test_one_grey_pixel_is_not_black_and_white(level):
    images = binarise(GREY, 0, "once")
    images[-1, -1, -1, -1] = level
    with pytest.raises(ValueError, match=r"grey pixels .*binarise\(images, 0, \"once\"\)") as error:
        as_seen(images, "static")
    assert "\n" not in str(error.value)
