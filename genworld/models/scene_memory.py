"""Scenes that a connector has seen whose first parts no longer change: each goes through these once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genworld.models.connector_parts import ObjectSteps, SceneObjects, SceneTokens
from genworld.models.connectors import Connector
from genworld.ops.precision import without_autocast
from genworld.ops.recent import recent
from genworld.types import PointSet

_MOST = 1 << 16
"""Scenes that are kept; the one that was not asked for longest goes first."""
_ROWS = ("things", "keep", "places", "corners")
"""What is kept of objects that has a row for each thing or point."""


class SceneMemory:
    """Gives the settled tokens of scenes (see `Connector.settle`), and remembers them.

    Every scene is seen alone, in float32 and without dropout: what it becomes does not depend on when it came first. Of
    its objects, what is for losses alone is not kept. Weights that are changed in place, such as by loading others, are
    noticed.

    Args:
        connector: whose settling parts will stay as they are.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._kept: OrderedDict[bytes, SceneTokens] = OrderedDict()
        self._version = self._now()

    def __len__(self) -> int:
        return len(self._kept)

    def tokens(self, scenes: Sequence[PointSet]) -> SceneTokens:
        """The tokens of scenes, padded to the longest."""
        if self._version != self._now():
            self._kept.clear()
            self._version = self._now()
        return _together([recent(self._kept, _MOST, _digest(x), lambda x=x: self._see(x)) for x in scenes])  # type: ignore[misc]

    def _now(self) -> int:
        # PyTorch's own count of changes in place: no public name tells as much without a look at every weight.
        return sum(weight._version for weight in self._connector.settling.parameters())  # noqa: SLF001

    @torch.no_grad()
    def _see(self, scene: PointSet) -> SceneTokens:
        connector, training = self._connector, self._connector.training
        connector.eval()
        with without_autocast(scene.points):
            seen = connector.settle(connector.stack([scene]))
        connector.train(training)
        objects = seen.objects
        if objects is not None:
            last = SceneObjects(*(x[0] for x in objects.last))
            objects = ObjectSteps(
                steps=(), last=last, **{name: getattr(objects, name)[0] for name in (*_ROWS, "rooms")}
            )
        return SceneTokens(seen.x[0], seen.keep[0], objects)


def _together(scenes: Sequence[SceneTokens]) -> SceneTokens:
    known = [scene.objects for scene in scenes if scene.objects is not None]
    objects = None
    if known:
        lasts = [one.last for one in known]
        last = SceneObjects(*(_padded(list(x)) for x in zip(*lasts, strict=True)))
        rows = {name: _padded([getattr(one, name) for one in known]) for name in _ROWS}
        objects = ObjectSteps(steps=(), last=last, rooms=_squares([one.rooms for one in known]), **rows)
    return SceneTokens(_padded([scene.x for scene in scenes]), _padded([scene.keep for scene in scenes]), objects)


def _padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)


def _squares(tables: list[Tensor]) -> Tensor:
    most = max(map(len, tables))
    return torch.stack([F.pad(table, (0, most - len(table), 0, most - len(table))) for table in tables])


def _digest(scene: PointSet) -> bytes:
    sums = hashlib.blake2b(digest_size=16)
    for name in ("features", "points", "voxels", "colours"):
        sums.update(getattr(scene, name).detach().cpu().contiguous().numpy().tobytes())
    return sums.digest()
