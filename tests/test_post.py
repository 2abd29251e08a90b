"""The command that brings the panels to the post, with the published figures themselves."""

import re
import shutil
from pathlib import Path

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


def test_the_nine_panels_are_copies_of_the_published_files_with_ready_lines(
    published: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(published)
    folder = tmp_path / "new" / "post"
    done = CliRunner().invoke(main, ["figures", "--for-post", str(folder)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in folder.iterdir()} == {f"{name}.png" for name in NAMES} | {"figures.md"}
    assert done.output.splitlines() == [str(folder / f"{name}.png") for name in NAMES] + [str(folder / "figures.md")]
    text = (folder / "figures.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == list(NAMES)
    for name, figure in PANELS.items():
        source = published / "figures" / f"{figure}.png"
        assert (folder / f"{name}.png").read_bytes() == source.read_bytes()
        facts = figure_facts(source.name, source.read_bytes())
        with Image.open(source) as image:
            assert image.width == 720
        assert f'<img src="{name}.png" width="720" alt="{facts["alt"]}">' in text
        assert f"<figcaption>{facts['caption']}</figcaption>" in text
        assert f'![{facts["alt"]}]({name}.png "{facts["caption"]}")' in text
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert write_panels(published, folder) == [Path(line) for line in done.output.splitlines()]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_words_cannot_break_out_of_their_line() -> None:
    lines = _lines("n", 'a "b" <c> [d]\ne', "f & g_\\").splitlines()
    assert 'alt="a &quot;b&quot; &lt;c&gt; [d] e">' in lines[0]
    assert "<figcaption>f &amp; g_\\</figcaption>" in lines[0]
    assert lines[2] == '![a \\"b\\" <c> \\[d\\] e](n.png "f & g_\\\\")'


@pytest.mark.parametrize("how", ["missing", "changed", "no record"])
def test_a_panel_that_is_not_published_is_named_with_its_command(how, published: Path, tmp_path: Path, monkeypatch):
    figure = published / "figures" / "cifar_100.png"
    if how == "missing":
        figure.unlink()
    elif how == "changed":
        shutil.copy(published / "figures" / "cifar_25.png", figure)
    else:
        (published / "figures" / "record.json").unlink()
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
