"""What a training depends on, as facts and as one digest of them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_core.model import VAEConfig
from vae_core.provenance import code_digest
from vae_core.train import TrainConfig, pick_device

CODE = ("checkpoint", "data", "likelihood", "model", "objective", "runs", "train")  # these can change a training
CODE_OF_MANY = ("ensemble", "many")  # and these, one of many models in one program


def run_facts(
    model_config: VAEConfig,
    train_config: TrainConfig,
    images: Tensor | str,
    *,
    threads: int | None = None,
    members: Sequence[TrainConfig] = (),
) -> dict[str, Any]:
    """All that a training on ``images``, or on those of that :func:`digest`, depends on.

    ``threads`` is the number of torch's, else that of now; ``members`` are all trainings of a stacked one.
    """
    code = (*CODE, *CODE_OF_MANY) if members else CODE
    facts: dict[str, Any] = {
        "model": asdict(model_config),
        "train": asdict(train_config),
        "images": images if isinstance(images, str) else digest(images),
        "code": {name: code_digest(Path(__file__).with_name(f"{name}.py")) for name in code},
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
        "device": str(pick_device(train_config.device)),
        "threads": threads or torch.get_num_threads(),
    }
    return facts | {"stacked": [asdict(member) for member in members]} if members else facts


def key_of(facts: dict[str, Any]) -> str:
    """A digest of the facts, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def run_key(model_config: VAEConfig, train_config: TrainConfig, images: Tensor) -> str:
    """A digest of all that a training depends on, 20 hexadecimal digits."""
    return key_of(run_facts(model_config, train_config, images))


def unlike(facts: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """In what two trainings differ, in words such as "code of train", "version of torch" or "images"."""
    told = []
    for name, value in facts.items():
        if name in ("code", "versions"):
            words = f"{name.removesuffix('s')} of "
            told += [words + part for part, one in value.items() if others[name].get(part) != one]
        elif others.get(name) != value:
            told.append(name)
    return told


def digest(images: Tensor) -> str:
    """The SHA-256 of the shape and bytes of uint8 ``images``."""
    pixels = images.cpu().contiguous().numpy()
    return hashlib.sha256(f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()).hexdigest()
