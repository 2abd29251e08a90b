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
from vae_core.study import batch_average_charts as phase


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        found += [axes.get_xlabel(), axes.get_ylabel()]
    return found


def diagram() -> Figure:
    grid = np.geomspace(0.1, 100, 50)
    series = [phase.Series("", [0.1, 1, 10], [0, 0, 0.6], 0), phase.Series("named", [3], [0.5], 1, "^", 9)]
    images = {0.1: torch.rand(2, 3, 8, 8), 10.0: torch.rand(2, 3, 8, 8)}
    return phase.phase_diagram("T", series, (grid, grid / 200), [("1", 0, 1.0, 0.9, 1.1)], images)


HOSTILE = {
    "savefig.bbox": "tight", "savefig.dpi": 50, "savefig.transparent": True, "figure.dpi": 50, "axes.grid": True,
    "text.color": "red", "lines.markersize": 20, "xtick.direction": "in", "svg.fonttype": "path",
    "text.hinting": "none", "figure.constrained_layout.use": True,
}  # fmt: skip
FIGURES = {
    "dots": lambda: charts.dots("T", [charts.Dot("first", 1.25), charts.Dot("second", 1.5, 1)], label="nats"),
    "curve": lambda: charts.curve("T", [1, 10, 100], [3.0, 2.0, 1.5], across="samples", up="nats"),
    "lines": lambda: charts.lines("T", [("a line", np.arange(3), np.arange(3))], across="p", up="g"),
    "ridges": lambda: phase.ridges("T", [("row", np.zeros(9), np.ones(201), "a remark")], label="x"),
    "phase_diagram": diagram,
}
MORE = {
    "spreads": lambda: charts.spreads(
        "T", [charts.Spread("a", np.arange(1.0, 9.0))], label="x", mark=2, mark_label="m"
    ),
    "panels": lambda: charts.panels(
        "T", [charts.Panel("one", "nats", [charts.Line("l", [1, 9], [2, 3])])], across="x", ticks=[1, 9]
    ),
    "columns": lambda: charts.columns("T", ["row"], {"p": [charts.Column("c", [1.0], [0.1], 0, "m")]}),
    "image_sections": lambda: image_sections("T", [Section("label", torch.rand(3, 1, 8, 8))]),
    "latent_plane": lambda: latent_plane("T", torch.randn(50, 2), torch.arange(50) % 5, torch.rand(9, 1, 8, 8), 2.0),
}
WORDS = {
    "dots": ["first", "second", "1.25", "1.50", "nats"],
    "curve": ["3.0", "2.0", "1.5", "samples", "nats"],
    "lines": ["a line", "p", "g"],
    "ridges": ["row", "a remark", "image A", "image B"],
    "phase_diagram": ["named", "kappa", "information (nats)"],
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


def test_a_chart_of_the_same_numbers_is_the_same_picture() -> None:
    import io

    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        file = io.BytesIO()
        diagram().savefig(file, format="png")
        drawn.append(file.getvalue())
    assert drawn[0] == drawn[1]


def test_what_the_user_set_for_matplotlib_changes_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(folder: str) -> dict[str, bytes]:
        torch.manual_seed(0)
        for name, draw in (FIGURES | MORE).items():
            save(draw(), name, alt="a", caption="c", source="s", svg=True, folder=tmp_path / folder)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    before = drawn("before")
    for key, value in HOSTILE.items():
        monkeypatch.setitem(matplotlib.rcParams, key, value)
    assert drawn("after") == before
    assert len(before) == 2 * len(FIGURES | MORE)
    assert all(matplotlib.rcParams[key] == value for key, value in HOSTILE.items())
