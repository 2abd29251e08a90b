"""The latent explorer as numbers for a browser, and as a page without a server. explore.js draws both."""

import base64
import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae_core.data import ImageSet
from vae_core.files import write_bytes
from vae_core.latent import encode_means, kl_by_dimension
from vae_core.model import ACTIVATIONS, VAE
from vae_core.plots.figures import COLOURS

SOURCE = Path(__file__).with_name("explore.js").read_text(encoding="utf-8")
PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
REACH = 3.0  # sliders run from -REACH to REACH prior deviations, and further when an encoded image does
SHOWN = 32  # images that can be encoded
DOTS = 2000  # encoded images on the plane of two dimensions
LARGEST = 4_000_000, 60_000_000  # weights, and products an image: what decodes in a browser while a slider moves

Models = VAE | Mapping[str, VAE]
Images = Tensor | ImageSet


def export_page(
    model: Models, path: str | Path, images: Images | None = None, *, along: str | None = None, **facts: str
) -> Path:
    """Write the explorer of :func:`vae_core.explore` as one HTML file that needs no network and no server.

    The file holds the decoders' weights, rounded to float16, and up to 32 of the ``images``. It says so. ``facts`` are
    ``title``, ``alt``, ``caption`` and ``source``, kept in the file like those of a figure.

    Raises:
        ValueError: on images that do not fit the models, and for a decoder too large for a browser.
        OSError: when the file cannot be written.
    """
    described = describe(model, images, along)
    if described.too_large:
        raise ValueError(described.too_large.replace("the kernel decodes", "only a notebook with a kernel can show it"))
    path = Path(path)
    write_bytes(path, page(described, **facts).encode())
    return path


class Described(NamedTuple):
    """What a browser needs to draw: a description for JSON, and packs of numbers in the order that it implies."""

    description: dict[str, Any]
    packs: dict[str, bytes]
    models: list[list[VAE]]  # of each group
    too_large: str  # why a kernel must decode; empty where the browser can


def describe(model: Models, images: Images | None, along: str | None) -> Described:
    """Put models and images into numbers for a browser; see :func:`vae_core.explore`."""
    named = {"": model} if isinstance(model, VAE) else dict(model)
    if not named or not all(isinstance(each, VAE) for each in named.values()):
        raise ValueError("explore takes a VAE, or a mapping from names to VAEs")
    pictures, labels = (images.images, images.labels) if isinstance(images, ImageSet) else (images, None)
    if pictures is not None:
        dtype, shape = pictures.dtype, tuple(pictures.shape)
        if dtype != torch.uint8 or {shape[1:]} != {each.config.image_shape for each in named.values()}:
            raise ValueError(
                f"images must be uint8 (N, C, H, W), of the shape that the model takes, not {dtype} {shape}"
            )
        pictures = pictures if len(pictures) else None
    if along is not None and len({(each.config.latent_dim, each.config.image_shape) for each in named.values()}) > 1:
        raise ValueError(f"to go along {along}, all models need the same latent dimension and image shape")
    classes, places = np.unique([] if labels is None else labels.numpy(), return_inverse=True)
    places = places.tolist()  # of each image's class
    groups: list[dict[str, Any]] = []
    weights: list[Tensor] = []
    codes: list[np.ndarray] = []
    models, too_large = [], ""
    for members in [named] if along else [{name: each} for name, each in named.items()]:
        group, numbers = _group(list(members.values()), pictures, places)
        group["name"] = "" if along else next(iter(members))
        group |= {"along": along, "steps": list(members) if along else None, "first": 0}
        group["decoders"] = [_decoder(each, weights) for each in members.values()]
        if large := [decoder.pop("large") for decoder in group["decoders"] if not decoder["layers"]]:
            too_large = f"This decoder is too large for the browser ({large[0]}): the kernel decodes."
        groups.append(group)
        models.append(list(members.values()))
        codes += numbers
    shown = torch.zeros(0) if pictures is None else pictures[:SHOWN]
    description = {
        "groups": groups,
        "colours": list(COLOURS),
        "classes": [str(each) for each in classes] or ["images"],
        "labels": places[:SHOWN],
        "note": too_large,
    }
    with np.errstate(over="ignore"):
        packed = np.concatenate([each.numpy().ravel() for each in weights] or [np.zeros(0, np.float32)]).astype("<f2")
    floats = np.concatenate([each.ravel() for each in codes] or [np.zeros(0)]).astype("<f4")
    packs = {"weights": packed.tobytes(), "codes": floats.tobytes(), "pictures": shown.byte().numpy().tobytes()}
    return Described(description, packs, models, too_large)


def _group(members: list[VAE], pictures: Tensor | None, classes: list[int]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What decoders of one z have in common, and the latent vectors that each encoder gives the images."""
    latent = members[0].config.latent_dim
    order, names, dots = list(range(latent)), [f"z[{i}]" for i in range(latent)], []
    codes: list[np.ndarray] = []
    if pictures is not None:
        many = [encode_means(each, pictures[: DOTS if latent == 2 else SHOWN]).numpy() for each in members]
        codes = [means[:SHOWN] for means in many]
        if len(members) == 1:  # several have each their own order of use
            used = kl_by_dimension(members[0], pictures[:DOTS])
            order = used.argsort(descending=True).tolist()
            names = [f"{name} {kl:.2f} nats" for name, kl in zip(names, used, strict=True)]
            if latent == 2:
                codes.append(many[0])
                dots = classes[:DOTS] or [0] * len(many[0])
    furthest = max((float(np.nan_to_num(np.abs(each), posinf=0.0).max(initial=0.0)) for each in codes), default=0.0)
    group = {"shape": list(members[0].config.image_shape), "latent": latent, "order": order, "names": names}
    group |= {"reach": max(REACH, float(math.ceil(furthest))), "images": len(codes[0]) if codes else 0, "dots": dots}
    return group, codes


def _decoder(model: VAE, weights: list[Tensor]) -> dict[str, Any]:
    """The layers of a decoder, its numbers appended to ``weights``; where it is too large none, and by what."""
    mean = "sigmoid" if model.config.likelihood == "bernoulli" else "identity"
    layers: list[dict[str, Any]] = []
    packed: list[Tensor] = []
    size = before = torch.Size((1, 1))
    products = 0
    activations = {kind: name for name, kind in ACTIVATIONS.items()}
    for layer in model.decoder.children():
        if isinstance(layer, nn.Unflatten):
            size = before = torch.Size(layer.unflattened_size[1:])
        elif isinstance(layer, nn.Upsample):
            before, size = size, torch.Size(layer.size)  # type: ignore[arg-type]
        elif type(layer) in activations:
            layers.append({"kind": "activation", "name": activations[type(layer)]})
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
            kind = {"kind": "linear"} if isinstance(layer, nn.Linear) else {"kind": "conv", "from": before, "to": size}
            layers.append(kind | {"inputs": inputs, "outputs": outputs})
            products += layer.weight.numel() * (math.prod(size) if isinstance(layer, nn.Conv2d) else 1)
            bias = torch.zeros(outputs) if layer.bias is None else layer.bias
            packed += [layer.weight.detach().cpu().float(), bias.detach().cpu().float()]
            before = size
        else:
            raise ValueError(f"the browser knows no {type(layer).__name__}")
    packed.append(model.output_bias.detach().cpu().float())
    sizes = {"weights": sum(weight.numel() for weight in packed), "products an image": products}
    for (what, count), most in zip(sizes.items(), LARGEST, strict=True):
        if count > most:
            return {"layers": None, "mean": mean, "large": f"{count:,} {what}, at most {most:,}"}
    weights += packed
    return {"layers": layers, "mean": mean}


def page(described: Described, *, title: str = "Latent explorer", **facts: str) -> str:
    """The whole HTML file; it asks nothing of any server."""
    groups = described.description["groups"]
    decoders = sum(len(group["decoders"]) for group in groups)
    pictures = groups[0]["images"]
    inside = f"the weights of {decoders} decoder{'s' * (decoders > 1)}, rounded to float16"
    inside += f", and {pictures} sample images" if pictures else ", and no images"
    packs = {name: base64.b64encode(pack).decode() for name, pack in described.packs.items()}
    description = json.dumps(described.description).replace("<", "\\u003c")
    names = {"alt": "description", "caption": "comment"}
    metas = [(names.get(name, name), html.escape(fact)) for name, fact in facts.items()]
    return PAGE.substitute(
        title=html.escape(title),
        meta="\n".join(f'<meta name="{name}" content="{fact}">' for name, fact in metas),
        inside=inside,
        description=description,
        packs="\n".join(f'<script type="text/plain" id="{name}">{pack}</script>' for name, pack in packs.items()),
        source=SOURCE,
    )
