"""Randomness that is derived and never stored: a key such as (seed, step, "noise") gives the same numbers, always."""

import zlib

import numpy as np
import torch
from torch import Tensor


def generator(*key: int | str) -> np.random.Generator:
    """A random generator that depends on ``key`` alone: integers of any size and words, the last a word.

    (A final 0 would be lost: numpy's ``SeedSequence`` pads with zeros.)
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key]
    return np.random.default_rng(np.random.SeedSequence(words))


def noise(shape: tuple[int, ...], *key: int | str) -> Tensor:
    """Standard normal numbers, float32, of the given shape, that depend on ``key`` alone."""
    return torch.from_numpy(generator(*key).standard_normal(shape, dtype=np.float32))
