"""Charts: the right size, nothing cut off, every number and name in the picture."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vae_core.plots import charts
from vae_core.plots.figures import Section, image_sections, latent_plane, save


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        found += [axes.get_xlabel(), axes.get_ylabel()]
    return found


HOSTILE = {
    "savefig.bbox": "tight", "savefig.dpi": 50, "savefig.transparent": True, "figure.dpi": 50, "axes.grid": True,
    "text.color": "red", "lines.markersize": 20, "xtick.direction": "in", "svg.fonttype": "path",
    "text.hinting": "none", "figure.constrained_layout.use": True,
}  # fmt: skip
BARS = charts.Line("bars", [1, 3, 10], [5, 2, 1], 0, low=[4, 1.5, 0.9], high=[7, 2.5, 1.1])
FIGURES = {
    "dots": lambda: charts.dots("T", [charts.Dot("first", 1.25), charts.Dot("second", 1.5, 1)], label="nats"),
    "curve": lambda: charts.curve("T", [1, 10, 100], [3.0, 2.0, 1.5], across="samples", up="nats"),
    "lines": lambda: charts.lines("T", [("a line", np.arange(3), np.arange(3))], across="p", up="g"),
    "spreads": lambda: charts.spreads(
        "T", [charts.Spread("a row", np.logspace(-1, 1, 9))], label="x", mark=2, mark_label="a mark"
    ),
    "panels": lambda: charts.panels("T", [charts.Panel("one", "nats", [BARS])], across="x", ticks=[1, 9]),
    "columns": lambda: charts.columns("T", ["a row"], {"p": [charts.Column("c", [1.0], [0.1], 0, "a mark")]}),
    "image_sections": lambda: image_sections("T", [Section("label", torch.rand(3, 1, 8, 8), ["a", "b", "c"])]),
    "latent_plane": lambda: latent_plane("T", torch.randn(50, 2), torch.arange(50) % 5, torch.rand(9, 1, 8, 8), 2.0),
}
WORDS = {
    "dots": ["T", "first", "second", "1.25", "1.50", "nats"],
    "curve": ["T", "3.0", "2.0", "1.5", "samples", "nats"],
    "lines": ["T", "a line", "p", "g"],
    "spreads": ["T", "a row", "a mark", "x"],
    "panels": ["T", "one", "nats", "bars", "x", "1", "9"],
    "columns": ["T", "a row", "p", "1.00", "a mark"],
    "image_sections": ["T", "label", "a", "b", "c"],
    "latent_plane": ["T", "0", "1", "2", "3", "4", "z[0]", "z[1]", "What the dashed square decodes to"],
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_chart_has_its_words_and_cuts_none(name: str) -> None:
    figure = FIGURES[name]()
    assert figure.get_figwidth() * 100 == 720
    found = texts(figure)
    assert set(WORDS[name]) <= set(found), found
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    box = figure.bbox
    for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
        place = text.get_window_extent(renderer)
        assert box.x0 <= place.x0, text
        assert place.x1 <= box.x1 + 1, text
        assert box.y0 <= place.y0, text
        assert place.y1 <= box.y1 + 1, text


@pytest.mark.parametrize("many", [1, 9])
def test_a_message_stands_between_what_is_above_it_and_its_axes(many: int) -> None:
    names = [charts.Line(f"line {i}", [1, 2], [i, i], i) for i in range(many)]
    figure = charts.panels("T", [charts.Panel("first", "up", names), charts.Panel("second", "up", names)], across="x")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    title, first, second = (text.get_window_extent(renderer) for text in figure.texts)
    upper, lower = (axes.get_tightbbox(renderer) for axes in figure.axes)
    tops = [title.y0, first.y1, first.y0, upper.y1, upper.y0, second.y1, second.y0, lower.y1, lower.y0, 0]
    assert tops == sorted(tops, reverse=True)
    heights = sorted(text.get_window_extent(renderer).y0 for text in figure.axes[0].texts)
    assert min(np.diff(heights), default=20) >= 20  # a line of text


def test_what_the_user_set_for_matplotlib_changes_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(folder: str) -> dict[str, bytes]:
        torch.manual_seed(0)
        for name, draw in FIGURES.items():
            save(draw(), name, alt="a", caption="c", source="s", svg=True, folder=tmp_path / folder)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    before = drawn("before")
    for key, value in HOSTILE.items():
        monkeypatch.setitem(matplotlib.rcParams, key, value)
    assert drawn("after") == before
    assert len(before) == 2 * len(FIGURES)
    assert all(matplotlib.rcParams[key] == value for key, value in HOSTILE.items())
