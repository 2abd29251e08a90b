import io

import pytest

from vae_core.regenerate.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run_three(progress: Progress) -> None:
    progress.on_event({"notebook": "a", "cell": 0})
    progress.on_event({"notebook": "b", "cell": 0})
    progress.on_event({"notebook": "b", "cell": 3})
    progress.end("b", None, 50.0)
    progress.on_event({"notebook": "b", "cell": 3})  # an event that was long on its way
    progress.on_event({"notebook": "c", "cell": 2})
    progress.echo("c is not published: why")
    progress.end("c", "it broke", 12.4)
    progress.end("a", None, 130.0)
    progress.close()


def test_plain_lines_say_what_began_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    lines: list[str] = []
    run_three(Progress({"a": 4, "b": 4, "c": 4}, lines.append))
    assert lines == [
        "a: started, 4 cells",
        "b: started, 4 cells",
        "b: done after 50 s; 1 of 3",
        "c: started, 4 cells",
        "c is not published: why",
        "c: failed after 12 s; 2 of 3",
        "a: done after 130 s; 3 of 3",
    ]


def test_a_terminal_has_one_bar_with_the_cells_of_those_that_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    terminal, lines = Terminal(), list[str]()
    monkeypatch.setattr("sys.stderr", terminal)
    run_three(Progress({"a": 4, "b": 4, "c": 4}, lines.append))
    bars = terminal.getvalue()
    assert "a 1/4, b 3/4" in bars
    assert "1/3" in bars
    assert "a 1/4, c 2/4" in bars
    assert "3/3" in bars
    assert lines == []  # all goes above the bar
    assert capsys.readouterr().out.splitlines() == [
        "b: done after 50 s; 1 of 3",
        "c is not published: why",
        "c: failed after 12 s; 2 of 3",
        "a: done after 130 s; 3 of 3",
    ]


def test_one_notebook_needs_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    lines: list[str] = []
    progress = Progress({"a": 4}, lines.append)
    progress.end("a", None, 1.0)
    assert lines == ["a: done after 1 s"]
