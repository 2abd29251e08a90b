"""Image sets in memory, and deterministic batches of them.

Three sources, in this order: torchvision's data sets, a folder of images, and samples that come with installed
packages. The last never stand in silently: one line says so, and ``ImageSet.source`` names what it really is.
"""

import difflib
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_core.noise import generator
from vae_core.sources import samples
from vae_core.sources.folder import read, shown
from vae_core.sources.torchvision_files import (
    KNOWN,
    DataUnavailable,
    data_root,
    download,
    image_folder,
    is_folder,
    unpacked,
)

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "cifar10": "CIFAR10"}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
EMBEDDED = samples.SAMPLES
STAND_IN = {"mnist": "digits-sample", "fashion-mnist": "digits-sample", "cifar10": "photos-sample"}
SPLITS = ("train", "test", "all")
_stood_in: set[tuple[str, Path]] = set()  # what has been announced


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
            of images: class subfolders or flat, with or without ``train`` and ``test`` above them, or
            what else these are called. Without those two, a tenth of the files, picked by name, is the test split.
            A folder called like a data set is ``./mnist``.
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
    name = name if isinstance(name, str) else str(Path(name).expanduser().absolute())  # a path is no name
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number, 0 or more, not {seed!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    for what, value in (("limit", limit), ("size", size)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f"{what} must be a whole number above 0, not {value!r}")
    if name in EMBEDDED:
        pixels, labels, credit = samples.digits(split) if name == "digits-sample" else samples.photos(split)
        image_set = ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), f"{name}: {credit}")
    elif (folder := image_folder(name, root)) is not None:
        order, users = partial(_order, seed=seed), name not in TORCHVISION
        title, size = (_folder_title(folder), size) if users else (name, size or 32)
        pixels, labels, source = read(folder, split, limit=limit, size=size, order=order, name=title, announce=users)
        return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), source)
    else:
        check_name(name)
        try:
            image_set = _torchvision(name, split, data_root(root), wait)
        except DataUnavailable as error:
            if not substitute:
                raise
            stand_in = STAND_IN[name]
            if (name, data_root(root)) not in _stood_in:  # a notebook asks several times
                print(f"{error}\n{stand_in} ({EMBEDDED[stand_in]}) stands in for {name}", file=sys.stderr)
            _stood_in.add((name, data_root(root)))
            image_set = load_images(stand_in, split)
            limit = None if limit is None else min(limit, len(image_set.images))
    if size is not None:
        raise ValueError(f"size is for folders of images; {name} has a size of its own")
    if limit is None:
        return image_set
    if limit > len(image_set.images):
        raise ValueError(f"limit {limit} is more than the {len(image_set.images)} images of {name} {split}")
    chosen = torch.from_numpy(_order(len(image_set.images), seed)[:limit])
    return ImageSet(image_set.images[chosen], image_set.labels[chosen], image_set.source)


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


def as_seen(images: Tensor, binarisation: str, *key: int | str) -> Tensor:
    """uint8 ``images`` as a model of that ``binarisation`` is to see them: drawn by ``key`` if "dynamic".

    Raises:
        ValueError: when it is "static" and there are grey pixels.
    """
    if binarisation == "static" and bool(((images != 0) & (images != 255)).any()):
        raise ValueError('grey pixels where black and white are needed: binarise(images, 0, "once") draws them')
    return binarise(images, *key) if binarisation == "dynamic" else images


def _folder_title(folder: Path) -> str:
    """The name of a folder in a source, never that of a known data set."""
    name = shown(folder.resolve().name).replace(":", "_")
    taken = {"", *KNOWN, *(title.lower() for title in TITLES.values())}
    return f"folder {name}" if name.lower() in taken else name


def _order(n: int, seed: int, *more: int) -> np.ndarray:
    return generator(seed, "order", *more).permutation(n)


def check_name(name: str) -> None:
    """Nothing, if ``name`` is a known data set or a folder.

    Raises:
        ValueError: if it is neither, with the known ones.
    """
    if name in KNOWN or is_folder(name):
        return
    close = difflib.get_close_matches(name.lower(), KNOWN, 1)
    hint = f"did you mean {close[0]}? Known" if close else "known"
    raise ValueError(f"no data set or folder {name!r}; {hint}: {', '.join(KNOWN)}, or the path of a folder")


def on_disk(name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether a named data set is under ``root``, in torchvision's files or as a folder of images."""
    return unpacked(name, root) or image_folder(name, root) is not None


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
