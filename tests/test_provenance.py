import json

import pytest

from vae_core import provenance


def test_an_entry_changes_only_with_its_digest_or_parameters(tmp_path) -> None:
    path = tmp_path / "manifest.json"
    old = {"sha256": "1", "versions": "old", "notebook": "01", "parameters": {"seed": 0}}
    other = {"sha256": "2", "notebook": "02", "parameters": {}}

    def update(notebook: str, entries: dict) -> None:
        provenance.write_json(path, provenance.with_entries(path, notebook, entries))

    update("01", {"a.png": old, "gone.png": old})
    update("02", {"b.png": other})
    update("01", {"a.png": old})  # no longer writes gone.png
    assert set(json.loads(path.read_text())) == {"a.png", "b.png"}
    before = path.stat().st_mtime_ns
    update("01", {"a.png": old | {"versions": "new"}})
    assert json.loads(path.read_text())["a.png"]["versions"] == "old"
    assert path.stat().st_mtime_ns == before
    asked = old | {"parameters": {"seed": 0, "more": 1}}  # the same picture from other settings
    update("01", {"a.png": asked})
    assert json.loads(path.read_text())["a.png"] == asked
    new = {"sha256": "3", "versions": "new", "notebook": "01", "parameters": {}}
    update("01", {"a.png": new})
    assert json.loads(path.read_text()) == {"a.png": new, "b.png": other}


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_manifest_is_named(tmp_path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json .*restore it or delete it"):
        provenance.read_json(tmp_path / "manifest.json")


def test_results_of_one_notebook_replace_only_their_own(tmp_path) -> None:
    provenance.write_all(provenance.with_results(tmp_path, "01", [{"claim": "x", "value": 1.0}]))
    provenance.write_all(provenance.with_results(tmp_path, "00", [{"claim": "y", "value": 2.0}]))
    provenance.write_all(provenance.with_results(tmp_path, "01", [{"claim": "x", "value": 3.0}]))
    assert json.loads((tmp_path / "results.json").read_text())["01"] == [
        {"claim": "x", "value": 3.0, "command": "vae-core reproduce 01"}
    ]
    told = (tmp_path / "results.csv").read_text().splitlines()
    assert told[0] == "notebook,claim,value,command"
    assert told[1:] == ["00,y,2.0,vae-core reproduce 00", "01,x,3.0,vae-core reproduce 01"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_part(tmp_path, monkeypatch) -> None:
    path = tmp_path / "f"
    provenance.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match=r"cannot write .*No space left"):
        provenance.write_all({path: b"new", tmp_path / "g": b"new"})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_versions_and_machine_say_something() -> None:
    assert {"python", "torch", "numpy", "matplotlib"} <= set(provenance.versions())
    assert provenance.machine().count(",") >= 1


def test_of_several_files_none_changes_when_one_cannot_be_written(tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"old")
    second.mkdir()  # no file can be put there
    (second / "x").touch()
    with pytest.raises(OSError, match=r"cannot write .*second"):
        provenance.write_all({first: b"new", second / "x" / "y": b"new"})
    assert first.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [first, second]
    provenance.write_all({first: b"new", second / "x": b"new"})
    assert first.read_bytes() == (second / "x").read_bytes() == b"new"


def test_sweeps_come_from_the_folder_that_is_named_where_it_has_them(tmp_path, monkeypatch) -> None:
    published = provenance.load_sweep("ladder_mnist").rows
    monkeypatch.setenv("VAE_CORE_SWEEPS", str(tmp_path))
    assert provenance.load_sweep("ladder_mnist").rows == published
    (tmp_path / "sweep_ladder_mnist.json").write_text(json.dumps({"source": "mine", "rows": [{"x": 1}]}))
    found = provenance.load_sweep("ladder_mnist")
    assert found.rows == [{"x": 1}]
    assert "mine" in found.told
    with pytest.raises(ValueError, match="sweep_none"):
        provenance.load_sweep("none")
