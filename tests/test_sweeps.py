"""Sweeps: their points, their measurements, their tables and charts, and the command."""

import csv
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from conftest import CHECKOUT

from vae_core.cli.main import main
from vae_core.cli.sweep import read_changes
from vae_core.environment import libraries, package_digest
from vae_core.runs import find_runs
from vae_core.study import sweep as sweeps
from vae_core.study.catalogue import SWEEPS
from vae_core.study.sharper_images import EX_POST
from vae_core.study.sweep import Images, Outcome, Point, chart, table, telling

SMALL = {"data.name": ["digits-sample"], "data.limit": [60], "train.epochs": [1], "train.batch_size": [20]}


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
        rows = [row for row in published(name) if row["step"] not in ("mixture for z", EX_POST)]
        at = [(point.labels["step"], point.training.seed) for point in found[name]]
        assert at == [(row["step"], row["seed"]) for row in rows]
    for name, points in found.items():
        assert SWEEPS[name].description.startswith(f"{len(points)} points on {SWEEPS[name].data}:")


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
    assert {one.model.hidden for one in found} == {(9,), (9, 8)}
    assert len(sweeps.points(SWEEPS["ladder_mnist"], changes=SMALL | {"train.seed": [7, 7]})) == 6
    small = sweeps.points(SWEEPS["ladder_mnist"], changes={"data.name": ["digits-sample"], "data.limit": [10]})
    assert {one.training.batch_size for one in small} == {10}  # what depends on the number of images follows


@pytest.mark.parametrize(("name", "changes", "told"), [
    ("ladder_mnist", {"model.size": [1]}, r"no setting 'model.size': expected one of data.name.*latent_dim.*train"),
    ("ladder_mnist", {"seed": [1]}, "no setting 'seed'"),
    ("ladder_mnist", {"model.latent_dim": []}, "model.latent_dim needs at least one value"),
    *[("ladder_mnist", {"data.name": ["digits-sample"], path: [value]}, told) for path, value, told in (
        ("model.latent_dim", "2", "^latent_dim must be a whole number, 1 or more, not '2'"),
        ("model.latent_dim", 0, "latent_dim must be a whole number, 1"),
        ("model.hidden", 50, "hidden must be a list of whole numbers, not 50"),
        ("model.hidden", "2xx", "hidden must be a list of whole numbers, not '2xx'"),
        ("model.sigma", "own", "sigma must be a number from .* not 'own'"),
        ("train.seed", True, "seed must be a whole number, 0 or more, not True"),
        ("train.seed", 1.5, "seed must be a whole number, 0 or more, not 1.5"),
        ("train.beta", "high", "beta must be a number, 0 or more, not 'high'"),
        ("train.beta", False, "beta must be a number, 0 or more, not False"),
        ("train.shuffle", 1, "shuffle must be True or False, not 1"),
        ("data.limit", "ten", "limit must be a whole number above 0, not 'ten'"),
        ("data.limit", [1], r"limit must be a whole number above 0, not \[1\]"),
    )],
    ("ladder_mnist", {"data.name": ["nowhere"]}, "no data set or folder 'nowhere'"),
])  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(name: str, changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        sweeps.points(SWEEPS[name], changes=changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_have_the_keys_of_the_published_ones(name: str) -> None:
    found = sweeps.points(SWEEPS[name], changes=SMALL | {"train.seed": [3], "train.epochs": [9]})
    ends = {"latent_dimension": [3], "ladder_cifar10": [5]}.get(name, [0, 5])
    done = sorted(sweeps.run(SWEEPS[name], [found[i] for i in ends]), key=lambda one: one.number)
    assert {one.error for one in done} == {None}
    rows = [row for one in done for row in one.rows]
    kinds = {key: type(value) for key, value in published(name)[0].items()}
    for row in rows:
        more = {"frechet_classifier", "frechet_classifier_floor"} if name == "ladder_cifar10" else set()
        assert set(row) == {*kinds, *more}  # a classifier is for grey images
        assert {key: type(row[key]) for key in kinds} == kinds
        assert row["seed"] == 3
    if name.startswith("ladder"):
        *steps, extra = (row["step"] for row in rows)
        assert steps == ["mean of squares", "warm-up of beta"][-len(done) :]
        assert extra not in steps
        assert rows[-2]["ssim"] == rows[-1]["ssim"]
        assert rows[-2]["frechet"] != rows[-1]["frechet"]
        assert [one.label for one in done] in ([f"step {step}" for step in steps], [name])
    elif name == "cifar_blur":
        assert [(row["loss"], row["architecture"]) for row in rows] == [
            ("mean of squares", "mlp"), ("learned sigma", "conv"),
        ]  # fmt: skip
    else:
        for row in rows:
            assert 0 < row["pca_left"] < row["left"]
            assert row["floor"] < row["frechet"]
            assert row["nll_images"] == min(2000, row["test_images"])


def latents_of(point: Point, run) -> list[dict]:
    """A measurement that takes no time."""
    return [{"d": point.model.latent_dim, "elbo": run.records[-1].elbo}]


def test_all_of_a_sweep_is_what_is_published_of_it(tmp_path: Path) -> None:
    changes = SMALL | {"model.latent_dim": [2, 1], "train.seed": [0]}
    few = sweeps.points(SWEEPS["latent_dimension"], changes=changes)
    sweep = SWEEPS["latent_dimension"]._replace(points=lambda name, images: few, measure=latents_of)
    events: list[tuple[int, int]] = []
    found = sweeps.facts(sweep, "digits-sample", cache=tmp_path, on_event=lambda *at: events.append(at))
    assert events == [(1, 2), (2, 2)]
    assert set(found) == {"source", "package", "versions", "machine", "rows"}
    assert found["source"].startswith("digits-sample:")
    assert [row["d"] for row in found["rows"]] == [2, 1]
    assert json.loads(json.dumps(found)) == found
    assert (found["package"], found["versions"]) == (package_digest(), libraries())
    few.insert(1, few[0]._replace(training=few[0].training.__class__(batch_size=61)))
    with pytest.raises(
        RuntimeError, match=r"1 of 3 points of latent_dimension failed: latent_dim 2 .*: batch_size 61 is"
    ):
        sweeps.facts(sweep, "digits-sample", cache=tmp_path, on_event=lambda *_: None)
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
    assert read_changes(("train.seed=1", "train.seed=2")) == {"train.seed": [1, 2]}


def test_columns_that_tell_rows_apart_are_found() -> None:
    rows = [{"x": x, "kind": kind, "same": 1, "of x": -x, "seed": s} for x in (1, 2) for kind in "ab" for s in (0, 1)]
    frame = pd.DataFrame(rows)
    assert telling(frame, ["same", "of x", "kind"], ["x"]) == ["kind"]
    assert telling(frame, ["same", "of x", "x"], ["kind"]) == ["of x"]
    assert telling(frame[:2], ["same", "kind"], ["x"]) == []
    assert telling(frame, ["same", "x", "of x", "kind", "seed"]) == ["x", "kind", "seed"]


def test_a_table_has_one_type_a_column_and_a_column_for_each_setting() -> None:
    def outcome(rows: list[dict], **changes) -> Outcome:
        [point] = sweeps.points(SWEEPS["ladder_mnist"], changes=SMALL | {"train.seed": [0]} | changes)[:1]
        return Outcome(0, point, "", rows, None, None, False, "")

    first = outcome([{"n": 1, "word": "a", "mixed": 0.5, "real": 1}], **{"model.hidden": [(8, 4)]})
    second = outcome([{"n": None, "word": None, "mixed": "own", "real": 0.5, "yes": True}], **{"model.hidden": [(9,)]})
    frame = table([first, second], ["model.hidden", "train.seed"])
    assert frame["model.hidden"].tolist() == ["8x4", "9"]
    assert frame["train.seed"].tolist() == [0, 0]
    assert frame["mixed"].tolist() == ["0.5", "own"]
    assert str(frame["n"].dtype) == "Int64"
    assert str(frame["real"].dtype) == "float64"
    assert frame.to_csv(index=False).splitlines()[1:] == ["1,a,0.5,1.0,8x4,0,", ",,own,0.5,9,0,True"]
    packed = io.BytesIO()
    frame.to_parquet(packed)
    assert pq.read_table(packed).to_pylist()[1]["n"] is None


def drawn(frame: pd.DataFrame, across: str, apart: tuple, changed: tuple = ()) -> tuple:
    sweep = SWEEPS["ladder_mnist"]._replace(across=across, apart=apart, numbers={"y": ("Y", "nats")})
    return chart(sweep, frame, "A title", changed)


def test_a_chart_draws_means_from_least_to_most_and_says_how_many() -> None:
    rows = [{"d": d, "kind": kind, "seed": s, "y": d + s + 10 * (kind == "b")}
            for d in (1, 2, 40) for kind in "ab" for s in (0, 1, 5)]  # fmt: skip
    figure, alt, caption = drawn(pd.DataFrame(rows), "d", ("d", "kind"))
    assert caption == "Means of 3 trainings a point, bars from least to most. Lines: kind."
    assert "Y, a: 3 at 1, 42 at 40" in alt
    [axes] = figure.axes
    assert axes.get_xscale() == "log"
    assert [box.get_children()[0].get_ydata().tolist() for box in axes.containers] == [[3, 4, 42], [13, 14, 52]]
    assert [sorted(bar.get_segments()[0][:, 1]) for bar in axes.collections] == [[1, 6], [11, 16]]
    words = pd.DataFrame([{"step": step, "y": y} for step, y in (("one", 1.0), ("two", math.inf), ("three", 3.0))])
    figure, _, caption = drawn(words, "step", ("step",))
    assert caption == "One training a point. What is not finite is not drawn. Step: 1 one, 2 two, 3 three."
    assert figure.axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match="there is no chart: nothing of y is finite"):
        drawn(words[1:2], "step", ("step",))


def test_a_chart_goes_over_the_setting_that_was_varied_and_not_over_seeds() -> None:
    rows = [{"step": "one", "y": beta + s + len(hidden), "train.seed": s, "model.hidden": hidden, "train.beta": beta}
            for beta in (0.5, 1.0) for s in (0, 1) for hidden in ("8", "8x4")]  # fmt: skip
    figure, alt, caption = drawn(pd.DataFrame(rows), "step", ("step",), ("train.seed", "model.hidden", "train.beta"))
    assert figure.axes[0].get_xlabel() == "beta"
    assert caption == "Means of 2 trainings a point, bars from least to most. Lines: model.hidden."
    assert alt.startswith("Line charts over beta. Y, 8: 2 at 0.5, 2.5 at 1; Y, 8x4: 4 at 0.5")
    many = pd.DataFrame([{"step": step, "kind": f"k{i}", "y": i} for i in range(12) for step in "ab"])
    figure, _, caption = drawn(many, "step", ("kind",))
    assert len(figure.axes[0].containers) == 10
    assert caption.endswith("The first 10 of 12 lines; the table holds all.")


def set_of(changes: dict) -> list[str]:
    return [word for path, values in changes.items() for word in ("--set", f"{path}={','.join(map(str, values))}")]


# of the sweep of notebook 02 this leaves one loss, one network and one set of images
ONE = SMALL | {"data.seed": [0], "model.hidden": [8], "model.architecture": ["mlp"], "model.likelihood": ["gaussian"],
               "model.sigma": [0.5], "model.latent_dim": [2, 3]}  # fmt: skip


def command(runs: Path, *words: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, ["sweep", *words], env={"VAE_CORE_RUNS": str(runs)})


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, list[str], Result]:
    """A sweep through the command, half of whose points fail: its folder, the command and how it ended."""
    folder = tmp_path_factory.mktemp("swept")
    words = ["cifar_blur", *set_of(ONE | {"train.batch_size": [20, 61], "train.seed": [5]}), "-o", str(folder)]
    return folder, words, command(folder / "runs", *words, "--jobs", "1")


def test_the_command_makes_one_table_and_a_chart(swept) -> None:
    folder, _, done = swept
    *lines, parquet, text, picture = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{i} of 4" for i in range(1, 5)]
    ended = re.compile(r"\d of 4: latent_dim [23] batch_size 20, elbo -?[\d.]+, \d+ s$")
    assert sum(bool(ended.match(line)) for line in lines) == 2
    assert [Path(line).name for line in (parquet, text, picture)] == ["sweep.parquet", "sweep.csv", "sweep.png"]
    rows = pq.read_table(folder / "sweep.parquet").to_pylist()
    with (folder / "sweep.csv").open(newline="") as file:
        assert [{key: str(value) for key, value in row.items()} for row in rows] == list(csv.DictReader(file))
    at = [(row["latents"], row["model.latent_dim"], row["seed"], row["model.hidden"], row["loss"]) for row in rows]
    assert at == [(d, d, s, "8", "gaussian, sigma 0.5") for d in (2, 3) for s in (5,)]
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_points_that_fail_are_named_and_the_others_are_there(swept) -> None:
    folder, _, done = swept
    assert done.exit_code == 1
    first, *named = done.stderr.splitlines()
    assert first == "vae-core: 2 of 4 points failed:"
    for line in named:
        assert re.match(r"  latent_dim [23] batch_size 61: batch_size 61 is larger than the data", line)
    assert len(named) == 2
    assert {row["train.batch_size"] for row in pq.read_table(folder / "sweep.parquet").to_pylist()} == {20}


def test_a_sweep_goes_on_where_it_was(swept) -> None:
    folder, words, _ = swept
    before = (folder / "sweep.csv").read_bytes()
    again = command(folder / "runs", *words, "--jobs", "1")
    assert again.stdout.count("reused") == 2
    assert (folder / "sweep.csv").read_bytes() == before


def test_the_command_lists_teaches_and_refuses_before_any_training(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [line.split()[0] for line in command(tmp_path).stdout.splitlines()] == list(SWEEPS)
    assert command(tmp_path, "--help").stdout.count("vae-core sweep latent_dimension --set") == 2
    (tmp_path / "file").write_text("")
    for words, reason in (
        (["ladder_mnist", *set_of(SMALL), "-o", str(tmp_path / "file")], "cannot be written"),
        (["ladder_mnist", *set_of(SMALL), "--set", "x=1"], "no setting 'x'"),
        (["nothing"], "no sweep 'nothing': expected one of latent_dimension, cifar_blur, ladder_mnist, ladder_cifar10"),
    ):
        refused = command(tmp_path, *words)
        assert refused.exit_code == 2
        assert reason in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "build").exists()


LONG = set_of(SMALL | {"train.epochs": [20000], "data.limit": [59], "train.seed": [0, 1], "model.latent_dim": [2]})


def test_an_interrupt_keeps_what_is_done(tmp_path: Path) -> None:
    words = ["latent_dimension", *LONG, "--jobs", "2", "-o", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vae_core", "sweep", *words], env=os.environ | {"VAE_CORE_RUNS": str(tmp_path / "runs")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(0.2)
        children = psutil.Process(process.pid).children(recursive=True)
        if sum(sum(child.cpu_times()[:2]) > 0.5 for child in children) >= 2:  # at work
            break
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "vae-core: stopped; finished work is kept"
    assert "Traceback" not in errors


def test_an_interrupt_reaches_a_training_in_this_process(tmp_path: Path) -> None:
    timer = threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    done = command(tmp_path / "runs", "latent_dimension", *LONG, "--jobs", "1", "-o", str(tmp_path))
    timer.join()
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "vae-core: stopped; finished work is kept"
