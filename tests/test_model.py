"""The model: what its configuration refuses, shapes, seeds, where the output starts, gradients."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from vae_core.likelihood import SIGMA_RANGE, Bernoulli, Gaussian
from vae_core.model import VAE, VAEConfig
from vae_core.noise import noise
from vae_core.objective import elbo

GAUSSIAN = {"likelihood": "gaussian", "sigma": 0.5}
BERNOULLI = {"likelihood": "bernoulli"}
EVERY = pytest.mark.parametrize("architecture", ["mlp", "conv"])
BOTH = pytest.mark.parametrize("likelihood", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])


def tiny(*, seed=0, data_mean=None, **changes):
    config = {"image_shape": (1, 8, 8), "latent_dim": 3, "hidden": (4, 6), **changes}
    return VAE(VAEConfig(**config), seed=seed, data_mean=data_mean)


def latent_is_image():
    """A model whose two pixels are its two latents: the decoder copies z, the encoder's mean copies x."""
    model = VAE(VAEConfig(image_shape=(1, 1, 2), likelihood="gaussian", sigma=10.0))
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(2, 4))
    model.decoder = nn.Unflatten(1, (1, 1, 2))
    model.encoder[1].weight.data = torch.eye(4, 2)
    model.encoder[1].bias.data = torch.tensor([0.0, 0.0, math.log(0.5), math.log(3.0)])
    return model


def equal_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": -1}, "latent_dim"),
        ({"latent_dim": 2.5}, "latent_dim"),
        ({"latent_dim": True}, "latent_dim"),
        ({"latent_dim": "2"}, "latent_dim"),
        ({"image_shape": (2, 8, 8)}, "channels"),
        ({"image_shape": (8, 8)}, "image_shape"),
        ({"image_shape": (1, 0, 8)}, "image_shape"),
        ({"image_shape": (1, 8, 8.0)}, "image_shape"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": (8, 0)}, "hidden"),
        ({"hidden": (8.0,)}, "hidden"),
        ({"architecture": "resnet"}, "architecture"),
        ({"activation": "sine"}, "activation"),
        ({"likelihood": "laplace"}, "likelihood"),
        ({"output_bias": "mean"}, "output_bias"),
        ({"sigma": 0.5}, "sigma"),
        ({"likelihood": "gaussian"}, "sigma"),
        ({"likelihood": "gaussian", "sigma": 0.0}, "sigma"),
        ({"likelihood": "gaussian", "sigma": -1.0}, "sigma"),
        ({"likelihood": "gaussian", "sigma": math.nan}, "sigma"),
        ({"likelihood": "gaussian", "sigma": math.inf}, "sigma"),
        ({"binarisation": "twice"}, "binarisation must be one of none, dynamic, static"),
        ({"binarisation": True}, "binarisation"),
        ({"binarisation": "dynamic", "likelihood": "gaussian", "sigma": 0.5}, "binarisation 'dynamic'.*bernoulli"),
        ({"binarisation": "static", "likelihood": "laplace", "sigma": 0.5}, "binarisation 'static'.*bernoulli"),
        ({"binarisation": "static", "likelihood": "logistic", "sigma": 0.5}, "binarisation 'static'.*bernoulli"),
    ],
    ids=str,
)
def test_config_refuses_in_one_line_that_names_the_field(changes, named):
    with pytest.raises(ValueError, match=named) as error:
        VAEConfig(**changes)
    assert "\n" not in str(error.value)


def test_config_survives_json_and_stays_hashable():
    config = VAEConfig(image_shape=(3, 32, 32), hidden=(64, 32), architecture="conv", likelihood="gaussian", sigma=0.1)
    again = VAEConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert hash(again) == hash(config)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VAEConfig().latent_dim = 3


@EVERY
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (33, 17), (1, 1), (5, 7)], ids=str)
def test_every_image_size_comes_back(architecture, channels, size):
    shape = (channels, *size)
    model = tiny(image_shape=shape, architecture=architecture)
    x = torch.rand(2, *shape)
    posterior, likelihood = model(x, torch.zeros(2, 3))
    assert posterior.mean.shape == posterior.deviation.shape == (2, 3)
    assert likelihood.mean.shape == likelihood.sample(0).shape == x.shape
    assert likelihood.log_prob(x).shape == (2,)
    assert model.decode(torch.zeros(5, 3)).mean.shape == (5, *shape)
    assert model.sample(4, seed=0).shape == (4, *shape)
    assert model.reconstruct(x).shape == x.shape


def test_mlp_has_the_layers_of_its_config():
    model = tiny(hidden=(16, 8))
    encoder = (64 * 16 + 16) + (16 * 8 + 8) + (8 * 6 + 6)
    decoder = (3 * 8 + 8) + (8 * 16 + 16) + 16 * 64
    assert sum(p.numel() for p in model.parameters()) == encoder + decoder + 64


@EVERY
def test_activation_and_likelihood_are_those_of_the_config(architecture):
    for name, expected in (("relu", nn.ReLU), ("tanh", nn.Tanh), ("silu", nn.SiLU)):
        model = tiny(architecture=architecture, activation=name)
        for half in (model.encoder, model.decoder):
            assert sum(isinstance(layer, expected) for layer in half) == 2
    assert isinstance(tiny(**BERNOULLI).decode(torch.zeros(1, 3)), Bernoulli)
    gaussian = tiny(**GAUSSIAN).decode(torch.zeros(1, 3))
    assert isinstance(gaussian, Gaussian)
    assert gaussian.sigma == 0.5


@EVERY
def test_weights_depend_on_the_seed_alone(architecture):
    torch.manual_seed(1)
    first = tiny(architecture=architecture, seed=5)
    torch.manual_seed(2)
    assert equal_weights(tiny(architecture=architecture, seed=5), first)
    for other in (6, 5 + 2**32):
        assert not equal_weights(tiny(architecture=architecture, seed=other), first)


@EVERY
def test_the_global_random_state_is_untouched(architecture):
    before = torch.random.get_rng_state()
    model = tiny(architecture=architecture)
    model(torch.zeros(2, 1, 8, 8), torch.zeros(2, 3))
    model.sample(2, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


@EVERY
@BOTH
def test_output_bias_starts_at_zero(architecture, likelihood):
    assert not tiny(architecture=architecture, **likelihood).output_bias.any()


@EVERY
@BOTH
def test_output_bias_can_start_at_the_data_mean(architecture, likelihood):
    data_mean = 0.1 + 0.8 * torch.rand(1, 8, 8)
    model = tiny(architecture=architecture, output_bias="data_mean", data_mean=data_mean, **likelihood)
    for weights in model.decoder.parameters():
        nn.init.zeros_(weights)
    torch.testing.assert_close(model.sample(3, seed=0), data_mean.expand(3, 1, 8, 8))


def test_output_bias_of_black_and_white_pixels_is_finite():
    data_mean = torch.arange(64).reshape(1, 8, 8) % 2
    model = tiny(output_bias="data_mean", data_mean=data_mean)
    torch.testing.assert_close(torch.sigmoid(model.output_bias), data_mean.float(), atol=2e-3, rtol=0)
    assert torch.isfinite(model.output_bias).all()


def test_output_bias_at_the_data_mean_needs_one():
    with pytest.raises(ValueError, match="data_mean"):
        tiny(output_bias="data_mean")


@EVERY
def test_train_and_eval_mode_mean_the_same(architecture):
    model, x, eps = tiny(architecture=architecture), torch.rand(4, 1, 8, 8), noise((4, 3), 0)
    training, evaluating = model.train()(x, eps), model.eval()(x, eps)
    assert torch.equal(training[0].mean, evaluating[0].mean)
    assert torch.equal(training[0].deviation, evaluating[0].deviation)
    assert torch.equal(training[1].mean, evaluating[1].mean)


@pytest.mark.parametrize("shape", [(2, 1, 8, 7), (2, 3, 8, 8), (1, 8, 8), (2, 64)], ids=str)
def test_encode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="images must be"):
        tiny().encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 2), (3,), (2, 3, 1), (3, 4)], ids=str)
def test_decode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match="latents must be"):
        tiny().decode(torch.zeros(shape))


def test_the_sample_that_noise_picks_is_mean_plus_deviation_times_noise():
    model, x, eps = latent_is_image(), torch.rand(4, 1, 1, 2), noise((4, 2), 0)
    posterior, likelihood = model(x, eps)
    torch.testing.assert_close(posterior.mean, x.flatten(1))
    torch.testing.assert_close(posterior.deviation, torch.tensor([0.5, 3.0]).expand(4, 2))
    torch.testing.assert_close(likelihood.mean.flatten(1), x.flatten(1) + torch.tensor([0.5, 3.0]) * eps)


def test_sample_draws_decoder_means_from_the_standard_normal_prior():
    pixels = latent_is_image().sample(20_000, seed=0).flatten(1)  # sigma = 10 would show
    torch.testing.assert_close(pixels.mean(0), torch.zeros(2), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(pixels.T), torch.eye(2), atol=0.04, rtol=0)


@EVERY
def test_sample_depends_on_the_seed_alone_and_draws_no_logits(architecture):
    model = tiny(architecture=architecture)
    model.output_bias.data.fill_(3.0)
    first = model.sample(50, seed=1)
    torch.manual_seed(0)
    assert torch.equal(model.sample(50, seed=1), first)
    assert not torch.equal(model.sample(50, seed=2), first)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not first.requires_grad


def test_reconstruct_decodes_the_posterior_mean():
    model, x = latent_is_image(), torch.rand(4, 1, 1, 2)
    torch.testing.assert_close(model.reconstruct(x), x)
    assert torch.equal(model.reconstruct(x), model(x, torch.zeros(4, 2))[1].mean)


def test_reconstruct_of_bernoulli_is_a_probability():
    model, x = tiny(), torch.rand(4, 1, 8, 8)
    assert torch.equal(model.reconstruct(x), torch.sigmoid(model.decode(model.encode(x).mean).logits))


@EVERY
@BOTH
def test_every_parameter_receives_a_gradient(architecture, likelihood):
    model = tiny(architecture=architecture, activation="tanh", **likelihood)
    elbo(model, torch.rand(8, 1, 8, 8), noise((8, 3), 0)).loss().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_training_the_output_bias_leaves_the_given_mean_alone() -> None:
    mean = torch.full((1, 8, 8), 0.5)
    config = VAEConfig((1, 8, 8), likelihood="gaussian", sigma=1.0, output_bias="data_mean")
    VAE(config, data_mean=mean).output_bias.data.add_(1)
    assert (mean == 0.5).all()


def test_only_the_last_convolution_of_the_decoder_has_no_bias() -> None:
    model = VAE(VAEConfig((1, 8, 8), hidden=(1, 8), architecture="conv"))
    convolutions = [layer for layer in model.decoder if isinstance(layer, nn.Conv2d)]
    assert [layer.bias is not None for layer in convolutions] == [True, False]


@pytest.mark.parametrize("shape", [(3, 8, 8), (64,), (1, 4, 16)])
def test_a_data_mean_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="data_mean must be"):
        VAE(VAEConfig((1, 8, 8), output_bias="data_mean"), data_mean=torch.zeros(shape))


@pytest.mark.parametrize("wrong", [
    {"hidden": 400}, {"image_shape": None}, {"likelihood": "gaussian", "sigma": "a"},
    {"likelihood": "gaussian", "sigma": True}, {"likelihood": "gaussian", "sigma": 1e200},
])  # fmt: skip
def test_values_of_the_wrong_kind_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        VAEConfig(**wrong)


@pytest.mark.parametrize(("likelihood", "sigma"), [
    ("gaussian", "learned"), ("gaussian", "optimal"), ("laplace", 0.1), ("laplace", "learned"),
    ("logistic", 0.05), ("logistic", "learned"),
])  # fmt: skip
def test_every_likelihood_trains(likelihood: str, sigma: float | str) -> None:
    from vae_core.metrics import evaluate
    from vae_core.train import TrainConfig, train

    images = (torch.arange(64 * 16).reshape(64, 1, 4, 4) % 251).byte()
    config = VAEConfig((1, 4, 4), latent_dim=2, hidden=(16,), likelihood=likelihood, sigma=sigma)
    assert VAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    model = VAE(config)
    before = evaluate(model, images).elbo
    list(train(model, images, TrainConfig(epochs=60, learning_rate=1e-2)))
    assert evaluate(model, images).elbo > before + 1
    assert torch.isfinite(model.sample(4, seed=0)).all()
    if sigma == "learned":
        assert model.log_sigma.item() != 0
        with torch.no_grad():
            model.log_sigma.fill_(-100.0)
        assert model.sigma.item() == pytest.approx(1e-3, rel=1e-4)


def test_collapsed_models_settle_on_mean_median_and_the_mean_squared_error() -> None:
    """[A, A, B] under a huge beta: squares settle on the mean, absolute error on A, sigma squared on the MSE."""
    from vae_core.train import TrainConfig, train

    levels = torch.tensor([40, 40, 220], dtype=torch.uint8)
    images = levels.reshape(3, 1, 1, 1).expand(3, 1, 2, 2).contiguous()
    for likelihood, wanted in (("gaussian", 100 / 255), ("laplace", 40 / 255)):
        sigma = "learned" if likelihood == "gaussian" else 0.1
        config = VAEConfig((1, 2, 2), latent_dim=1, hidden=(8,), likelihood=likelihood, sigma=sigma)
        model = VAE(config)
        list(train(model, images, TrainConfig(epochs=500, learning_rate=2e-2, beta=1e4)))
        drawn = model.sample(500, seed=0)
        assert (drawn - wanted).abs().mean().item() < 0.02
        if sigma == "learned":
            squared = (images.float() / 255 - 100 / 255).square().mean().item()
            assert model.sigma.item() ** 2 == pytest.approx(squared, rel=0.05)


@pytest.mark.parametrize(("changes", "measure"), [
    (BERNOULLI, "neither"), (BERNOULLI | {"binarisation": "dynamic"}, "probability"),
    (BERNOULLI | {"binarisation": "static"}, "probability"), (GAUSSIAN, "density"),
    (GAUSSIAN | {"sigma": "learned"}, "density"), (GAUSSIAN | {"sigma": "optimal"}, "density"),
    ({"likelihood": "laplace", "sigma": 0.1}, "density"), ({"likelihood": "laplace", "sigma": "learned"}, "density"),
    ({"likelihood": "logistic", "sigma": 0.1}, "probability"),
    ({"likelihood": "logistic", "sigma": "learned"}, "probability"),
], ids=str)  # fmt: skip
def test_a_model_says_what_its_log_probabilities_are(changes: dict, measure: str) -> None:
    model = tiny(**changes)
    assert model.measure == measure
    assert model.double().measure == measure
    assert VAEConfig(**json.loads(json.dumps(dataclasses.asdict(model.config)))) == model.config


def test_measures_are_what_the_exponentials_sum_to() -> None:
    """A probability sums to 1 over its pictures of one pixel, a density integrates to 1, "neither" does neither."""

    def exponentials(values: torch.Tensor, **changes) -> tuple[str, torch.Tensor]:
        model = VAE(VAEConfig(**{"image_shape": (1, 1, 1), "hidden": (4,), **changes})).double()
        z = noise((1, 2), 0, "z").double().expand(len(values), 2)
        return model.measure, model.decode(z).log_prob(values.reshape(-1, 1, 1, 1)).exp()

    levels, line = torch.arange(256).double() / 255, torch.linspace(-20, 20, 40_001).double()
    for changes, values in (
        ({"binarisation": "static"}, torch.tensor([0.0, 1.0]).double()),
        ({"likelihood": "logistic", "sigma": 0.1}, levels),
    ):
        measure, p = exponentials(values, **changes)
        assert (measure, p.sum().item()) == ("probability", pytest.approx(1))
    for likelihood in ("gaussian", "laplace"):
        measure, p = exponentials(line, likelihood=likelihood, sigma=0.5)
        assert (measure, p.sum().item() / 1000) == ("density", pytest.approx(1, abs=1e-4))
    measure, p = exponentials(levels)
    assert measure == "neither"
    assert p.sum().item() > 2  # no probability of grey levels
    assert p.mean().item() < 0.6  # no density over [0, 1]


@EVERY
@BOTH
def test_several_samples_at_once_are_one_by_one(architecture: str, likelihood: dict) -> None:
    model, x = tiny(architecture=architecture, **likelihood).double(), torch.rand(4, 1, 8, 8).double()
    eps = noise((5, 4, 3), 0, "several").double()
    posterior, together = model(x, eps)
    apart = [model(x, one) for one in eps]
    assert together.mean.shape == (20, 1, 8, 8)
    torch.testing.assert_close(together.mean, torch.cat([one.mean for _, one in apart]))
    for other, _ in apart:
        torch.testing.assert_close(posterior.mean, other.mean)
        torch.testing.assert_close(posterior.deviation, other.deviation)
    assert posterior.mean.shape == (4, 3)
    log_probs = together.log_prob(x.repeat(5, 1, 1, 1)).reshape(5, 4)
    torch.testing.assert_close(log_probs, torch.stack([one.log_prob(x) for _, one in apart]))


@pytest.mark.parametrize(("start", "end", "level"), [(-9.0, 0, 128), (-20.0, 0, 128), (6.0, 1, 0), (50.0, 1, 0)])
@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
def test_a_learned_sigma_outside_its_range_is_held_at_its_end_and_pulled_back(
    start: float, end: int, level: int, likelihood: str
) -> None:
    model = tiny(likelihood=likelihood, sigma="learned")
    with torch.no_grad():
        model.log_sigma.fill_(start)
    assert model.sigma.item() == pytest.approx(SIGMA_RANGE[end], rel=1e-6)  # as if it stood there
    x = torch.full((4, 1, 8, 8), level / 255)
    elbo(model, x, noise((4, 3), 0)).loss().backward()
    assert math.isfinite(model.log_sigma.grad.item())
    assert model.log_sigma.grad.item() * (1 if end else -1) > 1  # a step of descent goes back towards the range


@pytest.mark.parametrize("start", [-8.0, 3.5])
def test_training_brings_a_learned_sigma_back_into_its_range(start: float) -> None:
    from vae_core.train import TrainConfig, train

    images = (torch.arange(32 * 64) % 251).byte().reshape(32, 1, 8, 8)
    model = tiny(**GAUSSIAN | {"sigma": "learned"})
    with torch.no_grad():
        model.log_sigma.fill_(start)
    list(train(model, images, TrainConfig(epochs=100, learning_rate=0.05)))
    assert SIGMA_RANGE[0] * 1.1 < model.sigma.item() < SIGMA_RANGE[1] / 1.1


@pytest.mark.parametrize("inside", [-6.0, 0.0, 2.0])
def test_a_learned_sigma_within_its_range_is_the_exponential_with_its_gradient(inside: float) -> None:
    model = tiny(**GAUSSIAN | {"sigma": "learned"}).double()
    with torch.no_grad():
        model.log_sigma.fill_(inside)
    model.sigma.backward()
    assert model.sigma.item() == model.log_sigma.grad.item() == math.exp(inside)
