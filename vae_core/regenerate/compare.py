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

from vae_core.files import digest

WIDTH = 720  # pixels, of every declared figure
RELATIVE = 1e-3  # of a number
LEAST = 1e-6  # so that zero has a tolerance
LEVELS = 32  # of 255, by which a pixel is another
# the share of other pixels that makes another picture: where code or data are others, and where only the machine is.
# What a model draws after thousands of steps can differ visibly there: in one look, between an AMD EPYC and an Intel
# Xeon, by up to 0.095, while panels of models that differ by a setting differed by 0.12 and more
SHARE, SHARE_OF_MACHINES = 0.005, 0.15
Row = Mapping[str, Any]


def tolerance(made: Row, published: Row) -> float:
    """How far the values of two rows may be apart where only the machine is another.

    What the row itself states as ``tolerance``; else, over several seeds, twice the standard error of the difference;
    else, where one seed determines the value, a thousandth of it.
    """
    if "tolerance" in published:
        return published["tolerance"]
    errors = [row.get("standard_error") or 0 for row in (made, published)]
    errors = [error for error in errors if math.isfinite(error)] or [0]
    if published.get("seeds", 1) > 1 and max(errors) > 0:
        return 2 * math.hypot(*errors)
    return _thousandth(made, published)


def _thousandth(made: Row, published: Row) -> float:
    return max(LEAST, RELATIVE * max(abs(made["value"]), abs(published["value"])))


def numbers(made: Sequence[Row], published: Sequence[Row], *, same_inputs: bool = True) -> list[str]:
    """The claims whose numbers differ, or that only one side has, in words.

    With the ``same_inputs``, code and data among them, numbers may differ by their :func:`tolerance`; else only by a
    thousandth, so that what a change of code does is not taken for a machine's doing.
    """
    new, old = ({row["claim"]: row for row in rows} for rows in (made, published))
    told = [f"no number published for {claim}" for claim in sorted(new.keys() - old.keys())]
    told += [f"no number made for {claim}" for claim in sorted(old.keys() - new.keys())]
    for claim in sorted(new.keys() & old.keys()):
        a, b = new[claim]["value"], old[claim]["value"]
        allowed = (tolerance if same_inputs else _thousandth)(new[claim], old[claim])
        same = a == b or (math.isnan(a) and math.isnan(b)) or (math.isfinite(a - b) and abs(a - b) <= allowed)
        if not same:
            told.append(f"{claim}: {a:.5g}, published {b:.5g}")
    return told


def share_of_pixels(made: bytes, published: bytes) -> float:
    """The share of pixels in which two PNGs differ by more than ``LEVELS``; 1 for other sizes or a damaged one."""
    try:
        a, b = (
            np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16) for content in (made, published)
        )
    except (OSError, SyntaxError, ValueError):  # what Pillow makes of a damaged file
        return 1.0
    return float((np.abs(a - b).max(axis=2) > LEVELS).mean()) if a.shape == b.shape else 1.0


def words(text: str) -> str:
    """A text without its numbers and without long runs of encoded bytes."""
    return re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?%?", "#", re.sub(r"[A-Za-z0-9+/=]{64,}", "#", text))


def looks_same(made: bytes, published: bytes, name: str, *, same_inputs: bool = True) -> bool:
    """Whether a figure looks as the published one: a PNG by its pixels, a page by its words.

    An SVG is its PNG drawn again, and not looked at.
    """
    if name.endswith(".html"):
        return words(made.decode(errors="replace")) == words(published.decode(errors="replace"))
    share = SHARE_OF_MACHINES if same_inputs else SHARE
    return name.endswith(".svg") or share_of_pixels(made, published) <= share


def figures(
    made: Mapping[str, bytes], published: Mapping[str, bytes | None], facts: Mapping[str, Row],
    entries: Mapping[str, Row], *, same_inputs: bool = True,
) -> list[str]:  # fmt: skip
    """The figures that differ, or that only one side has, in words: how they look, and their texts but for numbers.

    ``made`` and ``published`` hold files by name, ``facts`` and ``entries`` what the manifest says of each.
    """
    told = []
    for name in sorted(made.keys() | published.keys()):
        new, old = made.get(name), published.get(name)
        if new is None or old is None or name not in entries:
            told.append(f"{name} is {'new' if old is None or name not in entries else 'no longer made'}")
        elif digest(old) != entries[name]["sha256"]:
            told.append(f"{name} was another file than its entry says")
        elif not looks_same(new, old, name, same_inputs=same_inputs):
            told.append(f"{name} looks different")
        elif any(words(facts[name][text]) != words(entries[name][text]) for text in ("alt", "caption")):
            told.append(f"{name} has another text")
    return told


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
