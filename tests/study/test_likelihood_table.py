"""The paper's table: one recipe, the recorded trainings, and how near they come."""

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import CHECKOUT

from vae_core.data import ImageSet
from vae_core.metrics import Mean
from vae_core.study import likelihood_table
from vae_core.study.likelihood_table import PAPER, load_results, recipe, verdict


def images(n: int) -> ImageSet:
    return ImageSet(torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64), "test: black")


def test_the_recipe_is_that_of_the_published_training() -> None:
    published = json.loads((CHECKOUT / "benchmarks" / "results" / "burda_table.json").read_text())
    row = next(row for row in published["rows"] if "test" in row["measured_on"])
    model, training = recipe(images(300).images, 1150, log_every=500, device="cpu")
    assert vars(training) == row["train"]
    translated = published["model"] | {"binarisation": "dynamic", "image_shape": (1, 28, 28), "hidden": (200, 200)}
    assert vars(model) == translated


def test_the_benchmark_takes_this_recipe_and_this_file() -> None:
    spec = importlib.util.spec_from_file_location("burda", CHECKOUT / "benchmarks" / "burda_table.py")
    burda = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(burda)
    assert burda.recipe is recipe
    assert burda.RESULTS == CHECKOUT / "benchmarks" / "results" / "burda_table.json"


def test_few_images_are_one_batch() -> None:
    assert recipe(images(7).images, 1)[1].batch_size == 7
    assert recipe(images(300).images, 1)[1].batch_size == 200


def test_results_are_apart_by_what_they_were_measured_on_and_best_first() -> None:
    of_test, held_out = load_results()
    assert list(of_test.measured_on) == ["10,000 test images"]
    assert held_out.measured_on.str.contains("held-out").all()
    assert held_out.nll.is_monotonic_increasing
    assert {"k", "nll", "error", "minutes", "epochs", "batch_size", "learning_rate"} <= set(held_out.columns)


def test_the_best_training_of_each_k_is_held_against_the_paper() -> None:
    nlls = pd.DataFrame({"k": [1, 1, 5, 50, 7], "nll": [86.9, 86.76, 86.04, 84.0, 1.0]})
    table = verdict(nlls)
    assert list(table.k) == [1, 5, 50]  # the paper has no k = 7
    assert list(table.gap) == [0.0, 0.5, -0.78]
    assert list(table.reached) == [True, False, True]
    assert verdict(nlls[nlls.k == 7]).empty


def test_the_published_number_is_reached() -> None:
    assert verdict(load_results()[0]).to_dict("records") == [
        {"k": 1, "nll": 86.71, "paper": PAPER[1], "gap": -0.05, "reached": True}
    ]


def test_figures_say_their_numbers_and_the_claim_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    saved = likelihood_table.bound_figure({1: Mean(-107.26, 1.0), 100: Mean(-103.0, 1.0)}, images(3))
    assert "107.3, 103.0 nats" in saved.alt
    assert "3 binarised test images" in saved.caption
    saved = likelihood_table.table_figure(load_results()[0], "test: black")
    assert "paper, k = 1: 86.76 nats" in saved.alt
    assert "ours, k = 1, 46 min: 86.71 nats" in saved.alt
    [claim] = json.loads((tmp_path / "figures" / "data" / "05_likelihood_table.json").read_text())
    assert claim["claim"] == "test NLL, k = 1, 1150 epochs"
    assert (claim["value"], claim["standard_error"], claim["images"], claim["seeds"]) == (86.706, 0.23, 10000, 1)


def test_traversals_draw_the_most_used_dimensions_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    monkeypatch.setenv("VAE_CORE_RUNS", str(tmp_path / "runs"))
    model = likelihood_table.train(images(3), 0, seed=0)
    with torch.no_grad():
        model.encoder[-1].weight.zero_()
        model.encoder[-1].bias.zero_()
        model.encoder[-1].bias[7], model.encoder[-1].bias[4] = 3.0, 2.0  # means far from the prior's
    saved = likelihood_table.traversals(model, images(3), "walk", title="t", dimensions=2)
    assert "latent dimension of [7, 4] goes from -2 to 2" in saved.alt
    assert (tmp_path / "figures" / "walk.png").exists()
