import base64
import json
import re
from itertools import product

import ipywidgets as widgets
import pytest
import torch
import traitlets

from vae_core import VAE, VAEConfig
from vae_core.data import ImageSet
from vae_core.explorer.page import LARGEST, describe, export_page
from vae_core.explorer.widget import Explorer, explore
from vae_core.latent import encode_means, kl_by_dimension

IMAGES = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELLED = ImageSet(IMAGES, torch.arange(20) % 3 + 5, "tests: noise")


def vae(d: int = 3, **more) -> VAE:
    return VAE(VAEConfig(**{"image_shape": (1, 8, 8), "latent_dim": d, "hidden": (8,)} | more), seed=1)


def test_sliders_are_in_the_order_of_use_with_their_nats_and_linked_in_the_browser() -> None:
    model = vae(4)
    explorer = explore(model, IMAGES)
    used = kl_by_dimension(model, IMAGES)
    assert [slider.description for slider in explorer.sliders] == [f"z[{i}] {used[i]:.2f} nats" for i in range(4)]
    shown = [box for box in all_parts(explorer) if isinstance(box, widgets.FloatSlider)]
    assert shown == [explorer.sliders[i] for i in used.argsort(descending=True)]
    assert [(one.source, one.target) for one in explorer._links] == [
        ((slider, "value"), (explorer.canvas, f"z{i}")) for i, slider in enumerate(explorer.sliders)
    ]


def all_parts(widget) -> list:
    return [widget, *(part for child in getattr(widget, "children", ()) for part in all_parts(child))]


def test_z_can_be_read_set_and_observed() -> None:
    explorer, seen = explore(vae(3)), []
    assert explorer.z == (0, 0, 0)
    explorer.observe(lambda change: seen.append(change.new), "z")
    explorer.z = [0.5, -1, 2]
    assert seen == [(0.5, -1.0, 2.0)]
    assert [slider.value for slider in explorer.sliders] == [0.5, -1, 2]
    explorer.canvas.z1 = 1.26  # what the browser sends
    assert explorer.z == seen[-1] == (0.5, 1.26, 2.0)
    explorer.z = torch.tensor([0.513, 0, -0.249])
    assert explorer.z == (0.52, 0, -0.24)  # the places where a slider can stand
    explorer.z = (7.5, 0, 0)  # further out than the sliders went
    assert (explorer.sliders[0].min, explorer.sliders[0].max, explorer.sliders[0].value) == (-8, 8, 7.5)


def test_an_observer_may_fail_or_move_z_itself() -> None:
    explorer = explore(vae(2))

    def fail(_) -> None:
        raise RuntimeError("an observer of the user's")

    explorer.observe(fail, "z")
    with pytest.raises(RuntimeError, match="user's"):
        explorer.canvas.z0 = 0.5
    explorer.unobserve(fail, "z")
    explorer.z = (1, 1)
    assert (explorer.canvas.z0, explorer.canvas.z1, explorer.sliders[1].value) == (1, 1, 1)
    explorer.observe(lambda change: setattr(explorer, "z", (change.new[0], change.new[0])), "z")
    explorer.canvas.z0 = -2.0  # a projection onto the diagonal
    assert explorer.z == (-2, -2)
    assert (explorer.canvas.z1, explorer.sliders[1].value) == (-2, -2)


@pytest.mark.parametrize("z", [(1, 2), (1, 2, 3, 4), (1, 2, float("nan")), (1, 2, float("inf")), (1, 2, "much"), 3])
def test_a_wrong_z_is_refused_and_changes_nothing(z) -> None:
    explorer = explore(vae(3))
    with pytest.raises(traitlets.TraitError):
        explorer.z = z
    assert explorer.z == (0, 0, 0)


def test_several_models_stand_side_by_side_and_along_share_one_z() -> None:
    both = explore({"two": vae(2), "three": vae(3)}, IMAGES)
    assert len(both.z) == len(both.sliders) == 5
    description = json.loads(both.canvas.description)
    assert [(group["name"], group["latent"]) for group in description["groups"]] == [("two", 2), ("three", 3)]
    along = explore({"0.5": vae(2), "3": vae(2)}, along="kappa")
    [group] = json.loads(along.canvas.description)["groups"]
    assert (group["steps"], group["along"], len(group["decoders"]), len(along.z)) == (["0.5", "3"], "kappa", 2, 2)
    [which] = [part for part in all_parts(along) if isinstance(part, widgets.SelectionSlider)]
    assert [(label, at) for label, at in which.options] == [("0.5", 0), ("3", 1)]
    with pytest.raises(ValueError, match="need the same latent dimension"):
        explore({"a": vae(2), "b": vae(3)}, along="kappa")


def test_images_give_codes_places_and_classes() -> None:
    model = vae(2)
    description, packs, _, _ = describe(model, LABELLED, None)
    codes = codes_of(packs)
    means = encode_means(model, IMAGES)
    assert torch.equal(codes, torch.cat([means, means]))  # to encode, and on the plane
    assert packs["pictures"] == IMAGES.numpy().tobytes()
    assert description["classes"] == ["5", "6", "7"]
    assert description["labels"] == description["groups"][0]["dots"] == [i % 3 for i in range(20)]


def codes_of(packs: dict[str, bytes]) -> torch.Tensor:
    return torch.frombuffer(bytearray(packs["codes"]), dtype=torch.float32).reshape(-1, 2)


def test_along_every_stop_encodes_with_its_own_encoder() -> None:
    models = [VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=seed) for seed in (1, 2)]
    description, packs, _, _ = describe(dict(zip("ab", models, strict=True)), IMAGES, "kappa")
    assert torch.equal(codes_of(packs), torch.cat([encode_means(model, IMAGES) for model in models]))
    assert description["groups"][0]["names"] == ["z[0]", "z[1]"]  # their nats differ from stop to stop


def test_an_image_far_out_widens_the_sliders() -> None:
    model = vae(2)
    with torch.no_grad():
        model.encoder[-1].bias[0] = 6.0
    assert json.loads(explore(model, IMAGES).canvas.description)["groups"][0]["reach"] >= 6


def test_bad_models_and_images_are_refused() -> None:
    for images, message in (
        (torch.zeros(2, 1, 9, 9, dtype=torch.uint8), "the model takes"),
        (torch.zeros(2, 1, 8, 8), "must be uint8"),
        (torch.zeros(8, 8, dtype=torch.uint8), "must be uint8"),
    ):
        with pytest.raises(ValueError, match=message):
            explore(vae(), images)
    for model in ({}, {"a": 3}):
        with pytest.raises(ValueError, match="takes a VAE"):
            describe(model, None, None)
    assert describe(vae(), IMAGES[:0], None).description["groups"][0]["images"] == 0


def test_a_decoder_too_large_for_the_browser_decodes_in_the_kernel_and_says_so(tmp_path) -> None:
    model = vae(2, hidden=(LARGEST[0] // 64 + 1,))
    explorer, sent = explore(model), []
    assert "too large for the browser" in json.loads(explorer.canvas.description)["note"]
    assert explorer.canvas.weights == b""
    explorer.canvas.send = lambda content, buffers=None: sent.append((content, buffers))
    explorer._decode(explorer.canvas, {"view": 7, "group": 0, "chosen": 0, "z": [0.5, -0.5]}, [])
    with torch.no_grad():
        expected = (model.decode(torch.tensor([[0.5, -0.5]])).mean[0] * 255).round().byte()
    assert sent == [({"view": 7, "group": 0}, [expected.numpy().tobytes()])]
    with torch.no_grad():
        model.output_bias[:] = float("nan")
    explorer._decode(explorer.canvas, {"group": 0, "chosen": 0, "z": [0.5, -0.5]}, [])
    assert "not finite" in sent[1][0]["problem"]
    with pytest.raises(ValueError, match="too large for the browser"):
        export_page(model, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "passed"), [
    ({"hidden": (LARGEST[0] // 64 + 1,)}, ("weights", LARGEST[0])),
    ({"image_shape": (3, 256, 256), "architecture": "conv", "hidden": (16, 32, 64)}, ("products an image", LARGEST[1])),
], ids=["weights", "products"])  # fmt: skip
def test_the_limit_that_a_decoder_passes_is_said(tmp_path, changes: dict, passed: tuple) -> None:
    model = vae(2, **changes)
    with pytest.raises(ValueError, match="only a notebook with a kernel can show it") as error:
        export_page(model, tmp_path / "page.html")
    number, what, most = re.search(r"\(([\d,]+) ([\w ]+), at most ([\d,]+)\)", str(error.value)).groups()
    assert (what, int(most.replace(",", ""))) == passed
    products = 2 * 64 * 32**2 + 9 * (64 * 32 * 64**2 + 32 * 16 * 128**2 + 16 * 3 * 256**2)
    assert int(number.replace(",", "")) == products if what != "weights" else int(number.replace(",", "")) > LARGEST[0]


def test_every_decoder_has_layers_that_the_browser_knows() -> None:
    for architecture, activation in product(("mlp", "conv"), ("relu", "tanh", "silu")):
        model = vae(2, architecture=architecture, activation=activation, hidden=(4, 6))
        description, packs, _, _ = describe(model, None, None)
        [decoder] = description["groups"][0]["decoders"]
        assert {layer["kind"] for layer in decoder["layers"]} <= {"linear", "activation", "conv"}
        biases = sum(layer["outputs"] for layer in decoder["layers"] if "outputs" in layer)
        counted = sum(p.numel() for p in model.decoder.parameters() if p.ndim > 1) + biases + model.output_bias.numel()
        assert len(packs["weights"]) == 2 * counted
    model.decoder.append(torch.nn.Dropout())
    with pytest.raises(ValueError, match="the browser knows no Dropout"):
        describe(model, None, None)


def test_the_page_is_alone_says_what_is_inside_and_escapes_names(tmp_path) -> None:
    facts = {"title": "A <b>", "alt": 'an "explorer"', "caption": "c & d", "source": "tests: noise"}
    path = export_page({"</script><i>": vae(2)}, tmp_path / "page.html", LABELLED, **facts)
    text = path.read_text()
    assert "the weights of 1 decoder, rounded to float16, and 20 sample images" in text
    assert "<title>A &lt;b&gt;</title>" in text
    assert "</script><i>" not in text
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in text
    from vae_core.files import figure_facts

    found = figure_facts(path.name, path.read_bytes())
    assert [found[key] for key in ("alt", "caption", "source")] == [facts[key] for key in ("alt", "caption", "source")]
    assert "and no images" in export_page(vae(2), tmp_path / "bare.html").read_text()
    assert path.read_bytes() == export_page({"</script><i>": vae(2)}, path, LABELLED, **facts).read_bytes()


def test_without_a_kernel_the_explorer_is_a_widget() -> None:
    assert isinstance(explore(vae(2)), Explorer)


HEADLESS = """
import torch
from vae_core import VAE, VAEConfig, explore
from vae_core.plots.figures import Section, image_sections, save
model = VAE(VAEConfig(image_shape=(1, 8, 8), latent_dim=2, hidden=(8,)), seed=1)
figure = image_sections("T", [Section("", torch.rand(1, 1, 8, 8))])
still = save(figure, "still", alt="the alt text", caption="c", source="s");
---
explore(model, still=still)
---
explore(model)
---
try:
    explore(model, torch.zeros(2, 1, 9, 9, dtype=torch.uint8), still=still)
except ValueError as error:
    print(error)
"""


def test_a_headless_run_shows_a_picture_and_says_where_the_sliders_are(tmp_path, monkeypatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("VAE_CORE_BUILD", str(tmp_path))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in HEADLESS.split("---")])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    _, (picture, line), [alone], [refused] = (cell.outputs for cell in notebook.cells)
    assert set(picture.data) == {"image/png", "text/plain"}
    assert base64.b64decode(picture.data["image/png"]) == (tmp_path / "figures" / "still.png").read_bytes()
    assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"] == "the alt text"
    assert line.data == alone.data
    assert line.data["text/markdown"] == line.data["text/plain"]
    assert "JupyterLab" in line.data["text/plain"]
    assert "vae-core export" in line.data["text/plain"]
    assert "the model takes" in refused.text
    assert "widgets" not in notebook.metadata
    assert str(tmp_path) not in nbformat.writes(notebook)
