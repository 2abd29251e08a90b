"""The benchmark that takes an hour: it goes on where it stopped, and its settings come from the command line."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import CHECKOUT

from vae_core.model import VAE, VAEConfig
from vae_core.train import TrainConfig, TrainState, train

IMAGES = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MODEL = VAEConfig((1, 8, 8), 3, (8, 8), activation="tanh", output_bias="data_mean", binarisation="dynamic")
CONFIG = TrainConfig(epochs=4, batch_size=10, log_every=3, device="cpu")


@pytest.fixture(scope="module")
def burda() -> ModuleType:
    spec = importlib.util.spec_from_file_location("burda_table", CHECKOUT / "benchmarks" / "burda_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_stopped_training_ends_as_if_it_had_never_stopped(burda: ModuleType, tmp_path: Path) -> None:
    whole, _ = burda.fit(MODEL, CONFIG, IMAGES, tmp_path / "whole")
    model = burda.fast(VAE(MODEL, seed=CONFIG.seed, data_mean=IMAGES.float().mean(0) / 255))
    state = TrainState.start(model)
    for record in train(model, IMAGES, CONFIG, state=state):
        if record.step == 12:
            burda.save_state(tmp_path / "stopped", model, state, seconds=5.0)
            break
    resumed, seconds = burda.fit(MODEL, CONFIG, IMAGES, tmp_path / "stopped")
    assert seconds > 5
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert [path.suffix for path in sorted((tmp_path / "stopped").iterdir())] == [".safetensors", ".json"]


def test_a_damaged_state_is_named(burda: ModuleType, tmp_path: Path) -> None:
    burda.fit(MODEL, CONFIG, IMAGES, tmp_path)
    [weights] = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        burda.fit(MODEL, CONFIG, IMAGES, tmp_path)


@pytest.mark.parametrize("name", ["burda_table", "nll_speed", "ensemble_speed"])
def test_every_benchmark_says_what_it_does(name: str) -> None:
    command = [sys.executable, str(CHECKOUT / "benchmarks" / f"{name}.py"), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Options:" in told
    assert len(told) > 300
