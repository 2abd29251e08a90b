"""Folders of images: which files there are and how they are laid out, and their pixels, as arrays."""

import contextlib
import importlib
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "eval")  # the first that is there is the test split
LEFT_BEHIND = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
READERS = dict.fromkeys((".heic", ".heif", ".hif"), "read after: pip install pillow-heif")
READERS |= dict.fromkeys((".avif", ".avifs"), "read after: pip install --upgrade pillow")
RAW = (".jxl", ".svg", ".exr", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf")
READERS |= dict.fromkeys(RAW, "to be converted to PNG or JPEG")
MOST = 2e9  # bytes of pixels that are read without a size or a limit
Parts = tuple[str, ...]  # of a path inside the folder


class Layout(NamedTuple):
    """What is in a folder of images."""

    files: list[Parts]  # those of the splits, in order
    splits: dict[str, str]  # train and test: their folders; empty where there are none
    description: str  # the layout in words
    left_out: str  # what is passed over, in words

    def split(self, parts: Parts) -> str:
        """Whether a file is for train or test: by its folder, else by its name."""
        if self.splits:
            return "train" if parts[0] == self.splits["train"] else "test"
        return "train" if zlib.crc32("/".join(parts).encode(errors="surrogateescape")) % 10 else "test"

    def label(self, parts: Parts) -> str:
        """The class of a file: the folders that it is in."""
        return "/".join(parts[bool(self.splits) : -1])


def look(folder: Path) -> Layout:
    """The image files in and below ``folder``, through links too, and how they are laid out.

    Raises:
        ValueError: for a folder that cannot be read, with its path.
    """
    endings = {parts: Path(parts[-1]).suffix.lower() for parts in sorted(_walk(folder))}
    readable, tops = _endings(), [path.name for path in folder.iterdir() if path.is_dir()]
    train, test = _first(TRAIN, tops), _first(TEST, tops)
    splits = {"train": train, "test": test} if train and test else {}
    images = [parts for parts, ending in endings.items() if ending in readable]
    files = [parts for parts in images if not splits or parts[0] in splits.values()]
    beside = Counter(f"{parts[0]}/" if parts[1:] else "no folder" for parts in {*images}.difference(files))
    unread = Counter(ending for ending in endings.values() if ending in READERS and ending not in readable)
    out = [f"{n} images of {top}, in neither split" for top, n in sorted(beside.items())]
    out += [f"{n} {ending} files, {READERS[ending]}" for ending, n in sorted(unread.items())]
    classes = len({parts[bool(splits) : -1] for parts in files})
    words = f"{len(files):,} image{'s' * (len(files) != 1)} in {classes} {'class' if classes == 1 else 'classes'}, "
    words += f"{train}/ and {test}/ are the splits" if splits else "a tenth, by name, is the test split"
    return Layout(files, splits, words, shown(f"left out: {'; '.join(out)}") if out else "")


def read(
    folder: Path,
    split: str,
    *,
    limit: int | None,
    size: int | None,
    order: Callable[[int], np.ndarray],
    name: str,
    announce: bool,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Images of a folder, uint8 ``(N, C, H, W)``, their labels, int64 ``(N,)``, and what they are.

    Args:
        order: a permutation of so many files, of which a ``limit`` takes the first that can be read.
        announce: say how the folder was understood; what is left out is said always.

    Raises:
        ValueError: nothing to read, images of several sizes or too many pixels without a ``size``, too high a limit.
    """
    layout, where = look(folder), shown(folder)
    besides = f"; {layout.left_out}" if layout.left_out else ""
    if not layout.files:
        expected = "expected files such as .png or .jpg, in it or in class subfolders"
        raise ValueError(f"no images in {where}: {expected}{besides}")
    classes = sorted({layout.label(parts) for parts in layout.files})  # of all splits: the same in each
    files = [parts for parts in layout.files if split in ("all", layout.split(parts))]
    if not files:
        raise ValueError(f"{where}: no images left for the {split} split{besides}")
    if limit is not None and limit > len(files):
        raise ValueError(f"limit {limit} is more than the {len(files)} images of {where} {split}")
    files, n = files if limit is None else [files[i] for i in order(len(files))], limit or len(files)
    images, labels = np.empty((0, 0, 0, 0), np.uint8), list[int]()
    kinds, unreadable = set(), list[str]()
    for parts in tqdm(files, desc=f"reading {name}", delay=2, leave=False):
        if len(labels) == n:
            break
        try:
            image = _pixels(folder.joinpath(*parts), size)
        except Exception:  # whatever a decoder makes of a damaged file
            unreadable.append(shown("/".join(parts)))
            continue
        if not labels:
            if n * image.size > MOST:
                pixels = f"{n:,} images are {n * image.size / 1e9:.1f} GB of pixels"
                raise ValueError(f"{where} {split}: {pixels}; give a size such as size=64 (--size 64), or a limit")
            images = np.empty((n, *image.shape), np.uint8)
        if image.shape[1:] != images.shape[2:]:
            (h, w), (other_h, other_w) = images.shape[2:], image.shape[1:]
            sizes = f"{w}x{h} and {other_w}x{other_h}"
            raise ValueError(f"{where} has images of different sizes, {sizes}: give a size such as size=32 (--size 32)")
        if len(image) > images.shape[1]:  # the first in colour
            images = images.repeat(3, axis=1)
        images[len(labels)] = image
        labels.append(classes.index(layout.label(parts)))
        kinds.add(Path(parts[-1]).suffix.lower()[1:])
    examples = ", ".join(sorted(unreadable)[:3] + ["..."] * (len(unreadable) > 3))
    if not labels:
        raise ValueError(f"{where}: none of the {len(files)} image files can be read ({examples})")
    if limit is not None and len(labels) < limit:
        raise ValueError(f"limit {limit} is more than the {len(labels)} readable images of {where}")
    source, damage = f"{name}: image folder ({', '.join(sorted(kinds))})", ""
    if unreadable:
        source += f", {len(unreadable)} unreadable left out"
        damage = f"{len(unreadable)} unreadable image files are left out: {examples}"
    warn_once(where, layout.description if announce else "", layout.left_out, damage)
    return images[: len(labels)], np.array(labels, dtype=np.int64), source


_warned: set[tuple[str, str]] = set()


def warn_once(about: str, *facts: str) -> None:
    """One line on standard error with those ``facts`` that this process has not written yet about the same."""
    new = [fact for fact in facts if fact and (about, fact) not in _warned]
    _warned.update((about, fact) for fact in new)
    if new:
        print(f"{about}: {'; '.join(new)}", file=sys.stderr)


def shown(path: str | os.PathLike) -> str:
    """A path as text that can be printed and kept, whatever bytes it has."""
    return os.fsencode(path).decode(errors="replace")


def _walk(folder: Path, inside: Parts = (), above: tuple[Path, ...] = ()) -> Iterator[Parts]:
    """The files, but for what is hidden or left behind by systems; a link to a folder above is no other folder."""
    try:
        here, entries = folder.resolve(), [(path, path.is_dir()) for path in folder.iterdir()]
    except OSError as error:
        why = f"({error.strerror}): make it readable, or take it away"
        raise ValueError(f"the folder {shown(folder)} cannot be read {why}") from error
    for path, is_folder in entries if here not in above else ():
        if path.name.startswith(".") or path.name.lower() in LEFT_BEHIND:
            continue
        if is_folder:
            yield from _walk(path, (*inside, path.name), (*above, here))
        else:
            yield (*inside, path.name)


def _endings() -> set[str]:
    """How the names of the files end that can be read here, such as .png."""
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return {ending for ending, kind in Image.EXTENSION.items() if kind in {*Image.OPEN, "MPO"}}  # an MPO is a JPEG


def _first(names: tuple[str, ...], tops: list[str]) -> str:
    """Which of the folders ``tops`` has the first of those names, in whatever case; empty if none has."""
    return next((top for name in names for top in sorted(tops, reverse=True) if top.lower() == name), "")


def _pixels(path: Path, size: int | None = None) -> np.ndarray:
    """An image of any mode as uint8 ``(1 or 3, H, W)``: upright, on white, 16 bits brought to 8."""
    with Image.open(path) as opened:
        if size is not None:
            opened.draft(None, (2 * size, 2 * size))  # what is much larger is decoded small, if it is a JPEG
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
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
