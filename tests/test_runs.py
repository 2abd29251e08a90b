import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from vae_core import Run, TrainConfig, VAEConfig, fit
from vae_core.cli.main import main
from vae_core.data import ImageSet
from vae_core.forecast import collapse_forecast
from vae_core.likelihood import SIGMA_RANGE
from vae_core.model import VAE
from vae_core.runs import find_runs, images_digest, key_of, load_run, run_facts, runs_folder, warnings
from vae_core.train import train

IMAGES = torch.randint(0, 256, (50, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MODEL = VAEConfig(image_shape=(1, 6, 6), latent_dim=3, hidden=(8,))


def test_fit_is_the_training_loop_and_says_nothing(capfd) -> None:
    config = TrainConfig(epochs=3, batch_size=10, seed=4, log_every=5)
    run = fit(MODEL, config, IMAGES)
    alone = VAE(MODEL, seed=4)
    records = list(train(alone, IMAGES, config))
    for ours, theirs in zip(run.model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [record.elbo for record in run.records] == [record.elbo for record in records]
    assert capfd.readouterr() == ("", "")


def test_fit_hands_the_data_mean_to_the_decoder() -> None:
    config = VAEConfig(image_shape=(1, 6, 6), hidden=(8,), likelihood="gaussian", sigma=1.0, output_bias="data_mean")
    run = fit(config, TrainConfig(epochs=0), IMAGES)
    torch.testing.assert_close(run.model.output_bias.detach(), IMAGES.float().mean(0) / 255)
    assert run.records == []


CONFIG = TrainConfig(epochs=4, batch_size=10, seed=4, log_every=5)


def same_weights(one: VAE, other: VAE) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == name2 and torch.equal(a, b) for (name, a), (name2, b) in pairs)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run in its folder; a test that changes the folder takes a :func:`copy`."""
    return fit(MODEL, CONFIG, IMAGES, cache=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    """A copy of the run's folder, under the name that :func:`fit` looks for in ``tmp_path``."""
    return Path(shutil.copytree(run.path, tmp_path / run.path.name))


def test_a_kept_run_is_reused_and_loads_the_same(run: Run, monkeypatch, capfd) -> None:
    monkeypatch.setattr("vae_core.runs.train_run", None)  # nothing is trained again
    again = fit(MODEL, CONFIG, IMAGES, cache=run.path.parent)
    for other in (again, load_run(run.path)):
        assert same_weights(other.model, run.model)
        assert other.records == run.records
        assert (other.model_config, other.train_config, other.path) == (MODEL, CONFIG, run.path)
    assert find_runs(run.path.parent) == [run.path]
    assert {path.name for path in run.path.iterdir()} == {"run.json", "weights.safetensors"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("word", "today"), [("none", "none"), ("afresh", "dynamic"), ("once", "static")])
def test_a_run_of_the_format_before_is_read(copy: Path, run: Run, word: str, today: str) -> None:
    facts = json.loads((copy / "run.json").read_text())
    facts["format"] = 2
    facts["model"]["binarisation"] = word
    for record in facts["records"]:
        record["validation_elbo"] = None
    (copy / "run.json").write_text(json.dumps(facts))
    loaded = load_run(copy)
    assert loaded.records == run.records
    assert loaded.model_config == dataclasses.replace(MODEL, binarisation=today)


def run_key(model: VAEConfig, training: TrainConfig, images: torch.Tensor) -> str:
    return key_of(run_facts(model, training, images))


def test_whatever_changes_a_training_is_in_the_key(monkeypatch) -> None:
    key = run_key(MODEL, CONFIG, IMAGES)
    assert key == run_key(MODEL, CONFIG, IMAGES.clone())
    other = IMAGES.clone()
    other[0, 0, 0, 0] += 1
    keys = {
        key,
        run_key(dataclasses.replace(MODEL, latent_dim=4), CONFIG, IMAGES),
        run_key(MODEL, dataclasses.replace(CONFIG, seed=5), IMAGES),
        run_key(MODEL, CONFIG, other),
        run_key(MODEL, CONFIG, IMAGES.reshape(50, 1, 4, 9)),
    }
    monkeypatch.setattr("torch.get_num_threads", lambda: 77)
    keys.add(run_key(MODEL, CONFIG, IMAGES))
    monkeypatch.undo()
    monkeypatch.setattr("vae_core.runs.code_digest", lambda path: "changed")
    keys.add(run_key(MODEL, CONFIG, IMAGES))
    assert len(keys) == 7


TRAINS_WHEN_ASKED = """
import sys
import torch
torch.set_num_threads(1)  # as here: it is in the key
from test_runs import CONFIG, IMAGES, MODEL, fit
from vae_core import runs
train = runs.train_run
def wait_and_train(*settings):
    print("has begun", flush=True)
    sys.stdin.readline()
    return train(*settings)
runs.train_run = wait_and_train
fit(MODEL, CONFIG, IMAGES, cache=sys.argv[1])
"""


class Watched(io.StringIO):
    """A stream that does something a moment after it was written to."""

    def __init__(self, action: Callable) -> None:
        super().__init__()
        self.action = action

    def write(self, text: str) -> int:
        if text.strip():  # print writes the end of the line apart
            threading.Timer(0.2, self.action).start()
        return super().write(text.strip())


def test_two_processes_train_a_run_once_and_the_one_that_waits_says_so(run: Run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("vae_core.runs.train_run", None)  # nothing is trained here
    start = [sys.executable, "-c", TRAINS_WHEN_ASKED, str(tmp_path)]
    pipes = {"cwd": Path(__file__).parent, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(start, **pipes) as other:
        assert other.stdout.readline() == "has begun\n"
        stopped = Watched(lambda: os.kill(os.getpid(), signal.SIGINT))
        monkeypatch.setattr(sys, "stderr", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(MODEL, CONFIG, IMAGES, cache=tmp_path)
        assert other.poll() is None
        monkeypatch.setattr(sys, "stderr", Watched(lambda: other.stdin.close()))
        waited = fit(MODEL, CONFIG, IMAGES, cache=tmp_path)
    assert same_weights(waited.model, run.model)
    line = f"another process trains {tmp_path / run.path.name}: waiting for it, Ctrl-C ends the wait"
    assert stopped.getvalue() == line


def test_all_code_that_a_training_passes_through_is_in_its_key(tmp_path: Path) -> None:
    """But for what names and writes files, and what hands jobs out."""
    ran: set[str] = set()

    def modules(call: Callable) -> set[str]:
        ran.clear()
        sys.setprofile(lambda frame, *_: ran.add(frame.f_globals.get("__name__", "")))
        try:
            call()
        finally:
            sys.setprofile(None)
        return {name.removeprefix("vae_core.") for name in ran if name.startswith("vae_core.")}

    biased = dataclasses.replace(MODEL, output_bias="data_mean")
    passed = modules(lambda: fit(biased, CONFIG, IMAGES, cache=tmp_path))
    assert {"runs", "train", "model"} <= passed
    code = {name.removeprefix("code of ") for name in run_facts(biased, CONFIG, IMAGES)}
    assert passed <= {*code, "environment"}


def damage(path: Path, how: str) -> None:
    weights, facts = path / "weights.safetensors", path / "run.json"
    if how == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "weights changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x99")
    elif how == "weights missing":
        weights.unlink()
    elif how == "facts cut short":
        facts.write_text(facts.read_text()[:100])
    elif how == "another format":
        facts.write_text(facts.read_text().replace('"format": 3', '"format": 99'))
    elif how == "unknown setting":
        facts.write_text(facts.read_text().replace('"latent_dim"', '"latent_size"'))
    elif how == "a setting out of range":
        facts.write_text(facts.read_text().replace('"latent_dim": 3', '"latent_dim": 0'))
    elif how == "a forecast in words":
        facts.write_text(facts.read_text().replace('"nan"', '"unknown"'))
    elif how == "another shape":
        facts.write_text(facts.read_text().replace('"latent_dim": 3', '"latent_dim": 5'))


@pytest.mark.parametrize("how", [
    "weights cut short", "weights changed", "weights missing", "facts cut short", "another format", "unknown setting",
    "another shape", "a setting out of range", "a forecast in words",
])  # fmt: skip
def test_a_damaged_run_is_named_and_left_alone(copy: Path, how: str) -> None:
    path = copy
    damage(path, how)
    left = {file.name: file.read_bytes() for file in path.iterdir()}
    for load in (lambda: load_run(path), lambda: fit(MODEL, CONFIG, IMAGES, cache=path.parent)):
        with pytest.raises(ValueError, match=r"train again|restore") as error:
            load()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == left


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run"):
        load_run(tmp_path)


def test_an_interrupted_run_is_trained_again(copy: Path) -> None:
    (copy / "run.json").unlink()  # killed between the two files
    assert find_runs(copy.parent) == []
    assert load_run(fit(MODEL, CONFIG, IMAGES, cache=copy.parent).path).records


def test_a_pickle_is_never_loaded(copy: Path) -> None:
    torch.save({"output_bias": torch.zeros(1)}, copy / "weights.safetensors")
    content = (copy / "weights.safetensors").read_bytes()
    facts = json.loads((copy / "run.json").read_text()) | {"weights_sha256": hashlib.sha256(content).hexdigest()}
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="damaged"):
        load_run(copy)


def test_a_run_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fit(MODEL, CONFIG, IMAGES, cache=tmp_path / "file")


def test_runs_are_listed(run: Run, tmp_path: Path) -> None:
    line = CliRunner().invoke(main, ["runs", str(run.path.parent)]).stdout
    assert re.search(r"mlp latent_dim 3 bernoulli beta 1 seed 4: elbo -?[\d.]+ nats after 20 steps", line)
    done = CliRunner().invoke(main, ["runs", str(tmp_path / "none")])
    assert (done.exit_code, "is no folder" in done.stderr) == (2, True)


def test_a_bad_run_is_marked_in_the_list_and_the_others_are_told(tmp_path: Path) -> None:
    paths = [fit(MODEL, dataclasses.replace(CONFIG, seed=seed), IMAGES, cache=tmp_path).path for seed in range(4)]
    for path, how in zip(paths, ("weights cut short", "another format", "a setting out of range"), strict=False):
        damage(path, how)
    there = paths[3] / "run.json"
    there.write_text(there.read_text().replace('"device": "auto"', '"device": "cuda:77"'))  # no machine has it
    for code in (0, 2):
        done = CliRunner().invoke(main, ["runs", str(tmp_path)])
        told = dict(line.split("  ", 1) for line in done.stdout.splitlines())
        assert set(told) == {path.name for path in paths}
        marked = {path.name for path in paths if told[path.name].startswith(f"CANNOT BE READ: {path}")}
        assert marked == {path.name for path in paths if code or path != paths[3]}
        assert done.exit_code == code
        damage(paths[3], "facts cut short")
    assert done.stderr == f"vae-core: no run in {tmp_path} can be read\n"


def test_the_folder_of_runs_is_absolute(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    for given, expected in ((None, tmp_path / "build" / "runs"), ("my", tmp_path / "my"), ("/of/all", Path("/of/all")),
                            ("~/runs", Path("/home/someone/runs"))):  # fmt: skip
        monkeypatch.setenv("VAE_CORE_RUNS", given or "")
        assert runs_folder() == expected


def test_certain_collapse_is_said_with_the_remedy_and_the_remedy_helps(capsys) -> None:
    naive = VAEConfig(image_shape=(1, 6, 6), latent_dim=1, hidden=(32,), likelihood="gaussian", sigma=18**0.5)
    pair = IMAGES[:2]
    fit(naive, TrainConfig(epochs=1), pair)
    told = capsys.readouterr().err
    assert told.startswith("warning: collapse is certain")
    assert told.count("warning") == 1  # that it then happened is no news
    assert "every generated image will be the average" in told
    sigma = float(re.search(r"sigma below ([\d.e-]+)", told)[1])
    beta = float(re.search(r"beta below ([\d.e-]+)", told)[1])

    def foretold(config: VAEConfig, beta: float = 1.0, images: torch.Tensor = pair) -> list[str]:
        return warnings(fit(config, TrainConfig(epochs=0, beta=beta), images))

    assert foretold(dataclasses.replace(naive, sigma=sigma * 0.99)) == []
    assert foretold(dataclasses.replace(naive, sigma=sigma * 1.01)) != []
    assert foretold(naive, beta * 0.99) == []
    assert foretold(naive, beta * 1.01) != []
    escaped = fit(dataclasses.replace(naive, sigma=sigma / 4), TrainConfig(epochs=400, learning_rate=2e-2), pair)
    assert escaped.records[-1].kl > 0.5
    assert foretold(VAEConfig(image_shape=(1, 6, 6))) == []  # Bernoulli: no such proof
    same = foretold(naive, images=IMAGES[:1].repeat(3, 1, 1, 1))
    assert same[0].endswith("the images are all the same")


GAUSSIAN = {"image_shape": (1, 6, 6), "latent_dim": 2, "hidden": (16,), "likelihood": "gaussian"}


def warned(capsys) -> list[str]:
    """The warnings, without the progress bar that a slow machine shows beside them."""
    return re.findall(r"warning: ([^\r\n]*)", capsys.readouterr().err)


def test_a_run_says_on_which_images_it_was_trained(tmp_path: Path) -> None:
    named = ImageSet(IMAGES, torch.zeros(50, dtype=torch.int64), "holiday: image folder (png)")
    run = fit(MODEL, CONFIG, named, cache=tmp_path)
    assert run.data == ("holiday: image folder (png)", 50, images_digest(IMAGES))
    assert load_run(run.path).data == run.data
    assert fit(MODEL, CONFIG, IMAGES).data == (None, 50, images_digest(IMAGES))
    assert fit(MODEL, CONFIG, IMAGES, cache=tmp_path).path == run.path  # the same pixels by any name
    other = IMAGES.clone()
    other[0, 0, 0, 0] += 1
    assert (
        len(
            {
                images_digest(IMAGES),
                images_digest(other),
                images_digest(IMAGES.reshape(50, 1, 4, 9)),
                images_digest(IMAGES.clone()),
            }
        )
        == 3
    )


@pytest.mark.parametrize(("model", "beta", "answer"), [
    (VAEConfig(**GAUSSIAN, sigma=18**0.5), 1.0, "certain"), (VAEConfig(**GAUSSIAN, sigma=0.1), 1.0, "escapes"),
    (VAEConfig(**GAUSSIAN, sigma=1.0), 0.5, "undecided"), (VAEConfig(**GAUSSIAN, sigma=0.1), 0.0, None),
    (VAEConfig(**GAUSSIAN, sigma="learned"), 1.0, "escapes"),
], ids=str)  # fmt: skip
def test_a_kept_run_holds_what_its_numbers_mean(tmp_path: Path, model: VAEConfig, beta: float, answer: str) -> None:
    config = dataclasses.replace(CONFIG, beta=beta)
    run = fit(model, config, IMAGES, cache=tmp_path)
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["measure"] == "density"
    assert facts["warnings"] == warnings(run)
    assert facts["data"] == {"source": None, "images": 50, "sha256": images_digest(IMAGES)}
    loaded = load_run(run.path)
    assert str(loaded.forecast) == str(run.forecast)  # with nan, which equals nothing
    assert loaded.data == run.data
    assert warnings(loaded) == warnings(run)
    if answer is None:
        assert run.forecast is facts["forecast"] is None
    else:
        assert run.forecast.answer == facts["forecast"][0] == answer
        assert str(run.forecast) == str(collapse_forecast(IMAGES, model, beta))


@pytest.mark.parametrize(("model", "remedy"), [
    (MODEL, "beta_warmup"), (VAEConfig(**GAUSSIAN, sigma="learned"), "beta_warmup"),
    (VAEConfig(**GAUSSIAN, sigma=0.8), "a smaller sigma"),
], ids=["bernoulli", "learned", "fixed"])  # fmt: skip
def test_a_collapsed_model_is_told_with_a_remedy_once_trained(
    tmp_path: Path, capsys, model: VAEConfig, remedy: str
) -> None:
    beta = 1.0 if model.sigma == 0.8 else 300.0
    run = fit(model, TrainConfig(epochs=300, learning_rate=1e-2, beta=beta), IMAGES, cache=tmp_path)
    assert run.forecast.answer != "certain"
    assert run.records[-1].kl < 0.01
    (told,) = warned(capsys)
    assert re.match(rf"the model has collapsed \(KL [\d.e-]+ nats\).* try {remedy}, a smaller beta", told)
    assert json.loads((run.path / "run.json").read_text())["warnings"] == [told]


def test_a_live_model_and_one_image_get_no_warning(capsys) -> None:
    config = TrainConfig(epochs=60, learning_rate=1e-2)
    live = fit(VAEConfig(**GAUSSIAN, sigma=0.1), config, IMAGES)
    assert live.records[-1].kl > 0.5
    alone = fit(VAEConfig(image_shape=(1, 6, 6), hidden=(16,)), TrainConfig(epochs=300, beta=10.0), IMAGES[:1])
    assert alone.records[-1].kl < 0.01  # there is nothing to tell apart
    assert warnings(live) == warnings(alone) == []
    assert warned(capsys) == []


def test_a_model_that_tells_images_apart_at_all_has_not_collapsed() -> None:
    live = fit(VAEConfig(**GAUSSIAN, sigma=0.1), CONFIG, IMAGES)
    for kl, collapsed in ((0.0, True), (0.009, True), (0.011, False), (3.0, False)):
        found = warnings(live._replace(records=[live.records[-1]._replace(kl=kl)]))
        assert ["has collapsed" in line for line in found] == [True] * collapsed


def test_a_learned_sigma_at_the_end_of_its_range_is_told(tmp_path: Path, capsys) -> None:
    black = torch.zeros(20, 1, 6, 6, dtype=torch.uint8)
    config = VAEConfig(**GAUSSIAN, sigma="learned", output_bias="data_mean")
    run = fit(config, TrainConfig(epochs=400, learning_rate=0.05), black, cache=tmp_path)
    assert run.records[-1].sigma == pytest.approx(SIGMA_RANGE[0], rel=1e-5)
    beforehand, after = warned(capsys)
    assert beforehand.endswith("the images are all the same")
    assert after.startswith("the learned sigma is held at 0.001, the end of its range")
    assert after.endswith("give sigma a number to choose it")
    assert json.loads((run.path / "run.json").read_text())["warnings"] == [beforehand, after]


@pytest.mark.parametrize(("log_sigma", "held"), [
    (-100.0, True), (-20.0, True), (-7.0, True), (-6.8, False), (0.0, False), (2.2, False), (2.4, True), (50.0, True),
])  # fmt: skip
def test_both_ends_are_told_however_far_beyond(log_sigma: float, held: bool) -> None:
    run = fit(VAEConfig(**GAUSSIAN, sigma="learned"), dataclasses.replace(CONFIG, epochs=1), IMAGES)
    with torch.no_grad():
        run.model.log_sigma.fill_(log_sigma)
    last = run.records[-1]._replace(sigma=run.model.sigma.item(), kl=1.0)
    assert [("end of its range" in line) for line in warnings(run._replace(records=[last]))] == [True] * held
