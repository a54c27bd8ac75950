"""A manifest of real clips as a `ClipSource`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from genworld.data.facts import Rejected, complete
from genworld.data.manifest import ManifestRow, read_manifest
from genworld.data.media import MediaLimits
from genworld.data.readers import ReaderKind, open_reader
from genworld.data.transforms import fit, to_pixels
from genworld.data.video import frame_times
from genworld.types import ClipInfo, Pick, Sample

logger = logging.getLogger(__name__)

CHUNK_BYTES = 16 << 20  # decoded source frames held at once; a clip of large frames is resized part by part


def scan(
    manifest: str | Path, root: str | Path | None = None, limits: MediaLimits | None = None, verify: bool = False
) -> tuple[list[ManifestRow], list[Rejected]]:
    """Every row of a manifest: the usable ones with all their facts, the others with the reason.

    Raises:
        ValueError: the manifest itself is wrong; see `read_manifest`.
    """
    return complete(read_manifest(manifest, root), Path(manifest), limits, verify)


class ManifestSource:
    """The clips of a manifest, read by timestamp. Implements `ClipSource`."""

    def __init__(
        self,
        manifest: str | Path,
        root: str | Path | None = None,
        reader: ReaderKind = "pyav",
        limits: MediaLimits | None = None,
        verify: bool = False,
    ) -> None:
        """Read the manifest and measure what it does not say.

        Args:
            manifest: see `read_manifest`.
            root: folder of the clips; by default the manifest's.
            reader: which library decodes.
            limits: on each file and each read.
            verify: check the files against the manifest's sha256 column.

        Raises:
            ValueError: the manifest is wrong, or not one of its clips can be used.
        """
        self._reader, self._limits = reader, limits or MediaLimits()
        self._rows, self.rejected = scan(manifest, root, self._limits, verify)
        self._infos = [_info(row) for row in self._rows]
        if self.rejected:
            number, total = len(self.rejected), len(self.rejected) + len(self._rows)
            logger.warning("%s: %d of %d clips cannot be used:%s", manifest, number, total, _listing(self.rejected))
        if not self._rows:
            raise ValueError(
                f"{manifest}: none of its {len(self.rejected)} clips can be used:{_listing(self.rejected)}"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def info(self, index: int) -> ClipInfo:
        """See `ClipSource`."""
        return self._infos[index]

    def read(self, pick: Pick) -> Sample:
        """Decode the picked clip at the picked shape: covered and centre-cropped, never stretched.

        Raises:
            MediaError: the file is missing or broken; the message starts with its path.
        """
        row, shape = self._rows[pick.index], pick.shape
        times = frame_times(row.start + pick.start, shape.num_frames, shape.fps)
        with open_reader(row.path, self._reader, self._limits) as reader:
            _, height, width, _ = row.facts
            size = max(CHUNK_BYTES // (height * width * 3), 1)
            parts = [
                fit(reader.read(times[first : first + size]), shape.height, shape.width)
                for first in range(0, len(times), size)
            ]
        return Sample(pick.position, shape, row.text, pixels=to_pixels(torch.cat(parts)))


def _info(row: ManifestRow) -> ClipInfo:
    num_frames, height, width, fps = row.facts
    return ClipInfo(row.text, num_frames, height, width, fps, row.name)


def _listing(rejected: Sequence[Rejected], most: int = 5) -> str:
    lines = [f"\n  {item.row.where}: {item.reason}" for item in rejected[:most]]
    more = [f"\n  and {len(rejected) - most} more"] if len(rejected) > most else []
    return "".join(lines + more)
