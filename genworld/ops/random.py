"""Random numbers as a function of what they are for, never of who draws them or what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Key = int | str


def seed_of(*keys: Key) -> int:
    """A 63-bit seed that depends on all `keys` and their order."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*keys: Key) -> torch.Generator:
    """A CPU generator seeded from `keys`, such as `(seed, "noise", position)`."""
    return torch.Generator().manual_seed(seed_of(*keys))


def normal(shape: Sequence[int], *keys: Key) -> Tensor:
    """Standard normal numbers that depend on `keys` only.

    Drawn on the CPU: CUDA's generator gives other numbers, and a sample should not change with the device.
    """
    return torch.randn(tuple(shape), generator=generator(*keys))


def uniform(shape: Sequence[int], *keys: Key) -> Tensor:
    """Numbers in [0, 1) that depend on `keys` only; see `normal`."""
    return torch.rand(tuple(shape), generator=generator(*keys))
