"""One row of a paper's table: the test NLL of a VAE on MNIST, by the paper's model and protocol.

Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016 (arXiv 1509.00519), table 1, one
stochastic layer: encoder 784-200-200 tanh, 50 latents, mirrored decoder, dynamic binarisation, NLL
from 5,000 importance samples on all 10,000 test images. The optimiser is ours: Adam, a warm-up and a cosine, the
matrix products in bfloat16 (the NLL is measured in float32).

Settings are compared with ``--held-out``, which trains on 55,000 images and measures the other 5,000. Without it the
model trains on all 60,000 and the test images are used once, at the end. A stopped training goes on where it was.
"""

import hashlib
import json
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vae_core.cli.main import one_line_errors
from vae_core.data import load_images
from vae_core.environment import machine
from vae_core.files import read_json, write_json
from vae_core.metrics import active_units, evaluate, importance_weighted_bound
from vae_core.model import VAE, VAEConfig
from vae_core.runs import load_tensors, save_tensors
from vae_core.study.likelihood_table import PAPER, RESULTS, recipe
from vae_core.train import TrainConfig, TrainState, train

HELD_OUT = 5000


class InBfloat16(nn.Sequential):
    """Layers whose matrix products are taken in bfloat16; weights and results stay float32."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


def fast(model: VAE) -> VAE:
    """The model with encoder and decoder in bfloat16; the names of its weights stay."""
    model.encoder, model.decoder = InBfloat16(*model.encoder), InBfloat16(*model.decoder)
    return model


def save_state(folder: Path, model: VAE, state: TrainState, seconds: float) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{name}": tensor for name, tensor in moments.items()}
    digest = save_tensors(folder / f"{state.step}.safetensors", tensors)
    write_json(folder / "state.json", {"step": state.step, "seconds": seconds, "sha256": digest})
    for old in folder.glob("*.safetensors"):
        if old.name != f"{state.step}.safetensors":
            old.unlink()


def load_state(folder: Path, model: VAE, state: TrainState) -> float:
    """Bring model and state to where a stopped training was; the seconds it took until then."""
    if not (folder / "state.json").exists():
        return 0.0
    facts = read_json(folder / "state.json")
    tensors = load_tensors(folder / f"{facts['step']}.safetensors", facts["sha256"])
    kept: dict = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, i, moment = name.split(".")
            kept.setdefault(int(i), {})[moment] = tensor
    model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")})
    state.optimiser.load_state_dict(state.optimiser.state_dict() | {"state": kept})
    state.step = facts["step"]
    return facts["seconds"]


def fit(model_config: VAEConfig, config: TrainConfig, images: Tensor, folder: Path) -> tuple[VAE, float]:
    """A trained model and the seconds that its training took, with a state kept every minute."""
    model = VAE(model_config, seed=config.seed, data_mean=images.float().mean(0) / 255)
    state = TrainState.start(fast(model))
    before = load_state(folder, model, state)
    began = saved = time.perf_counter()
    steps = config.steps(len(images))
    with tqdm(total=steps, initial=state.step, unit="step", mininterval=10) as bar:
        for record in train(model, images, config, state=state):
            bar.update(record.step - bar.n)
            bar.set_postfix_str(f"elbo {record.elbo:.2f} nats", refresh=False)
            now = time.perf_counter()
            if now - saved > 60 or record.step == steps:
                save_state(folder, model, state, before + now - began)
                saved = now
    plain = VAE(model_config, data_mean=torch.zeros(model_config.image_shape))
    plain.load_state_dict(model.state_dict())
    return plain, read_json(folder / "state.json")["seconds"]


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n").replace("``", ""))
@click.option("--epochs", type=click.IntRange(1), required=True, help="Passes over the training images.")
@click.option("--importance-samples", "k", type=click.IntRange(1), default=1, show_default=True, help="In training.")
@click.option("--batch-size", type=click.IntRange(1), default=200, show_default=True)
@click.option("--learning-rate", type=float, default=4e-3, show_default=True, help="The peak.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=torch.get_num_threads(), help="Of torch; all cores.")
@click.option("--samples", type=click.IntRange(1), default=5000, show_default=True, help="Of the measured NLL.")
@click.option("--held-out", is_flag=True, help="Train on 55,000, measure on 5,000 others: to choose settings.")
@one_line_errors
def main(
    epochs: int, k: int, batch_size: int, learning_rate: float, seed: int, threads: int, samples: int, held_out: bool
) -> None:
    torch.set_num_threads(threads)
    training = load_images("mnist", "train").images
    model_config, config = recipe(
        training,
        epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        importance_samples=k,
        seed=seed,
        log_every=500,
        device="cpu",
    )
    if held_out:
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(1))
        measured, training = training[order[:HELD_OUT]], training[order[HELD_OUT:]]
    key = hashlib.sha256(json.dumps([asdict(config), held_out], sort_keys=True).encode()).hexdigest()[:12]
    model, seconds = fit(model_config, config, training, Path("build/burda") / key)
    if not held_out:
        measured = load_images("mnist", "test").images  # for the first time
    began = time.perf_counter()
    nll = importance_weighted_bound(model, measured, samples=samples, seed=seed)
    row = {
        "measured_on": f"{len(measured):,} {'held-out training' if held_out else 'test'} images",
        "importance_samples": k,
        "nll": round(-nll.value, 3),
        "nll_standard_error": round(nll.error, 3),
        "nll_samples": samples,
        "negative_elbo": round(-evaluate(model, measured, seed=seed).elbo, 3),
        "active_units": active_units(model, measured),
        "train": asdict(config),
        "precision": "bfloat16 matrix products in training, float32 in the measurement",
        "training_minutes": round(seconds / 60, 1),
        "measuring_minutes": round((time.perf_counter() - began) / 60, 1),
        "threads": threads,
        "machine": machine(),
        "torch": torch.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    rows = read_json(RESULTS).get("rows", [])
    same = ("measured_on", "train", "nll_samples")
    rows = [old for old in rows if any(old[name] != row[name] for name in same)] + [row]
    write_json(RESULTS, {"paper": PAPER, "model": asdict(model_config), "rows": rows})
    click.echo(f"NLL {-nll.value:.2f} ± {nll.error:.2f} nats on {row['measured_on']}, in {RESULTS}")


if __name__ == "__main__":
    main()
