"""Files that are written whole or not at all, and their digests."""

import hashlib
import html
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return digest(path.read_bytes())


def digest(content: bytes) -> str:
    """The SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk; an empty one where there is no file.

    Raises:
        ValueError: when the file is not a JSON object.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        content = error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object ({content}); restore it or delete it and regenerate")
    return content


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_all` for a single file."""
    write_all({path: content})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files, each whole: none is replaced before all are on disk under other names, and none that is right.

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
        why = f"cannot write {path} ({error.strerror}): free or choose another place"
        raise type(error)(error.errno, why) from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def to_json(content: dict[str, Any]) -> bytes:
    """A JSON object with sorted keys, as the text of a file."""
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys, whole or not at all."""
    write_bytes(path, to_json(content))


def figure_facts(name: str, content: bytes) -> dict[str, Any]:
    """What a PNG or a page says of itself, and its digest."""
    if name.endswith(".html"):
        pairs = re.findall(r'<meta name="(\w+)" content="([^"]*)">', content.decode().split("</head>")[0])
        text = {key.capitalize(): html.unescape(fact) for key, fact in pairs}
    else:
        from PIL import Image

        with Image.open(io.BytesIO(content)) as image:
            text = dict(getattr(image, "text", {}))
    names = {"source": "Source", "alt": "Description", "caption": "Comment"}
    return {name: text.get(key, "") for name, key in names.items()} | {"sha256": digest(content)}
