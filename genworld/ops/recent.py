"""What was made lately, kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def recent(kept: OrderedDict[K, T], most: int, key: K, make: Callable[[], T]) -> T:
    """From what is kept, or made now; of more than `most`, the one that was not asked for longest goes."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
