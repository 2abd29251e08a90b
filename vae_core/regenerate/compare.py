"""Whether a run agrees with what is published: numbers within what is stated, pictures to the eye."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vae_core.files import digest

WIDTH = 720  # pixels, of every declared figure
LEVELS = 32  # of 255, by which a pixel differs
# The share of differing pixels that makes another picture: where code or data differ, and where only the machine does.
# Two processors differed by up to 0.095, also two of one name by their instructions; another setting by 0.12 and more.
SHARE, SHARE_OF_MACHINES = 0.005, 0.15
Row = Mapping[str, Any]


def tolerance(row: Row, published: Row, *, same_inputs: bool = True) -> float:
    """How far the values of two rows may be apart: a thousandth, so that no change of code passes for a machine's.

    Where only the machine differs, what the published row states as ``tolerance``; else, over several seeds, twice the
    standard error of the difference.
    """
    if same_inputs and "tolerance" in published:
        return published["tolerance"]
    errors = [error for side in (row, published) if math.isfinite(error := side.get("standard_error") or 0)]
    if same_inputs and published.get("seeds", 1) > 1 and any(errors):
        return 2 * math.hypot(*errors)
    return max(1e-6, 1e-3 * max(abs(row["value"]), abs(published["value"])))  # so that zero has a tolerance


def numbers(rows: Sequence[Row], published: Sequence[Row], *, same_inputs: bool = True) -> list[str]:
    """The claims whose numbers differ by more than their :func:`tolerance`, or that only one side has, in words."""
    new, old = ({row["claim"]: row for row in side} for side in (rows, published))
    differences = [f"no number published for {claim}" for claim in sorted(new.keys() - old.keys())]
    differences += [f"no number measured for {claim}" for claim in sorted(old.keys() - new.keys())]
    for claim in sorted(new.keys() & old.keys()):
        a, b = new[claim]["value"], old[claim]["value"]
        allowed = tolerance(new[claim], old[claim], same_inputs=same_inputs)
        if not np.isclose(a, b, rtol=0, atol=allowed if math.isfinite(allowed) else 0, equal_nan=True):
            differences.append(f"{claim}: {a:.5g}, published {b:.5g}")
    return differences


def share_of_pixels(image: bytes, published: bytes) -> float:
    """The share of pixels in which two PNGs differ by more than ``LEVELS``; 1 for other sizes or a damaged one."""
    try:
        a, b = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.int16) for file in (image, published))
    except (OSError, SyntaxError, ValueError):  # what Pillow makes of a damaged file
        return 1.0
    return float((np.abs(a - b).max(axis=2) > LEVELS).mean()) if a.shape == b.shape else 1.0


def words(text: str) -> str:
    """A text without its numbers and without long runs of encoded bytes."""
    return re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?%?", "#", re.sub(r"[A-Za-z0-9+/=]{64,}", "#", text))


def looks_same(figure: bytes, published: bytes, name: str, *, same_inputs: bool = True) -> bool:
    """Whether a figure looks as published: a PNG by its pixels, a page by its words, an SVG as its PNG."""
    if name.endswith(".html"):
        return words(figure.decode(errors="replace")) == words(published.decode(errors="replace"))
    share = SHARE_OF_MACHINES if same_inputs else SHARE
    return name.endswith(".svg") or share_of_pixels(figure, published) <= share


def figure(file: bytes | None, facts: Row, path: Path, published: Row | None, *, same_inputs: bool = True) -> str:
    """In what a figure differs from the published one at ``path``, in words: its look, its texts but for numbers.

    ``facts`` and ``published`` are its entries in the records; it is no longer drawn where ``file`` is ``None``.
    """
    if file is None:
        return "is no longer drawn"
    if published is None or not path.exists():
        return "is new"
    if digest(path.read_bytes()) != published["sha256"]:
        return "was another file than its entry says"
    if not looks_same(file, path.read_bytes(), path.name, same_inputs=same_inputs):
        return "looks different"
    return "has another text" if any(words(facts[key]) != words(published[key]) for key in ("alt", "caption")) else ""


def fault(figure: bytes) -> str:
    """What is wrong with a declared figure: damaged, of another width, or blank; empty if nothing is."""
    try:
        with Image.open(io.BytesIO(figure)) as image:
            least, most = image.convert("L").getextrema()
    except (OSError, SyntaxError, ValueError) as error:
        return f"is no picture ({error})"
    if image.width != WIDTH:
        return f"is {image.width} pixels wide, not {WIDTH}"
    return "is blank" if least == most else ""
