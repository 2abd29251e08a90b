"""Many models in one program: each must end as it would alone, whoever trains beside it."""

from dataclasses import replace

import pytest
import torch

from vae_core.data import batches
from vae_core.model import VAE, VAEConfig
from vae_core.objective import elbo
from vae_core.parallel.stacked import train_many
from vae_core.train import TrainConfig, TrainingDiverged, train

SHAPE = (1, 4, 4)


def some_images(n, seed=0, shape=SHAPE):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def config_of(**changes):
    usual = {"image_shape": SHAPE, "latent_dim": 2, "hidden": (8,), "activation": "tanh"}
    return VAEConfig(**{**usual, "likelihood": "gaussian", "sigma": 0.3, **changes})


def settings(**changes):
    usual = {"epochs": 12, "batch_size": 4, "learning_rate": 1e-2, "log_every": 7, "device": "cpu"}
    return TrainConfig(**{**usual, **changes})


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Double(VAE):
    """A model in double precision that takes what ``train`` gives, which is float32."""

    def forward(self, x, noise):
        return super().forward(x.double(), noise.double())


def alone(config, training, images, kind=VAE):
    """The model of one training by the usual loop."""
    model = kind(config, seed=training.seed, data_mean=images.float().mean(0) / 255)
    if kind is Double:
        model.double()
    list(train(model, images, training))
    return model


# --- equal to training alone ---

KINDS = {
    "gaussian": {},
    "learned sigma": {"sigma": "learned"},
    "optimal sigma": {"sigma": "optimal"},
    "laplace": {"likelihood": "laplace"},
    "logistic": {"likelihood": "logistic"},
    "bernoulli": {"likelihood": "bernoulli", "sigma": None},
    "relu, two layers": {"hidden": (8, 6), "activation": "relu"},
    "conv": {"architecture": "conv", "hidden": (3, 4)},
    "starting at the mean": {"output_bias": "data_mean"},
}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_members_end_as_they_would_alone(changes):
    """With remainders: batches of 4, 4 and 2, a record every 7 steps and at the end."""
    config, images = config_of(**changes), some_images(10)
    trainings = [settings(seed=seed, beta=beta) for seed, beta in ((0, 0.1), (3, 0.1), (0, 3.0), (2**40, 1.0))]
    members = train_many(config, trainings, images)
    assert [member.training for member in members] == trainings
    for member in members:
        model = alone(config, member.training, images)
        assert not member.diverged
        assert torch.allclose(weights(member.model), weights(model), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shuffle": False},
        {"free_bits": 0.2},
        {"beta_warmup": 0.5},
        {"warmup": 0.5, "learning_rate": 3e-2},
        {"batch_size": None},
        {"batch_size": 1, "epochs": 2},
    ],
    ids=str,
)
def test_twenty_steps_in_double_precision_agree_to_rounding(changes):
    images = some_images(10)
    trainings = [settings(seed=seed, beta=beta, **{"epochs": 7, **changes}) for seed in (0, 5) for beta in (0.1, 2.0)]
    members = train_many(config_of(), trainings, (images.float() / 255).double())
    for member in members:
        model = alone(config_of(), member.training, images, Double)
        assert weights(member.model).dtype == torch.float64
        assert (weights(member.model) - weights(model)).abs().max().item() < 1e-13


def test_the_test_in_double_precision_would_see_a_beta_in_single_precision():
    images = some_images(10)
    first, second = (alone(config_of(), settings(epochs=7, beta=beta), images, Double) for beta in (0.1, 0.1 + 1.5e-9))
    assert (weights(first) - weights(second)).abs().max().item() > 1e-12


def test_no_epoch_is_no_step():
    (member,) = train_many(config_of(), [settings(epochs=0, seed=4)], some_images(10))
    assert torch.equal(weights(member.model), weights(VAE(config_of(), seed=4)))
    assert torch.equal(weights(member.earlier), weights(member.model))


# --- members among themselves ---


def test_a_member_does_not_depend_on_its_company():
    images = some_images(10)
    one = settings(seed=1, beta=0.5)
    (expected,) = train_many(config_of(), [one], images)
    others = [settings(seed=seed, beta=beta) for seed in (0, 1, 2) for beta in (0.1, 7.0)]
    for company, place in (([one, *others], 0), ([*others, one], 6), ([others[0], one, one], 1)):
        member = train_many(config_of(), company, images)[place]
        assert torch.allclose(weights(member.model), weights(expected.model), atol=1e-5)
    assert not torch.allclose(weights(train_many(config_of(), others, images)[0].model), weights(expected.model))


def test_each_member_may_have_images_of_its_own():
    sets = torch.stack([some_images(6, seed=seed) for seed in range(3)])
    trainings = [settings(seed=seed) for seed in (0, 0, 1)]
    for kind in ({}, {"output_bias": "data_mean"}):
        for images, member in zip(sets, train_many(config_of(**kind), trainings, sets), strict=True):
            model = alone(config_of(**kind), member.training, images)
            assert torch.allclose(weights(member.model), weights(model), atol=1e-4)


def test_a_member_that_diverges_leaves_the_others_alone():
    """Images out of all proportion ruin the second member."""
    sets = torch.rand(3, 6, *SHAPE, generator=torch.Generator().manual_seed(0))
    sets[1] *= 1e30
    trainings = [settings(), settings(), settings(seed=1)]
    (expected,) = train_many(config_of(), trainings[:1], sets[0])
    good, bad, other = train_many(config_of(), trainings, sets)
    assert [member.diverged for member in (good, bad, other)] == [False, True, False]
    assert torch.allclose(weights(good.model), weights(expected.model), atol=1e-5)
    assert other.model.sample(3, seed=0).isfinite().all()


def test_members_diverge_where_they_would_alone():
    """From a far too large learning rate, which one training survives for longer than the other."""
    images = some_images(10)
    trainings = [settings(seed=seed, learning_rate=25.0, warmup=1.0, log_every=1, beta=1.0) for seed in range(6)]
    steps = {}
    for training, member in zip(trainings, train_many(config_of(), trainings, images), strict=True):
        records = []
        model = VAE(config_of(), seed=training.seed)
        try:
            for record in train(model, images, training):
                records.append(record)
        except TrainingDiverged:
            assert member.diverged
        else:
            assert not member.diverged
        steps[training.seed] = len(records)
    assert len(set(steps.values())) > 1
    assert min(steps.values()) < 60


# --- coordinates instead of pixels ---


def test_floating_point_images_are_used_as_they_are():
    """A pair at -d/2 and d/2: below kappa = 1 the best is the mean, 0, and no information; above it is not."""
    distance = 20.0  # far outside [0, 1]
    pair = torch.tensor([-distance / 2, distance / 2]).reshape(2, 1, 1, 1)
    config = config_of(image_shape=(1, 1, 1), latent_dim=1, hidden=(16,), sigma=1.0)
    trainings = [
        settings(seed=seed, beta=distance**2 / (4 * kappa), epochs=300, learning_rate=3e-2, batch_size=None)
        for kappa in (0.5, 10.0)
        for seed in (0, 1)
    ]
    members = train_many(config, trainings, pair)
    drawn = [member.model.sample(1000, seed=0).abs().mean().item() / (distance / 2) for member in members]
    assert max(drawn[:2]) < 0.2
    assert min(drawn[2:]) > 0.6
    kls = [elbo(member.model, pair, torch.zeros(2, 1)).kl.sum(1).mean().item() for member in members]
    assert max(kls[:2]) < 0.02
    assert min(kls[2:]) > 0.5


def test_earlier_is_the_last_multiple_of_log_every_within_four_fifths_of_the_steps():
    images, training = some_images(4), settings(epochs=50, batch_size=None, log_every=15, seed=2)
    (member,) = train_many(config_of(), [training], images)
    model = VAE(config_of(), seed=2)
    at = {record.step: weights(model) for record in train(model, images, replace(training, log_every=5))}
    assert torch.allclose(weights(member.earlier), at[30], atol=1e-4)
    assert not torch.allclose(weights(member.earlier), at[45], atol=1e-4)
    (member,) = train_many(config_of(), [replace(training, log_every=10)], images)
    assert torch.allclose(weights(member.earlier), at[40], atol=1e-4)


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"trainings": [settings(), settings(epochs=3)]}, "seed and beta only, not in epochs"),
        ({"trainings": [settings(), settings(shuffle=False)]}, "not in shuffle"),
        ({"trainings": [settings(importance_samples=5)]}, "need importance_samples 1"),
        *(
            ({"config": config_of(likelihood="bernoulli", sigma=None, binarisation=kind)}, "and binarisation none")
            for kind in ("dynamic", "static")
        ),
        ({"images": some_images(6).expand(3, 6, *SHAPE)}, r"^images must be .* not \(3, 6, 1, 4, 4\)"),
        ({"images": some_images(6, shape=(1, 4, 5))}, r"of \(1, 4, 4\), not \(6, 1, 4, 5\)"),
        ({"images": some_images(3)}, "batch_size 4 is larger than the data set of 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_name_what_is_wrong_in_one_line(changes, match):
    arguments = {
        "config": config_of(),
        "trainings": [settings(), settings(seed=1)],
        "images": some_images(6),
        **changes,
    }
    with pytest.raises(ValueError, match=match) as error:
        train_many(**arguments)
    assert "\n" not in str(error.value)


def test_trainings_may_differ_in_seed_and_beta():
    members = train_many(config_of(), [settings(epochs=1), settings(epochs=1, seed=2, beta=9.0)], some_images(6))
    assert [member.training.beta for member in members] == [1.0, 9.0]


def test_images_and_global_random_state_are_left_alone():
    images, before = some_images(10), torch.random.get_rng_state()
    train_many(config_of(), [settings(), settings(seed=1)], images)
    assert torch.equal(images, some_images(10))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_places_are_batched_like_their_images():
    images = some_images(10)
    for shuffle in (True, False):
        order = {"seed": 3, "epoch": 2, "shuffle": shuffle}
        places = batches(torch.arange(10), 4, **order)
        for chosen, x in zip(places, batches(images, 4, **order), strict=True):
            assert torch.equal(images[chosen].float() / 255, x)
