"""``make stress``: twenty times ``kill -9`` on the real notebooks, each followed by a plain rerun.

In a copy of the checkout some notebooks are made stale, and some of the trainings that they reuse are deleted.
``vae-core reproduce`` is started and killed at a seeded moment. After that no process may be left, no file of the
published set may be broken, and a plain ``vae-core reproduce`` must bring back the same bytes. The last of the
twenty takes all of them at once. Notebook 03, which takes minutes and reuses nothing, is left out. It takes about half
an hour on two cores.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import gone, kill, published, start, whole
from tqdm import tqdm

CHECKOUT = Path(__file__).parents[1]
SLOW = "03_batch_average"  # minutes each time, for want of a training to reuse


def copy_of(checkout: Path, folder: Path) -> Path:
    """A copy of what is committed, with the trainings of the original, in which all notebooks have run."""
    root = folder / "vae_core"
    subprocess.run(["git", "clone", "-q", str(checkout), str(root)], check=True)
    for kept in ("runs", "made"):
        if (checkout / "build" / kept).exists():
            shutil.copytree(checkout / "build" / kept, root / "build" / kept)
    subprocess.run([sys.executable, "-m", "vae_core", "reproduce"], cwd=root, check=True)
    return root


def make_stale(root: Path, names: list[str], chance: random.Random) -> None:
    """Delete the figures of notebooks and a tenth of the trainings."""
    record = json.loads((root / "figures" / "record.json").read_text())
    for figure in (figure for name in names for figure in record[name]["outputs"]):
        (root / "figures" / figure).unlink(missing_ok=True)
    runs = sorted(path for path in (root / "build" / "runs").glob("*") if path.is_dir())
    for run in chance.sample(runs, len(runs) // 10):
        shutil.rmtree(run)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    names = sorted(path.stem for path in (CHECKOUT / "notebooks").glob("*.py") if path.stem != SLOW)
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        root = copy_of(CHECKOUT, Path(folder))
        wanted = published(root)
        rounds = tqdm(range(given.kills), unit="kill", disable=not sys.stderr.isatty())
        faults = []
        for number in rounds:
            chance = random.Random(given.seed * 1000 + number)
            last = number == given.kills - 1
            chosen = names if last else chance.sample(names, 2)
            after = chance.uniform(2, 60)
            while True:
                make_stale(root, chosen, chance)
                process, began = start(root, *chosen), time.monotonic()
                while time.monotonic() - began < after and process.poll() is None:
                    time.sleep(0.1)
                if process.poll() is None:
                    break
                process.communicate()
                after /= 2  # it was over before
            found = [f"still there: {one}" for one in (*kill(process), *gone(root))] + whole(root)
            began = time.monotonic()
            again = subprocess.run(
                [sys.executable, "-m", "vae_core", "reproduce"], cwd=root, capture_output=True, text=True
            )
            if again.returncode:
                found.append(f"the rerun failed: {again.stdout[-500:]} {again.stderr[-500:]}")
            now = published(root)
            found += [
                f"another {name}" for name in sorted(wanted.keys() | now.keys()) if wanted.get(name) != now.get(name)
            ]
            faults += found
            told = f"{number + 1}. {' '.join(name[:2] for name in chosen)} killed after {after:.1f} s, "
            told += f"rerun {time.monotonic() - began:.0f} s"
            print(f"{told}: {'; '.join(found) or 'the same bytes, no process left'}", flush=True)
    print(f"{given.kills} kills, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
