"""A training from configs to a trained model, with its records."""

import copy
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from vae_core.model import VAE, VAEConfig
from vae_core.train import Record, TrainConfig, train


class Run(NamedTuple):
    """A trained model and how it got there."""

    model: VAE
    records: list[Record]
    model_config: VAEConfig
    train_config: TrainConfig


def fit(model_config: VAEConfig, train_config: TrainConfig, images: Tensor) -> Run:
    """Train a new model on uint8 ``(N, C, H, W)`` images, with one line that says how long and a progress bar.

    The weights depend on the seed of ``train_config``; ``output_bias="data_mean"`` takes the mean of ``images``.

    Raises:
        ValueError: as :func:`vae_core.train.train`.
        TrainingDiverged: when the loss is not finite.
    """
    from tqdm import tqdm

    data_mean = images.float().mean(0) / 255 if model_config.output_bias == "data_mean" else None
    model = VAE(model_config, seed=train_config.seed, data_mean=data_mean)
    records = train(model, images, train_config)
    steps = train_config.steps(len(images))
    seconds = steps * _seconds_per_step(model, images, train_config) if steps else 0
    widths = "-".join(map(str, (*model_config.hidden, model_config.latent_dim)))
    print(
        f"training {model_config.architecture} {widths} on {len(images):,} images "
        f"for {steps:,} steps, about {max(1, round(seconds))} s",
        flush=True,
    )
    kept = []
    with tqdm(total=steps, delay=2, mininterval=1, leave=False, unit="step") as bar:
        for record in records:
            kept.append(record)
            bar.update(record.step - bar.n)
            bar.set_postfix_str(f"elbo {record.elbo:.1f} nats", refresh=False)
    return Run(model, kept, model_config, train_config)


def _seconds_per_step(model: VAE, images: Tensor, config: TrainConfig) -> float:
    """Timed on a copy that is thrown away, so the training itself is untouched."""
    trial = train(copy.deepcopy(model), images, replace(config, log_every=5))
    first = next(trial)  # pays for what happens once
    second = next(trial, first)
    return (second.seconds - first.seconds or first.seconds) / 5
