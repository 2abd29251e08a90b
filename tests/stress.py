"""``make stress``: twenty times ``kill -9`` on the real notebooks, each followed by a plain rerun.

In a copy of the checkout some figures and some of the trainings that the notebooks reuse are deleted. ``vae-core
reproduce`` is started and killed at a seeded moment. After that no process may be left, no file of the figures may be
broken, and a plain rerun must bring back the same bytes. The last of the twenty takes all notebooks at once. Notebook
03, which takes minutes and reuses nothing, is left out. It takes about half an hour on two cores; with ``--preset
fast``, whose figures are not published, a few minutes.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import files_of, gone, kill, start, whole

CHECKOUT = Path(__file__).parents[1]
SLOW = "03_batch_average"  # minutes each time, for want of a training to reuse


def rerun(root: Path, words: list[str]) -> list[str]:
    """What went wrong, if something did."""
    done = subprocess.run(
        [sys.executable, "-m", "vae_core", "reproduce", *words], cwd=root, capture_output=True, text=True
    )
    return [f"the rerun failed: {done.stdout[-800:]} {done.stderr[-500:]}"] if done.returncode else []


def make_stale(root: Path, figures: Path, chance: random.Random) -> None:
    """Delete a tenth of the figures, at least one, and a tenth of the trainings."""
    pictures = sorted(figures.glob("*.png"))
    for path in chance.sample(pictures, min(len(pictures), len(pictures) // 10 + 1)):
        path.unlink()
    runs = sorted(path for path in (root / "build" / "runs").glob("*") if path.is_dir())
    for run in chance.sample(runs, len(runs) // 10):
        shutil.rmtree(run)


def start_and_kill(root: Path, words: list[str], after: float) -> tuple[float, list[str]]:
    """Kill a run after so many seconds, or half of them, if it is over before; what is left of it."""
    while True:
        process, began = start(root, *words), time.monotonic()
        while time.monotonic() - began < after and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is None:
            return after, [f"still there: {one}" for one in (*kill(process), *gone(root))]
        process.communicate()
        after /= 2


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--preset", choices=("post", "fast"), default="post")
    options.add_argument("names", nargs="*", help="Notebooks, instead of all but 03.")
    given = options.parse_args()
    names = given.names or sorted(path.stem for path in (CHECKOUT / "notebooks").glob("*.py") if path.stem != SLOW)
    faults = []
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        root = Path(folder) / "vae_core"
        subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(root)], check=True)
        if (CHECKOUT / "build" / "runs").exists():
            shutil.copytree(CHECKOUT / "build" / "runs", root / "build" / "runs")
        post = given.preset == "post"
        where, words = (root, []) if post else (root / "build", ["--preset", given.preset])
        faults += rerun(root, [*words, *names])
        wanted = files_of(where)
        for number in range(given.kills):
            chance = random.Random(given.seed * 1000 + number)
            chosen = names if number == given.kills - 1 else chance.sample(names, min(2, len(names)))
            make_stale(root, where / "figures", chance)
            after, found = start_and_kill(
                root, [*words, *(["--force"] if post else []), *chosen], chance.uniform(2, 60)
            )
            found += whole(where)
            began = time.monotonic()
            found += rerun(root, [*words, *names])
            now = files_of(where)
            others = [name for name in sorted(wanted.keys() | now.keys()) if wanted.get(name) != now.get(name)]
            found += [f"another {name}" for name in others]
            faults += found
            print(f"{number + 1}. {' '.join(name[:2] for name in chosen)} killed after {after:.1f} s, "
                  f"rerun {time.monotonic() - began:.0f} s: {'; '.join(found) or 'the same bytes, no process left'}",
                  flush=True)  # fmt: skip
    print(f"{given.kills} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
