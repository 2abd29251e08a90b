"""Whether what a notebook made says the same as what is published: numbers within what is stated, pictures to the eye.

Two processors can bear one name and differ in their instructions. Then last digits differ, and with them some pixels.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

WIDTH = 720  # pixels, of every declared figure
RELATIVE = 1e-3  # of a number that one seed determines
LEAST = 1e-6  # so that zero has a tolerance
LEVELS, SHARE = 32, 0.005  # a pixel is another by more than that many of 255 levels; a picture by more than that share
Row = Mapping[str, Any]


def tolerance(made: Row, published: Row) -> float:
    """How far the values of two rows may be apart.

    What the row itself states as ``tolerance``; else, over several seeds, twice the standard error of the difference;
    else, where one seed determines the value, a thousandth of it.
    """
    if "tolerance" in published:
        return published["tolerance"]
    errors = [row.get("standard_error") or 0 for row in (made, published)]
    if published.get("seeds", 1) > 1 and max(errors) > 0:
        return 2 * math.hypot(*errors)
    return max(LEAST, RELATIVE * max(abs(made["value"]), abs(published["value"])))


def numbers(made: Sequence[Row], published: Sequence[Row]) -> list[str]:
    """The claims whose numbers differ by more than their :func:`tolerance`, or that only one side has, in words."""
    new, old = ({row["claim"]: row for row in rows} for rows in (made, published))
    told = [f"no number published for {claim}" for claim in sorted(new.keys() - old.keys())]
    told += [f"no number made for {claim}" for claim in sorted(old.keys() - new.keys())]
    for claim in sorted(new.keys() & old.keys()):
        a, b = new[claim]["value"], old[claim]["value"]
        if not (abs(a - b) <= tolerance(new[claim], old[claim]) or (math.isnan(a) and math.isnan(b))):
            told.append(f"{claim}: {a:.5g}, published {b:.5g}")
    return told


def share_of_pixels(made: bytes, published: bytes) -> float:
    """The share of pixels in which two PNGs differ by more than ``LEVELS``; 1 where their sizes do or one is damaged."""
    try:
        a, b = (np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16) for content in (made, published))
    except (OSError, SyntaxError):  # what Pillow makes of a damaged file
        return 1.0
    return float((np.abs(a - b).max(axis=2) > LEVELS).mean()) if a.shape == b.shape else 1.0


def words(text: str) -> str:
    """A text without its numbers and without long runs of encoded bytes."""
    return re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?%?", "#", re.sub(r"[A-Za-z0-9+/=]{64,}", "#", text))


def looks_same(made: bytes, published: bytes, name: str) -> bool:
    """Whether a figure looks as the published one: a PNG by its pixels, a page by its words."""
    if name.endswith(".html"):
        return words(made.decode(errors="replace")) == words(published.decode(errors="replace"))
    return share_of_pixels(made, published) <= SHARE


def fault(figure: bytes) -> str | None:
    """What is wrong with a declared figure: damaged, of another width, or blank."""
    try:
        with Image.open(io.BytesIO(figure)) as image:
            if image.width != WIDTH:
                return f"is {image.width} pixels wide, not {WIDTH}"
            least, most = image.convert("L").getextrema()
    except (OSError, SyntaxError) as error:
        return f"is no picture ({error})"
    return "is blank" if least == most else None
