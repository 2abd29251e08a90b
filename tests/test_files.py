"""Files that are written whole or not at all."""

import pytest

from vae_core import files


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_manifest_is_named(tmp_path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json .*restore it or delete it"):
        files.read_json(tmp_path / "manifest.json")


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_part(tmp_path, monkeypatch) -> None:
    path = tmp_path / "f"
    files.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left"):
        files.write_all({path: b"new", tmp_path / "g": b"new"})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_of_several_files_none_changes_when_one_cannot_be_written(tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"old")
    second.mkdir()  # no file can be put there
    (second / "x").touch()
    with pytest.raises(OSError, match=r"cannot write .*second"):
        files.write_all({first: b"new", second / "x" / "y": b"new"})
    assert first.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [first, second]
    files.write_all({first: b"new", second / "x": b"new"})
    assert first.read_bytes() == (second / "x").read_bytes() == b"new"
