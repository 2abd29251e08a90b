import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import CHECKOUT

from vae_core.cli.sweep import read_changes
from vae_core.environment import libraries, package_digest
from vae_core.quality import components, pca_features
from vae_core.runs import find_runs
from vae_core.study import sweep as sweeps
from vae_core.study.catalogue import SWEEPS, find_sweep
from vae_core.study.sweep import Images
from vae_core.study.tables import apart, chart, tidy

SMALL = {"data.name": ["digits-sample"], "data.limit": [60], "train.epochs": [1], "train.batch_size": [20]}
START = [sys.executable, "-m", "vae_core", "sweep"]


def published(name: str) -> list[dict]:
    return json.loads((CHECKOUT / "figures" / "data" / f"sweep_{name}.json").read_text())["rows"]


def test_a_sweep_names_its_own_data() -> None:
    assert {name: sweep.data for name, sweep in SWEEPS.items()} == {
        "latent_dimension": "mnist", "cifar_blur": "cifar10", "ladder_mnist": "mnist", "ladder_cifar10": "cifar10",
    }  # fmt: skip
    for name, sweep in SWEEPS.items():
        facts = json.loads((CHECKOUT / "figures" / "data" / f"sweep_{name}.json").read_text())
        assert facts["source"].startswith(f"{sweep.data}:")


def test_points_are_those_of_the_published_rows() -> None:
    """By the stand-ins, so without downloads; limits and epochs are those of the stand-ins' sizes."""
    found = {
        name: sweeps.points(SWEEPS[name], "photos-sample" if "cifar" in name else "digits-sample") for name in SWEEPS
    }
    at = [(point.model.latent_dim, point.training.seed) for point in found["latent_dimension"]]
    assert at == [(row["dim"], row["seed"]) for row in published("latent_dimension")]
    blur = published("cifar_blur")
    at = [(one.model.latent_dim, one.training.seed, one.model.architecture) for one in found["cifar_blur"]]
    assert at == [(row["latents"], row["seed"], row["architecture"]) for row in blur]
    assert [one.data.limit for one in found["cifar_blur"]] == [min(row["images"], 2440) for row in blur]
    assert all(one.data.seed == one.training.seed for one in found["cifar_blur"])
    for name in ("ladder_mnist", "ladder_cifar10"):
        rows = [row for row in published(name) if row["step"] != "mixture for z"]
        at = [(point.labels["step"], point.training.seed) for point in found[name]]
        assert at == [(row["step"], row["seed"]) for row in rows]
    for name, points in found.items():
        assert SWEEPS[name].about.startswith(f"{len(points)} points on {SWEEPS[name].data}:")


def test_values_take_the_place_of_every_points_own_and_what_is_there_twice_goes() -> None:
    dims = {"model.latent_dim": [2, 4, 10]} | SMALL
    found = sweeps.points(SWEEPS["latent_dimension"], changes=dims)
    assert [(one.model.latent_dim, one.training.seed) for one in found] == [
        (d, s) for d in (2, 4, 10) for s in range(3)
    ]
    assert {(one.data, one.training.epochs) for one in found} == {(Images("digits-sample", 60), 1)}
    found = sweeps.points(
        SWEEPS["latent_dimension"], changes=dims | {"train.seed": range(5), "model.hidden": [(9,), (9, 8)]}
    )
    assert len(found) == len({(one.model, one.training) for one in found}) == 3 * 5 * 2
    assert [one.model.hidden for one in found[:2]] == [(9,), (9, 8)]
    assert len(sweeps.points(SWEEPS["ladder_mnist"], changes=SMALL | {"train.seed": [7, 7]})) == 6
    small = sweeps.points(SWEEPS["ladder_mnist"], changes={"data.name": ["digits-sample"], "data.limit": [10]})
    assert {one.training.batch_size for one in small} == {10}  # what depends on the number of images follows


@pytest.mark.parametrize(("name", "changes", "told"), [
    ("nothing", {}, "no sweep 'nothing': expected one of latent_dimension, cifar_blur, ladder_mnist, ladder_cifar10"),
    ("ladder_mnist", {"model.size": [1]}, r"no setting 'model.size': expected one of data.name.*latent_dim.*train"),
    ("ladder_mnist", {"seed": [1]}, "no setting 'seed'"),
    ("ladder_mnist", {"model.latent_dim": []}, "model.latent_dim needs at least one value"),
    *[("ladder_mnist", {"data.name": ["digits-sample"], path: [value]}, told) for path, value, told in (
        ("model.latent_dim", "2", "^model.latent_dim must be a whole number, not '2'"),
        ("model.latent_dim", 0, "latent_dim must be a whole number, 1"),
        ("model.hidden", 50, "model.hidden must be whole numbers such as 256x128, not 50"),
        ("model.hidden", "2xx", "256x128, not '2xx'"),
        ("model.sigma", "own", "sigma must be a number from .* not 'own'"),
        ("train.seed", True, "^train.seed must be a whole number, not True"),
        ("train.seed", 1.5, "^train.seed must be a whole number, not 1.5"),
        ("data.seed", True, "^data.seed must be a whole number, not True"),
        ("train.beta", "high", "^train.beta must be a number, not 'high'"),
        ("train.beta", False, "^train.beta must be a number, not False"),
        ("train.shuffle", 1, "^train.shuffle must be true or false, not 1"),
        ("train.device", None, "^train.device must be a word, not None"),
        ("data.limit", "ten", "limit must be a whole number above 0, not 'ten'"),
        ("data.limit", [1], r"limit must be a whole number above 0, not \[1\]"),
    )],
    ("ladder_mnist", {"data.name": [0]}, "^data.name must be a word, not 0"),
    ("ladder_mnist", {"data.name": ["nowhere"]}, "no data set or folder 'nowhere'"),
])  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(name: str, changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        sweeps.points(find_sweep(name), changes=changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_have_the_keys_of_the_published_ones(name: str) -> None:
    epochs = [60 if name.startswith("ladder") else 1]
    found = sweeps.points(SWEEPS[name], changes=SMALL | {"train.seed": [3], "train.epochs": epochs})
    ends = {"latent_dimension": [0, 3], "cifar_blur": [0, 5]}.get(name, [0, 5])
    done = sorted(sweeps.run(SWEEPS[name], [found[i] for i in ends]), key=lambda one: one.number)
    assert [one.error for one in done] == [None, None]
    assert [(one.done, one.total) for one in done] == [(1, 2), (2, 2)]
    rows = [row for one in done for row in one.rows]
    kinds = {key: type(value) for key, value in published(name)[0].items()}
    for row in rows:
        more = {"frechet_classifier", "frechet_classifier_floor"} if name == "ladder_cifar10" else set()
        assert set(row) == {*kinds, *more}  # a classifier is for grey images
        assert {key: type(row[key]) for key in kinds} == kinds
        assert row["seed"] == 3
    if name.startswith("ladder"):
        assert [row["step"] for row in rows] == ["mean of squares", "warm-up of beta", "mixture for z"]
        assert rows[1]["ssim"] == rows[2]["ssim"]
        assert rows[1]["frechet"] != rows[2]["frechet"]
    elif name == "cifar_blur":
        assert [(row["loss"], row["architecture"]) for row in rows] == [
            ("mean of squares", "mlp"), ("learned sigma", "conv"),
        ]  # fmt: skip


def test_all_of_a_sweep_is_what_is_published_of_it(tmp_path: Path, monkeypatch) -> None:
    few = sweeps.points(SWEEPS["latent_dimension"], changes=SMALL | {"model.latent_dim": [2, 1], "train.seed": [0]})
    monkeypatch.setattr(sweeps, "points", lambda name, data: few)
    told: list[tuple[int, int]] = []
    found = sweeps.facts(SWEEPS["latent_dimension"], "digits-sample", cache=tmp_path, tell=lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]
    assert set(found) == {"source", "package", "versions", "machine", "rows"}
    assert found["source"].startswith("digits-sample:")
    assert [row["dim"] for row in found["rows"]] == [2, 1]
    for row in found["rows"]:
        assert 0 < row["pca_left"] < row["left"]
        assert row["floor"] < row["frechet"]
        assert row["nll_images"] == min(2000, row["test_images"])
    assert json.loads(json.dumps(found)) == found
    assert (found["package"], found["versions"]) == (package_digest(), libraries())
    bad = few[0]._replace(training=few[0].training.__class__(batch_size=61))
    few.insert(1, bad)
    with pytest.raises(RuntimeError, match="1 of 3 points of latent_dimension failed: latent_dim 2: batch_size 61"):
        sweeps.facts(SWEEPS["latent_dimension"], "digits-sample", cache=tmp_path)
    assert len(find_runs(tmp_path)) == 2


def test_words_become_values_of_the_settings_types() -> None:
    given = ("model.latent_dim=2,4", "train.seed=0:3,9", "model.hidden=256x128,50", "model.sigma=0.5,learned,none",
             "data.limit=none,25", "train.shuffle=true,false", "train.beta=1,0.5", "data.name=mnist,7")  # fmt: skip
    assert read_changes(given) == {
        "model.latent_dim": [2, 4], "train.seed": [0, 1, 2, 9], "model.hidden": [(256, 128), (50,)],
        "model.sigma": [0.5, "learned", None], "data.limit": [None, 25], "train.shuffle": [True, False],
        "train.beta": [1, 0.5], "data.name": ["mnist", "7"],
    }  # fmt: skip
    ranges = ("data.name=1:3", "model.hidden=0:3", "train.device=0:2", "train.beta=0:2", "data.limit=8:10")
    assert list(read_changes(ranges).values()) == [["1:3"], ["0:3"], ["0:2"], [0, 1], [8, 9]]
    numbers = ("train.beta=.5,1.,1e-2", "train.epochs=+1,1_0", "data.limit=[1],NaN")
    assert [str(value) for value in read_changes(numbers).values()] == ["[0.5, 1.0, 0.01]", "[1, 10]", "['[1]', nan]"]
    odd = ("train.seed=1.5", "train.beta=0:x", "model.hidden=2xx", "train.sed=1")  # for points to refuse
    assert list(read_changes(odd).values()) == [[1.5], ["0:x"], ["2xx"], [1]]
    with pytest.raises(ValueError, match="needs SETTING=VALUES"):
        read_changes(("train.seed",))
    with pytest.raises(ValueError, match="given twice"):
        read_changes(("train.seed=1", "train.seed=2"))


def test_columns_that_tell_rows_apart_are_found() -> None:
    rows = [{"x": x, "kind": kind, "same": 1, "of x": -x, "seed": s} for x in (1, 2) for kind in "ab" for s in (0, 1)]
    assert apart(rows, "x", ["same", "of x", "kind"]) == ["kind"]
    assert apart(rows, "kind", ["same", "of x", "x"]) == ["of x"]
    assert apart(rows[:2], "x", ["same", "kind"]) == []


def test_a_chart_draws_means_from_least_to_most_and_says_how_many() -> None:
    rows = [{"d": d, "kind": kind, "seed": s, "y": d + s + 10 * (kind == "b")}
            for d in (1, 2, 40) for kind in "ab" for s in (0, 1, 5)]  # fmt: skip
    figure, alt, caption = chart("A title", tidy(rows), "d", ["d", "kind"], {"y": ("Y", "nats")}, "d")
    assert caption == "Means of 3 trainings a point, bars from least to most. Lines: kind."
    assert "Y, a: 3 at 1, 42 at 40" in alt
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    assert [box.get_children()[0].get_ydata().tolist() for box in axes.containers] == [[3, 4, 42], [13, 14, 52]]
    words = [{"step": step, "y": y} for step, y in (("one", 1.0), ("two", math.inf), ("three", 3.0))]
    figure, _, caption = chart("A title", words, "step", ["step"], {"y": ("Y", "nats")}, "step")
    assert caption == "One training a point. What is not finite is not drawn. Step: 1 one, 2 two, 3 three."
    assert figure.axes[0].get_xscale() == "linear"


def test_components_are_those_of_the_features() -> None:
    images = Images("digits-sample", 80).load().images.float() / 255
    assert components(images[:60], 5)(images).equal(pca_features(images, images[:60], 5))


def set_of(changes: dict) -> list[str]:
    return [word for path, values in changes.items() for word in ("--set", f"{path}={','.join(map(str, values))}")]


# of the sweep of notebook 02 this leaves one loss, one network and one set of images
ONE = SMALL | {"data.seed": [0], "model.hidden": [8], "model.architecture": ["mlp"], "model.likelihood": ["gaussian"],
               "model.sigma": [0.5], "model.latent_dim": [2, 3]}  # fmt: skip


def test_the_command_makes_one_table_and_a_chart_and_goes_on_where_it_was(tmp_path: Path) -> None:
    words = [*START, "cifar_blur", *set_of(ONE), "--set", "train.seed=0:2", "-o", str(tmp_path / "out"), "--jobs", "2"]
    environment = os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4 + 3
    assert re.match(r"1 of 4: seed \d latent_dim [23], elbo -?[\d.]+, \d+ s$", lines[0])
    assert [Path(line).name for line in lines[4:]] == ["sweep.parquet", "sweep.csv", "sweep.png"]
    rows = pq.read_table(tmp_path / "out" / "sweep.parquet").to_pylist()
    with (tmp_path / "out" / "sweep.csv").open(newline="") as file:
        assert [{key: str(value) for key, value in row.items()} for row in rows] == list(csv.DictReader(file))
    at = [(row["latents"], row["model.latent_dim"], row["seed"], row["model.hidden"], row["loss"]) for row in rows]
    assert at == [(d, d, s, "8", "gaussian, sigma 0.5") for d in (2, 3) for s in (0, 1)]
    assert (tmp_path / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.stdout.count("reused") == 4
    assert pq.read_table(tmp_path / "out" / "sweep.parquet").to_pylist() == rows


def test_points_that_fail_are_named_and_the_others_are_there(tmp_path: Path) -> None:
    words = [*START, "cifar_blur", *set_of(ONE | {"train.batch_size": [20, 61], "train.seed": [5]})]
    environment = os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")}
    done = subprocess.run([*words, "-o", str(tmp_path)], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "2 of 4 points failed" in done.stderr
    assert re.search(r"  batch_size 61 latent_dim [23]: batch_size 61 is larger than the data", done.stderr)
    rows = pq.read_table(tmp_path / "sweep.parquet").to_pylist()
    assert [(row["train.batch_size"], row["latents"]) for row in rows] == [(20, 2), (20, 3)]


def test_the_command_lists_teaches_and_refuses_before_any_training(tmp_path: Path) -> None:
    told = subprocess.run(START, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in told] == list(SWEEPS)
    shown = subprocess.run([*START, "--help"], capture_output=True, text=True, check=True).stdout
    assert shown.count("vae-core sweep latent_dimension --set") == 2
    (tmp_path / "file").write_text("")
    for words, reason in ((["-o", str(tmp_path / "file")], "cannot be written"), (["--set", "x=1"], "no setting 'x'")):
        given = [*START, "ladder_mnist", *set_of(SMALL), *words]
        refused = subprocess.run(given, capture_output=True, text=True, cwd=tmp_path)
        assert refused.returncode == 2
        assert reason in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_keeps_what_is_done(tmp_path: Path, jobs: int) -> None:
    words = [*START, "latent_dimension", *set_of(SMALL | {"train.epochs": [20000], "data.limit": [59]}), "--jobs"]
    words += [str(jobs), "--set", "train.seed=0:3", "--set", "model.latent_dim=2", "-o", str(tmp_path)]
    environment = os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs"), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(6)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "vae-core: stopped; finished work is kept"
    assert "Traceback" not in errors
    assert time.monotonic() - began < 10
