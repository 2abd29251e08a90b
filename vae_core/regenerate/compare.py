"""Whether a run agrees with what is published: numbers within what is stated, pictures to the eye.

Two processors can bear one name and differ in their instructions. Then last digits differ, and with them some pixels.
"""

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
RELATIVE = 1e-3  # of a number
LEAST = 1e-6  # so that zero has a tolerance
LEVELS = 32  # of 255, by which a pixel differs
# The share of differing pixels that makes another picture: where code or data differ, and where only the machine does.
# In one look an AMD EPYC and an Intel Xeon differed by up to 0.095, models that differ by a setting by 0.12 and more.
SHARE, SHARE_OF_MACHINES = 0.005, 0.15
Row = Mapping[str, Any]


def tolerance(row: Row, published: Row) -> float:
    """How far the values of two rows may be apart where only the machine differs.

    What the row itself states as ``tolerance``; else, over several seeds, twice the standard error of the difference;
    else, where one seed determines the value, a thousandth of it.
    """
    if "tolerance" in published:
        return published["tolerance"]
    errors = [error for one in (row, published) if math.isfinite(error := one.get("standard_error") or 0)]
    if published.get("seeds", 1) > 1 and any(errors):
        return 2 * math.hypot(*errors)
    return _thousandth(row, published)


def _thousandth(row: Row, published: Row) -> float:
    return max(LEAST, RELATIVE * max(abs(row["value"]), abs(published["value"])))


def numbers(rows: Sequence[Row], published: Sequence[Row], *, same_inputs: bool = True) -> list[str]:
    """The claims whose numbers differ, or that only one side has, in words.

    With the ``same_inputs``, code and data among them, numbers may differ by their :func:`tolerance`; else only by a
    thousandth, so that what a change of code does is not taken for a machine's doing.
    """
    new, old = ({row["claim"]: row for row in side} for side in (rows, published))
    differences = [f"no number published for {claim}" for claim in sorted(new.keys() - old.keys())]
    differences += [f"no number measured for {claim}" for claim in sorted(old.keys() - new.keys())]
    for claim in sorted(new.keys() & old.keys()):
        a, b = new[claim]["value"], old[claim]["value"]
        allowed = (tolerance if same_inputs else _thousandth)(new[claim], old[claim])
        same = a == b or (math.isnan(a) and math.isnan(b)) or (math.isfinite(a - b) and abs(a - b) <= allowed)
        differences += [] if same else [f"{claim}: {a:.5g}, published {b:.5g}"]
    return differences


def share_of_pixels(image: bytes, published: bytes) -> float:
    """The share of pixels in which two PNGs differ by more than ``LEVELS``; 1 for other sizes or a damaged one."""
    try:
        a, b = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.int16) for content in (image, published))
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


def figures(
    figures: Mapping[str, bytes],
    outputs: Mapping[str, Row],
    folder: Path,
    published: Mapping[str, Row],
    *,
    same_inputs: bool = True,
) -> list[str]:
    """The figures that differ, or that only one side has, in words: how they look, and their texts but for numbers.

    ``figures`` are the files of a run by name, ``outputs`` their entries; ``published`` are those of ``folder``.
    """
    differences = []
    for name in sorted(figures.keys() | published.keys()):
        file = folder / name
        if name not in figures:
            differences.append(f"{name} is no longer drawn")
        elif name not in published or not file.exists():
            differences.append(f"{name} is new")
        elif digest(file.read_bytes()) != published[name]["sha256"]:
            differences.append(f"{name} was another file than its entry says")
        elif not looks_same(figures[name], file.read_bytes(), name, same_inputs=same_inputs):
            differences.append(f"{name} looks different")
        elif any(words(outputs[name][text]) != words(published[name][text]) for text in ("alt", "caption")):
            differences.append(f"{name} has another text")
    return differences


def fault(figure: bytes) -> str | None:
    """What is wrong with a declared figure: damaged, of another width, or blank."""
    try:
        with Image.open(io.BytesIO(figure)) as image:
            if image.width != WIDTH:
                return f"is {image.width} pixels wide, not {WIDTH}"
            least, most = image.convert("L").getextrema()
    except (OSError, SyntaxError, ValueError) as error:
        return f"is no picture ({error})"
    return "is blank" if least == most else None
