"""What a published figure was made from: digests, versions, and the manifest that keeps them."""

import ast
import contextlib
import hashlib
import html
import io
import json
import os
import platform
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "papermill")
# what processors of one name can have or lack: each sums in another order
INSTRUCTIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "BF16", "amx_bf16": "AMX", "asimd": "NEON",
                "sve": "SVE"}  # fmt: skip


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return digest(path.read_bytes())


def digest(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def code_digest(path: Path) -> str:
    """A digest of what a file does, the same for every version of Python: comments, layout and docstrings are no part
    of it, nor parts of the syntax tree that only some versions have and that are empty here.

    Not for several threads at once: Python 3.11 cannot parse in two.
    """
    if path.suffix != ".py":
        return sha256(path)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise ValueError(f"{path} is no Python ({error.msg}, line {error.lineno})") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body[: ast.get_docstring(node) is not None] = []
    return digest(_shape(tree).encode())


def _shape(node: Any) -> str:
    """A syntax tree as text, without what is empty. ``ast.dump`` has other words in each version of Python."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty part
        node.values = [part for part in node.values if getattr(part, "value", None) != ""]
    if isinstance(node, ast.AST):
        parts = [f"{field}={_shape(value)}" for field, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({','.join(parts)})"
    return f"[{','.join(map(_shape, node))}]" if isinstance(node, list) else ascii(node)


def versions() -> dict[str, str]:
    """The versions that can change a figure: without releases of Python that mend faults, and builds of one version."""
    return {"python": ".".join(platform.python_version_tuple()[:2])} | {name: version(name) for name in PACKAGES}


def version(package: str) -> str:
    """The version of an installed package, such as 2.14.1 where it is 2.14.1+cpu."""
    return metadata.version(package).partition("+")[0]


def machine() -> str:
    """The kind of machine, as far as it can change a figure: system, architecture, processor and instruction set."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):  # of systems that have no such file
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, fact = line.partition(":")
            facts[name.strip()] = fact.strip()
    flags = {*facts.get("flags", facts.get("Features", "")).split()}
    named = [name for flag, name in INSTRUCTIONS.items() if flag in flags]
    processor = facts.get("model name") or platform.processor() or "unknown processor"
    return f"{platform.system()} {platform.machine()}, {processor}, {' '.join(named) or 'unknown instruction set'}"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk; an empty one where there is no file.

    Raises:
        ValueError: when the file is not a JSON object.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or delete it and regenerate") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold a JSON object; restore it or delete it and regenerate")
    return found


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; leave it alone, and its date, if it already holds that.

    Raises:
        OSError: naming the file, when it cannot be written.
    """
    write_all({path: content})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write several files, each whole: none is replaced before all of them are on disk under other names.

    Files that already hold what they should are left alone, and their dates.

    Raises:
        OSError: naming the file that cannot be written; nothing has changed then.
    """
    parts: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in files.items():
            if path.exists() and path.read_bytes() == content:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path] = path.with_name(f".{path.name}.{os.getpid()}.part")
            parts[path].write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise type(error)(
            error.errno, f"cannot write {path} ({error.strerror}): free or choose another place"
        ) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def to_json(content: dict[str, Any]) -> bytes:
    """A JSON object with sorted keys, as the text of a file."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys, whole or not at all."""
    write_bytes(path, to_json(content))


def with_entries(path: Path, notebook: str, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The manifest at ``path`` with ``entries``, name to facts, in place of those of ``notebook``."""
    return {name: entry for name, entry in read_json(path).items() if entry.get("notebook") != notebook} | entries


def figure_facts(name: str, content: bytes) -> dict[str, Any]:
    """What a PNG or a page says of itself, and its digest."""
    if name.endswith(".html"):
        head = content.decode().split("</head>")[0]
        found = re.findall(r'<meta name="(\w+)" content="([^"]*)">', head)
        text = {name.capitalize(): html.unescape(fact) for name, fact in found}
    else:
        from PIL import Image

        with Image.open(io.BytesIO(content)) as image:
            text = dict(getattr(image, "text", {}))
    return {
        "source": text.get("Source", ""),
        "alt": text.get("Description", ""),
        "caption": text.get("Comment", ""),
        "sha256": digest(content),
    }


def with_results(path: Path, notebook: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers at ``path``, rows by notebook, with these of one notebook in place of those before."""
    kept = {name: those for name, those in read_json(path).items() if name != notebook}
    return kept | ({notebook: rows} if rows else {})


def items(parameter: Any) -> list[Any]:
    """The items of a notebook parameter: of "2,4,10", or of 4 or [2, 4, 10], as papermill may hand it over."""
    if isinstance(parameter, str):
        return [word.strip() for word in parameter.split(",")]
    return list(parameter) if isinstance(parameter, list | tuple) else [parameter]


def whole_numbers(parameter: Any) -> list[int]:
    """The :func:`items` of a notebook parameter as whole numbers.

    Raises:
        ValueError: where one is none.
    """
    try:
        return [int(str(item)) for item in items(parameter)]
    except ValueError:
        raise ValueError(f"whole numbers between commas are needed, such as 2,4,10, not {parameter!r}") from None


class Sweep(NamedTuple):
    """The published results of a long sweep."""

    rows: list[dict[str, Any]]
    told: str  # from what, by which command: one line


def load_sweep(name: str) -> Sweep:
    """The rows of ``sweep_NAME.json`` in ``$VAE_CORE_SWEEPS``, else those that this checkout has in ``figures/data``.

    Raises:
        ValueError: when there is no such file, or it is damaged, with the command that makes it.
    """
    file, given = f"sweep_{name}.json", os.environ.get("VAE_CORE_SWEEPS")
    path = Path(given or "").expanduser() / file
    if not given or not path.exists():
        path = Path(__file__).parent.parent / "figures" / "data" / file
    facts = read_json(path)
    if "rows" not in facts:
        raise ValueError(f"{path} does not hold the results of a sweep: vae-core reproduce --preset full makes it")
    told = f"loaded from {path.name}: {len(facts['rows'])} results on {facts['source']}, by {facts.get('command')}"
    return Sweep(facts["rows"], told)
