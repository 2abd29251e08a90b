"""The notebooks: what each pair declares of itself, and words from the command line as its parameters."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Notebook(NamedTuple):
    """A pair in ``notebooks/``, by name, and what its own metadata and parameters cell declare."""

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
            keys = [key for key in settings if f"{{{key}}}" in pattern]
            if not keys:
                names.append(pattern)
            for key in keys:
                items = [item.strip() for item in str(settings[key]).split(",")]
                names += [pattern.replace(f"{{{key}}}", item) for item in items]
        return names


def find_checkout(start: Path | None = None) -> Path:
    """The project's folder, from the current one upwards.

    Raises:
        FileNotFoundError: outside a checkout.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        project = folder / "pyproject.toml"
        if (folder / "notebooks").is_dir() and project.exists() and 'name = "vae_core"' in project.read_text():
            return folder
    raise FileNotFoundError(f"{here} is not in a checkout of vae_core: go to the folder that holds notebooks/")


NAME = r"\d\d_[a-z0-9_]+"  # of a pair; copies, editors' files and helpers are called otherwise


def left_alone(checkout: Path) -> str:
    """One line that names the files in ``notebooks/`` that are no pair; empty where there are none."""
    found = [path for path in (checkout / "notebooks").iterdir() if path.suffix in {".py", ".ipynb"}]
    others = [path.name for path in found if not re.fullmatch(NAME, path.stem)
              or (path.suffix == ".ipynb" and not path.with_suffix(".py").exists())]  # fmt: skip
    return f"left alone, no pair named NN_name: {', '.join(sorted(others))}" if others else ""


def find_notebooks(checkout: Path, names: Sequence[str] = ()) -> list[Notebook]:
    """The pairs in ``notebooks/``, all or those of the given names or unique beginnings of names.

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
    found = [_read_notebook(checkout / "notebooks", name) for name in dict.fromkeys(chosen)]
    owners: dict[str, str] = {}
    for notebook in found:
        for figure in notebook.figures(notebook.parameters):
            if owners.setdefault(figure, notebook.name) != notebook.name:
                raise ValueError(f"{owners[figure]} and {notebook.name} both declare the figure {figure}: rename one")
    return found


def _read_notebook(folder: Path, name: str) -> Notebook:
    import jupytext

    text, pair = folder / f"{name}.py", folder / f"{name}.ipynb"
    if not pair.exists():
        raise ValueError(f"{text} has no paired .ipynb; make it with: jupytext --sync {text}")
    try:
        whole = pair.read_text(encoding="utf-8")
        source, notebook = jupytext.read(text), jupytext.reads(whole, fmt="ipynb")
    except Exception as error:
        raise ValueError(f"the pair {name} cannot be read ({str(error).splitlines()[0]})") from None
    if [(c.cell_type, c.source) for c in source.cells] != [(c.cell_type, c.source) for c in notebook.cells]:
        newer = max((text, pair), key=lambda path: path.stat().st_mtime)
        raise ValueError(
            f"{text} and its .ipynb differ, {newer.name} is dated later. To take the .py: "
            f"jupytext --update --to ipynb {text}. To take the .ipynb: jupytext --to py:percent {pair}"
        )
    tagged = [c.source for c in source.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{text} must have one cell tagged parameters, not {len(tagged)}")
    try:
        parameters = {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(tagged[0]).body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{text}: its parameters must be plain values ({error})") from None
    own = source.metadata.get("vae_core", {})
    unknown = {key for preset in own.get("presets", {}).values() for key in preset} - set(parameters)
    if unknown:
        raise ValueError(f"{text}: a preset sets {', '.join(sorted(unknown))}, which is no parameter")
    presets, figures = own.get("presets", {}), tuple(own.get("figures", ()))
    code = "\n\n".join(c.source for c in source.cells if c.cell_type == "code" and c.source not in tagged)
    least, sweeps, reads = own.get("least", {}), tuple(own.get("sweeps", ())), tuple(own.get("reads", ()))
    return Notebook(name, pair, parameters, presets, least, figures, len(source.cells), code, sweeps, reads, whole)


def parse_parameters(notebooks: Sequence[Notebook], given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Words from the command line as values of the types of the notebooks' defaults.

    Raises:
        ValueError: on a name that none of the notebooks has, a word that is not of its type, a number
            below the least, or unknown data.
    """
    parsed: dict[str, Any] = {}
    for name, word in given:
        owners = [notebook for notebook in notebooks if name in notebook.parameters]
        if not owners:
            known = sorted({key for notebook in notebooks for key in notebook.parameters})
            raise ValueError(f"no parameter {name!r}: expected one of {', '.join(known)}")
        for notebook in owners:
            kind = type(notebook.parameters[name])
            try:
                parsed[name] = {"true": True, "false": False}[word.lower()] if kind is bool else kind(word)
            except (ValueError, KeyError):
                raise ValueError(f"parameter {name} of {notebook.name} must be {kind.__name__}, not {word!r}") from None
            if name in notebook.least:
                items = [word] if kind is int else word.split(",")
                least = notebook.least[name]
                if not all(item.strip().isdecimal() and int(item) >= least for item in items):
                    form = "a whole number" if kind is int else "whole numbers between commas"
                    wanted = f"{form}, {least} or more"
                    raise ValueError(f"parameter {name} of {notebook.name} must be {wanted}, not {word!r}")
            if name == "data":
                items = word.split(",") if "," in notebook.parameters[name] else [word]
                parsed[name] = ",".join(map(_data_set, items))
            elif name == "own_images" and word:
                parsed[name] = _data_set(word)
    return parsed


def _data_set(word: str) -> str:
    """The name of a data set, or the whole path of a folder: the kernel stands elsewhere."""
    from vae_core.data import check_name
    from vae_core.sources.torchvision_files import is_folder

    check_name(word)
    return str(Path(word).expanduser().absolute()) if is_folder(word) else word
