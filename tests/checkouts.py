"""Small checkouts with notebooks made for the purpose, and ways to run commands in them."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
from click.testing import CliRunner, Result

PARAMETERS = 'data = "photos-sample"\nepochs = 3\nrate = 0.5\nnames = "1,2"\nquick = False\nseed = 0'
DRAW = """\
import torch
from vae_core import load_images
from vae_core.plots.figures import Section, image_sections, save, save_results
source = load_images(data).source
images = torch.full((1, 1, 4, 4), min(1.0, epochs / 10))
for name in names.split(","):
    save(image_sections("T", [Section("", images)]), f"figure_{name}", alt="alt", caption="caption", source=source)
save_results("00_draws", [{"claim": "epochs", "value": epochs}])
"""
CHART = """\
from vae_core.plots.charts import Dot, dots
save(dots("T", [Dot("a", 1.25), Dot("b", 1.5)], label="nats"), "chart", alt="a", caption="c", source=source)
"""
PRINT = "import os, sys, torch\nprint(sys.executable, torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])"


def write_pair(
    folder: Path,
    name: str,
    *cells: str,
    figures: tuple[str, ...] = (),
    parameters: str = PARAMETERS,
    sweeps: tuple[str, ...] = (),
) -> None:
    import nbformat.v4 as v4

    made = [
        v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *(v4.new_code_cell(cell.strip()) for cell in cells),
    ]
    metadata = {
        "jupytext": {"formats": "ipynb,py:percent", "notebook_metadata_filter": "jupytext,kernelspec,vae_core,-all"},
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "vae_core": {
            "figures": list(figures),
            "sweeps": list(sweeps),
            "least": {"epochs": 0, "names": 1},
            "presets": {"fast": {"epochs": 1}, "full": {}},
        },
    }
    for suffix, form in ((".ipynb", "ipynb"), (".py", "py:percent")):
        jupytext.write(v4.new_notebook(cells=made, metadata=metadata), folder / f"{name}{suffix}", fmt=form)


def new_checkout(root: Path) -> Path:
    """An empty one."""
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "vae_core"\n')
    return root


def run(root: Path, *words: str, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "vae_core", *words], cwd=root, capture_output=True, text=True, timeout=240, **more
    )


def run_here(root: Path, *words: str) -> Result:
    """The same without the seconds that a new process takes to import torch."""
    from vae_core.cli.main import main

    here = Path.cwd()
    os.chdir(root)
    try:
        done = CliRunner().invoke(main, words)
    finally:
        os.chdir(here)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def pictures(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "figures").glob("*.png")}


def forget() -> None:
    """Read the package and the data anew from now on, as a new process would."""
    from vae_core.environment import package_digest
    from vae_core.regenerate import record

    package_digest.cache_clear()
    record._fingerprint.cache_clear()
