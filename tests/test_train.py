"""The training loop: its steps, its records, resuming, diverging, and an exact answer to train towards."""

import copy
import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch

from vae_core.data import batches, binarise
from vae_core.metrics import evaluate, importance_weighted_bound
from vae_core.model import VAE, VAEConfig
from vae_core.noise import noise
from vae_core.objective import elbo
from vae_core.study.batch_average import place
from vae_core.train import TrainConfig, TrainingDiverged, TrainState, pick_device, train


def some_images(n, seed=0):
    return torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def small(**changes):
    config = {"image_shape": (1, 8, 8), "latent_dim": 2, "hidden": (8,), "likelihood": "gaussian", "sigma": 0.5}
    return VAE(VAEConfig(**{**config, **changes}))


def settings(**changes):
    return TrainConfig(**{"epochs": 4, "batch_size": 4, "log_every": 5, "device": "cpu", **changes})


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(images, config):
    model = small()
    list(train(model, images, config))
    return weights(model)


# --- what is refused ---


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -1},
        {"epochs": 1.0},
        {"epochs": True},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"learning_rate": -1e-3},
        {"learning_rate": "fast"},
        {"beta": -1.0},
        {"beta": math.nan},
        {"warmup": 1.5},
        {"warmup": -0.1},
        {"seed": -1},
        {"seed": 0.5},
        {"log_every": 0},
        {"importance_samples": 0},
        {"importance_samples": 2.0},
        {"importance_samples": True},
    ],
    ids=str,
)
def test_config_refuses_in_one_line_that_names_the_field(changes):
    with pytest.raises(ValueError, match=next(iter(changes))) as error:
        TrainConfig(**changes)
    assert "\n" not in str(error.value)


def test_config_survives_json():
    config = TrainConfig(epochs=3, batch_size=None, seed=2**40)
    assert TrainConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (some_images(4).float() / 255, "uint8"),
        (some_images(4)[0], "uint8"),
        (some_images(0), "at least one image"),
        (some_images(4)[:, :, :7], "the model takes"),
        (some_images(4).expand(4, 3, 8, 8), "the model takes"),
    ],
    ids=["float", "one image", "empty", "size", "channels"],
)
def test_images_are_checked_at_the_call(images, match):
    config = settings(batch_size=None)
    with pytest.raises(ValueError, match=f"^images .*{match}"):
        train(small(), images, config)


def test_a_batch_larger_than_the_set_is_refused_at_the_call():
    with pytest.raises(ValueError, match="batch_size 11 is larger than the data set of 10"):
        train(small(), some_images(10), settings(batch_size=11))


def test_an_unknown_device_is_refused_at_the_call():
    with pytest.raises(ValueError, match="device 'nonsense'") as error:
        train(small(), some_images(4), settings(device="nonsense"))
    assert "\n" not in str(error.value)


def test_the_device_comes_from_the_environment_for_auto_only(monkeypatch):
    monkeypatch.setenv("VAE_CORE_DEVICE", "cpu")
    assert pick_device("auto") == torch.device("cpu")
    monkeypatch.setenv("VAE_CORE_DEVICE", "meta")  # any machine has it
    assert pick_device("auto") == torch.device("meta")
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("VAE_CORE_DEVICE", "nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        pick_device("auto")


# --- steps and records ---


def test_the_default_batch_fits_the_set():
    assert [TrainConfig().batch(n) for n in (1, 10, 128, 1000)] == [1, 10, 128, 128]
    assert TrainConfig(batch_size=4).batch(10) == 4
    assert [record.step for record in train(small(), some_images(3), settings(batch_size=None))] == [4]


def test_no_epoch_is_no_step():
    model = small()
    before = weights(model)
    assert list(train(model, some_images(10), settings(epochs=0))) == []
    assert torch.equal(weights(model), before)


def test_nothing_happens_before_a_record_is_asked_for():
    model = small()
    before = weights(model)
    train(model, some_images(10), settings())
    assert torch.equal(weights(model), before)


def test_a_record_every_few_steps_and_one_at_the_end():
    records = list(train(small(), some_images(10), settings()))  # 3 steps an epoch, the last of 2 images
    assert [record.step for record in records] == [5, 10, 12]
    assert [record.epoch for record in records] == pytest.approx([5 / 3, 10 / 3, 4])
    assert [record.step for record in train(small(), some_images(10), settings(log_every=6))] == [6, 12]
    assert [record.step for record in train(small(), some_images(10), settings(log_every=99))] == [12]


def test_learning_rate_rises_in_a_line_and_falls_as_a_cosine():
    config = TrainConfig(learning_rate=0.3, warmup=0.1)
    rates = [config.learning_rate_at(step, 200) for step in range(200)]
    assert rates[:20] == pytest.approx([0.3 * (step + 1) / 20 for step in range(20)])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[20 + 90] == pytest.approx(0.15)  # half-way
    assert max(rates) == pytest.approx(0.3)
    assert min(rates) >= 0
    assert rates[-1] < 1e-3 * 0.3


@pytest.mark.parametrize("warmup", [0, 0.5, 1])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_learning_rate_is_in_range_for_any_warmup(warmup, steps):
    rates = [TrainConfig(learning_rate=0.3, warmup=warmup).learning_rate_at(step, steps) for step in range(steps)]
    assert max(rates) == pytest.approx(0.3)
    assert min(rates) > 0


def test_each_step_is_made_at_its_learning_rate():
    model, config = small(), settings(batch_size=None, epochs=10, log_every=1, warmup=0.5)
    before = weights(model)
    for step, record in enumerate(train(model, some_images(10), config)):
        assert record.learning_rate == config.learning_rate_at(step, 10)
        if step == 0:  # the first step of Adam moves every weight by the learning rate
            assert (weights(model) - before).abs().max().item() == pytest.approx(2e-4, rel=1e-2)


def test_record_elbo_is_reconstruction_minus_kl_whatever_beta():
    for record in train(small(), some_images(10), settings(beta=7.0)):
        assert record.elbo == pytest.approx(record.reconstruction - record.kl)
        assert record.kl > 0


def noiseless():
    """A model whose posterior is so narrow that the noise does not matter."""
    model = small()
    model.encoder[-1].weight.data[2:] = 0
    model.encoder[-1].bias.data[2:] = -20
    return model


@pytest.mark.parametrize("log_every", [1, 3, 4, 6, 99])
def test_records_weigh_every_image_once(log_every):
    """With frozen weights and no noise the records must average to the evaluation."""
    model, images = noiseless(), some_images(10)
    records = list(train(model, images, settings(epochs=2, learning_rate=0, log_every=log_every)))
    seen = [0, 4, 8, 10, 14, 18, 20]  # images after each step: batches of 4, 4 and 2
    steps = [0, *(record.step for record in records)]
    counts = [seen[end] - seen[begin] for begin, end in pairwise(steps)]
    found = evaluate(model, images)
    assert sum(counts) == 20
    for name in ("elbo", "reconstruction", "kl"):
        mean = sum(n * getattr(record, name) for n, record in zip(counts, records, strict=True)) / 20
        assert mean == pytest.approx(getattr(found, name), rel=1e-5)


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own():
    """With frozen weights and no noise the reconstruction term tells the images apart."""

    def orders(seed):
        config = settings(batch_size=1, epochs=3, learning_rate=0, log_every=1, seed=seed)
        seen = [round(record.reconstruction, 3) for record in train(noiseless(), some_images(6), config)]
        return [tuple(seen[epoch * 6 : epoch * 6 + 6]) for epoch in range(3)]

    epochs = orders(0) + orders(1)
    assert len(set(epochs)) == 6
    assert {frozenset(order) for order in epochs} == {frozenset(epochs[0])}
    assert len(set(epochs[0])) == 6


def test_noise_is_new_at_every_step_and_for_every_seed():
    def reconstructions(seed):
        config = settings(batch_size=1, epochs=5, learning_rate=0, log_every=1, seed=seed)
        return [record.reconstruction for record in train(small(), some_images(1), config)]

    assert len({*reconstructions(0), *reconstructions(1)}) == 10


# --- the same steps, however they are asked for ---


def test_weights_depend_on_the_seed_alone():
    images = some_images(10)
    first = trained(images, settings(seed=1))
    torch.manual_seed(99)
    assert torch.equal(trained(images, settings(seed=1)), first)
    assert not torch.equal(trained(images, settings(seed=2)), first)
    assert not torch.equal(trained(images, settings(seed=1 + 2**32)), first)


@pytest.mark.parametrize("log_every", [1, 3, 99])
def test_evaluating_more_often_changes_no_bit(log_every):
    images, model, found = some_images(10), small(), []
    for _ in train(model, images, settings(log_every=log_every)):
        found.append(evaluate(model, some_images(6, seed=1)).elbo)
        model.sample(3, seed=0)
    assert torch.equal(weights(model), trained(images, settings()))
    assert len(set(found)) == math.ceil(12 / log_every)  # of another model at each record


def test_images_and_global_random_state_are_left_alone():
    images, before = some_images(10), torch.random.get_rng_state()
    trained(images, settings())
    assert torch.equal(images, some_images(10))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("log_every", [1, 3, 5])
def test_a_broken_off_training_continues_bit_for_bit(log_every):
    """With log_every 3 at the end of an epoch, with 5 in its middle."""
    images, config = some_images(10), settings(log_every=log_every)
    whole = small()
    expected = list(train(whole, images, config))
    model = small()
    state = TrainState.start(model)
    first = next(train(model, images, config, state=state))
    rest = list(train(model, images, config, state=state))
    assert state.step == 12
    assert torch.equal(weights(model), weights(whole))
    assert [record._replace(seconds=0) for record in (first, *rest)] == [r._replace(seconds=0) for r in expected]
    assert list(train(model, images, config, state=state)) == []


def test_the_state_is_complete_at_each_record():
    """What is copied at a record, and loaded into a new model, goes on as the old one did."""
    images, config = some_images(10), settings(log_every=5)
    model = small()
    state = TrainState.start(model)
    kept = [
        copy.deepcopy((model.state_dict(), state.optimiser.state_dict(), state.step))
        for _ in train(model, images, config, state=state)
    ]
    assert [step for _, _, step in kept] == [5, 10, 12]
    for model_state, optimiser_state, step in kept:
        again = small()
        again.load_state_dict(model_state)
        resumed = TrainState.start(again)
        resumed.optimiser.load_state_dict(optimiser_state)
        resumed.step = step
        list(train(again, images, config, state=resumed))
        assert torch.equal(weights(again), weights(model))


# --- divergence ---


def test_a_huge_learning_rate_is_told_in_one_line_and_undone():
    model = small()
    before, state = weights(model), TrainState.start(model)
    with pytest.raises(TrainingDiverged) as error:
        list(train(model, some_images(10), settings(learning_rate=1e30), state=state))
    said = str(error.value)
    assert "not finite at step 2 (learning rate" in said
    assert "Try a learning_rate of 1e+29" in said
    assert "\n" not in said
    assert torch.equal(weights(model), before)
    assert state.step == 0


def test_a_ruined_weight_is_told_and_undone_to_the_last_record():
    images, config = some_images(10), settings(log_every=2)
    model = small()
    state = TrainState.start(model)
    records = train(model, images, config, state=state)
    next(records)
    next(records)
    kept = weights(model)
    model.decoder[0].weight.data[0, 0] = math.nan
    rate = config.learning_rate_at(4, 12)
    with pytest.raises(TrainingDiverged, match=rf"at step 5 \(learning rate {rate:.3g}\).*back at step 4"):
        next(records)
    assert torch.equal(weights(model), kept)
    assert state.step == 4
    list(train(model, images, config, state=state))  # the optimiser is whole too: it goes on as if nothing had been
    assert torch.equal(weights(model), trained(images, config))


def test_a_last_step_that_ruins_the_weights_is_no_success():
    """The loss of the only step is finite, the weights after it are not."""
    model = small()
    before = weights(model)
    with pytest.raises(TrainingDiverged, match="step 1 "):
        list(train(model, some_images(4), settings(epochs=1, learning_rate=1e39)))
    assert torch.equal(weights(model), before)


# --- what training achieves ---


def test_training_improves_the_elbo_of_a_simple_set():
    brightness = torch.linspace(0, 1, 40).reshape(40, 1, 1, 1)
    images = (brightness * torch.linspace(50, 255, 64).reshape(1, 1, 8, 8)).to(torch.uint8)
    model = small(sigma=0.1)
    config = settings(epochs=40, batch_size=8, learning_rate=1e-2, log_every=50)
    before = evaluate(model, images[1::2]).elbo
    *_, last = train(model, images[::2], config)
    best = 64 / 2 * -math.log(2 * math.pi * 0.1**2)  # without any error, and at no cost
    assert before < 0
    assert best - 40 < evaluate(model, images[1::2]).elbo < best
    assert best - 40 < last.elbo < best


def test_beta_is_the_weight_of_the_kl():
    images = some_images(10)

    def kl(beta):
        config = settings(epochs=100, batch_size=None, learning_rate=1e-2, beta=beta, log_every=100)
        model = small(sigma=0.1)
        list(train(model, images, config))
        return evaluate(model, images).kl

    assert kl(0.0) > kl(1.0) + 1
    assert kl(1.0) > 1
    assert kl(1000.0) < 0.01


@pytest.mark.parametrize(("kappa", "collapses"), [(0.3, True), (10.0, False)])
def test_a_pair_collapses_to_its_mean_below_kappa_1_only(kappa, collapses):
    """With D^2 / (4 s2) <= 1 the global optimum is KL = 0 and every sample the arithmetic mean."""
    pair = some_images(2)
    squared_distance = (pair.double() / 255).diff(dim=0).square().sum().item()
    model = small(hidden=(16,), activation="tanh", sigma=math.sqrt(squared_distance / (4 * kappa)))
    assert place(model.sample(1000, seed=0), pair).share_at_mean() == 0  # not there before training
    list(train(model, pair, settings(epochs=500, batch_size=2, learning_rate=2e-2, log_every=500)))
    share = place(model.sample(1000, seed=0), pair).share_at_mean()
    kl = evaluate(model, pair).kl
    if collapses:
        assert kl < 0.01
        assert share >= 0.95
    else:
        assert kl > 0.5
        assert share < 0.5


@pytest.mark.parametrize("wrong", [{"learning_rate": True}, {"beta": True}, {"warmup": 1.5}])
def test_numbers_of_the_wrong_kind_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        TrainConfig(**wrong)


def test_beta_rises_in_a_line_and_free_bits_reach_the_loss() -> None:
    config = TrainConfig(beta=2.0, beta_warmup=0.5)
    assert [config.beta_at(step, 8) for step in range(8)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    assert TrainConfig(beta=3.0).beta_at(0, 8) == 3.0
    images = torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kl = {}
    for name, extra in {"plain": {}, "free": {"free_bits": 0.5}, "late": {"beta_warmup": 1.0}}.items():
        model = VAE(VAEConfig((1, 4, 4), latent_dim=2, hidden=(16,)))
        kl[name] = list(train(model, images, TrainConfig(epochs=100, learning_rate=1e-2, beta=4.0, **extra)))[-1].kl
    assert kl["plain"] < 0.1
    assert kl["free"] > kl["plain"] + 0.2  # up to half a nat a dimension for nothing
    assert kl["late"] >= kl["plain"]


# --- binarised pixels ---


def black_and_white(**changes):
    return small(likelihood="bernoulli", sigma=None, **{"binarisation": "dynamic", **changes})


def watched(model):
    """The model, and a list that every image its encoder is given goes into."""
    seen = []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.extend(inputs[0].detach().clone()))
    return model, seen


def test_images_binarised_dynamically_are_other_ones_at_every_use():
    images = some_images(1)
    model, seen = watched(black_and_white())
    list(train(model, images, settings(batch_size=1, epochs=200)))
    assert len(seen) == 200
    assert {value for x in seen for value in x.unique().tolist()} == {0.0, 1.0}
    assert len({x.numpy().tobytes() for x in seen}) == 200
    p = images[0].double() / 255
    assert (torch.stack(seen).double().mean(0) - p).abs().max() < 4.5 * 0.5 / math.sqrt(200)
    assert torch.equal(images, some_images(1))  # drawn from the grey ones each time, which stay


def test_images_of_one_batch_are_drawn_apart_and_by_the_seed():
    def first_batch(seed):
        model, seen = watched(black_and_white())
        next(train(model, some_images(1).repeat(8, 1, 1, 1), settings(batch_size=8, log_every=1, seed=seed)))
        return [x.numpy().tobytes() for x in seen]

    assert len({*first_batch(0), *first_batch(1)}) == 16
    assert first_batch(1) == first_batch(1)


def test_looking_more_often_draws_no_other_pixels():
    def pictures(log_every):
        model, seen = watched(black_and_white())
        list(train(model, some_images(10), settings(log_every=log_every)))
        return torch.stack(seen)

    assert torch.equal(pictures(1), pictures(5))
    assert torch.equal(pictures(99), pictures(5))


@pytest.mark.parametrize("binarisation", ["none", "static"])
def test_only_dynamic_binarisation_draws(binarisation):
    images = binarise(some_images(6), 0, "once")
    model, seen = watched(black_and_white(binarisation=binarisation))
    list(train(model, images, settings()))
    assert {x.numpy().tobytes() for x in seen} == {x.numpy().tobytes() for x in images / 255}


@pytest.mark.parametrize("log_every", [3, 5])
@pytest.mark.parametrize("k", [1, 4])
def test_a_training_with_pixels_drawn_dynamically_continues_bit_for_bit(log_every, k):
    images, config = some_images(10), settings(log_every=log_every, importance_samples=k)
    (whole, all_seen), (broken, seen) = watched(black_and_white()), watched(black_and_white())
    expected = list(train(whole, images, config))
    state = TrainState.start(broken)
    found = [next(train(broken, images, config, state=state))]
    found += train(broken, images, config, state=state)
    assert torch.equal(torch.stack(seen), torch.stack(all_seen))
    assert torch.equal(weights(broken), weights(whole))
    assert [record._replace(seconds=0) for record in found] == [record._replace(seconds=0) for record in expected]


def test_grey_pixels_are_refused_at_the_call_where_black_and_white_are_meant():
    grey, fixed = some_images(10), binarise(some_images(10), 0, "once")
    model = black_and_white(binarisation="static")
    with pytest.raises(ValueError, match="grey pixels"):
        train(model, grey, settings())
    assert len(list(train(model, fixed, settings()))) == 3


# --- several samples an image ---


@pytest.mark.parametrize("other", [{"beta": 2.0}, {"beta": 0.0}, {"beta_warmup": 0.1}, {"free_bits": 0.1}], ids=str)
def test_the_importance_weighted_bound_has_no_other_weights(other):
    with pytest.raises(ValueError, match="no beta and no free bits") as error:
        TrainConfig(importance_samples=2, **other)
    assert "\n" not in str(error.value)
    assert TrainConfig(importance_samples=1, **other).importance_samples == 1
    assert TrainConfig(importance_samples=2, beta=1).beta == 1


def test_the_recorded_bound_is_above_the_elbo_and_only_there_with_several_samples():
    config = settings(epochs=40, batch_size=None, log_every=20)
    assert [record.bound for record in train(small(), some_images(100), config)] == [None, None]
    for k in (2, 5):
        several = dataclasses.replace(config, importance_samples=k)
        records = list(train(small(sigma=0.1), some_images(100), several))
        assert all(record.bound > record.elbo for record in records)
        assert all(record.elbo == pytest.approx(record.reconstruction - record.kl) for record in records)


@pytest.mark.parametrize("log_every", [1, 4, 99])
def test_the_recorded_bound_weighs_every_image_once(log_every):
    """With frozen weights: the sum over the images of each step."""
    model, images = small(), some_images(10)
    config = settings(epochs=2, learning_rate=0, log_every=log_every, importance_samples=3)
    records = list(train(model, images, config))
    steps = [x for epoch in range(2) for x in batches(images, 4, seed=0, epoch=epoch)]  # of 4, 4 and 2 images
    drawn = [noise((3, len(x), 2), 0, step, "train") for step, x in enumerate(steps)]
    by_step = [elbo(model, x, eps).weighted.sum().item() for x, eps in zip(steps, drawn, strict=True)]
    ends = [0, *(record.step for record in records)]
    for (begin, end), record in zip(pairwise(ends), records, strict=True):
        count = sum(len(x) for x in steps[begin:end])
        assert record.bound == pytest.approx(sum(by_step[begin:end]) / count, rel=1e-5)


def test_a_training_with_several_samples_raises_the_bound_it_trains():
    """Its bound is above its own ELBO, and above the bound of the same model trained with one sample."""
    images = binarise(some_images(20), 0, "once")
    bounds, elbos = {}, {}
    for k in (1, 5):
        model = black_and_white(binarisation="static", hidden=(32,))
        config = settings(epochs=200, batch_size=20, learning_rate=1e-2, importance_samples=k)
        *_, last = train(model, images, config)
        bounds[k] = importance_weighted_bound(model, images, samples=5).value
        elbos[k] = evaluate(model, images).elbo
    assert bounds[5] > elbos[5] + 1
    assert bounds[5] > bounds[1] + 1
    assert last.bound == pytest.approx(bounds[5], abs=2)


# --- the width of the pixels' noise ---


def test_a_record_tells_sigma_where_it_is_learned_only():
    for sigma in (0.5, "optimal"):
        assert {record.sigma for record in train(small(sigma=sigma), some_images(10), settings())} == {None}
    assert {record.sigma for record in train(black_and_white(), some_images(10), settings())} == {None}
    model = small(sigma="learned")
    told = [(record.sigma, model.sigma.item()) for record in train(model, some_images(10), settings())]
    assert all(sigma == now for sigma, now in told)
    assert len({sigma for sigma, _ in told}) == 3
