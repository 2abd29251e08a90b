"""A training from configs to a trained model; kept in a folder if one is given, and then reused."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_core.data import ImageSet
from vae_core.environment import code_digest
from vae_core.files import digest, read_json, write_bytes, write_json
from vae_core.forecast import Forecast, collapse_forecast, effective_variance
from vae_core.likelihood import SIGMA_RANGE
from vae_core.model import VAE, VAEConfig
from vae_core.train import Record, TrainConfig, pick_device, train


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write ``tensors`` as a safetensors file, whole or not at all, and return its SHA-256."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(path, content)
    return digest(content)


def load_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file that :func:`save_tensors` wrote, on the CPU.

    Raises:
        ValueError: when the file is missing, cut short or not the one of that ``sha256``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        if digest(content) != sha256:
            raise ValueError("its SHA-256 is another")
        return load(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}): train again, or restore the file") from None


# what can change a training
CODE = ("data", "files", "forecast", "likelihood", "model", "noise", "objective", "runs", "train")


def run_facts(
    model_config: VAEConfig, train_config: TrainConfig, images: Tensor | str, *, threads: int | None = None
) -> dict[str, Any]:
    """All that a training on ``images``, or on those of that :func:`images_digest`, depends on.

    ``threads`` is the number of torch's, else that of now.
    """
    return {
        "model": asdict(model_config),
        "train": asdict(train_config),
        "images": images if isinstance(images, str) else images_digest(images),
        **{f"code of {name}": code_digest(Path(__file__).with_name(f"{name}.py")) for name in CODE},
        **{f"version of {name}": metadata.version(name) for name in ("torch", "numpy")},
        "device": str(pick_device(train_config.device)),
        "threads": threads or torch.get_num_threads(),
    }


def key_of(facts: dict[str, Any]) -> str:
    """A digest of the facts, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def unlike(facts: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """In what two trainings differ, in words such as "code of train", "version of torch" or "images"."""
    return [name for name, fact in facts.items() if others.get(name) != fact]


def images_digest(images: Tensor) -> str:
    """The SHA-256 of the shape and bytes of uint8 ``images``."""
    pixels = images.cpu().contiguous().numpy()
    return hashlib.sha256(f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()).hexdigest()


FORMAT = 3  # of run.json; 2 had other words for binarisation, and more in its records
COLLAPSED = 0.01  # nats an image: a KL below it says nothing of which image it was


class TrainedOn(NamedTuple):
    """The images of a training."""

    source: str | None  # that of the ImageSet; None where bare images were given
    images: int
    sha256: str  # of their shape and bytes


class Run(NamedTuple):
    """A trained model and how it got there."""

    model: VAE  # on the CPU, unless load_run was asked for another device
    records: list[Record]
    model_config: VAEConfig
    train_config: TrainConfig
    data: TrainedOn
    forecast: Forecast | None  # None where beta is 0
    path: Path | None = None  # the run's folder, if it was kept


def fit(
    model_config: VAEConfig, train_config: TrainConfig, images: Tensor | ImageSet, *, cache: str | Path | None = None
) -> Run:
    """Train a new model on uint8 ``(N, C, H, W)`` images, with a progress bar while it takes more than two seconds.

    It warns, with the remedy, when collapse is certain or has happened, and when a learned sigma is held at an end of
    its range. The weights depend on the seed of ``train_config``; ``output_bias="data_mean"`` takes the mean of
    ``images``. With a folder ``cache`` the run is saved there, and a run of the same configs, images, code, versions,
    device and number of threads is loaded instead of trained; of two processes that ask for it at once, one waits.

    Raises:
        ValueError: as :func:`vae_core.train.train`, or when the kept run is damaged.
        TrainingDiverged: when the loss is not finite; nothing is kept.
        OSError: when the run cannot be kept.
    """
    if cache is None:
        return train_run(model_config, train_config, images)
    folder = Path(cache) / key_of(run_facts(model_config, train_config, pixels(images)))
    with alone(folder):
        if (folder / "run.json").exists():
            return load_run(folder)
        return keep(train_run(model_config, train_config, images), folder)


def alone(folder: Path) -> AbstractContextManager:
    """In it no other process trains or saves the run of ``folder``; one that does is waited for.

    Raises:
        OSError: when there can be no such folder.
    """
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"another process trains {folder}: waiting for it, Ctrl-C ends the wait", file=sys.stderr, flush=True)
    return lock.acquire()


def keep(run: Run, folder: Path) -> Run:
    """The run, written into its folder, whole or not at all."""
    shutil.rmtree(folder, ignore_errors=True)  # the rest of a run that was interrupted while it was written
    facts = {
        "format": FORMAT,
        "model": asdict(run.model_config),
        "train": asdict(run.train_config),
        "data": run.data._asdict(),
        "measure": run.model.measure,
        "effective_variance": effective_variance(run.model_config, run.train_config.beta),
        "forecast": None if run.forecast is None else [str(part) for part in run.forecast],  # JSON has no nan
        "warnings": warnings(run),
        "weights_sha256": save_tensors(folder / "weights.safetensors", run.model.state_dict()),
        "records": [record._asdict() for record in run.records],
    }
    write_json(folder / "run.json", facts)  # last: a folder with it is whole
    return run._replace(path=folder)


def runs_folder() -> Path:
    """The absolute path where notebooks keep their trainings: ``$VAE_CORE_RUNS``, else ``build/runs`` here."""
    return Path(os.environ.get("VAE_CORE_RUNS") or "build/runs").expanduser().absolute()


def load_run(path: str | Path, device: str | None = None) -> Run:
    """A run that :func:`fit` saved, from its folder; its model on ``device``, else on the CPU, wherever it was trained.

    Raises:
        ValueError: when it holds no run, one of another format, or a damaged one; when there is no such device here.
    """
    folder = Path(path)
    if not (folder / "run.json").exists():
        raise ValueError(f"{folder} holds no run: expected run.json and weights.safetensors")
    facts = read_json(folder / "run.json")
    if facts.get("format") not in (2, FORMAT):
        raise ValueError(f"{folder} was written in format {facts.get('format')!r}, this is {FORMAT}: train again")
    tensors = load_tensors(folder / "weights.safetensors", facts.get("weights_sha256", ""))
    try:
        word = facts["model"]["binarisation"]
        facts["model"]["binarisation"] = {"afresh": "dynamic", "once": "static"}.get(word, word)  # those of format 2
        model_config, train_config = VAEConfig(**facts["model"]), TrainConfig(**facts["train"])
        records = [Record(*(record[name] for name in Record._fields)) for record in facts["records"]]
        data = TrainedOn(**facts["data"])
        answer, *ratios = facts["forecast"] or [None]
        forecast = None if answer is None else Forecast(answer, *map(float, ratios))
        model = VAE(model_config, seed=train_config.seed, data_mean=torch.zeros(model_config.image_shape))
        model.load_state_dict(tensors)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged ({' '.join(str(error).split())}): train again") from None
    model.to(pick_device(device or "cpu"))
    return Run(model, records, model_config, train_config, data, forecast, folder)


def find_runs(cache: str | Path) -> Iterable[Path]:
    """The folders of whole runs in ``cache``, oldest first."""
    return sorted((path.parent for path in Path(cache).glob("*/run.json")), key=lambda path: path.stat().st_mtime)


def warnings(run: Run) -> list[str]:
    """What is wrong with a run, a line each with its remedy: collapse foreseen or seen, a sigma at its limit."""
    lines, forecast = [], run.forecast
    beta, sigma = run.train_config.beta, run.model_config.sigma
    last = run.records[-1] if run.records else None
    if forecast is not None and forecast.answer == "certain":
        remedy = "the images are all the same"
        if forecast.diameter_ratio > 0 and isinstance(sigma, int | float):
            pays = forecast.eigenvalue_ratio  # above 1 encoding surely pays
            remedy = f"sigma below {sigma * pays**0.5:.3g} or beta below {beta * pays:.3g} avoids it"
        lines.append(f"{forecast}: every generated image will be the average; {remedy}")
    elif last is not None and last.kl < COLLAPSED and run.data.images > 1 and beta > 0:
        remedy = "a smaller sigma" if isinstance(sigma, int | float) else "beta_warmup"
        remedy += ", a smaller beta" if run.train_config.importance_samples == 1 else ""
        remedy += ", or another seed or activation if units have died"
        lines.append(f"the model has collapsed (KL {last.kl:.2g} nats): it draws one image whatever z; try {remedy}")
    ends = SIGMA_RANGE[0] * (1 + 1e-5), SIGMA_RANGE[1] * (1 - 1e-5)  # sigma is rounded to float32
    if last is not None and last.sigma is not None and not ends[0] < last.sigma < ends[1]:
        held = f"the learned sigma is held at {last.sigma:.3g}, the end of its range"
        lines.append(f"{held}: numbers in nats are those of this limit; give sigma a number to choose it")
    return lines


def pixels(images: Tensor | ImageSet) -> Tensor:
    """The images of a set, or those that were given bare."""
    return images.images if isinstance(images, ImageSet) else images


def train_run(
    model_config: VAEConfig, train_config: TrainConfig, images: Tensor | ImageSet, *, quiet: bool = False
) -> Run:
    """Train a new model, as :func:`fit` without a cache; ``quiet``: without a warning or a bar."""
    from tqdm import tqdm

    x = pixels(images)
    data_mean = x.float().mean(0) / 255 if model_config.output_bias == "data_mean" else None
    model = VAE(model_config, seed=train_config.seed, data_mean=data_mean)
    records = train(model, x, train_config)
    forecast = collapse_forecast(x, model_config, train_config.beta) if train_config.beta > 0 else None
    data = TrainedOn(images.source if isinstance(images, ImageSet) else None, len(x), images_digest(x))
    run = Run(model, [], model_config, train_config, data, forecast)
    foreseen = [] if quiet else warnings(run)
    for line in foreseen:
        print(f"warning: {line}", file=sys.stderr)
    unit = "nats" if model.measure != "neither" else "nats of grey pixels, not a likelihood"
    steps = train_config.steps(len(x))
    with tqdm(total=steps, delay=2, mininterval=1, leave=False, unit="step", disable=quiet) as bar:
        for record in records:
            run.records.append(record)
            bar.update(record.step - bar.n)
            bar.set_postfix_str(f"elbo {record.elbo:.1f} {unit}", refresh=False)
    for line in [] if quiet else warnings(run):
        if line not in foreseen:
            print(f"warning: {line}", file=sys.stderr)
    model.cpu()
    return run
