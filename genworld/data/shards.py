"""Precomputed clips: latents, and text features where the text encoder is frozen, in safetensors shards.

A folder of shards holds
- `shards.json`: how many items and shards there are, and what made them,
- `00000.safetensors`: tensors `<item>.latents` [C T H W] and, if there are any, `<item>.text` [S D] and the camera's
  `<item>.world_from_camera` [F 4 4] and `<item>.intrinsics` [3 3],
- `00000.json`: caption, name and shape of each item, which clip it stands in for if that one could not be read, and the
  sha256 of the shard. It is written last: a shard is done if and only if it exists.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from genworld.data.packing import PackOrder
from genworld.types import CameraPath, ClipInfo, ClipShape, ClipSource, Pick, Sample

logger = logging.getLogger(__name__)

SUMMARY = "shards.json"
CAMERA = ("world_from_camera", "intrinsics")
TENSORS = ("latents", "text", *CAMERA)
MAX_OPEN = 32


def precompute_picks(order: PackOrder, epochs: int = 1) -> list[Pick]:
    """What to precompute: the first epochs of the order's stream, by epoch and clip.

    A clip that serves several shapes is drawn anew in every epoch; with one shape, one epoch has everything.
    """
    picks = [order.pick(position) for position in range(epochs * order.num_clips)]
    return sorted(picks, key=lambda pick: (pick.position // order.num_clips, pick.index))


class ShardWriter:
    """Writes the shards of one process out of several; skips those that are done, so it can be stopped and restarted.

    Use: `for shard, picks in writer.pending(): writer.write(shard, [encode(p) for p in picks], picks)`.
    """

    def __init__(
        self,
        folder: Path,
        source: ClipSource,
        picks: Sequence[Pick],
        settings: Mapping[str, Any],
        items_per_shard: int = 256,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open or begin a folder.

        Args:
            folder: where shards go.
            source: where the picks come from; names and captions are taken from it.
            picks: all items, the same on every rank.
            settings: plain data that the result depends on (VAE, text encoder, packing, seed), to refuse mixing two.
            items_per_shard: items in a shard.
            rank: of this process.
            world_size: number of processes, which share the shards.

        Raises:
            ValueError: the folder was begun with other settings or picks.
        """
        self.folder, self.source, self.picks = folder, source, picks
        self.items_per_shard, self.rank, self.world_size = items_per_shard, rank, world_size
        self.num_shards = math.ceil(len(picks) / items_per_shard)
        summary = {
            "num_items": len(picks),
            "num_shards": self.num_shards,
            "picks_sha256": hashlib.sha256(repr(list(picks)).encode()).hexdigest(),
            "settings": json.loads(json.dumps(settings, default=str)),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SUMMARY
        if not path.exists():
            _write_text(path, json.dumps(summary, indent=1))
        elif (begun := json.loads(path.read_text())) != summary:
            different = sorted(key for key in summary if begun.get(key) != summary[key])
            raise ValueError(f"{folder} was begun with other {', '.join(different)}: use another folder or remove it")

    def pending(self) -> Iterator[tuple[int, list[Pick]]]:
        """The shards of this process that are not done, with their picks."""
        for shard in range(self.rank, self.num_shards, self.world_size):
            if not _entries_path(self.folder, shard).exists():
                yield shard, list(self.picks[shard * self.items_per_shard : (shard + 1) * self.items_per_shard])

    def write(
        self, shard: int, samples: Sequence[Sample], read: Sequence[Pick], reasons: Mapping[int, str] | None = None
    ) -> None:
        """Write a shard.

        Args:
            shard: which.
            samples: one with latents per pick, in the order of the picks.
            read: what the samples are: the picks, or the replacements of clips that could not be read.
            reasons: why those could not, by index.
        """
        first = shard * self.items_per_shard
        picks = self.picks[first : first + self.items_per_shard]
        assert [s.position for s in samples] == [p.position for p in picks] == [p.position for p in read]
        tensors: dict[str, Tensor] = {}
        entries: list[dict[str, Any]] = []
        for item, (wanted, pick, sample) in enumerate(zip(picks, read, samples, strict=True)):
            tensors |= {f"{item}.{name}": x.detach().cpu().contiguous() for name, x in _tensors(sample).items()}
            name = self.source.info(pick.index).name
            entry = {"name": name, "text": sample.text, "shape": list(pick.shape), "start": pick.start}
            if pick.index != wanted.index:
                reason = (reasons or {}).get(wanted.index, "")
                entry["instead_of"] = {"name": self.source.info(wanted.index).name, "reason": reason}
            entries.append(entry)
        path = _tensors_path(self.folder, shard)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        save_file(tensors, temporary)
        _sync(temporary)
        digest = _sha256(temporary)
        temporary.replace(path)
        _write_text(_entries_path(self.folder, shard), json.dumps({"sha256": digest, "items": entries}))


class ShardSource:
    """A folder of finished shards as a data set. Each item has exactly the shape it was encoded at."""

    def __init__(self, folder: Path) -> None:
        """Read the list of items; tensors stay on disk, memory-mapped.

        Raises:
            ValueError: the folder has no shards, or some are missing.
        """
        if not (folder / SUMMARY).exists():
            raise ValueError(f"{folder} has no {SUMMARY}: data.path must be a folder written by tools/precompute.py")
        self.folder = folder
        self.summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
        shards = range(self.summary["num_shards"])
        missing = [shard for shard in shards if not _entries_path(folder, shard).exists()]
        if missing:
            raise ValueError(
                f"{folder} is unfinished: {len(missing)} of {len(shards)} shards are missing, first {missing[0]:05d}: "
                "run tools/precompute.py again with the same config"
            )
        self._items: list[tuple[int, int]] = []
        self._entries: list[dict[str, Any]] = []
        for shard in shards:
            entries = json.loads(_entries_path(folder, shard).read_text())["items"]
            self._items += [(shard, item) for item in range(len(entries))]
            self._entries += entries
        replaced = [entry["instead_of"] for entry in self._entries if "instead_of" in entry]
        if replaced:
            logger.warning(
                "%s: %d of %d items stand in for clips that could not be read when it was written; the first: %s, %s",
                *(folder, len(replaced), len(self._entries), replaced[0]["name"], replaced[0]["reason"]),
            )
        self._open: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}  # open files do not travel to another process

    def __len__(self) -> int:
        return len(self._items)

    def info(self, index: int) -> ClipInfo:
        """Caption and shape of an item."""
        entry = self._entries[index]
        frames, height, width, fps = entry["shape"]
        return ClipInfo(entry["text"], frames, height, width, fps, entry["name"])

    def read(self, pick: Pick) -> Sample:
        """Latents, text features and camera of an item, in float32.

        Raises:
            ValueError: a shape other than the item's own is asked for.
        """
        entry = self._entries[pick.index]
        shape = ClipShape(*entry["shape"])
        if shape != pick.shape:
            raise ValueError(
                f"{entry['name']} was precomputed as {shape}, not {pick.shape}: leave packing.shapes empty"
            )
        shard, item = self._items[pick.index]
        file = self._file(shard)
        names = [name for name in TENSORS if f"{item}.{name}" in file.keys()]  # noqa: SIM118
        tensors = {name: file.get_tensor(f"{item}.{name}").float() for name in names}
        return Sample(
            pick.position,
            shape,
            entry["text"],
            latents=tensors["latents"],
            text_features=tensors.get("text"),
            camera=CameraPath(*(tensors[name] for name in CAMERA)) if CAMERA[0] in tensors else None,
        )

    def _file(self, shard: int) -> Any:
        """The memory-mapped shard; the least recently used is closed when too many are open."""
        if shard not in self._open:
            self._open[shard] = safe_open(_tensors_path(self.folder, shard), framework="pt")
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(shard)
        return self._open[shard]


def verify_shards(folder: Path) -> list[int]:
    """Shards whose bytes are not those that were written; reads everything. Delete their `.json` to make them again."""
    number = json.loads((folder / SUMMARY).read_text())["num_shards"]
    done = [shard for shard in range(number) if _entries_path(folder, shard).exists()]
    digests = {shard: json.loads(_entries_path(folder, shard).read_text())["sha256"] for shard in done}
    return [shard for shard in done if _sha256(_tensors_path(folder, shard)) != digests[shard]]


def _tensors(sample: Sample) -> dict[str, Tensor]:
    """What is stored of a sample, by the names of `TENSORS`."""
    assert sample.latents is not None
    found = {"latents": sample.latents}
    if sample.text_features is not None:
        found["text"] = sample.text_features
    if sample.camera is not None:
        found |= {name: getattr(sample.camera, name) for name in CAMERA}
    return found


def _tensors_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


def _entries_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.json"


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(text)
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
