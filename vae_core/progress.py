"""Progress of several notebooks: a moving line each and one for all on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vae_core.notebook import Notebook


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
        width = max((len(n.name) for n in notebooks), default=0)
        layout: dict[str, Any] = {"disable": self._plain, "bar_format": "{desc} {bar:20} {unit}", "unit": ""}
        self._bars = {
            n.name: tqdm(total=n.cells, desc=n.name.ljust(width), position=i, **layout) for i, n in enumerate(notebooks)
        }
        self._total = tqdm(total=len(notebooks), desc="all".ljust(width), position=len(notebooks), **layout)
        self._closed = threading.Event()
        if not self._plain:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

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
            bar.unit = told
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

    def _tell_all(self) -> None:
        spent = clock(time.monotonic() - self._start)
        self._total.unit = f"{len(self._over)} of {len(self._cells)} notebooks, {spent}{self._left()}"
        self._total.refresh()

    def _tick(self) -> None:
        while not self._closed.wait(0.5):
            with self._lock:
                if self._closed.is_set():
                    return
                for name, bar in self._bars.items():
                    if name in self._began and name not in self._over:
                        remaining = self._remaining(name)
                        left = f", about {clock(remaining)} left" if remaining else ""
                        spent = clock(time.monotonic() - self._began[name])
                        bar.unit = f"cell {bar.n} of {bar.total}, {spent}{left}"
                    elif name not in self._over:
                        bar.unit = "waits"
                    bar.refresh()
                self._tell_all()


def clock(seconds: float) -> str:
    """Minutes and seconds, as 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
