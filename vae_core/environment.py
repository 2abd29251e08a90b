"""Where a number was made: versions, the machine, the code."""

import ast
import contextlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from vae_core.files import digest, sha256

PACKAGE = Path(__file__).parent
PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "papermill")
# what processors of one name can have or lack: each sums in another order
INSTRUCTIONS = {
    **{"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "BF16", "amx_bf16": "AMX"},
    **{"asimd": "NEON", "sve": "SVE"},
}


def code_digest(path: Path) -> str:
    """A digest of what a file does: comments, layout and docstrings are no part of it.

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
    return digest(ast.unparse(tree).encode())


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


def libraries() -> dict[str, str]:
    """:func:`versions`, and those of what else can change a number."""
    return versions() | {name: version(name) for name in ("scipy", "scikit-learn", "pillow")}


@cache
def package_digest(folder: Path = PACKAGE) -> str:
    """One digest of the package's files but those of ``cli`` and ``regenerate``, on which no figure depends."""
    paths = (path for path in folder.rglob("*") if path.suffix in {".py", ".js", ".html"})
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    names = [name for name in names if not name.startswith(("cli/", "regenerate/", "__main__"))]
    return digest("".join(f"{name} {code_digest(folder / name)}\n" for name in names).encode())
