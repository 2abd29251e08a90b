"""Many small models of one shape, trained in one program: M weights stacked into one tensor, one step for all.

A step of a small model takes longer to start than to compute, so a hundred stacked models cost little more than
one. Every member sees what it would see alone in :func:`vae_core.train.train`: the same first weights, order of
images, noise, learning rate and beta. Only the rounding of sums differs. Members differ in seed, beta and, if
wanted, images; another effective variance is another beta.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from vae_core.data import batches
from vae_core.model import VAE, VAEConfig
from vae_core.noise import noise
from vae_core.objective import elbo
from vae_core.train import TrainConfig, TrainState, pick_device


class Member(NamedTuple):
    """One trained model of many. Whether it has converged shows in ``model`` beside ``earlier``."""

    training: TrainConfig
    model: VAE  # on the CPU
    earlier: VAE  # as it was after the last multiple of log_every steps within four fifths of them, or at the start
    diverged: bool  # whether its loss or a weight was not finite


def train_many(
    config: VAEConfig, trainings: Sequence[TrainConfig], images: Tensor, *, quiet: bool = False
) -> list[Member]:
    """Train one new model of ``config`` for each of M ``trainings``, which differ in ``seed`` and ``beta`` only.

    ``images`` are ``(N, C, H, W)`` for all members, or one set a member, ``(M, N, C, H, W)``: uint8, or floating
    point, such as coordinates in the affine span of some images, which is used as it is and whose precision is that
    of the models. Noise is drawn once per seed, so members that share seeds are faster. A member that diverges does
    not touch the others. A progress bar shows what takes more than two seconds, unless ``quiet``.

    Raises:
        ValueError: on trainings that differ in more, several importance samples, pixels that the model takes in black
            and white, images of another shape, or a batch larger than the set.
    """
    from tqdm import tqdm

    _check(config, trainings, images)
    common, members, device = trainings[0], len(trainings), pick_device(trainings[0].device)
    pixels = (images.float() / 255 if images.dtype == torch.uint8 else images).to(device)
    sets = pixels if pixels.ndim == 5 else pixels.expand(members, *pixels.shape)  # (M, N, C, H, W), no copy
    starts = pixels.mean(-4).expand(members, *config.image_shape)
    models = [VAE(config, seed=t.seed, data_mean=start).to(sets) for t, start in zip(trainings, starts, strict=True)]
    stacked = _stack(models)
    optimiser = TrainState.start(stacked).optimiser  # Adam works weight by weight, so stacking changes nothing
    n, latent = sets.shape[1], config.latent_dim
    steps, size = common.steps(n), common.batch(n)
    seeds = sorted({training.seed for training in trainings})
    seed_of = torch.tensor([seeds.index(training.seed) for training in trainings])  # (M,), into seeds
    rows = torch.arange(members, device=device)[:, None]

    def loss(weights: dict[str, Tensor], x: Tensor, eps: Tensor, beta: Tensor) -> Tensor:
        return elbo(lambda *args: functional_call(stacked, weights, args), x, eps).loss(beta, common.free_bits)

    losses, earlier, step = torch.vmap(loss), _copy(stacked), 0
    finite = torch.ones(members, dtype=torch.bool, device=device)
    with tqdm(total=steps, delay=2, leave=False, unit="step", disable=quiet) as bar:
        for epoch in range(common.epochs):
            orders = [batches(torch.arange(n), size, seed=s, epoch=epoch, shuffle=common.shuffle) for s in seeds]
            for places in zip(*orders, strict=True):
                chosen = torch.stack(places)[seed_of].to(device)  # (M, B)
                eps = torch.stack([noise((chosen.shape[1], latent), s, step, "train") for s in seeds])[seed_of]
                if step == 0 or common.beta_warmup:
                    betas = torch.tensor([t.beta_at(step, steps) for t in trainings], dtype=sets.dtype).to(device)
                for group in optimiser.param_groups:
                    group["lr"] = common.learning_rate_at(step, steps)
                values = losses(_weights(stacked), sets[rows, chosen], eps.to(sets), betas)
                finite &= values.detach().isfinite()
                optimiser.zero_grad()
                values.sum().backward()  # a member's weights touch its own loss only, so each gets its own gradient
                optimiser.step()
                step += 1
                if step % common.log_every == 0 and 5 * step <= 4 * steps:
                    earlier = _copy(stacked)
                bar.update()
    for weight in stacked.parameters():
        finite &= weight.detach().reshape(members, -1).isfinite().all(1)
    last, before = _unstack(models, _copy(stacked)), _unstack(models, earlier)
    return [Member(*member) for member in zip(trainings, last, before, (~finite).tolist(), strict=True)]


def _stack(models: Sequence[VAE]) -> VAE:
    """A model whose every weight is M weights, ``(M, ...)``.

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


def _copy(stacked: VAE) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in _weights(stacked).items()}


def _unstack(models: Sequence[VAE], weights: dict[str, Tensor]) -> list[VAE]:
    """Copies of the models, on the CPU, with these weights."""
    copies = [copy.deepcopy(model).cpu() for model in models]
    for member, model in enumerate(copies):
        model.load_state_dict({name: weight[member] for name, weight in weights.items()})
    return copies


def _check(config: VAEConfig, trainings: Sequence[TrainConfig], images: Tensor) -> None:
    for name in vars(trainings[0]).keys() - {"seed", "beta"}:
        if len({vars(training)[name] for training in trainings}) > 1:
            raise ValueError(f"trainings may differ in seed and beta only, not in {name}")
    if trainings[0].importance_samples != 1 or config.binarisation != "none":
        raise ValueError("many models in one need importance_samples 1 and binarisation none")
    *sets, _, channels, height, width = images.shape
    if sets not in ([], [len(trainings)]) or (channels, height, width) != config.image_shape:
        expected = f"(N, C, H, W) or ({len(trainings)}, N, C, H, W) of {config.image_shape}"
        raise ValueError(f"images must be {expected}, not {tuple(images.shape)}")
