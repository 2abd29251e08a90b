"""The notebooks: what each pair declares of itself, and words from the command line as its parameters."""

import ast
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


def find_notebooks(checkout: Path, names: Sequence[str] = ()) -> list[Notebook]:
    """The pairs in ``notebooks/``, all or those of the given names or unique beginnings of names.

    Raises:
        ValueError: on an unknown name, or a pair whose halves differ.
    """
    known = sorted(path.stem for path in (checkout / "notebooks").glob("*.py"))
    chosen = []
    for name in names or known:
        matches = [k for k in known if k == name] or [k for k in known if k.startswith(name)]
        if len(matches) != 1:
            raise ValueError(f"no notebook {name!r}: expected one of {', '.join(known)}")
        chosen += matches
    return [_read_notebook(checkout / "notebooks", name) for name in dict.fromkeys(chosen)]


def _read_notebook(folder: Path, name: str) -> Notebook:
    import jupytext

    text, pair = folder / f"{name}.py", folder / f"{name}.ipynb"
    if not pair.exists():
        raise ValueError(f"{text} has no paired .ipynb; make it with: jupytext --sync {text}")
    try:
        source, notebook = jupytext.read(text), jupytext.read(pair)
    except Exception as error:
        raise ValueError(f"the pair {name} cannot be read ({str(error).splitlines()[0]})") from None
    if [(c.cell_type, c.source) for c in source.cells] != [(c.cell_type, c.source) for c in notebook.cells]:
        raise ValueError(f"{text} and its .ipynb differ; bring them together with: jupytext --sync {text}")
    tagged = [c.source for c in source.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{text} must have one cell tagged parameters, not {len(tagged)}")
    parameters = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(tagged[0]).body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    own = source.metadata.get("vae_core", {})
    unknown = {key for preset in own.get("presets", {}).values() for key in preset} - set(parameters)
    if unknown:
        raise ValueError(f"{text}: a preset sets {', '.join(sorted(unknown))}, which is no parameter")
    presets, figures = own.get("presets", {}), tuple(own.get("figures", ()))
    code = "\n\n".join(c.source for c in source.cells if c.cell_type == "code" and c.source not in tagged)
    least, sweeps = own.get("least", {}), tuple(own.get("sweeps", ()))
    return Notebook(name, pair, parameters, presets, least, figures, len(source.cells), code, sweeps)


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
                from vae_core.data import check_name

                for item in word.split(",") if "," in notebook.parameters[name] else [word]:
                    check_name(item)
    return parsed
