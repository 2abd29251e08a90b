import io
import json

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from vae_core.plots import figures
from vae_core.plots.charts import Column, Line, Panel, Spread, _spaced, columns, panels, spreads
from vae_core.plots.figures import Section, image_sections, latent_plane, save, save_results, to_pixels


def random_images(n: int, channels: int, side: int) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(n))


def pixels_of(figure) -> np.ndarray:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return np.asarray(Image.open(out).convert("RGB"))


@pytest.mark.parametrize(("channels", "side", "columns", "factor"), [(1, 28, 8, 3), (3, 32, 7, 3), (3, 32, 4, 5)])
def test_every_image_pixel_is_a_block_of_equal_pixels(channels: int, side: int, columns: int, factor: int) -> None:
    images = random_images(columns + 2, channels, side)
    drawn = pixels_of(image_sections("A title", [Section("a label", images)], columns=columns))
    assert drawn.shape[1] == figures.WIDTH
    wanted = to_pixels(images, factor)
    tall = wanted.shape[1]
    for i in (0, columns - 1, columns, columns + 1):
        row, column = divmod(i, columns)
        left = figures.MARGIN + column * (tall + 2)
        found = [
            top for top in range(drawn.shape[0] - tall + 1)
            if np.array_equal(drawn[top : top + tall, left : left + tall], wanted[i])
        ]  # fmt: skip
        assert len(found) == 1, (i, row)


def test_images_outside_the_range_are_clipped_and_grey_becomes_three_channels() -> None:
    pixels = to_pixels(torch.tensor([[[[-1.0, 0.5, 2.0]]]]), 2)
    assert pixels.shape == (1, 2, 6, 3)
    assert pixels[0, 0, ::2, 0].tolist() == [0, 128, 255]


def test_no_text_is_clipped_and_the_ground_is_white() -> None:
    long = "A title so long that it must be wrapped, more than once, because it does not fit on one line at all"
    named = Section(long, random_images(4, 3, 32), ("generated", "image A", "image B", "their mean"))
    rows = [Spread(f"pair {i}, mean of squares", np.logspace(-3, 2, 50), i) for i in range(3)]
    many = [Line("sum of squares, conv", (25, 100, 200, 5000), (0.0, -1.0, 0.1 * i, -9.0), i, "o--") for i in range(8)]
    bars = Line("measured", [25, 200, 5000], [5, 2, 1], 0, low=[4, 1.5, 0.9], high=[7, 2.5, 1.1])
    both = [Panel("Above", "log energy ratio", many), Panel("Below", "nats", [bars], log=True)]
    plane = latent_plane("The plane", torch.randn(200, 2), torch.arange(200) % 10, random_images(121, 1, 28), 2.5)
    three = [
        Column("Fréchet\ndistance", [148.0, 0.5, 390.0], [1, 0.1, 30], 0.4, "floor 0.4", log=True, digits=1),
        Column("sharpness\nof samples", [-4.8, -1.0, 0.5], [0.1, 0, 0], 0, "data 0"),
        Column("SSIM of\nreconstructions", [0.1, 0.5, 0.9], [0.1, 0, 0], 1, "copy 1"),
    ]
    for figure in (
        columns(long, ["mean of squares", "warm-up of beta", "c"], {"MNIST": three, "CIFAR-10": three}),
        image_sections(long, [named], columns=4),
        spreads(long, rows, label="distance to mean / to nearer image", mark=0.1, mark_label="the average"),
        panels(long, both, across="training images", ticks=(25, 200, 5000), right=0.355),
        plane,
    ):
        drawn = pixels_of(figure)
        assert drawn.shape[1] == figures.WIDTH
        edge = np.concatenate([drawn[:3].reshape(-1, 3), drawn[-3:].reshape(-1, 3)])
        assert (edge == 255).all()
        assert (drawn[:, :3] == 255).all()
        assert (drawn[:, -3:] == 255).all()


def test_columns_write_every_number_beside_its_point_and_put_first_rows_on_top() -> None:
    part = Column("a", [3.0, -1.25, 2.0], [0.5, 0, 0], 0, "mark")
    figure = columns("T", ["first", "second", "third"], {"one": [part, part], "two": [part]})
    assert [len(axes.lines[1].get_xdata()) for axes in figure.axes] == [3, 3, 3]
    for axes in figure.axes:
        told = [text.get_text() for text in axes.texts]
        assert told == ["3.00", "\N{MINUS SIGN}1.25", "2.00", "mark"]
        assert list(axes.lines[1].get_xdata()) == [3.0, -1.25, 2.0]
        assert axes.get_ylim()[0] > axes.get_ylim()[1]
    figure.canvas.draw()
    names = {text.get_text(): text.get_window_extent() for text in figure.texts}
    middle = figure.axes[-1].transData.transform((0, 2))[1]  # of the last row of the last part
    assert abs((names["third"].y0 + names["third"].y1) / 2 - middle) < 4


def test_names_at_the_ends_of_lines_are_moved_no_more_than_keeps_them_apart() -> None:
    assert _spaced([3.0, 0.0, 9.0], 1.0, 0.0, 9.0) == [3.0, 0.0, 9.0]
    assert _spaced([0.2, 0.0, 9.0], 1.0, -9.0, 9.0) == pytest.approx([0.6, -0.4, 9.0])
    assert np.diff(sorted(_spaced([0.0] * 5 + [0.3], 1.0, -9.0, 9.0))) == pytest.approx([1.0] * 5)
    assert _spaced([0.0, 0.1, 5.0], 1.0, 0.0, 9.0) == pytest.approx([0.0, 1.0, 5.0])
    assert _spaced([8.9, 9.0, 9.0], 1.0, 0.0, 9.0) == pytest.approx([7.0, 8.0, 9.0])


def test_panels_stand_on_one_axis_with_lines_named_at_their_ends() -> None:
    bars = Line("measured", [1, 3, 10], [5, 2, 1], 0, low=[4, 1.5, 0.9], high=[7, 2.5, 1.1])
    drawn = panels("T", [Panel("one", "nats", [bars]), Panel("two", "m", [bars], log=True)], across="x", ticks=[1, 10])
    upper, lower = drawn.axes
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_position().y0 > lower.get_position().y1
    assert (upper.get_yscale(), lower.get_yscale(), lower.get_xscale()) == ("linear", "log", "log")
    assert [tick.get_text() for tick in lower.get_xticklabels()] == ["1", "10"]
    [name] = upper.texts
    assert (name.get_text(), name.xy) == ("measured", (10, 1))
    [ends] = [bar.get_segments() for bar in upper.collections]
    assert [sorted(end[:, 1].tolist()) for end in ends] == [[4, 7], [1.5, 2.5], [0.9, 1.1]]


def test_the_plane_keeps_classes_apart_and_tiles_whole() -> None:
    decoded = random_images(9, 1, 28)
    drawn = pixels_of(latent_plane("T", torch.randn(30, 2), torch.arange(30) % 3, decoded, 2.5))
    tiles = to_pixels(decoded, (figures.WIDTH - figures.MARGIN - 80) // (3 * 28))
    rows = np.concatenate([np.concatenate(list(tiles[i : i + 3]), axis=1) for i in (0, 3, 6)])
    bottom, right = drawn.shape[0] - 66, figures.WIDTH - figures.MARGIN
    square = drawn[bottom - len(rows) : bottom, right - len(rows) : right]
    assert (square == rows).all(-1).mean() > 0.98  # but for the ticks and lines of the axes over it
    places = figures._apart(np.array([[0.0, 0.0], [0.0, 0.0], [0.1, 0.0]]), 1.0)
    distances = [np.hypot(*(places[i] - places[j])) for i in range(3) for j in range(i)]
    assert min(distances) > 0.9


def test_saving_twice_gives_the_same_bytes_with_facts_inside_and_says_nothing(tmp_path, monkeypatch, capsys) -> None:
    digests = []
    for folder in ("one", "two"):
        monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path / folder))
        figure = spreads("T", [Spread("a", np.arange(1.0, 9.0))], label="x", mark=2, mark_label="m")
        saved = save(figure, "name", alt="the alt text", caption="the caption", source="mnist: here", svg=True)
        assert saved.path == tmp_path / folder / "figures" / "name.png"
        digests.append([(tmp_path / folder / "figures" / f"name.{kind}").read_bytes() for kind in ("png", "svg")])
    assert capsys.readouterr() == ("", "")
    assert digests[0] == digests[1]
    with Image.open(saved.path) as image:
        assert image.mode == "RGBA"
        assert np.asarray(image)[..., 3].min() == 255
        facts = {"Title": "name", "Description": "the alt text", "Comment": "the caption", "Source": "mnist: here"}
        assert {key: image.text.get(key) for key in facts} == facts
    assert b"<text" in digests[0][1]  # text stays text


def test_a_notebook_shows_the_file_with_its_alt_text_and_no_path(tmp_path) -> None:
    figure = image_sections("T", [Section("", random_images(1, 1, 8))])
    saved = save(figure, "n", alt="the alt text", caption="c", source="s", folder=tmp_path)
    shown, metadata = DisplayFormatter().format(saved)
    assert shown == {"image/png": saved.path.read_bytes(), "text/plain": "the alt text"}
    assert metadata == {"image/png": {"alt": "the alt text"}}


def test_figures_go_to_build_unless_the_environment_says_otherwise(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("VAE_CORE_BUILD", raising=False)
    monkeypatch.chdir(tmp_path)
    figure = image_sections("T", [Section("", random_images(1, 1, 8))])
    save(figure, "n", alt="a", caption="c", source="s")
    assert (tmp_path / "build" / "figures" / "n.png").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAE_CORE_BUILD", "~/elsewhere")
    assert figures.figures_folder() == tmp_path / "elsewhere" / "figures"


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path / "file" / "below"))
    figure = image_sections("T", [Section("", random_images(1, 1, 8))])
    with pytest.raises(OSError, match=r"cannot write .*n\.png"):
        save(figure, "n", alt="a", caption="c", source="s")


def test_results_are_json_beside_the_figures(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    rows = [{"claim": "a, b", "value": 1.23456}, {"claim": "c", "value": 2}]
    save_results("00_name", rows)
    [path] = (tmp_path / "figures" / "data").iterdir()
    assert (path.name, json.loads(path.read_text())) == ("00_name.json", rows)
    assert capsys.readouterr() == ("", "")
