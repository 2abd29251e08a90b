"""Image sets in memory, and deterministic batches of them.

Three sources, in this order: torchvision's data sets, a folder of images, and samples that come with installed
packages. The last never stand in silently: one line says so, and ``ImageSet.source`` names what it really is.
"""

import difflib
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_core import samples
from vae_core.download import DataUnavailable, data_root, download
from vae_core.likelihood import generator

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
EMBEDDED = samples.SAMPLES
STAND_IN = {"mnist": "digits-sample", "fashion-mnist": "digits-sample", "cifar10": "photos-sample"}
SPLITS = ("train", "test", "all")


class ImageSet(NamedTuple):
    """Images with their labels and where they came from."""

    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    source: str  # "name: details"

    @property
    def title(self) -> str:
        """The name of what these images really are, as people write it."""
        name = self.source.split(":")[0]
        return TITLES.get(name, name)


def load_images(
    name: str | os.PathLike,
    split: str = "train",
    *,
    root: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    size: int | None = None,
    substitute: bool = False,
    wait: bool = False,
) -> ImageSet:
    """Images of a named data set or of a folder, as uint8 ``(N, C, H, W)``.

    Args:
        name: mnist, fashion-mnist, cifar10, digits-sample, photos-sample, or the path of a folder
            of images: class subfolders or flat, with or without ``train`` and ``test`` above
            them. Without those two, a tenth of the files, picked by name, is the test split.
        split: train, test or all (which torchvision's sets do not have).
        root: where data sets are kept; else ``$VAE_CORE_DATA``, else the user's cache folder.
        limit: that many images, drawn with ``seed``, a part of those of a larger limit; of a stand-in, what it has.
        seed: of the draw.
        size: folders only: height and width to resize and centre-crop to.
        wait: for a download that takes minutes, instead of giving it up.
        substitute: take the embedded stand-in if ``name`` is not to be had, and say so: why, and what stands in.

    Raises:
        ValueError: unknown name or split, an empty or unreadable folder, a limit above what there is.
        DataUnavailable: not on disk, and the download failed or would take minutes.
    """
    name = os.fspath(name)
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number, 0 or more, not {seed!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    for what, value in (("limit", limit), ("size", size)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{what} must be a whole number above 0, not {value!r}")
    if name in EMBEDDED:
        pixels, labels, credit = samples.digits(split) if name == "digits-sample" else samples.photos(split)
        found = ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), f"{name}: {credit}")
    elif name in TORCHVISION:
        if _image_folder(name, root) and not _torchvision_file(name, root).exists():
            return _folder(data_root(root) / name, split, limit, seed, size or 32, name)
        try:
            found = _torchvision(name, split, data_root(root), wait)
        except DataUnavailable as error:
            if not substitute:
                raise
            stand_in = STAND_IN[name]
            print(f"{error}\n{stand_in} ({EMBEDDED[stand_in]}) stands in for {name}", file=sys.stderr)
            found = load_images(stand_in, split)
            limit = None if limit is None else min(limit, len(found.images))
    else:
        check_name(name)
        return _folder(Path(name), split, limit, seed, size, Path(name).resolve().name)
    if size is not None:
        raise ValueError(f"size is for folders of images; {name} has a size of its own")
    if limit is None:
        return found
    if limit > len(found.images):
        raise ValueError(f"limit {limit} is more than the {len(found.images)} images of {name} {split}")
    chosen = torch.from_numpy(_order(len(found.images), seed)[:limit])
    return ImageSet(found.images[chosen], found.labels[chosen], found.source)


def batches(images: Tensor, batch_size: int, *, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Tensor]:
    """All ``images``, uint8 ``(N, C, H, W)``, once; ``shuffle``: in an order that depends on (seed, epoch) alone.

    Yields float32 ``(B, C, H, W)`` in [0, 1], on their device, the last with what remains; other types as they are.
    """
    order = torch.from_numpy(_order(len(images), seed, epoch)) if shuffle else torch.arange(len(images))
    order = order.to(images.device)
    for chosen in order.split(batch_size):
        yield images[chosen].float() / 255 if images.dtype == torch.uint8 else images[chosen]


def binarise(images: Tensor, *key: int | str) -> Tensor:
    """``images``, uint8 or floats in [0, 1], in black and white: each pixel is on with its grey level as probability.

    The draw depends on ``key`` alone, which ends in a word: ``binarise(images, 0, "once")`` is one fixed data set.
    """
    uniform = torch.from_numpy(generator(*key).random(tuple(images.shape), dtype=np.float32)).to(images.device)
    if images.dtype == torch.uint8:
        return (images.float() / 255 > uniform).to(torch.uint8) * 255
    return (images > uniform).to(images.dtype)


def as_meant(images: Tensor, binarisation: str, *key: int | str) -> Tensor:
    """uint8 ``images`` as a model of that ``binarisation`` is to see them: drawn by ``key`` if "afresh".

    Raises:
        ValueError: when it is "once" and there are grey pixels.
    """
    if binarisation == "once" and bool(((images != 0) & (images != 255)).any()):
        raise ValueError('grey pixels where black and white are needed: binarise(images, 0, "once") draws them')
    return binarise(images, *key) if binarisation == "afresh" else images


def _order(n: int, seed: int, *more: int) -> np.ndarray:
    return generator(seed, "order", *more).permutation(n)


def check_name(name: str) -> None:
    """Nothing, if ``name`` is a known data set or a folder.

    Raises:
        ValueError: if it is neither, with the known ones.
    """
    known = [*TORCHVISION, *EMBEDDED]
    if name in known or (name and Path(name).is_dir()):
        return
    close = difflib.get_close_matches(name.lower(), known, 1)
    hint = f"did you mean {close[0]}? Known" if close else "known"
    raise ValueError(f"no data set or folder {name!r}; {hint}: {', '.join(known)}, or the path of a folder")


def on_disk(name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether a named data set is under ``root``, in torchvision's files or as a folder of images."""
    return _torchvision_file(name, root).exists() or _image_folder(name, root)


def _image_folder(name: str, root: str | os.PathLike | None) -> bool:
    return all((data_root(root) / name / split).is_dir() for split in ("train", "test"))


def _torchvision_file(name: str, root: str | os.PathLike | None) -> Path:
    """One of its files, whose absence tells that torchvision has not unpacked the set there."""
    files = {
        "mnist": "MNIST/raw/train-images-idx3-ubyte",
        "fashion-mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
        "cifar10": "cifar-10-batches-py/data_batch_1",
    }
    return data_root(root) / files[name]


# --- torchvision -----------------------------------------------------------------------------


def _torchvision(name: str, split: str, root: Path, wait: bool) -> ImageSet:
    from torchvision import datasets

    dataset = getattr(datasets, TORCHVISION[name])
    if split == "all":
        raise ValueError(f"{name} has the splits train and test; all is for folders")
    try:
        try:
            loaded = dataset(root, train=split == "train")
        except RuntimeError as error:
            if not str(error).startswith("Dataset not found"):
                raise
            download(name, dataset, root, STAND_IN[name], wait=wait)
            loaded = dataset(root, train=split == "train")
        if len(loaded.data) != len(loaded.targets):
            raise ValueError(f"{len(loaded.data)} images, {len(loaded.targets)} labels")
    except DataUnavailable:
        raise
    except Exception as error:
        raise ValueError(
            f"{name} under {root} cannot be read ({type(error).__name__}: {error}); "
            f"delete it there and run: vae-core data {name}"
        ) from error
    images = torch.as_tensor(loaded.data)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.as_tensor(loaded.targets), f"{name}: torchvision's files")


# --- folders ---------------------------------------------------------------------------------


def _folder(folder: Path, split: str, limit: int | None, seed: int, size: int | None, name: str) -> ImageSet:
    from PIL import Image
    from tqdm import tqdm

    Image.init()
    split_by_folder = (folder / "train").is_dir() and (folder / "test").is_dir()
    files = sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if Image.EXTENSION.get(path.suffix.lower()) in {*Image.OPEN, "MPO"}  # read as the JPEG it begins with
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not files:
        raise ValueError(f"no images in {folder}: expected files such as .png or .jpg, in it or in class subfolders")
    classes = {path: "/".join(path.parts[split_by_folder:-1]) for path in files}
    names = sorted(set(classes.values()))  # of all splits, so that a label means the same in each
    if split_by_folder and split != "all":
        files = [path for path in files if path.parts[0] == split]
    elif split != "all":
        files = [path for path in files if (zlib.crc32(path.as_posix().encode()) % 10 == 0) == (split == "test")]
    order = range(len(files)) if limit is None else _order(len(files), seed)
    images: list[np.ndarray] = []
    labels: list[int] = []
    kinds, unreadable = set(), 0
    for path in tqdm([files[i] for i in order], desc=f"reading {name}", delay=2, leave=False):
        try:
            images.append(_read(folder / path, size))
        except Exception:  # whatever a decoder makes of a damaged file
            unreadable += 1
            continue
        labels.append(names.index(classes[path]))
        kinds.add(path.suffix.lower().lstrip("."))
        if len(images) == limit:
            break
    if not images:
        why = f"none of the {unreadable} image files can be read" if files else f"no images left for the {split} split"
        raise ValueError(f"{folder}: {why}")
    if limit is not None and len(images) < limit:
        raise ValueError(f"limit {limit} is more than the {len(images)} readable images of {folder}")
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        raise ValueError(
            f"{folder} has images of {len(sizes)} sizes, {sizes[0][1]}x{sizes[0][0]} to {sizes[-1][1]}x{sizes[-1][0]}: "
            "give a size to bring them all to, such as size=32 (--size 32)"
        )
    if any(image.shape[2] == 3 for image in images):
        images = [image if image.shape[2] == 3 else image.repeat(3, axis=2) for image in images]
    source = f"{name}: image folder ({', '.join(sorted(kinds))})"
    if unreadable:
        source += f", {unreadable} unreadable left out"
        print(f"{folder}: {unreadable} unreadable image files are left out", file=sys.stderr)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(stacked, torch.tensor(labels), source)


def _read(path: Path, size: int | None) -> np.ndarray:
    """An image of any mode as uint8 ``(H, W, 1 or 3)``: upright, on white, 16 bits brought to 8."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image, dtype=np.float64)
            full = 65535.0 if values.max() > 255 else 255.0 if values.max() > 1 else 1.0
            full = 65535.0 if image.mode.startswith("I;16") else full
            image = Image.fromarray((values / full * 255).round().clip(0, 255).astype(np.uint8))
        elif image.has_transparency_data:
            grey = image.mode in ("1", "L", "LA")
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("L" if grey else "RGB")
        else:
            image = image.convert("L" if image.mode in ("1", "L") else "RGB")
        if size is not None:
            image = ImageOps.fit(image, (size, size), method=Image.Resampling.LANCZOS)
        array = np.asarray(image)
    return array[:, :, None] if array.ndim == 2 else array
