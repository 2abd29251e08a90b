"""What several test files share."""

import os
import shutil
from pathlib import Path

import pytest
import torch

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared_data() -> Path:
    """The folder with real MNIST and CIFAR-10: $VAE_CORE_DATA, else the user's cache."""
    from vae_core.data import data_root, on_disk

    root = data_root().resolve()
    if not (on_disk("mnist", root) and on_disk("cifar10", root)):
        pytest.skip(f"needs MNIST and CIFAR-10 under {root}: vae-core data mnist && vae-core data cifar10")
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout in which a test may run and break things."""
    copy = tmp_path / "checkout"
    for folder in ("notebooks", "vae_core"):
        shutil.copytree(
            CHECKOUT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", ".ipynb*", "build")
        )
    shutil.copytree(CHECKOUT / "benchmarks" / "results", copy / "benchmarks" / "results")  # notebook 05 shows them
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    (copy / "figures" / "data").mkdir(parents=True)
    for sweep in (CHECKOUT / "figures" / "data").glob("sweep_*.json"):  # what notebooks load
        shutil.copy(sweep, copy / "figures" / "data")
    return copy


torch.set_num_threads(1)  # small tensors: threads only get in each other's way


@pytest.fixture(autouse=True)
def _own_figures_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes figures into the checkout."""
    monkeypatch.setenv("VAE_CORE_FIGURES", str(tmp_path / "figures"))
    os.environ.pop("VAE_CORE_DEVICE", None)
