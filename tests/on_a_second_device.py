"""What is trained elsewhere comes back, and what is measured elsewhere is what is measured here."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from second_device import second_device
from torch import Tensor

from vae_core import TrainConfig, VAEConfig, evaluate, fit, quality
from vae_core.data import ImageSet
from vae_core.explorer.page import describe
from vae_core.forecast import collapse_forecast
from vae_core.latent import encode_means, kl_by_dimension, plane, traverse
from vae_core.metrics import active_units, importance_weighted_bound, kl_decomposition
from vae_core.model import VAE
from vae_core.parallel.many import Job, fit_many
from vae_core.parallel.stacked import train_many
from vae_core.runs import Run, load_run
from vae_core.scores import Yardsticks, detail, score
from vae_core.study import batch_average as pairs
from vae_core.study.sharper_images import sample_ex_post
from vae_core.train import train

SECOND, CPU = second_device(), torch.device("cpu")
IMAGES = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SET = ImageSet(IMAGES, torch.arange(40) % 2, "noise: of this test")
PAIR = IMAGES[:2]
AGAINST = Yardsticks(SET, SET)
CONFIG = TrainConfig(epochs=1, batch_size=10, log_every=3, device="cpu")
THERE = replace(CONFIG, device=SECOND)
MODELS = {
    "mlp": VAEConfig((1, 8, 8), hidden=(8,)),
    "conv": VAEConfig((1, 8, 8), hidden=(4,), architecture="conv", likelihood="logistic", sigma="learned"),
    "optimal": VAEConfig((1, 8, 8), hidden=(8,), likelihood="gaussian", sigma="optimal", output_bias="data_mean"),
    "dynamic": VAEConfig((1, 8, 8), hidden=(8,), binarisation="dynamic", output_bias="data_mean"),
}


def where(model: VAE) -> set[torch.device]:
    return {weight.device for weight in model.parameters()}


def same(one: VAE, other: VAE) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_fit_brings_the_model_back_with_the_weights_of_the_training(name: str, tmp_path: Path) -> None:
    alone = VAE(MODELS[name], data_mean=IMAGES.float().mean(0) / 255)
    list(train(alone, IMAGES, THERE))
    assert where(alone) == {torch.device(SECOND, 0)}  # train works in place, where it is told to
    here = fit(MODELS[name], CONFIG, IMAGES).model
    far = IMAGES.to(SECOND)
    for cache, images in ((None, far), (tmp_path, IMAGES), (tmp_path, far)):  # trained, kept and reused
        run = fit(MODELS[name], THERE, images, cache=cache)
        assert where(run.model) == {CPU}
        assert same(run.model, here)
        assert same(run.model, alone.cpu())
    assert where(load_run(run.path, SECOND).model) == {torch.device(SECOND, 0)}


def test_many_models_come_back(tmp_path: Path) -> None:
    trainings = [replace(THERE, seed=seed) for seed in (0, 1)]
    here = train_many(MODELS["mlp"], [replace(CONFIG, seed=seed) for seed in (0, 1)], IMAGES, quiet=True)
    for member, other in zip(train_many(MODELS["mlp"], trainings, IMAGES, quiet=True), here, strict=True):
        assert where(member.model) == where(member.earlier) == {CPU}
        assert same(member.model, other.model)
        assert same(member.earlier, other.earlier)
    jobs = [Job(MODELS[name], training, SET) for name in ("mlp", "dynamic") for training in trainings]
    measured = []

    def measure(run: Run) -> float:
        measured.append(where(run.model))
        return evaluate(run.model, IMAGES).elbo

    for _ in range(2):  # trained and reused
        for one in fit_many(jobs, cache=tmp_path, measure=measure, quiet=True):
            assert one.error is None
            assert where(one.run.model) == {CPU}
    assert measured == [{CPU}] * 8


@pytest.mark.parametrize("name", MODELS)
def test_a_model_elsewhere_draws_and_measures_as_here(name: str, tmp_path: Path) -> None:
    run = fit(MODELS[name], CONFIG, IMAGES, cache=tmp_path)
    x = IMAGES[:10].float() / 255
    told = []
    for model in (run.model, load_run(run.path, SECOND).model):
        drawn = model.sample(10, seed=1)
        place = pairs.place(drawn.to(model.output_bias), PAIR)
        found = [
            drawn, model.reconstruct(x), model.reconstruct(x.to(SECOND)), *place, place.share_at_mean(),
            encode_means(model, IMAGES), kl_by_dimension(model, IMAGES), plane(model, 3, 1.0),
            traverse(model, [0, 1], torch.linspace(-1, 1, 3)), sample_ex_post(model, IMAGES, 5, components=2),
            evaluate(model, IMAGES), active_units(model, IMAGES), kl_decomposition(model, IMAGES),
            detail(model, IMAGES),
            score(model, AGAINST, samples=3),
            None if name == "optimal" else importance_weighted_bound(model, IMAGES, samples=3),
            describe(model, SET, None).packs, quality.laplacian_energy(drawn.to(model.output_bias)),
        ]  # fmt: skip
        assert {one.device for one in found if isinstance(one, Tensor)} == {CPU}
        told.append([one.numpy().tobytes() if isinstance(one, Tensor) else str(one) for one in found])
    assert told[0] == told[1]


def test_images_elsewhere_are_measured_as_here() -> None:
    wide = {"likelihood": "gaussian", "sigma": 1.0}
    for config in (VAEConfig((1, 8, 8)), VAEConfig((1, 8, 8), **wide)):
        for images in (IMAGES, IMAGES.repeat(3, 1, 1, 1), IMAGES.repeat(101, 1, 1, 1)):
            assert str(collapse_forecast(images.to(SECOND), config)) == str(collapse_forecast(images, config))
    assert pairs.squared_distance(PAIR.to(SECOND)) == pairs.squared_distance(PAIR)
    assert torch.equal(pairs.on_a_line(PAIR.to(SECOND)), pairs.on_a_line(PAIR))
    model = VAE(VAEConfig((1, 8, 8)))
    assert str(detail(model, IMAGES.to(SECOND))) == str(detail(model, IMAGES))
    assert evaluate(model, IMAGES.to(SECOND)) == evaluate(model, IMAGES)


def test_the_second_device_is_as_strict_as_a_real_one() -> None:
    there = torch.ones(3, device=SECOND)
    assert (there + there).sum().item() == 6.0
    with pytest.raises(RuntimeError, match="on the same device"):
        there + torch.ones(3)
    with pytest.raises(TypeError, match="no float64"):
        there.double()
    assert there.cpu().double().mean().item() == 1.0
