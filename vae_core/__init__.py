"""Variational autoencoders that reproduce, measure and test the claims of a blog post.

The public names are imported when they are first used, so that ``import vae_core`` is quick.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ImageSet": "data",
    "load_images": "data",
    "batches": "data",
    "binarise": "data",
    "VAE": "model",
    "VAEConfig": "model",
    "Posterior": "model",
    "Elbo": "objective",
    "elbo": "objective",
    "effective_variance": "forecast",
    "collapse_forecast": "forecast",
    "TrainConfig": "train",
    "TrainState": "train",
    "Record": "train",
    "Evaluation": "metrics",
    "evaluate": "metrics",
    "fit": "runs",
    "fit_many": "parallel.many",
    "Job": "parallel.many",
    "load_run": "runs",
    "Run": "runs",
    "explore": "explorer.widget",
    "export_page": "explorer.page",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vae_core' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vae_core.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
