"""Progress of several notebooks: a moving line each and one for all on a terminal, plain lines elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vae_core.regenerate.notebook import Notebook

PAUSE = 60  # seconds between two words about each notebook where there is no terminal


class Lines:
    """Where the notebooks are. ``expected`` seconds, as far as they are known, tell what remains."""

    def __init__(
        self, notebooks: Sequence[Notebook], expected: Mapping[str, float], jobs: int, say: Callable[[str], None]
    ) -> None:
        from tqdm import tqdm

        self._say, self._lock, self._expected, self._jobs = say, threading.RLock(), expected, jobs
        self._plain = not sys.stderr.isatty()
        self._cells = {n.name: n.cells for n in notebooks}
        self._began: dict[str, float] = {}
        self._over: set[str] = set()
        self._start = time.monotonic()
        self._width = max((len(n.name) for n in notebooks), default=0)
        layout: dict[str, Any] = {
            "disable": self._plain,
            "bar_format": "{desc}{unit}",
            "unit": "",
            "dynamic_ncols": True,
        }
        self._bars = {n.name: tqdm(total=n.cells, position=i, **layout) for i, n in enumerate(notebooks)}
        self._total = tqdm(total=len(notebooks), position=len(notebooks), **layout)
        self._closed = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    def say(self, line: str) -> None:
        """A line of text, above the moving ones."""
        with self._lock:
            if self._plain:
                self._say(line)
            else:
                self._total.write(line)

    def hear(self, event: dict[str, Any]) -> None:
        """The notebook named in ``event`` begins its ``cell``, counted from 0; the first says that it has started."""
        name, number = event["notebook"], event["cell"]
        with self._lock:
            if name in self._over:
                return  # words that were long on their way
            if name not in self._began:
                self._began[name] = time.monotonic()
                if self._plain:
                    self.say(f"{name}: started, {self._cells[name]} cells")
            self._bars[name].n = min(number, self._cells[name])

    def end(self, name: str, error: str | None, seconds: float) -> None:
        """A notebook is over, well or not."""
        with self._lock:
            self._over.add(name)
            bar = self._bars[name]
            bar.n = bar.n if error else self._cells[name]
            self._total.n = len(self._over)
            told = f"{'failed' if error else 'done'} after {seconds:.0f} s"
            self._show(bar, name, told)
            if self._plain:
                rest = f"; {len(self._over)} of {len(self._cells)}{self._left()}" if len(self._cells) > 1 else ""
                self.say(f"{name}: {told}{rest}")

    def close(self) -> None:
        """Leave the lines as they are."""
        self._closed.set()
        with self._lock:
            self._tell_all()
            for bar in (*self._bars.values(), self._total):
                bar.close()

    def _left(self) -> str:
        """About how long all of it still takes, if that is known of every notebook that is not over."""
        rest = [self._remaining(name) for name in self._cells if name not in self._over]
        if not rest or None in rest:
            return ""
        seconds = [one for one in rest if one is not None]
        return f", about {clock(max(sum(seconds) / self._jobs, *seconds))} left"

    def _remaining(self, name: str) -> float | None:
        if name not in self._expected:
            return None
        spent = time.monotonic() - self._began[name] if name in self._began else 0.0
        return max(0.0, self._expected[name] - spent)

    def _where(self, name: str) -> str:
        """At which cell a notebook is, for how long it has run, and how long it may still take."""
        remaining = self._remaining(name)
        left = f", about {clock(remaining)} left" if remaining else ""
        spent = clock(time.monotonic() - self._began[name])
        return f"cell {max(1, self._bars[name].n)} of {self._cells[name]}, {spent}{left}"

    def _show(self, bar: Any, name: str, words: str) -> None:
        """Words behind a name; a bar between them, and all of the name, where the terminal has room for them."""
        if self._plain:
            return
        columns = bar.format_dict["ncols"] or 80
        bar.bar_format = "{desc} {bar:20} {unit}" if columns > self._width + 64 else "{desc} {unit}"
        bar.unit = words if columns > self._width + 43 else words.replace("about ", "")
        space = min(self._width, max(3, columns - 36))
        bar.set_description_str(name[:space].ljust(space))

    def _tell_all(self) -> None:
        spent = clock(time.monotonic() - self._start)
        self._show(self._total, "all", f"{len(self._over)} of {len(self._cells)} notebooks, {spent}{self._left()}")

    def _tick(self) -> None:
        while not self._closed.wait(PAUSE if self._plain else 0.5):
            with contextlib.suppress(OSError), self._lock:  # whoever read our words may be gone
                if self._closed.is_set():
                    return
                for name, bar in self._bars.items():
                    if name in self._over:
                        bar.refresh()
                    elif self._plain and name in self._began:
                        self.say(f"{name}: {self._where(name)}")
                    else:
                        self._show(bar, name, self._where(name) if name in self._began else "waits")
                self._tell_all()


def clock(seconds: float) -> str:
    """Minutes and seconds, as 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
