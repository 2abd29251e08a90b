import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest
from test_reproduce import small, write_pair  # noqa: F401

from vae_core.regenerate.notebook import Notebook
from vae_core.regenerate.progress import Lines, clock


def notebook(name: str) -> Notebook:
    return Notebook(name, Path("a.ipynb"), {}, {}, {}, (), 4, "")


def test_plain_lines_say_what_began_and_ended_and_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("vae_core.regenerate.progress.time.monotonic", lambda: now)
    said: list[str] = []
    lines = Lines([notebook(n) for n in "abc"], {"a": 100.0, "b": 60.0, "c": 10.0}, 2, said.append)
    lines.hear({"notebook": "a", "cell": 0})
    lines.hear({"notebook": "b", "cell": 0})
    now = 50.0
    lines.hear({"notebook": "b", "cell": 3})
    lines.end("b", None, 50.0)  # of a 50 remain and of c 10, two at once: the longest counts
    lines.hear({"notebook": "b", "cell": 3})  # late words
    lines.hear({"notebook": "c", "cell": 0})
    lines.end("c", "it broke", 12.4)
    now = 130.0  # longer than expected
    lines.end("a", None, 130.0)
    lines.close()
    assert said == [
        "a: started, 4 cells",
        "b: started, 4 cells",
        "b: done after 50 s; 1 of 3, about 0:50 left",
        "c: started, 4 cells",
        "c: failed after 12 s; 2 of 3, about 0:50 left",
        "a: done after 130 s; 3 of 3",
    ]


def test_nothing_is_said_of_what_is_not_known() -> None:
    said: list[str] = []
    lines = Lines([notebook(n) for n in "ab"], {"a": 100.0}, 1, said.append)
    lines.hear({"notebook": "a", "cell": 0})
    lines.end("a", None, 1.0)
    assert said[-1] == "a: done after 1 s; 1 of 2"
    lines.end("b", "it broke", 2.0)
    lines.hear({"notebook": "b", "cell": 0})  # words that were long on their way
    assert said[-1] == "b: failed after 2 s; 2 of 2"
    assert clock(187.9) == "3:07"


def test_a_log_says_now_and_then_where_the_notebooks_that_run_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vae_core.regenerate.progress.PAUSE", 0.01)
    said: list[str] = []
    heard = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if said.count("b: cell 3 of 4, 0:00, about 1:39 left") > 1:
            heard.set()

    lines = Lines([notebook(n) for n in "abc"], {"b": 99.9}, 2, say)
    lines.hear({"notebook": "a", "cell": 0})
    lines.hear({"notebook": "b", "cell": 3})
    assert heard.wait(30)
    lines.end("a", None, 1.0)
    lines.close()
    words = len(said)
    assert set(said) == {
        "a: started, 4 cells",
        "b: started, 4 cells",
        "a: cell 1 of 4, 0:00",
        "b: cell 3 of 4, 0:00, about 1:39 left",
        "a: done after 1 s; 1 of 3",
    }
    assert said.index("a: done after 1 s; 1 of 3") > len(said) - 1 - said[::-1].index("a: cell 1 of 4, 0:00")
    lines._tick()
    assert len(said) == words  # nothing after the end


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("columns", "told", "whole"), [
    (120, "03_batch_average ###############      cell 3 of 4, 12:00, about 13:20 left", True),
    (79, "03_batch_average cell 3 of 4, 12:00, about 13:20 left", True),
    (50, "03_batch_avera cell 3 of 4, 12:00, 13:20 left", False),
    (40, "03_b cell 3 of 4, 12:00, 13:20 left", False),
])  # fmt: skip
def test_a_narrow_terminal_loses_the_bar_and_never_the_words(
    monkeypatch: pytest.MonkeyPatch, columns: int, told: str, whole: bool
) -> None:
    now, name, seen = 0.0, "03_batch_average", Terminal()
    monkeypatch.setattr("vae_core.regenerate.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("sys.stderr", seen)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 30))
    lines = Lines([notebook(name)], {name: 1520.0}, 1, print)
    lines.hear({"notebook": name, "cell": 3})
    now = 720.0
    with lines._lock:
        lines._show(lines._bars[name], name, lines._where(name))
    seen.truncate(seen.seek(0))
    lines._bars[name].refresh()
    lines._tell_all()
    assert told in seen.getvalue()
    about = "about " if whole else ""
    assert f"0 of 1 notebooks, 12:00, {about}13:20 left" in seen.getvalue()
    lines.close()


@pytest.mark.notebook
@pytest.mark.parametrize("columns", [100, 40])
def test_a_terminal_has_a_moving_line_a_notebook_and_one_for_all(small: Path, columns: int) -> None:  # noqa: F811
    write_pair(small / "notebooks", "01_slow", "import time; time.sleep(3)")
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "reproduce", "--jobs", "1"],
        cwd=small, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait(30) == 0
    told = seen.decode()
    assert ("01_slow  █████" in told.replace("▎", "█").replace("▌", "█")) is (columns == 100)
    assert "cell 2 of 2, 0:0" in told
    assert "waits" in told
    assert "1 of 2 notebooks, 0:" in told
    assert "2 of 2 notebooks, 0:" in told
    assert "2 of 2 notebooks, " in told
    assert "2 figures made: 2 in figures/" in told
    assert "started, 2 cells" not in told
