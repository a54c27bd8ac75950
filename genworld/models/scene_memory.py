"""Scenes that a connector has seen whose first parts no longer change: each goes through these once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genworld.models.connector_parts import ObjectSteps, SceneObjects, SceneTokens
from genworld.models.connectors import Connector
from genworld.ops.precision import without_autocast
from genworld.ops.recent import recent
from genworld.ops.tensor_files import save_whole
from genworld.types import PointSet

_MOST = 1 << 16
"""Scenes that are kept; the one that was not asked for longest goes first."""
_ROWS = ("things", "keep", "places", "corners")
"""What is kept of objects that has a row for each thing or point."""
_POINTS = ("features", "points", "voxels", "colours")
"""What tells scenes apart."""


class SceneMemory:
    """Gives the settled tokens of scenes (see `Connector.settle`), and remembers them.

    Every scene is seen alone, in float32 and without dropout: what it becomes does not depend on when it came first. Of
    its objects, what is for losses alone is not kept. Weights that are changed in place, such as by loading others, are
    noticed.

    Args:
        connector: whose settling parts will stay as they are.

    Attributes:
        folder: where scenes are kept for other processes and later runs, in a folder for each connector; None keeps
            them here alone.
    """

    def __init__(self, connector: Connector) -> None:
        self.folder: Path | None = None
        self._connector = connector
        self._kept: OrderedDict[str, SceneTokens] = OrderedDict()
        self._version, self._name = -1, ""

    def __len__(self) -> int:
        return len(self._kept)

    def tokens(self, scenes: Sequence[PointSet]) -> SceneTokens:
        """The tokens of scenes, padded to the longest."""
        if self._version != self._now():
            self._kept.clear()
            self._version, self._name = self._now(), _name_of(self._connector)
        return _together([self._tokens_of(scene) for scene in scenes])

    def _tokens_of(self, scene: PointSet) -> SceneTokens:
        key = _digest(getattr(scene, name) for name in _POINTS)
        return recent(self._kept, _MOST, key, lambda: self._find(key, scene))

    def _now(self) -> int:
        # PyTorch's own count of changes in place: no public name tells as much without a look at every weight.
        return sum(weight._version for weight in self._connector.settling.parameters())  # noqa: SLF001

    def _find(self, key: str, scene: PointSet) -> SceneTokens:
        """A scene from its file if there is one."""
        if self.folder is None:
            return self._see(scene)
        path = self.folder / self._name / f"{key}.safetensors"
        if path.is_file():
            return _unpacked({name: x.to(scene.points.device) for name, x in load_file(path).items()})
        seen = self._see(scene)
        save_whole(path, _packed(seen))
        return seen

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


def _packed(scene: SceneTokens) -> dict[str, Tensor]:
    tensors = {"x": scene.x, "keep": scene.keep}
    if scene.objects is not None:
        tensors |= {f"objects.{name}": getattr(scene.objects, name) for name in (*_ROWS, "rooms")}
        tensors |= {f"last.{name}": x for name, x in scene.objects.last._asdict().items()}
    return tensors


def _unpacked(tensors: dict[str, Tensor]) -> SceneTokens:
    objects = None
    if "objects.keep" in tensors:
        last = SceneObjects(*(tensors[f"last.{name}"] for name in SceneObjects._fields))
        objects = ObjectSteps(steps=(), last=last, **{name: tensors[f"objects.{name}"] for name in (*_ROWS, "rooms")})
    return SceneTokens(tensors["x"], tensors["keep"], objects)


def _name_of(connector: Connector) -> str:
    """Tells connectors apart by how they settle tokens."""
    sums = hashlib.blake2b(repr(connector.config).encode(), digest_size=8)
    sums.update(_digest(connector.settling.state_dict().values()).encode())
    return sums.hexdigest()


def _digest(tensors: Iterable[Tensor]) -> str:
    sums = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        sums.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sums.hexdigest()
