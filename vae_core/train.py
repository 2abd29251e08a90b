"""The training loop: one visible loop that yields a :class:`Record` every few steps.

The whole set stays in memory; permutations come from (seed, epoch) and noise from (seed, step), so
the place in a training is its step and nothing else: evaluating more often changes nothing, and a
resumed training makes the steps it would have made.
"""

import copy
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from vae_core.data import as_seen, batches, binarise
from vae_core.model import VAE
from vae_core.noise import noise
from vae_core.objective import elbo


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Goes to JSON with ``dataclasses.asdict`` and back."""

    epochs: int = 10
    batch_size: int | None = None  # None: 128, or all images where there are fewer
    learning_rate: float = 1e-3  # the peak, after warm-up
    warmup: float = 0.05  # share of the steps in which the rate rises; after that it falls to 0 as a cosine
    beta: float = 1.0  # weight of the KL
    beta_warmup: float = 0.0  # share of the steps in which beta rises from 0 in a line
    free_bits: float = 0.0  # nats a dimension below which a smaller KL gains nothing
    importance_samples: int = 1  # latent samples an image; from 2 on the importance-weighted bound is made large
    seed: int = 0
    shuffle: bool = True  # a new order of the images in every epoch; otherwise always the given one
    log_every: int = 100  # steps between records
    device: str = "auto"  # cuda, else mps, else cpu

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 1), ("importance_samples", 1), ("seed", 0), ("log_every", 1)):
            value = getattr(self, name)
            if value is None and name == "batch_size":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number, {least} or more, not {value!r}")
        numbers = {"learning_rate": math.inf, "beta": math.inf, "free_bits": math.inf, "warmup": 1, "beta_warmup": 1}
        for name, most in numbers.items():
            least, value = 0, getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not least <= value <= most:
                allowed = f"{least} or more" if most == math.inf else f"from {least} to {most}"
                raise ValueError(f"{name} must be a number, {allowed}, not {value!r}")
        if not isinstance(self.shuffle, bool):
            raise ValueError(f"shuffle must be True or False, not {self.shuffle!r}")
        if self.importance_samples > 1 and (self.beta, self.beta_warmup, self.free_bits) != (1, 0, 0):
            raise ValueError("the importance-weighted bound has no beta and no free bits: leave them, or take 1 sample")

    def batch(self, n: int) -> int:
        """The batch size for ``n`` images.

        Raises:
            ValueError: when a given batch size is larger than ``n``.
        """
        if self.batch_size is not None and self.batch_size > n:
            raise ValueError(
                f"batch_size {self.batch_size} is larger than the data set of {n}: leave it out or lower it"
            )
        return self.batch_size or min(128, n)

    def steps(self, n: int) -> int:
        """The number of steps of a whole training on ``n`` images."""
        return self.epochs * math.ceil(n / self.batch(n))

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of ``step`` (from 0) out of ``steps``: linear warm-up, then a cosine to 0."""
        rising = max(1, round(self.warmup * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2

    def beta_at(self, step: int, steps: int) -> float:
        """The weight of the KL at ``step`` (from 0) out of ``steps``: rising from 0 during ``beta_warmup``."""
        rising = round(self.beta_warmup * steps)
        return self.beta * step / rising if step < rising else self.beta


class Record(NamedTuple):
    """A training seen after ``step`` steps; means over the images since the last record, nats per image."""

    step: int
    epoch: float  # passes over the data so far
    elbo: float
    reconstruction: float
    kl: float
    learning_rate: float
    seconds: float  # since this call of train; no other number depends on the clock
    bound: float | None = None  # the importance-weighted one, where it is trained
    sigma: float | None = None  # where it is learned, as it is after the step


@dataclass
class TrainState:
    """All that a resumed training needs besides the weights. Complete whenever a record is yielded."""

    optimiser: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, model: VAE) -> "TrainState":
        """The state before the first step, for a model that is already on its device."""
        return cls(torch.optim.Adam(model.parameters(), fused=True))


class TrainingDiverged(ArithmeticError):
    """The loss was not a finite number; the model is as it was at the last record."""


def pick_device(name: str) -> torch.device:
    """The device of that name; for "auto" ``$VAE_CORE_DEVICE``, else cuda, else mps, else cpu.

    Raises:
        ValueError: when there is no such device here.
    """
    if name == "auto":
        name = os.environ.get("VAE_CORE_DEVICE") or (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None


def train(model: VAE, images: Tensor, config: TrainConfig, *, state: TrainState | None = None) -> Iterator[Record]:
    """Train ``model`` in place on ``images``, uint8 ``(N, C, H, W)``; yield a record every ``log_every`` steps.

    Everything is checked at once; the steps happen as the records are asked for, so
    ``for record in train(...)`` plots or stops, and ``list(train(...))`` trains to the end. The model may be measured
    between two records: ``[evaluate(model, test).elbo for _ in train(model, images, config)]``. A ``state``
    continues from its step.

    Raises:
        ValueError: on images of another shape or type, grey where the model takes black and white, an empty set, or
            a batch larger than the set.
        TrainingDiverged: while iterating, when the loss is not finite.
    """
    device = pick_device(config.device)
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
    if len(images) == 0:
        raise ValueError("images must hold at least one image")
    if tuple(images.shape[1:]) != model.config.image_shape:
        raise ValueError(f"images are {tuple(images.shape[1:])}, the model takes {model.config.image_shape}")
    if model.config.binarisation == "static":
        as_seen(images, "static")  # raises on grey pixels
    if config.importance_samples > 1 and model.config.sigma == "optimal":
        raise ValueError('sigma="optimal" depends on the batch, so several importance samples make no bound with it')
    config.batch(len(images))
    model.to(device)
    return _steps(model, images.to(device), config, TrainState.start(model) if state is None else state)


def _steps(model: VAE, images: Tensor, config: TrainConfig, state: TrainState) -> Iterator[Record]:
    batch_size, steps = config.batch(len(images)), config.steps(len(images))
    per_epoch = math.ceil(len(images) / batch_size)
    window = min(config.log_every, max(steps, 1))
    sums = torch.zeros(window, 3, device=images.device)  # reconstruction, kl and bound of each step, times B
    k = config.importance_samples
    seen, began = 0, time.perf_counter()
    good = copy.deepcopy((model.state_dict(), state.optimiser.state_dict(), state.step))

    while state.step < steps:
        epoch, done = divmod(state.step, per_epoch)
        order = batches(images, batch_size, seed=config.seed, epoch=epoch, shuffle=config.shuffle)
        for x in islice(order, done, None):
            if model.config.binarisation == "dynamic":
                x = binarise(x, config.seed, state.step, "binarise")
            shape = (len(x), model.config.latent_dim) if k == 1 else (k, len(x), model.config.latent_dim)
            eps = noise(shape, config.seed, state.step, "train").to(images.device)
            rate = config.learning_rate_at(state.step, steps)
            for group in state.optimiser.param_groups:
                group["lr"] = rate
            terms = elbo(model, x, eps)
            state.optimiser.zero_grad()
            terms.loss(config.beta_at(state.step, steps), config.free_bits).backward()
            state.optimiser.step()
            bound = terms.total if terms.weighted is None else terms.weighted
            totals = [term.detach().sum() for term in (terms.reconstruction, terms.kl, bound)]
            sums[state.step % config.log_every] = torch.stack(totals)
            seen += len(x)
            state.step += 1
            if state.step % config.log_every and state.step != steps:
                continue
            recent = sums[: (state.step - 1) % config.log_every + 1].cpu().double()
            _check_finite(recent, model, state, config, steps, good)
            reconstruction, kl, weighted = (recent.sum(0) / seen).tolist()
            good = copy.deepcopy((model.state_dict(), state.optimiser.state_dict(), state.step))
            seen = 0
            yield Record(
                step=state.step,
                epoch=state.step / per_epoch,
                elbo=reconstruction - kl,
                reconstruction=reconstruction,
                kl=kl,
                learning_rate=rate,
                seconds=time.perf_counter() - began,
                bound=None if k == 1 else weighted,
                sigma=width.item() if isinstance(width := model.sigma, Tensor) else None,
            )


def _check_finite(recent: Tensor, model: VAE, state: TrainState, config: TrainConfig, steps: int, good: tuple) -> None:
    """Raise when a step since the last record, or the weights now, are not finite; back to the ``good`` state then."""
    bad = (~torch.isfinite(recent).all(1)).nonzero()
    if len(bad) == 0 and all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        return
    first = (state.step - 1) // config.log_every * config.log_every
    step = first + int(bad[0]) if len(bad) else state.step - 1  # a last step may ruin the weights after its loss
    model.load_state_dict(good[0])
    state.optimiser.load_state_dict(good[1])
    state.step = good[2]
    raise TrainingDiverged(
        f"the loss is not finite at step {step + 1} (learning rate {config.learning_rate_at(step, steps):.3g}); "
        f"the weights are back at step {state.step}. Try a learning_rate of {config.learning_rate / 10:.3g}, "
        "or a larger sigma if the likelihood is a narrow gaussian"
    )
