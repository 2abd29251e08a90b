"""The notebooks: what each pair declares, words from the command line as its parameters, its outputs as committed."""

import ast
import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vae_core.files import digest

NAME = r"\d\d_[a-z0-9_]+"  # of a pair; copies, editors' files and helpers are called otherwise
KINDS = ("image/png", "text/html", "text/markdown", "text/latex", "text/plain")  # of outputs that are committed
PATH = re.compile(r"file://\S+|(?<![\w.:/<>+=,~$)\\-])/(?:[\w.@+-]+/)+[\w.@+-]*")  # an absolute one
REPR = re.compile(r"<[\w.]+ (object|size)\b.*>", re.DOTALL)  # says nothing to a reader
PAGE = re.compile(r"<(iframe|!doctype|html|script)\b", re.IGNORECASE)
WIDGET = "application/vnd.jupyter.widget-view+json"
BYTES = 1_200_000  # of a notebook, above which its images get a palette


class Notebook(NamedTuple):
    """A pair in ``notebooks/``, by name, and what its metadata and parameters cell declare."""

    name: str
    path: Path  # of the .ipynb
    parameters: dict[str, Any]  # the defaults, which are the preset "post"
    presets: dict[str, dict[str, Any]]
    least: dict[str, int]  # the smallest whole number, also of each item of a comma list
    declared: tuple[str, ...]  # figure names; "{key}" stands for each item of the parameter "key"
    cells: int
    code: str  # of its code cells but the parameters
    sweeps: tuple[str, ...] = ()  # names of the sweeps whose results it loads
    reads: tuple[str, ...] = ()  # other files of the checkout that it reads
    text: str = ""  # of the .ipynb, as it was read

    def settings(self, preset: str, overrides: dict[str, Any]) -> dict[str, Any]:
        """All parameters under a preset, with the overrides that this notebook has."""
        known = {key: value for key, value in overrides.items() if key in self.parameters}
        return self.parameters | self.presets.get(preset, {}) | known

    def figures(self, settings: dict[str, Any]) -> list[str]:
        """The figures that a run with these settings must write."""
        names = []
        for pattern in self.declared:
            items = [str(settings[key]).split(",") for key in re.findall(r"{(\w+)}", pattern)]
            names += [re.sub(r"{\w+}", item.strip(), pattern) for item in items[0]] if items else [pattern]
        return names


def find_checkout(start: Path | None = None) -> Path:
    """The project's folder, from the current one upwards.

    Raises:
        FileNotFoundError: outside a checkout.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        project = folder / "pyproject.toml"
        if project.exists() and 'name = "vae_core"' in project.read_text():
            return folder
    raise FileNotFoundError(f"{here} is not in a checkout of vae_core: go to the folder that holds notebooks/")


def left_alone(checkout: Path) -> str:
    """One line that names the files in ``notebooks/`` that are no pair; empty where there are none."""
    folder = checkout / "notebooks"
    pairs = {path.stem for path in folder.glob("*.py") if re.fullmatch(NAME, path.stem)}
    others = sorted(p.name for p in folder.iterdir() if p.suffix in {".py", ".ipynb"} and p.stem not in pairs)
    return f"left alone, no pair named NN_name: {', '.join(others)}" if others else ""


def find_notebooks(checkout: Path, names: Sequence[str] = ()) -> list[Notebook]:
    """The pairs in ``notebooks/``, all or those of the names or unique beginnings of names.

    Raises:
        ValueError: on an unknown name, a pair whose halves differ, or two that declare one figure.
    """
    known = sorted(p.stem for p in (checkout / "notebooks").glob("*.py") if re.fullmatch(NAME, p.stem))
    chosen = []
    for name in names or known:
        matches = [k for k in known if k == name] or [k for k in known if k.startswith(name)]
        if len(matches) != 1:
            raise ValueError(f"no notebook {name!r}: expected one of {', '.join(known)}")
        chosen += matches
    notebooks = [_read_notebook(checkout / "notebooks" / f"{name}.py") for name in dict.fromkeys(chosen)]
    owners: dict[str, str] = {}
    for figure, name in [(figure, n.name) for n in notebooks for figure in n.figures(n.parameters)]:
        if owners.setdefault(figure, name) != name:
            raise ValueError(f"{owners[figure]} and {name} both declare the figure {figure}: rename one")
    return notebooks


def _read_notebook(text: Path) -> Notebook:
    import jupytext

    pair = text.with_suffix(".ipynb")
    if not pair.exists():
        raise ValueError(f"{text} has no paired .ipynb; make it with: jupytext --sync {text}")
    try:
        whole = pair.read_text(encoding="utf-8")
        source, notebook = jupytext.read(text), jupytext.reads(whole, fmt="ipynb")
    except Exception as error:
        raise ValueError(f"the pair {text.stem} cannot be read ({str(error).splitlines()[0]})") from None
    halves = [[(cell.cell_type, cell.source) for cell in half.cells] for half in (source, notebook)]
    if halves[0] != halves[1]:
        newer = max((text, pair), key=lambda path: path.stat().st_mtime)
        raise ValueError(
            f"{text} and its .ipynb differ, {newer.name} is dated later. To take the .py: "
            f"jupytext --update --to ipynb {text}. To take the .ipynb: jupytext --to py:percent {pair}"
        )
    tagged = [cell.source for cell in source.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{text} must have one cell tagged parameters, not {len(tagged)}")
    try:
        statements = [node for node in ast.parse(tagged[0]).body if isinstance(node, ast.Assign)]
        parameters = {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in statements}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{text}: its parameters must be plain values ({error})") from None
    code = "\n\n".join(c.source for c in source.cells if c.cell_type == "code" and c.source not in tagged)
    declared = source.metadata.get("vae_core", {})
    presets, least = declared.get("presets", {}), declared.get("least", {})
    figures, sweeps, reads = (tuple(declared.get(key, ())) for key in ("figures", "sweeps", "reads"))
    size = len(source.cells)
    return Notebook(text.stem, pair, parameters, presets, least, figures, size, code, sweeps, reads, whole)


def parse_parameters(notebooks: Sequence[Notebook], words: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Words from the command line as values of the types of the notebooks' defaults.

    Raises:
        ValueError: on a name that none of the notebooks has, a word that is not of its type, a number
            below the least, or unknown data.
    """
    known = sorted({key for notebook in notebooks for key in notebook.parameters})
    if unknown := [name for name, _ in words if name not in known]:
        raise ValueError(f"no parameter {unknown[0]!r}: expected one of {', '.join(known)}")
    return {name: _parse(n, name, word) for name, word in words for n in notebooks if name in n.parameters}


def _parse(notebook: Notebook, name: str, word: str) -> Any:
    default, least = notebook.parameters[name], notebook.least.get(name)
    wanted = type(default).__name__
    try:
        value = {"true": True, "false": False}[word.lower()] if wanted == "bool" else type(default)(word)
        if least is not None:
            wanted = "whole numbers between commas" if isinstance(default, str) else "a whole number"
            wanted += f", {least} or more"
            if min(map(int, word.split(","))) < least:
                raise ValueError
    except (ValueError, KeyError):
        raise ValueError(f"parameter {name} of {notebook.name} must be {wanted}, not {word!r}") from None
    if name == "data" or (name == "own_images" and word):
        return ",".join(map(_data_set, word.split(",") if "," in default else [word]))
    return value


def _data_set(word: str) -> str:
    """The name of a data set, or the whole path of a folder: the kernel stands elsewhere."""
    from vae_core.data import check_name, is_folder

    check_name(word)
    return str(Path(word).expanduser().absolute()) if is_folder(word) else word


def outputs_digest(text: str) -> str:
    """A digest of the outputs in the text of an ``.ipynb``."""
    import nbformat

    outputs = [cell.outputs for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "code"]
    return digest(json.dumps(outputs, sort_keys=True).encode())


def with_outputs(source: str, executed: str) -> str:
    """The text of the ``source`` with the outputs of the ``executed`` notebook, for a reader of the page.

    Kept are images, tables, text and warnings: no widget, no page in a page, no path of this machine, no counts.
    """
    import nbformat

    notebook, run = (nbformat.reads(text, as_version=4) for text in (source, executed))
    cells = [cell for cell in run.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell, ran in zip(notebook.cells, cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [clean for output in ran.outputs if (clean := _cleaned(output))]
            cell.execution_count = None
    page = nbformat.writes(notebook)
    return (page if len(page) <= BYTES else re.sub(r'(?<="image/png": ")[^"]+', _with_palette, page)) + "\n"


def _cleaned(output: Any) -> Any:
    """An output as it is committed; nothing if a reader would see nothing in it."""
    if output.output_type == "stream":
        lines = [line for line in output.text.splitlines(keepends=True) if not PATH.search(line)]
        text = "".join(lines) if output.name == "stdout" else ""
        output.update(text=text)
        return output if text.strip() else None
    if output.output_type == "execute_result":
        output.execution_count = None
    text = output.data.get("text/plain", "")
    useless = ["text/plain"] if "image/png" in output.data or WIDGET in output.data or REPR.fullmatch(text) else []
    useless += ["text/html"] if PAGE.search(output.data.get("text/html", "")) else []
    output.data = {kind: output.data[kind] for kind in KINDS if kind in output.data and kind not in useless}
    for kind in output.data.keys() - {"image/png"}:
        output.data[kind] = PATH.sub(lambda path: Path(path[0]).name, output.data[kind])
    return output if output.data else None


def _with_palette(image: re.Match[str]) -> str:
    """A PNG in base64 with 256 colours."""
    from PIL import Image

    file, pixels = io.BytesIO(), Image.open(io.BytesIO(base64.b64decode(image[0].replace("\\n", ""))))
    pixels.convert("RGB").quantize(256).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
