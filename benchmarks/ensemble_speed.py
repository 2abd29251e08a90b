"""How much faster many small models are trained in one program than one after another.

Both sides take turns in one process of one thread, so that what else the machine does meets them alike; what counts
is the processor's time. Numbers are medians over the turns; ratios are taken within a turn. Only a few members are
trained alone, and their time is scaled to all.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from vae_core import environment, files
from vae_core.model import VAE, VAEConfig
from vae_core.parallel.stacked import train_many
from vae_core.train import TrainConfig, train

Shape = tuple[int, int, int]
SIZES: list[tuple[Shape, int, int, int, int]] = [  # image shape, hidden width, members, seeds among them, steps
    ((1, 1, 1), 64, 50, 3, 400),
    ((1, 1, 1), 64, 200, 3, 400),
    ((1, 1, 1), 64, 200, 200, 200),
    ((1, 16, 16), 16, 100, 3, 200),
    ((1, 32, 32), 8, 100, 3, 100),
    ((3, 32, 32), 8, 100, 3, 60),
    ((3, 32, 32), 64, 50, 3, 30),
]
LATENT = 8
RESULT = Path(__file__).parent / "results" / "ensemble_speed.json"


def seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def trainings_of(members: int, seeds: int, steps: int) -> list[TrainConfig]:
    """A sweep of beta over ``seeds`` seeds; every step sees the whole pair."""
    return [
        TrainConfig(epochs=steps, seed=member % seeds, beta=0.1 * 1.05 ** (member // seeds), device="cpu")
        for member in range(members)
    ]


def measure(shape: Shape, hidden: int, members: int, seeds: int, steps: int, turns: int, alone: int) -> dict[str, Any]:
    config = VAEConfig(shape, LATENT, (hidden,), activation="tanh", likelihood="gaussian", sigma=0.5)
    pair: Tensor = torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def one_after_another(steps: int) -> None:
        for training in trainings_of(members, seeds, steps)[:alone]:
            list(train(VAE(config, seed=training.seed), pair, training))

    def together(steps: int) -> None:
        train_many(config, trainings_of(members, seeds, steps), pair)

    def a_step(side: Callable[[int], None]) -> float:
        return (seconds(lambda: side(steps)) - seconds(lambda: side(0))) / steps

    for side in (one_after_another, together):
        side(5)  # warm up
    by_turn = [(a_step(one_after_another) / alone, a_step(together) / members) for _ in range(turns)]
    ratios = [single / many for single, many in by_turn]
    found = {
        "microseconds_alone": statistics.median(single for single, _ in by_turn) * 1e6,
        "microseconds_together": statistics.median(many for _, many in by_turn) * 1e6,
        "times_faster": statistics.median(ratios),
        "times_faster_least": min(ratios),
        "times_faster_most": max(ratios),
    }
    widths = "-".join(map(str, (shape[0] * shape[1] * shape[2], hidden, LATENT)))
    parameters = sum(weight.numel() for weight in VAE(config).parameters())
    rounded = {name: float(f"{value:.3g}") for name, value in found.items()}
    return {"model": widths, "parameters": parameters, "members": members, "seeds": seeds, "steps": steps, **rounded}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--turns", default=5, show_default=True, help="How often both sides are timed.")
@click.option("--alone", default=4, show_default=True, help="Members that are trained alone in a turn.")
@click.option("--to", default=RESULT, type=click.Path(path_type=Path), help="File for the numbers.")
def main(turns: int, alone: int, to: Path) -> None:
    """Time many small models in one program against the same models one after another.

    Each is an MLP trained on a pair of images. Microseconds are those of one step of one member; the building of the
    models, one to three milliseconds each, is taken off on both sides. Takes a few minutes.
    """
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None  # other work on the machine
    torch.set_num_threads(1)
    click.echo(
        f"{'model':>10}{'parameters':>12}{'members':>9}{'seeds':>7}{'us alone':>10}{'us together':>13}{'ratio':>8}"
    )
    rows = []
    for size in SIZES:
        row = measure(*size, turns, alone)
        rows.append(row)
        click.echo(
            f"{row['model']:>10}{row['parameters']:>12,}{row['members']:>9}{row['seeds']:>7}"
            f"{row['microseconds_alone']:>10.4g}{row['microseconds_together']:>13.4g}{row['times_faster']:>8.3g}"
            f"  ({row['times_faster_least']:.3g} to {row['times_faster_most']:.3g})"
        )
    click.echo(f"load of the machine before: {load}, on {os.cpu_count()} cores; threads that wait for a core slow all")
    content = {
        "load_before": load,
        "cores": os.cpu_count(),
        "settings": {"turns": turns, "alone": alone, "threads": 1, "images": 2},
        "sizes": rows,
    }
    files.write_json(to, content | {"versions": environment.versions(), "machine": environment.machine()})


if __name__ == "__main__":
    sys.exit(main())
