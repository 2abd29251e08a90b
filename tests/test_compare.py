import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vae_core.files import digest
from vae_core.plots import figures
from vae_core.regenerate import compare

ONE = {"claim": "bound", "value": -100.0, "seeds": 1, "standard_error": 5.0}
SEVERAL = {"claim": "bound", "value": -100.0, "seeds": 3, "standard_error": 1.0}
STATED = {"claim": "most", "value": 0.3, "seeds": 3, "standard_error": 0.0, "tolerance": 0.1}
UNKNOWN = {"claim": "most", "value": 0.3, "seeds": 3, "standard_error": 0.0}


@pytest.mark.parametrize(
    ("row", "within", "beyond"),
    [
        (ONE, -100.09, -100.2),  # a thousandth, whatever its error over images
        (SEVERAL, -102.8, -102.9),  # twice the error of the difference
        (STATED, 0.399, 0.401),
        (UNKNOWN, 0.3002, 0.3004),  # never zero
        (ONE | {"value": 0.0}, 9e-7, 2e-6),
        ({"claim": "bare", "value": 3}, 3.001, 3.01),
    ],
)
def test_a_number_is_the_same_within_what_is_stated(row: dict, within: float, beyond: float) -> None:
    assert compare.numbers([row | {"value": within}], [row]) == []
    [told] = compare.numbers([row | {"value": beyond}], [row])
    assert told == f"{row['claim']}: {beyond:.5g}, published {row['value']:.5g}"


def test_where_more_than_the_machine_is_another_a_thousandth_is_all() -> None:
    for row in (ONE, SEVERAL, STATED):
        assert compare.numbers([row | {"value": row["value"] * 1.0009}], [row], same_inputs=False) == []
        assert compare.numbers([row | {"value": row["value"] * 1.0011}], [row], same_inputs=False)


def test_the_tolerance_is_that_of_what_is_published() -> None:
    assert compare.numbers([STATED | {"value": 0.5, "tolerance": 9.0}], [STATED])


def test_what_is_not_finite_is_no_small_difference() -> None:
    endless = ONE | {"value": math.inf}
    assert compare.numbers([endless], [ONE])
    assert compare.numbers([ONE], [endless])
    assert compare.numbers([endless], [endless]) == []
    assert compare.numbers([SEVERAL], [SEVERAL | {"standard_error": math.nan}]) == []


def test_numbers_that_are_no_number_and_claims_of_one_side() -> None:
    nan = ONE | {"value": math.nan}
    assert compare.numbers([nan], [nan]) == []
    assert len(compare.numbers([nan], [ONE])) == len(compare.numbers([ONE], [nan])) == 1
    assert compare.numbers([ONE], [STATED]) == ["no number published for bound", "no number measured for most"]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "png")
    return out.getvalue()


GREY = np.full((100, 720, 3), 100)


def with_other_pixels(count: int) -> bytes:
    pixels = GREY.copy()
    pixels.reshape(-1, 3)[:count] += 33
    return png(pixels)


@pytest.mark.parametrize(("same_inputs", "most"), [(False, 360), (True, 10_800)])  # of 72,000
def test_a_picture_is_another_when_many_pixels_are_plainly_others(same_inputs: bool, most: int) -> None:
    def same(made: bytes) -> bool:
        return compare.looks_same(made, png(GREY), "a.png", same_inputs=same_inputs)

    assert same(png(GREY + 32))
    assert same(with_other_pixels(most))
    assert not same(with_other_pixels(most + 1))
    assert not same(png(GREY[:99]))
    assert not same(b"no picture")
    assert not same(png(np.random.default_rng(0).integers(0, 256, GREY.shape))[:-5000])  # cut short


def test_figures_are_compared_with_their_files_entries_and_texts(tmp_path: Path) -> None:
    def facts(**more: str) -> dict:
        return {"alt": "A bar of 1.5.", "caption": "3 seeds.", "sha256": digest(png(GREY))} | more

    def difference(new: bytes | None, published: bytes | None, *, recorded: bool = True, **now: str) -> str:
        (tmp_path / "a.png").unlink(missing_ok=True)
        if published is not None:
            (tmp_path / "a.png").write_bytes(published)
        return compare.figure(new, facts(**now), tmp_path / "a.png", facts() if recorded else None)

    same = png(GREY)
    assert difference(same, same) == ""
    assert difference(with_other_pixels(9), same, alt="A bar of -0.25.") == ""
    assert difference(same, same, alt="A line of 1.5.") == "has another text"
    assert difference(same, same, caption="3 runs.") == "has another text"
    assert difference(png(255 - GREY), same) == "looks different"
    assert difference(same, with_other_pixels(1)) == "was another file than its entry says"
    assert difference(same, same, recorded=False) == "is new"
    assert difference(same, None) == "is new"
    assert difference(None, same) == "is no longer drawn"


def test_a_page_is_another_when_its_words_are() -> None:
    page = f'<script>let w = "{"abcd" * 40}"; f(0.25, 1e-7)</script>'
    assert compare.looks_same(page.replace("abcd", "efgh").replace("0.25", "0.2501").encode(), page.encode(), "a.html")
    assert not compare.looks_same(page.replace("let", "var").encode(), page.encode(), "a.html")


def test_the_faults_of_a_figure() -> None:
    good = GREY.copy()
    good[0, 0] = 0
    assert compare.fault(png(good)) == ""
    assert compare.fault(png(GREY)) == "is blank"
    assert compare.fault(png(good[:, :700])) == "is 700 pixels wide, not 720"
    assert compare.fault(b"") == compare.fault(b"").strip()
    for damaged in (b"no picture", png(good)[:20]):
        assert compare.fault(damaged).startswith("is no picture")
        assert compare.share_of_pixels(damaged, png(good)) == 1
    assert compare.WIDTH == figures.WIDTH
