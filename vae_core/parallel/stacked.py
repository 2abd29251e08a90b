"""Many small models of one shape, trained in one program: M weights stacked into one tensor, one step for all.

A step of a small model takes longer to start than to compute, so a hundred stacked models cost little more than
one. Every member sees what it would see alone in :func:`vae_core.train.train`: the same first weights, order of
images, noise, learning rate and beta. Only the rounding of sums differs. Members differ in seed, beta and, if
wanted, images; another effective variance is another beta.
"""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from vae_core.data import batches
from vae_core.model import VAE, VAEConfig
from vae_core.noise import noise
from vae_core.objective import elbo
from vae_core.train import Record, TrainConfig, TrainState, pick_device


class Member(NamedTuple):
    """One trained model of many. Where it ``diverged`` its loss or weights were not finite after the last record.

    Convergence shows in ``model`` beside ``earlier``, by exact terms or many draws. Records are too noisy for that:
    they hold one posterior sample an image and step.
    """

    training: TrainConfig
    model: VAE  # as it was at the last record, on the CPU
    earlier: VAE  # as it was at the last record within the first four fifths of the steps, or at the start
    records: list[Record]
    diverged: bool


def train_many(
    config: VAEConfig, trainings: Sequence[TrainConfig], images: Tensor, *, quiet: bool = False
) -> list[Member]:
    """Train one new model of ``config`` for each of M ``trainings``, which differ in ``seed`` and ``beta`` only.

    ``images`` are ``(N, C, H, W)`` for all members, or one set a member, ``(M, N, C, H, W)``: uint8, or floating
    point, which is used as it is and whose precision is that of the models. The latter is for coordinates: squared
    error within the affine span of some images is preserved exactly in the span's own coordinates. With
    ``output_bias="data_mean"`` each model starts at the mean of its own images. Noise is drawn once per seed, so
    members that share seeds are faster. A progress bar shows what takes more than two seconds, unless ``quiet``.

    A member that diverges does not touch the others: it is marked, and its model and records end at its last record
    with finite loss and weights.

    Raises:
        ValueError: on no training, trainings that differ in more, several importance samples, pixels that the model
            takes in black and white, images of another shape or type, no image, or a batch larger than the set.
    """
    from tqdm import tqdm

    _check(config, trainings, images)
    members, device = len(trainings), pick_device(trainings[0].device)
    pixels = _floats(images).to(device)
    sets = pixels if pixels.ndim == 5 else pixels.expand(members, *pixels.shape)  # (M, N, C, H, W), no copy
    starts = pixels.mean(-4).expand(members, *config.image_shape)
    models = [
        VAE(config, seed=training.seed, data_mean=start).to(sets)
        for training, start in zip(trainings, starts, strict=True)
    ]
    stacked = _stack(models)
    good = earlier = {name: weight.detach().clone() for name, weight in _weights(stacked).items()}
    alive = torch.ones(members, dtype=torch.bool, device=device)
    records: list[list[Record]] = [[] for _ in trainings]
    n, began = sets.shape[1], time.perf_counter()
    steps, per_epoch = trainings[0].steps(n), math.ceil(n / trainings[0].batch(n))
    desc = f"{members} models"
    with tqdm(total=steps, delay=2, mininterval=1, leave=False, unit="step", desc=desc, disable=quiet) as bar:
        for step, rate, terms, seen in _steps(stacked, sets, trainings):
            weights = {name: weight.detach() for name, weight in _weights(stacked).items()}
            for told in (terms.transpose(0, 1), *weights.values()):
                alive &= told.reshape(members, -1).isfinite().all(1)
            good = {
                name: torch.where(alive.view(-1, *[1] * (new.ndim - 1)), new, good[name])
                for name, new in weights.items()
            }
            if 5 * step <= 4 * steps:
                earlier = good
            means = (terms.cpu().double().sum(0) / seen).tolist()
            sigmas = widths.tolist() if isinstance(widths := stacked.sigma, Tensor) else [None] * members
            seconds = time.perf_counter() - began
            for member in alive.nonzero()[:, 0].tolist():
                reconstruction, kl = means[member]
                record = Record(step, step / per_epoch, reconstruction - kl, reconstruction, kl, rate, seconds)
                records[member].append(record._replace(sigma=sigmas[member]))
            bar.update(step - bar.n)
    found = []
    for member, (training, model) in enumerate(zip(trainings, models, strict=True)):
        before = copy.deepcopy(model)
        for one, rows in ((model, good), (before, earlier)):
            one.cpu().load_state_dict({name: weight[member] for name, weight in rows.items()})
        found.append(Member(training, model, before, records[member], not bool(alive[member])))
    return found


def _steps(stacked: VAE, sets: Tensor, trainings: Sequence[TrainConfig]) -> Iterator[tuple[int, float, Tensor, int]]:
    """Train ``stacked`` in place. At every record: step, learning rate, terms of the steps since, images in them.

    The terms are reconstruction and KL, summed over a step's images, ``(steps, M, 2)``, nats.
    """
    common, (members, n) = trainings[0], sets.shape[:2]
    steps, size, latent = common.steps(n), common.batch(n), stacked.config.latent_dim
    seeds = sorted({training.seed for training in trainings})
    whose = torch.tensor([seeds.index(training.seed) for training in trainings])  # (M,), into seeds
    rows = torch.arange(members, device=sets.device)[:, None]
    optimiser = TrainState.start(stacked).optimiser  # Adam works weight by weight, so stacking changes nothing

    def member_terms(weights: dict[str, Tensor], x: Tensor, eps: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        found = elbo(lambda *given: functional_call(stacked, weights, given), x, eps)
        return found.loss(beta, common.free_bits), torch.stack([found.reconstruction.sum(), found.kl.sum()])

    all_terms = torch.vmap(member_terms)
    step, seen, since = 0, 0, []
    for epoch in range(common.epochs):
        orders = [batches(torch.arange(n), size, seed=s, epoch=epoch, shuffle=common.shuffle) for s in seeds]
        for places in zip(*orders, strict=True):
            chosen = torch.stack(places)[whose].to(sets.device)  # (M, B)
            eps = torch.stack([noise((chosen.shape[1], latent), s, step, "train") for s in seeds])[whose]
            if step == 0 or common.beta_warmup:
                betas = torch.tensor([one.beta_at(step, steps) for one in trainings], dtype=sets.dtype).to(sets)
            rate = common.learning_rate_at(step, steps)
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss, terms = all_terms(_weights(stacked), sets[rows, chosen], eps.to(sets), betas)
            optimiser.zero_grad()
            loss.sum().backward()  # a member's weights touch its own loss only, so each gets its own gradient
            optimiser.step()
            since.append(terms.detach())
            seen += chosen.shape[1]
            step += 1
            if step % common.log_every == 0 or step == steps:
                yield step, rate, torch.stack(since), seen
                seen, since = 0, []


def _stack(models: Sequence[VAE]) -> VAE:
    """A model whose every weight is M weights, ``(M, ...)``; it runs by ``functional_call`` of one's only.

    Matrices are kept transposed, as their gradients come out of a product of many: that spares a copy each step.
    """
    stacked = copy.deepcopy(models[0])
    for name, weight in stacked.named_parameters():
        rows = torch.stack([model.get_parameter(name).detach() for model in models])
        weight.data = rows.mT.contiguous() if rows.ndim == 3 else rows
    return stacked


def _weights(stacked: VAE) -> dict[str, Tensor]:
    """The weights as the models have them, ``(M, ...)``; views that pass gradients on."""
    return {name: weight.mT if weight.ndim == 3 else weight for name, weight in stacked.named_parameters()}


def _floats(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _check(config: VAEConfig, trainings: Sequence[TrainConfig], images: Tensor) -> None:
    if not trainings:
        raise ValueError("train_many needs at least one training")
    first = trainings[0]
    for name, value in vars(first).items():
        other = next((vars(training)[name] for training in trainings if vars(training)[name] != value), value)
        if other != value and name not in ("seed", "beta"):
            raise ValueError(f"trainings may differ in seed and beta only, not in {name}: {value!r} and {other!r}")
    if first.importance_samples != 1:
        raise ValueError(f"importance_samples must be 1 for many models in one, not {first.importance_samples}")
    if config.binarisation != "none":
        raise ValueError(f"binarisation must be none for many models in one, not {config.binarisation}")
    if images.ndim not in (4, 5) or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            "images must be uint8 or floating point, (N, C, H, W) or one set a member (M, N, C, H, W), "
            f"not {images.dtype} {tuple(images.shape)}"
        )
    if images.ndim == 5 and len(images) != len(trainings):
        raise ValueError(f"images are {len(images)} sets for {len(trainings)} trainings: give one each, or one for all")
    if tuple(images.shape[-3:]) != config.image_shape:
        raise ValueError(f"images are {tuple(images.shape[-3:])}, the model takes {config.image_shape}")
    if images.shape[-4] == 0:
        raise ValueError("images must hold at least one image")
    first.batch(images.shape[-4])
