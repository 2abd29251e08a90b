"""All scores of a model at once, which runs may stand side by side, and the two commands that show it."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from vae_core import quality
from vae_core.cli.main import main
from vae_core.data import ImageSet, as_seen, binarise, load_images
from vae_core.metrics import (
    Mean,
    active_units,
    bits_per_dimension,
    evaluate,
    importance_weighted_bound,
    kl_decomposition,
)
from vae_core.model import VAE, VAEConfig
from vae_core.runs import Run, TrainedOn, fit, images_digest
from vae_core.scores import SUBSET, Scores, Yardsticks, check_comparable, differences, meaning, score, table, to_json
from vae_core.train import TrainConfig, train

SHAPE = (1, 9, 8)


def image_set(n: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> ImageSet:
    """Random images of one brightness each, so that a small model has something to learn."""
    drawn = torch.Generator().manual_seed(seed)
    levels = torch.randint(20, 236, (n, 1, 1, 1), generator=drawn)
    images = (levels + torch.randint(-20, 20, (n, *shape), generator=drawn)).to(torch.uint8)
    return ImageSet(images, torch.arange(n) % 2, "noise: drawn")


AGAINST = Yardsticks(image_set(14, seed=1), image_set(20), seed=3)


def model_of(**changes) -> VAE:
    """A model trained for a moment."""
    config = {"image_shape": SHAPE, "latent_dim": 3, "hidden": (8,), "likelihood": "gaussian", "sigma": 0.1, **changes}
    model = VAE(VAEConfig(**config))
    images = image_set(20).images
    list(train(model, binarise(images, 0, "once") if config.get("binarisation") == "static" else images, TrainConfig()))
    return model


def strictly(text: str) -> dict:
    """JSON as other languages read it: without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


# --- the scores of one model ---


@pytest.mark.parametrize("changes", [
    {}, {"likelihood": "bernoulli", "sigma": None, "binarisation": "dynamic"},
    {"likelihood": "logistic", "sigma": "learned"},
], ids=str)  # fmt: skip
def test_scores_are_those_of_the_single_functions(changes: dict) -> None:
    model = model_of(**changes)
    test, training = AGAINST.test.images, AGAINST.training.images
    found = score(model, AGAINST, samples=7)
    assert found.measure == model.measure
    assert (found.images, found.bound_samples) == (14, 7)

    alone = evaluate(model, test, seed=3)
    for name in ("elbo", "reconstruction", "kl"):
        assert getattr(found, name) == Mean(getattr(alone, name), getattr(alone, name + "_error"))
    assert found.kl_per_dimension == alone.kl_per_dimension
    assert found.bound == importance_weighted_bound(model, test, samples=7, seed=3)
    assert found.active_units == active_units(model, test, seed=3)

    few = test[AGAINST.subset]
    assert sorted(AGAINST.subset.tolist()) == list(range(14))
    held = kl_decomposition(model, few, seed=3)
    assert (found.mutual_information, found.marginal_kl) == (held.mutual_information, held.marginal_kl)
    given = few.float() / 255
    with torch.no_grad():
        seen = as_seen(few, model.config.binarisation, 3, "reconstruct").float() / 255
        reconstructions, drawn = model.reconstruct(seen), model.sample(14, seed=3)
    assert found.psnr == Mean.of(quality.psnr(reconstructions, given))
    assert found.ssim == Mean.of(quality.ssim(reconstructions, given))
    real = test.float() / 255
    for images, name in ((reconstructions, "reconstruction"), (drawn, "sample")):
        assert getattr(found, f"{name}_sharpness") == pytest.approx(quality.sharpness(images, real), abs=1e-5)
        sharpness = quality.sharpness(images, real, quality.high_frequency_energy)
        assert getattr(found, f"{name}_high_frequency") == pytest.approx(sharpness, abs=1e-5)
    sets = (drawn, training.float() / 255, real)
    parts = map(quality.components(sets[1], 19), sets)
    assert found.frechet_pca == quality.frechet_against_floor(*parts, seed=3)
    features = [quality.classifier_features(AGAINST.classifier, images) for images in sets]
    assert found.frechet_classifier == quality.frechet_against_floor(*features, seed=3)
    assert found.sample_nearest == Mean.of(quality.nearest(drawn, sets[1]).distance)
    assert found.test_nearest == Mean.of(quality.nearest(given, sets[1]).distance)
    assert score(model, AGAINST, samples=7) == found  # again the same


def test_a_perfect_copy_has_perfect_scores() -> None:
    """A model that gives back what it is given. And an image among the training images is its own nearest."""
    model = VAE(VAEConfig(SHAPE, latent_dim=72, hidden=(8,), likelihood="gaussian", sigma=0.1))
    model.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 144))
    model.encoder[1].weight.data = torch.cat([torch.eye(72), torch.zeros(72, 72)])
    model.encoder[1].bias.data.zero_()
    model.decoder = torch.nn.Unflatten(1, SHAPE)
    training = image_set(20)
    found = score(model, Yardsticks(training, training), samples=1)
    assert found.psnr.value > 100
    assert found.ssim.value == pytest.approx(1, abs=1e-5)
    assert found.reconstruction_sharpness == pytest.approx(0, abs=1e-4)
    assert found.reconstruction_high_frequency == pytest.approx(0, abs=1e-4)
    assert found.test_nearest == Mean(0.0, 0.0)
    assert found.sample_nearest.value > 0.1  # drawn from N(0, 1)


def test_more_than_a_thousand_images_count_where_they_can() -> None:
    shape = (1, 3, 3)
    test = image_set(SUBSET + 30, seed=1, shape=shape)
    against = Yardsticks(test, image_set(20, shape=shape)._replace(labels=torch.zeros(20, dtype=torch.int64)))
    model = VAE(VAEConfig(shape, latent_dim=1, hidden=(2,)))
    found = score(model, against, samples=1)
    assert len(set(against.subset.tolist())) == SUBSET
    assert found.images == SUBSET + 30
    assert found.elbo.value == pytest.approx(evaluate(model, test.images).elbo)
    assert found.mutual_information.value <= math.log(SUBSET)
    assert found.psnr.error > 0
    assert found.frechet_pca.images == SUBSET + 30
    assert found.frechet_classifier is None  # one class, and too small


def test_what_is_not_to_be_had_is_none() -> None:
    optimal = score(model_of(sigma="optimal"), AGAINST, samples=2)
    assert optimal.bound is None
    assert optimal.bits_per_dimension is None
    assert math.isfinite(optimal.elbo.value)
    for changes in ({}, {"likelihood": "laplace"}, {"likelihood": "bernoulli", "sigma": None}):
        found = score(model_of(**changes), AGAINST, samples=2)
        assert found.bits_per_dimension is None
        assert found.bound is not None
    logistic = model_of(likelihood="logistic")
    found = score(logistic, AGAINST, samples=2)
    assert found.bits_per_dimension.value == bits_per_dimension(found.bound.value, logistic.config)
    assert found.bits_per_dimension.value == pytest.approx(-found.bound.value / 72 / math.log(2))
    assert found.bits_per_dimension.error == pytest.approx(found.bound.error / 72 / math.log(2))


def test_one_test_image_is_enough_and_one_training_image_too() -> None:
    one = Yardsticks(image_set(1, seed=1), image_set(1))
    found = score(model_of(), one, samples=2)
    assert (found.images, found.frechet_pca, found.frechet_classifier) == (1, None, None)
    assert math.isnan(found.elbo.error)
    assert strictly(to_json(found))["elbo"] == {"value": pytest.approx(found.elbo.value), "error": None}
    assert "nan" in table([found], [""])


@pytest.mark.parametrize(("test", "training"), [
    (image_set(0), image_set(4)), (image_set(4), image_set(0)), (image_set(4), image_set(4, shape=(1, 8, 9))),
    (image_set(4, shape=(3, 9, 8)), image_set(4)),
], ids=["no test", "no training", "turned", "colour"])  # fmt: skip
def test_yardsticks_of_unlike_or_no_images_are_refused(test: ImageSet, training: ImageSet) -> None:
    with pytest.raises(ValueError, match="images of one shape are needed") as error:
        Yardsticks(test, training)
    assert "\n" not in str(error.value)


def test_a_classifier_is_for_grey_images_of_several_classes_unless_it_is_asked_for() -> None:
    grey, colour, small = image_set(6), image_set(6, shape=(3, 9, 8)), image_set(6, shape=(1, 7, 8))
    alike = grey._replace(labels=torch.zeros(6, dtype=torch.int64))
    assert [Yardsticks(x, x).classifier is None for x in (grey, colour, small, alike)] == [False, True, True, True]
    assert Yardsticks(grey, grey, classify=False).classifier is None
    assert Yardsticks(colour, colour, classify=True).classifier is not None
    with pytest.raises(ValueError, match="two classes or more, the training images have 1"):
        Yardsticks(alike, alike, classify=True)
    with pytest.raises(ValueError, match="no classifier of these training images"):
        Yardsticks(alike, alike).frechet("classifier", alike.images / 255)


def test_features_are_computed_once_and_distances_are_those_of_the_single_functions(monkeypatch) -> None:
    against = Yardsticks(image_set(14, seed=1), image_set(20), seed=3)
    drawn = image_set(9, seed=2).images.float() / 255
    test, training = (images.images.float() / 255 for images in (against.test, against.training))
    first = against.frechet("pca", drawn)
    of = quality.components(training, 19)
    assert first == quality.frechet_against_floor(of(drawn), of(training), of(test), seed=3)
    monkeypatch.setattr(quality, "components", None)  # neither the components nor their features again
    assert against.frechet("pca", drawn) == first
    assert first.images == 9


def test_a_model_of_another_shape_and_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 1, 8, 9\), not"):
        score(VAE(VAEConfig((1, 8, 9), hidden=(4,))), AGAINST)
    for samples in (0, -1):
        with pytest.raises(ValueError, match="must be 1 or more"):
            score(VAE(VAEConfig(SHAPE, hidden=(4,))), AGAINST, samples=samples)


def test_grey_pixels_are_refused_where_black_and_white_are_meant() -> None:
    model = model_of(likelihood="bernoulli", sigma=None, binarisation="static")
    with pytest.raises(ValueError, match="grey pixels"):
        score(model, AGAINST, samples=1)


def test_flat_samples_have_no_sharpness_and_the_json_is_still_strict() -> None:
    model = model_of()
    for weights in model.parameters():
        weights.data.zero_()
    found = score(model, AGAINST, samples=2)
    assert found.sample_sharpness == -math.inf
    read = strictly(to_json({"one": found, "two": [found]}))
    assert set(read["one"]) == set(Scores._fields)
    assert read["two"] == [read["one"]]
    assert read["one"]["sample_sharpness"] is None
    assert read["one"]["bits_per_dimension"] is None
    assert read["one"]["kl"] == {"value": 0.0, "error": 0.0}
    assert read["one"]["frechet_pca"]["images"] == 14
    assert "-inf" in table([found], [""])


def test_a_table_has_a_row_a_score_and_a_column_a_model() -> None:
    gaussian, optimal = score(model_of(), AGAINST, samples=4), score(model_of(sigma="optimal"), AGAINST, samples=4)
    lines = table([gaussian, optimal], ["first", "second"]).splitlines()
    rows = {line.split("  ")[0]: re.split(r"\s{2,}", line)[1:] for line in lines[1:]}
    assert lines[0].split() == ["first", "second"]
    assert rows["elbo (nats)"][0] == f"{gaussian.elbo.value:.2f} ± {gaussian.elbo.error:.2f}"
    assert rows["importance-weighted bound, 4 samples (nats)"][1] == "-"
    assert rows["images"] == ["14", "14"]
    assert not any(name.startswith(("bits", "bound samples")) for name in rows)  # neither model has them
    assert {len(values) for values in rows.values()} == {2}


# --- which numbers may stand side by side ---


def run_of(images: torch.Tensor | None = None, training: TrainConfig | None = None, **changes) -> Run:
    config = VAEConfig(**{"image_shape": SHAPE, "hidden": (4,), **changes})
    images = image_set(4).images if images is None else images
    data = TrainedOn("noise: drawn", len(images), images_digest(images))
    return Run(VAE(config), [], config, training or TrainConfig(), data, None)


GREY, DYNAMIC, STATIC = {}, {"binarisation": "dynamic"}, {"binarisation": "static"}
GAUSSIAN, LAPLACE = ({"likelihood": name, "sigma": 0.1} for name in ("gaussian", "laplace"))
LOGISTIC = {"likelihood": "logistic", "sigma": 0.1}


@pytest.mark.parametrize(("one", "other", "why"), [
    (GREY, DYNAMIC, "not a likelihood: grey pixels under Bernoulli, against .*with dynamic binarisation"),
    (GREY, STATIC, "grey pixels under Bernoulli, against .*with static binarisation"),
    (GREY, GAUSSIAN, "grey pixels under Bernoulli, against log density"),
    (DYNAMIC, STATIC, "with dynamic binarisation, against .*with static binarisation"),
    (DYNAMIC, LOGISTIC, "with dynamic binarisation, against log probability of 8-bit images"),
    (LAPLACE, LOGISTIC, "log density of grey levels .*, against log probability of 8-bit"),
    (GAUSSIAN, DYNAMIC, "log density of grey levels .*, against .*with dynamic binarisation"),
], ids=str)  # fmt: skip
def test_numbers_of_unlike_things_are_not_compared(one: dict, other: dict, why: str) -> None:
    for runs in ([run_of(**one), run_of(**other)], [run_of(**one), run_of(**one), run_of(**other)]):
        with pytest.raises(ValueError, match=f"cannot be compared: .*{why}") as error:
            check_comparable(runs)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="cannot be compared"):
        check_comparable([run_of(**other), run_of(**one)])


def test_other_training_images_are_not_compared() -> None:
    images = image_set(4).images
    for other in (images[:3], image_set(4, seed=1).images, images.flip(0)):
        with pytest.raises(ValueError, match=rf"trained on different images \(4 images .* and {len(other)} images of"):
            check_comparable([run_of(), run_of(other)])


def test_numbers_of_one_kind_are_compared() -> None:
    more = TrainConfig(epochs=99, seed=7, beta=2.0)
    for one, other in (
        (GREY, GREY), (DYNAMIC, DYNAMIC | {"latent_dim": 9}), (STATIC, STATIC), (GAUSSIAN, LAPLACE),
        (GAUSSIAN, GAUSSIAN | {"sigma": "learned"}), (GAUSSIAN, GAUSSIAN | {"sigma": "optimal"}),
        (LOGISTIC, LOGISTIC | {"architecture": "conv"}),
    ):  # fmt: skip
        check_comparable([run_of(**one), run_of(training=more, **other)])
    check_comparable([run_of()])


def test_differences_are_the_settings_that_differ() -> None:
    assert differences([run_of(), run_of()]) == {}
    runs = [run_of(latent_dim=2), run_of(latent_dim=3), run_of(latent_dim=2, training=TrainConfig(seed=5))]
    assert differences(runs) == {"latent_dim": [2, 3, 2], "seed": [0, 0, 5]}
    assert differences([run_of(), run_of(**GAUSSIAN)]) == {
        "likelihood": ["bernoulli", "gaussian"],
        "sigma": [None, 0.1],
    }


def test_a_meaning_is_said_in_words() -> None:
    said = {}
    for name in ("GREY", "DYNAMIC", "STATIC", "GAUSSIAN", "LAPLACE", "LOGISTIC"):
        run = run_of(**globals()[name])
        said[name] = meaning(run.model.measure, run.model_config)
    assert "not a likelihood" in said["GREY"]
    assert said["GAUSSIAN"] == said["LAPLACE"]
    assert len(set(said.values())) == 5


# --- the commands ---


def run(*words: object) -> Result:
    """The command's result; what grows with the square of the images is of 50."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_core.scores.SUBSET", 50)
        return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> dict[str, Path]:
    """Runs on a few real digits, and one that does not know its data; all from a device that is not here."""
    cache = tmp_path_factory.mktemp("runs")
    digits = load_images("digits-sample", limit=60)
    training = TrainConfig(epochs=2)
    dynamic = VAEConfig(hidden=(8,), binarisation="dynamic")
    found = {
        "dynamic": fit(dynamic, training, digits, cache=cache).path,
        "wider": fit(dataclasses.replace(dynamic, latent_dim=4), training, digits, cache=cache).path,
        "grey": fit(VAEConfig(hidden=(8,)), training, digits, cache=cache).path,
        "bare": fit(dynamic, training, digits.images[:50], cache=cache).path,
    }
    for path in found.values():
        facts = path / "run.json"
        facts.write_text(facts.read_text().replace('"device": "auto"', '"device": "cuda:77"'))  # no machine has it
    return found


FEW_DIGITS = ("--samples", 2, "--limit", 60)


def test_evaluate_shows_a_table_and_says_what_the_numbers_are(kept: dict[str, Path]) -> None:
    done = run("evaluate", kept["dynamic"], *FEW_DIGITS)
    assert done.exit_code == 0, done.output
    first, _, *rows = done.stdout.splitlines()
    assert first == "1,000 test images; in nats: log probability of images with dynamic binarisation"
    assert any(re.match(r"elbo \(nats\) +-\d+\.\d\d ± \d+\.\d\d$", row) for row in rows)
    assert any(row.startswith("importance-weighted bound, 2 samples (nats)") for row in rows)
    assert "note:" not in done.stderr  # these are the images it was trained on
    assert "the measuring of 1 run" in done.stderr


def test_evaluate_prints_json_and_names_other_images_than_those_of_the_training(kept: dict[str, Path]) -> None:
    done = run("evaluate", kept["bare"], *FEW_DIGITS, "--data", "digits-sample", "--json")
    assert done.exit_code == 0, done.output
    read = strictly(done.stdout)
    assert set(read) == set(Scores._fields)
    assert (read["measure"], read["images"], read["bound_samples"]) == ("probability", 1000, 2)
    assert read["elbo"]["value"] == pytest.approx(read["reconstruction"]["value"] - read["kl"]["value"])
    assert "note: trained on 50 other images than these 60 of digits-sample" in done.stderr


def test_compare_shows_settings_that_differ_and_scores_side_by_side(kept: dict[str, Path]) -> None:
    done = run("compare", kept["dynamic"], kept["wider"], *FEW_DIGITS)
    assert done.exit_code == 0, done.output
    settings, meant, heads, *rows = done.stdout.splitlines()
    assert settings == "latent_dim: 2 | 4"
    assert meant == "1,000 test images; in nats: log probability of images with dynamic binarisation"
    assert heads.split() == [kept["dynamic"].name, kept["wider"].name]
    assert any(re.match(r"elbo \(nats\)( +-\d+\.\d\d ± \d+\.\d\d){2}$", row) for row in rows)


def refused(done: Result) -> str:
    """The one line of a refusal."""
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("vae-core: ")
    return line


def test_compare_refuses_unlike_runs_and_a_single_one(kept: dict[str, Path]) -> None:
    unlike = refused(run("compare", kept["dynamic"], kept["grey"]))
    assert f"{kept['dynamic'].name} and {kept['grey'].name} cannot be compared" in unlike
    assert "not a likelihood" in unlike
    assert "trained on different images (60 images of digits-sample" in refused(
        run("compare", kept["dynamic"], kept["wider"], kept["bare"])
    )
    assert "two runs or more" in refused(run("compare", kept["dynamic"]))
    assert run("compare").exit_code == 2


def test_evaluate_refuses_what_it_cannot_measure(kept: dict[str, Path], tmp_path: Path) -> None:
    assert f"{kept['bare']} does not say on which data set it was trained: give --data" in refused(
        run("evaluate", kept["bare"])
    )
    assert f"{tmp_path} holds no run" in refused(run("evaluate", tmp_path))
    assert "holds no run" in refused(run("compare", kept["dynamic"], tmp_path / "none"))
    assert "no data set or folder 'digit-sample'; did you mean digits-sample?" in refused(
        run("evaluate", kept["dynamic"], "--data", "digit-sample")
    )
    assert run("evaluate", kept["dynamic"], "--samples", 0).exit_code == 2


def test_export_writes_a_page_with_or_without_images(kept: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    done = run("export", kept["dynamic"], "-o", page)
    assert done.exit_code == 0, done.output
    assert re.match(rf"{re.escape(str(page))}: \d+\.\d MB, the decoder and sample images\n", done.stdout)
    assert "32 sample images" in page.read_text()
    done = run("export", kept["bare"], "-o", page, "--no-images")
    assert done.stdout.endswith("MB, the decoder\n")
    assert "and no images" in page.read_text()


def test_export_refuses_what_it_cannot_write(kept: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "give --data" in refused(run("export", kept["bare"], "-o", page))
    assert "holds no run" in refused(run("export", tmp_path, "-o", page))
    (tmp_path / "file").touch()
    refused(run("export", kept["dynamic"], "-o", tmp_path / "file" / "page.html"))
    assert not page.exists()
    assert run("export", kept["dynamic"]).exit_code == 2
