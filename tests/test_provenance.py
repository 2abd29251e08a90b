import json

import pytest

from vae_core import environment, files
from vae_core.study import sweep


def test_entries_of_one_notebook_replace_only_their_own(tmp_path) -> None:
    path = tmp_path / "manifest.json"
    old, other = {"sha256": "1", "notebook": "01"}, {"sha256": "2", "notebook": "02"}
    files.write_json(path, {"a.png": old, "gone.png": old, "b.png": other})
    new = {"sha256": "3", "notebook": "01"}
    assert files.with_entries(path, "01", {"a.png": new}) == {"a.png": new, "b.png": other}


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_manifest_is_named(tmp_path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"manifest\.json .*restore it or delete it"):
        files.read_json(tmp_path / "manifest.json")


def test_results_of_one_notebook_replace_only_their_own_and_may_have_columns_of_their_own(tmp_path) -> None:
    path = tmp_path / "results.json"

    def put(notebook: str, *rows: dict) -> dict:
        files.write_json(path, files.with_results(path, notebook, list(rows)))
        return json.loads(path.read_text())

    put("01", {"claim": "x", "value": 1.0})
    put("00", {"claim": "y", "value": 2.0, "tolerance": 0.5})
    found = put("01", {"claim": "x", "value": 3.0})
    assert found == {"00": [{"claim": "y", "value": 2.0, "tolerance": 0.5}], "01": [{"claim": "x", "value": 3.0}]}
    assert set(put("01")) == {"00"}  # one that no longer measures anything


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


def test_versions_and_machine_say_something() -> None:
    assert {"python", "torch", "numpy", "matplotlib"} <= set(environment.versions())
    assert environment.machine().count(",") >= 2


def test_the_machine_names_its_instructions(monkeypatch) -> None:
    """Two processors may bear one name."""

    def read(flags: str) -> str:
        text = f"processor : 0\nmodel name : AMD EPYC\nflags : {flags}\n\nprocessor : 1\nmodel name : other\n"
        monkeypatch.setattr("pathlib.Path.read_text", lambda *_: text)
        return environment.machine().split(", ", 1)[1]

    assert read("fpu avx2") == "AMD EPYC, AVX2"
    assert read("fpu avx2 avx512f avx512_bf16 amx_bf16") == "AMD EPYC, AVX2 AVX-512 BF16 AMX"
    assert read("fpu") == "AMD EPYC, unknown instruction set"


@pytest.mark.parametrize("parameter", ["2,4,10", "2, 4 ,10", [2, 4, 10], (2, 4, 10), ["2", "4", "10"]])
def test_whole_numbers_as_papermill_may_hand_them_over(parameter) -> None:
    assert sweep.whole_numbers(parameter) == [2, 4, 10]
    assert sweep.whole_numbers(4) == sweep.whole_numbers("4") == [4]


@pytest.mark.parametrize("parameter", ["", "2;4", 2.5, [2.5], None, "a"])
def test_what_is_no_whole_number_is_named(parameter) -> None:
    with pytest.raises(ValueError, match="whole numbers between commas are needed, such as 2,4,10, not ") as error:
        sweep.whole_numbers(parameter)
    assert repr(parameter) in str(error.value)


def test_a_digest_of_code_is_the_same_in_every_version_of_python(tmp_path) -> None:
    """A known answer: other versions have other syntax trees, with more parts that are empty."""
    path = tmp_path / "a.py"
    path.write_text(
        '"""Say."""\nfrom x import y\n\nclass A(B):\n    """Say."""\n    async def f(self, a=1, *b, **c) -> None:\n'
        '        """Say."""\n        return f"{a!r:>{9}} {b}" "c" if a is None else [*b, {**c}]\n'
    )
    assert environment.code_digest(path) == "de3326638b57b4404da65c462d21868c986e4fceecbd664e3b49ed8ef021771e"
    changed = [("is None", "is not None"), ("a=1", "a=2"), ("(B)", "(C)"), ('"c"', '""'), (":>{9}", ""), ("!r", "")]
    seen = {environment.code_digest(path)}
    for old, new in changed:
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        seen.add(environment.code_digest(path))
        path.write_text(text)
    assert len(seen) == len(changed) + 1


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


def test_sweeps_come_from_the_folder_that_is_named_where_it_has_them(tmp_path, monkeypatch) -> None:
    published = sweep.load_sweep("ladder_mnist").rows
    monkeypatch.setenv("VAE_CORE_SWEEPS", str(tmp_path))
    assert sweep.load_sweep("ladder_mnist").rows == published
    (tmp_path / "sweep_ladder_mnist.json").write_text(json.dumps({"source": "mine", "rows": [{"x": 1}]}))
    found = sweep.load_sweep("ladder_mnist")
    assert found.rows == [{"x": 1}]
    assert "mine" in found.told
    with pytest.raises(ValueError, match="sweep_none"):
        sweep.load_sweep("none")


def test_code_that_is_half_written_is_named(tmp_path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = (\n")
    with pytest.raises(ValueError, match=r"a\.py is no Python \(.*line 1\)"):
        environment.code_digest(path)


def test_a_version_is_that_of_the_source_not_of_its_build_or_of_what_mends_python(monkeypatch) -> None:
    """The same package from another index, or the next release of one Python, is no other code."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.14.1+cpu")
    monkeypatch.setattr("platform.python_version_tuple", lambda: ("3", "11", "9"))
    assert environment.versions()["torch"] == "2.14.1"
    assert environment.versions()["python"] == "3.11"
