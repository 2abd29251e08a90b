"""Versions, the machine, and digests of code."""

import pytest

from vae_core import environment


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


def test_a_digest_of_code_is_the_same_in_every_version_of_python(tmp_path) -> None:
    """A known answer: other versions have other syntax trees, with more parts that are empty."""
    path = tmp_path / "a.py"
    path.write_text(
        '"""Say."""\nfrom x import y\n\nclass A(B):\n    """Say."""\n    async def f(self, a=1, *b, **c) -> None:\n'
        '        """Say."""\n        return f"{a!r:>{9}} {b}" "c" if a is None else [*b, {**c}]\n'
    )
    assert environment.code_digest(path) == "15a0814307b653b51af0ef93dd1c845b26a0154491a255897010ae5724783e56"
    changed = [("is None", "is not None"), ("a=1", "a=2"), ("(B)", "(C)"), ('"c"', '""'), (":>{9}", ""), ("!r", "")]
    seen = {environment.code_digest(path)}
    for old, new in changed:
        text = path.read_text()
        path.write_text(text.replace(old, new, 1))
        seen.add(environment.code_digest(path))
        path.write_text(text)
    assert len(seen) == len(changed) + 1


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
