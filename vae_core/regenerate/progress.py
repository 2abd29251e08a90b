"""Progress of several notebooks: one bar on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Callable, Mapping
from typing import Any


class Progress:
    """Which of the notebooks run, and at which of their ``cells``. Safe to call from several threads."""

    def __init__(self, cells: Mapping[str, int], echo: Callable[[str], None]) -> None:
        from tqdm import tqdm

        self._cells, self._echo, self._lock = cells, echo, threading.RLock()
        self._running, self._ended = dict[str, int](), set[str]()
        self._bar = tqdm(total=len(cells), unit="notebook", dynamic_ncols=True, disable=None)
        self.close = self._bar.close

    def echo(self, line: str) -> None:
        """A line of text, above the bar."""
        with self._lock:
            self._echo(line) if self._bar.disable else self._bar.write(line)

    def on_event(self, event: dict[str, Any]) -> None:
        """The notebook named in ``event`` begins its ``cell``, counted from 0; the first says that it has started."""
        name = event["notebook"]
        with self._lock:
            if name not in self._running.keys() | self._ended and self._bar.disable:
                self._echo(f"{name}: started, {self._cells[name]} cells")
            if name not in self._ended:  # events of a cluster may arrive late
                self._running[name] = event["cell"]
                self._show()

    def end(self, name: str, error: str | None, seconds: float) -> None:
        """A notebook is over, well or not."""
        with self._lock:
            self._ended.add(name)
            self._running.pop(name, None)
            count = f"; {len(self._ended)} of {len(self._cells)}" if len(self._cells) > 1 else ""
            self.echo(f"{name}: {'failed' if error else 'done'} after {seconds:.0f} s{count}")
            self._bar.update()
            self._show()

    def _show(self) -> None:
        cells = (f"{name} {max(1, cell)}/{self._cells[name]}" for name, cell in self._running.items())
        self._bar.set_postfix_str(", ".join(cells))
