"""How fast the importance-weighted bound is: beside a matrix product and beside pythae's ``get_nll``.

All sides take turns in one process, so that what else the machine does meets them alike. Numbers are medians
over the turns; ratios are taken within a turn. Rates count images times samples a second.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from vae_core import environment, files
from vae_core.data import binarise, load_images
from vae_core.metrics import importance_weighted_bound
from vae_core.model import VAE, VAEConfig

CONFIG = VAEConfig(latent_dim=50, hidden=(200, 200), activation="tanh")  # of Burda et al., arXiv 1509.00519
FLOPS = 2 * (50 * 200 + 200 * 200 + 200 * 784)  # of one decoded sample
PRODUCT = 4096  # height and width of the matrices
RESULT = Path(__file__).parent / "results" / "nll_speed.json"
NO_PEER = "pythae is not here; to measure beside it: pip install -e .[bench]"


def binary_images(n: int) -> Tensor:
    """The first ``n`` test images of MNIST, each pixel on with the probability that is its grey level."""
    return binarise(load_images("mnist", "test").images[:n], 0, "once")


def peer_of(model: VAE) -> Any:
    """A pythae VAE of the same weights; ``None`` without pythae."""
    try:
        from pythae.models import VAE as PeerVAE
        from pythae.models import VAEConfig as PeerConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
    except ImportError:
        return None

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model.encoder

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_deviation = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=2 * log_deviation)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.bias = model.decoder, model.output_bias

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=torch.sigmoid(self.layers(z) + self.bias))

    config = PeerConfig(input_dim=CONFIG.image_shape, latent_dim=CONFIG.latent_dim, reconstruction_loss="bce")
    return PeerVAE(config, Encoder(), Decoder()).eval()


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(images: Tensor, peer_images: Tensor, samples: int, turns: int) -> dict[str, float]:
    """Medians over the turns, with the threads that torch has now."""
    model = VAE(CONFIG)
    peer = peer_of(model)
    left, right = torch.randn(2, PRODUCT, PRODUCT)
    x = peer_images / 255

    def peer_at_its_best() -> None:
        with torch.no_grad():
            peer.get_nll(x, n_samples=samples, batch_size=min(1000, samples))

    sides: dict[str, tuple[float, Callable[[], Any]]] = {  # work of a call, the call
        "product_flops": (2.0 * PRODUCT**3, lambda: left @ right),
        "rate": (len(images) * samples, lambda: importance_weighted_bound(model, images, samples=samples)),
    }
    if peer is not None:
        peer_work = len(peer_images) * samples
        sides["peer_rate"] = (peer_work, lambda: peer.get_nll(x, n_samples=samples))
        sides["peer_rate_without_gradients"] = (peer_work, peer_at_its_best)
    for _, call in sides.values():
        call()  # warm up
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, (work, call) in sides.items():
            rates[name].append(work / seconds(call))
    found: dict[str, float] = {name: statistics.median(values) for name, values in rates.items()}

    def ratio(below: str, factor: float = 1.0) -> float:
        return statistics.median(factor * ours / other for ours, other in zip(rates["rate"], rates[below], strict=True))

    found["share_of_product"] = ratio("product_flops", FLOPS)
    found["minutes_for_10000_images_of_5000_samples"] = 10_000 * 5000 / found["rate"] / 60
    if peer is not None:
        found["times_peer"] = ratio("peer_rate")
        found["times_peer_without_gradients"] = ratio("peer_rate_without_gradients")
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def agreement(images: Tensor, samples: int) -> dict[str, float]:
    """The NLL of a few images by both, and how much ours scatters over seeds."""
    model = VAE(CONFIG)
    ours = [-importance_weighted_bound(model, images, samples=samples, seed=seed).value for seed in range(8)]
    found = {"nll": statistics.mean(ours), "deviation_over_seeds": statistics.stdev(ours)}
    peer = peer_of(model)
    if peer is not None:
        torch.manual_seed(0)
        with torch.no_grad():
            found["peer_nll"] = -float(peer.get_nll(images / 255, n_samples=samples))
    return {name: round(value, 4) for name, value in found.items()}


def peak_memory(images: Tensor, samples: int) -> float | None:
    """Megabytes that the bound takes at most, over a process that holds model and images; Linux only."""

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    if not Path("/proc/self/status").exists():
        return None
    model = VAE(CONFIG)
    before = status("VmRSS")
    importance_weighted_bound(model, images, samples=samples)
    return round((status("VmHWM") - before) * 1024 / 1e6, 1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--images", "count", default=10, show_default=True, help="Images a turn.")
@click.option("--peer-images", default=2, show_default=True, help="Images a turn for pythae.")
@click.option("--samples", default=5000, show_default=True, help="Samples an image.")
@click.option("--turns", default=11, show_default=True, help="How often every side is timed.")
@click.option("--threads", default=(1, 2), show_default=True, multiple=True, help="Of torch; may be given twice.")
@click.option("--to", default=RESULT, type=click.Path(path_type=Path), help="File for the numbers.")
def main(count: int, peer_images: int, samples: int, turns: int, threads: tuple[int, ...], to: Path) -> None:
    """Time the importance-weighted bound of a Burda-sized model on binary MNIST.

    Beside a float32 matrix product and, where it is installed, beside pythae's get_nll on the same weights,
    as it comes (batches of 100) and without gradients in batches of 1000. Takes a few minutes.
    """
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None  # other work on the machine
    images = binary_images(max(count, peer_images))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        memory = fresh.submit(peak_memory, images[:count], samples).result()
    versions = environment.versions()
    if peer_of(VAE(CONFIG)) is None:
        click.echo(NO_PEER, err=True)
    else:
        versions["pythae"] = metadata.version("pythae")
    found: dict[str, Any] = {}
    for number in threads:
        torch.set_num_threads(number)
        found[str(number)] = measure(images[:count], images[:peer_images], samples, turns)
    names = list(dict.fromkeys(name for numbers in found.values() for name in numbers))
    click.echo(f"{'threads':<42}" + "".join(f"{number:>12}" for number in found))
    for name in names:
        click.echo(f"{name.replace('_', ' '):<42}" + "".join(f"{numbers[name]:>12.4g}" for numbers in found.values()))
    nll = agreement(images[:peer_images], samples)
    click.echo(f"peak memory over the model: {memory} MB")
    click.echo("the same images by both: " + ", ".join(f"{name.replace('_', ' ')} {nll[name]}" for name in nll))
    settings = {"images": count, "peer_images": peer_images, "samples": samples, "turns": turns, "product": PRODUCT}
    click.echo(f"load of the machine before: {load}, on {os.cpu_count()} cores; threads that wait for a core slow all")
    content = {
        "load_before": load,
        "cores": os.cpu_count(),
        "settings": settings,
        "threads": found,
        "peak_memory_mb": memory,
        "agreement": nll,
    }
    files.write_json(to, content | {"versions": versions, "machine": environment.machine()})


if __name__ == "__main__":
    sys.exit(main())
