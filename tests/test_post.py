"""The command that brings the panels to the post, with the published figures themselves."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CHECKOUT
from PIL import Image

from vae_core.cli.main import main
from vae_core.files import figure_facts
from vae_core.regenerate.panels import PANELS, _lines, write_panels

NAMES = ("VAE_4_2", "VAE_4_4", "VAE_4_10", "VAE_cifar10", "VAE_cifar101", "VAE_cifar102")
NAMES = (*NAMES, "VAE_cifar103", "VAE_cifar105", "VAE_cifar104")


@pytest.fixture
def published(checkout: Path) -> Path:
    """A checkout with the published figures."""
    shutil.copytree(CHECKOUT / "figures", checkout / "figures", dirs_exist_ok=True)
    return checkout


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_nine_panels_in_four_files_each_show_the_published_pixels(published: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(published)
    done = CliRunner().invoke(main, ["figures", "--for-post", str(tmp_path / "new" / "post")])
    assert done.exit_code == 0, done.output
    folder = tmp_path / "new" / "post"
    endings = (".png", "@2x.png", ".webp", "@2x.webp")
    assert {path.name for path in folder.iterdir()} == {f"{n}{e}" for n in NAMES for e in endings} | {"figures.md"}
    assert len(done.output.splitlines()) == 37
    for name, figure in PANELS.items():
        source = published / "figures" / f"{figure}.png"
        assert (folder / f"{name}.png").read_bytes() == source.read_bytes()
        given = pixels(source)
        assert given.shape[1] == 720
        assert np.array_equal(pixels(folder / f"{name}.webp"), given)
        for ending in ("@2x.png", "@2x.webp"):
            assert np.array_equal(pixels(folder / f"{name}{ending}"), given.repeat(2, axis=0).repeat(2, axis=1))
        assert (
            figure_facts("x.png", (folder / f"{name}@2x.png").read_bytes())["alt"]
            == figure_facts(source.name, source.read_bytes())["alt"]
        )


def test_the_lines_name_files_that_are_there_with_alt_text_and_caption(published: Path, tmp_path: Path) -> None:
    written = write_panels(published, tmp_path / "post")
    text = written[-1].read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == list(NAMES)
    named = set(re.findall(r"VAE_\w+(?:@2x)?\.(?:png|webp)", text))
    assert named == {path.name for path in written[:-1]}
    for name, figure in PANELS.items():
        facts = figure_facts("x.png", (published / "figures" / f"{figure}.png").read_bytes())
        height = pixels(published / "figures" / f"{figure}.png").shape[0]
        assert f'width="720" height="{height}" alt="{facts["alt"]}">' in text
        assert f"<figcaption>{facts['caption']}</figcaption>" in text
        assert f'![{facts["alt"]}]({name}.png "{facts["caption"]}")' in text
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_panels(published, tmp_path / "post")} == before


def test_words_cannot_break_out_of_their_line() -> None:
    lines = _lines("n", 'a "b" <c> [d]\ne', "f & g_\\", 720, 300)
    assert 'alt="a &quot;b&quot; &lt;c&gt; [d] e">' in lines[0]
    assert "<figcaption>f &amp; g_\\</figcaption>" in lines[0]
    assert lines[2] == '![a \\"b\\" <c> \\[d\\] e](n.png "f & g_\\\\")'


@pytest.mark.parametrize("how", ["missing", "changed", "no manifest"])
def test_a_panel_that_is_not_published_is_named_with_its_command(how, published: Path, tmp_path: Path, monkeypatch):
    figure = published / "figures" / "cifar_100.png"
    if how == "missing":
        figure.unlink()
    elif how == "changed":
        shutil.copy(published / "figures" / "cifar_25.png", figure)
    else:
        (published / "figures" / "manifest.json").unlink()
    monkeypatch.chdir(published)
    done = CliRunner().invoke(main, ["figures", "--for-post", str(tmp_path / "post")])
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert "cifar_100" in done.output
    assert "vae-core reproduce " in done.output
    assert "02_cifar_blur" in done.output
    assert not (tmp_path / "post").exists()


def test_a_folder_that_cannot_be_written_or_is_the_published_one_is_refused(
    published: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(published)
    (tmp_path / "file").write_text("mine")
    before = sorted((published / "figures").iterdir())
    for folder, said in (("file", "cannot write"), ("file/below", "cannot write"), ("", "published figures")):
        target = tmp_path / folder if folder else published / "figures"
        done = CliRunner().invoke(main, ["figures", "--for-post", str(target)])
        assert done.exit_code == 2
        assert said in done.output
        assert len(done.output.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted((published / "figures").iterdir()) == before


def test_without_a_folder_the_command_says_what_is_missing() -> None:
    done = CliRunner().invoke(main, ["figures"])
    assert done.exit_code == 2
    assert "--for-post" in done.output
