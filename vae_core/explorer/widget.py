"""Latent sliders in a notebook. What they draw is decoded in the browser, by explore.js, with no kernel on the way."""

import json
import math
from typing import Any, NamedTuple
from uuid import uuid4

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from IPython.core.getipython import get_ipython
from IPython.display import display

from vae_core.explorer.page import SOURCE, Described, Images, Models, describe
from vae_core.plots.figures import Saved

STEP = 0.02  # of a slider; explore.js has the same


class Still(NamedTuple):
    """What a headless run shows in place of an :class:`Explorer`: a picture, if there is one, and where sliders are."""

    picture: Saved | None
    text: str = "Sliders are here when this notebook runs in JupyterLab; `vae-core export` writes them as a page."

    def _ipython_display_(self) -> None:
        if self.picture is not None:
            display(self.picture)
        display({"text/markdown": self.text, "text/plain": self.text}, raw=True)


def explore(
    model: Models, images: Images | None = None, *, along: str | None = None, still: Saved | None = None
) -> widgets.Widget | Still:
    """Sliders over the latent space of ``model``, one a dimension, beside the image they decode to.

    Several models, ``{name: model}``, stand side by side; with ``along``, the name of what differs between them, a
    slider goes from one to the next and z stays. ``images``, uint8 ``(N, C, H, W)`` or a set with labels, puts the
    dimensions in the order of their use, labelled with their KL in nats, and can be encoded and walked between. Two
    dimensions get a plane with the images in the colours of their classes.

    The result is an :class:`Explorer`, whose ``z`` can be read, set and observed. A headless run, which has no front
    end that could show sliders, shows the figure ``still`` instead.

    Raises:
        ValueError: on images of another shape than the model's, or models of unlike latents with ``along``.
    """
    described = describe(model, images, along)
    kernel = getattr(get_ipython(), "kernel", None)
    return Explorer(described) if getattr(kernel, "_allow_stdin", True) else Still(still)


class Explorer(widgets.VBox):
    """Real ipywidgets sliders, linked in the browser to a canvas that decodes there."""

    z = traitlets.Any(help="the latent vector, of several models one after the other, in steps of a slider")

    def __init__(self, described: Described) -> None:
        groups = described.description["groups"]
        names = [name for group in groups for name in group["names"]]
        self._models = described.models
        reaches = [group["reach"] for group in groups for _ in group["names"]]
        traits = {f"z{i}": traitlets.Float(0.0).tag(sync=True, echo_update=False) for i in range(len(names))}
        kind = type("Canvas", (_Canvas,), traits)  # one trait a dimension: each links to a slider in the browser
        mark = f"vae-core-{uuid4().hex[:8]}"
        description = json.dumps(described.description | {"id": mark})
        self.canvas = kind(description=description, chosen=groups[0]["first"], **described.packs)
        looks: Any = {"style": {"description_width": "9em"}, "layout": {"width": "100%", "max_width": "24em"}}
        self.sliders = [
            widgets.FloatSlider(min=-reach, max=reach, step=STEP, description=name, **looks)
            for reach, name in zip(reaches, names, strict=True)
        ]
        links: list[Any] = []
        for i, slider in enumerate(self.sliders):
            for name in ("vae-core-z", mark, f"vae-core-z{i}"):
                slider.add_class(name)
            links.append(widgets.jslink((slider, "value"), (self.canvas, f"z{i}")))
        rows: list[widgets.Widget] = [self.canvas]
        if groups[0]["steps"]:
            steps = [(step, i) for i, step in enumerate(groups[0]["steps"])]
            which = widgets.SelectionSlider(options=steps, description=groups[0]["along"], **looks)
            which.index = groups[0]["first"]
            links.append(widgets.jslink((which, "index"), (self.canvas, "chosen")))
            rows.append(which)
        columns, start = [], 0
        for group in groups:
            label = [widgets.Label(group["name"])] if group["name"] else []
            sliders = [self.sliders[start + i] for i in group["order"]]
            columns.append(widgets.VBox(label + sliders, layout={"width": "auto", "flex": "1 1 15em"}))
            start += group["latent"]
        if len(groups) == 1:  # picture and sliders side by side, where there is room
            self.canvas.layout.flex = "1 1 260px"
            rows = [widgets.HBox([rows[0], widgets.VBox([*rows[1:], *columns], layout={"flex": "1 1 18em"})])]
        else:
            rows.append(widgets.HBox(columns))
        rows[-1].layout.flex_flow = "row wrap"
        super().__init__(rows, z=(0.0,) * len(names))
        self._links = links
        for i in range(len(names)):
            self.canvas.observe(self._follow, f"z{i}")
        self.canvas.on_msg(self._decode)

    def _follow(self, _: Any) -> None:
        """The browser moved."""
        self.z = tuple(getattr(self.canvas, f"z{i}") for i in range(len(self.sliders)))

    @traitlets.validate("z")
    def _check(self, proposal: Any) -> tuple[float, ...]:
        try:
            z = tuple(float(value) for value in proposal["value"])
        except (TypeError, ValueError, RuntimeError):
            raise traitlets.TraitError(f"z must be numbers, not {proposal['value']!r}") from None
        if len(z) != len(self.sliders) or not all(map(math.isfinite, z)):
            raise traitlets.TraitError(f"z must be {len(self.sliders)} finite numbers, not {z}")
        return tuple(round(round(value / STEP) * STEP, 6) for value in z)  # as a slider can show

    @traitlets.observe("z")
    def _move(self, change: Any) -> None:
        there = [getattr(self.canvas, f"z{i}") for i in range(len(self.sliders))]
        if np.allclose(there, change["new"], rtol=0, atol=1e-6):
            return  # it comes from there: an answer would be late, and pull at the slider
        with self.canvas.hold_trait_notifications():
            for i, (value, slider) in enumerate(zip(change["new"], self.sliders, strict=True)):
                reach = float(max(slider.max, math.ceil(abs(value))))
                slider.min, slider.max = -reach, reach
                slider.value = value
                setattr(self.canvas, f"z{i}", value)

    def _decode(self, _: object, asked: Any, __: object) -> None:
        """For a decoder too large for the browser: the image of a z, from the kernel."""
        about = {"view": asked.get("view"), "group": asked["group"]}
        try:
            model = self._models[asked["group"]][asked["chosen"]]
            with torch.no_grad():
                image = model.decode(torch.tensor([asked["z"]]).to(model.output_bias)).mean[0].cpu()
            if not image.isfinite().all():
                raise ValueError("some of the model's weights are not finite")
        except Exception as error:  # shown in the widget, where it is missed
            self.canvas.send(about | {"problem": f"The kernel could not decode: {error}."})
            return
        pixels = (image.clip(0, 1) * 255).round().byte().numpy()
        self.canvas.send(about, buffers=[pixels.tobytes()])


class _Canvas(anywidget.AnyWidget):
    _esm = SOURCE
    description = traitlets.Unicode().tag(sync=True)
    weights, codes, pictures = (traitlets.Bytes().tag(sync=True) for _ in range(3))
    chosen = traitlets.Int(0).tag(sync=True)
