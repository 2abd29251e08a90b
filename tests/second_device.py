"""A second device for machines that have none: real numbers, kept on the CPU, which only their own kind may meet.

It takes PyTorch's place for devices of others. It has no float64, as Apple's, and takes no tensor of the CPU beside
its own but a single number. What is trained on it is bit for bit what is trained on the CPU, and what forgets to move a
tensor fails as on a GPU.
"""

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"


class There(torch.Tensor):
    """A tensor on the second device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "There":
        if held.dtype == torch.float64:
            raise TypeError(f"the device {NAME} has no float64")
        layout = {"strides": held.stride(), "dtype": held.dtype, "device": f"{NAME}:0"}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), **layout)
        made.held = held
        return made

    def __repr__(self) -> str:
        return f"There({self.held})"

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, other: "There") -> None:
        torch.Tensor.data.__set__(self, other)
        self.held = other.held

    def tolist(self) -> list:
        return self.held.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        return compute(function, *given, **named or {})


def compute(function: Any, *given: Any, **named: Any) -> Any:
    """What an operation does, on the device of its tensors, or on the one it names."""
    tensors = [one for one in tree_leaves((given, named)) if isinstance(one, torch.Tensor)]
    name = function.overloadpacket.__name__
    where = {NAME if isinstance(one, There) else "cpu" for one in tensors if one.ndim or isinstance(one, There)}
    if name == "copy_" or (name == "index" and isinstance(given[0], There)):  # the CPU's indices are welcome
        where = {NAME if isinstance(given[0], There) else "cpu"}
    elif named.get("device") is not None:
        where = {torch.device(named["device"]).type}
        named["device"] = torch.device("cpu")
    if len(where) > 1:
        raise RuntimeError(f"expected all tensors to be on the same device, but found {NAME} and cpu in {name}")
    bare_given, bare_named = tree_map(lambda one: one.held if isinstance(one, There) else one, (given, named))
    result = function(*bare_given, **bare_named)
    if where != {NAME}:
        return result
    known = {id(one.held): one for one in tensors if isinstance(one, There)}  # what is changed in place stays itself

    def there(one: Any) -> Any:
        return known[id(one)] if id(one) in known else There(one) if isinstance(one, torch.Tensor) else one

    return tree_map(there, result)


def second_device() -> str:
    """Its name; from now on it is there for this process."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME)
        library = torch.library.Library("_", "IMPL")
        library.fallback(compute, "PrivateUse1")
        second_device.library = library  # it ends with its last name
    return NAME
