"""Dictionaries of tensors to and from disk, whole or not at all; never a pickle."""

from pathlib import Path

from torch import Tensor

from vae_core.provenance import digest, write_bytes


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write ``tensors`` as a safetensors file and return its SHA-256.

    The file appears only when it is complete; one that is there stays until then.

    Raises:
        OSError: naming the file, when it cannot be written.
    """
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(path, content)
    return digest(content)


def load_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file that :func:`save_tensors` wrote, on the CPU.

    Raises:
        ValueError: when the file is missing, cut short or not the one of that ``sha256``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.exists():
        raise ValueError(f"{path} is missing: train again, or restore the file")
    content = path.read_bytes()
    if digest(content) != sha256:
        raise ValueError(f"{path} is damaged or was changed (its SHA-256 is another): train again, or restore the file")
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged, or no safetensors file ({error}): train again") from None
