"""What ``make figures`` costs, as a ratio to an epoch of MNIST by the loop of most tutorials, run beside it.

The epoch: torchvision's data set with ``ToTensor``, a ``DataLoader``, 784-400-20, batch 128, Adam at 1e-3, summed
binary cross-entropy plus KL, with all threads. Epochs and regenerations take turns; ratios are taken within a turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from vae_core import environment, files
from vae_core.sources.torchvision_files import data_root

CHECKOUT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "figures.json"


class TutorialVAE(nn.Module):
    """784-400-20, as most tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.back, self.output = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """Summed cross-entropy plus KL of a batch ``(B, 1, 28, 28)``, nats."""
        x = x.flatten(1)
        hidden = F.relu(self.hidden(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        logits = self.output(F.relu(self.back(z)))
        kl = -(1 + log_variance - mean.square() - log_variance.exp()).sum() / 2
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl


def textbook_epoch() -> float:
    """The seconds of one epoch, after 20 batches that warm up."""
    images = datasets.MNIST(data_root(None), train=True, transform=transforms.ToTensor())
    model = TutorialVAE()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    began = 0.0
    for epoch in range(2):
        began = time.monotonic()
        for step, (x, _) in enumerate(DataLoader(images, batch_size=128, shuffle=True)):
            optimiser.zero_grad()
            model.loss(x).backward()
            optimiser.step()
            if epoch == 0 and step == 20:
                break
    return time.monotonic() - began


def regeneration(root: Path) -> float:
    """The seconds of all notebooks in a clone, from nothing kept."""
    subprocess.run(["git", "clean", "-qfdx", "build"], cwd=root, check=True)
    environment_of_clone = os.environ | {"PYTHONPATH": str(root)}
    began = time.monotonic()
    command = [sys.executable, "-m", "vae_core", "reproduce", "--force"]
    subprocess.run(command, cwd=root, env=environment_of_clone, check=True, capture_output=True)
    return time.monotonic() - began


@click.command()
@click.option("--turns", type=click.IntRange(1), default=3, show_default=True)
def main(turns: int) -> None:
    """Time the textbook epoch and all figures in turns: about five minutes a turn on two cores."""
    epochs, figures = [], []
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        root = Path(folder) / "vae_core"
        subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(root)], check=True)
        for turn in range(turns):
            epochs.append(textbook_epoch())
            figures.append(regeneration(root))
            click.echo(f"turn {turn + 1}: textbook epoch {epochs[-1]:.1f} s, all figures {figures[-1]:.1f} s")
    ratio = statistics.median(a / b for a, b in zip(figures, epochs, strict=True))
    click.echo(f"all figures take {ratio:.1f} textbook epochs")
    facts = {"versions": environment.versions(), "machine": environment.machine(), "cores": os.cpu_count()}
    all_of_them = {"textbook epoch": epochs, "all figures": figures}
    files.write_json(RESULT, facts | {"figures over textbook epoch": round(ratio, 2), "seconds": all_of_them})


if __name__ == "__main__":
    main()
