"""A video is told to be closest to the clip it comes from."""

import torch

from genworld.eval.nearest import closest_clips, distance, excerpts
from genworld.types import ClipInfo, ClipShape, Pick, Sample


class Brightening:
    """Clip i is all of brightness i / 4, and gets a little brighter with time."""

    def __len__(self) -> int:
        return 4

    def info(self, index: int) -> ClipInfo:
        return ClipInfo("", 40, 16, 16, 8.0)

    def read(self, pick: Pick) -> Sample:
        value = pick.index / 4 + 0.02 * pick.start
        shape = pick.shape
        return Sample(pick.position, shape, "", torch.full((3, shape.num_frames, shape.height, shape.width), value))


def test_closest() -> None:
    source = Brightening()
    infos = [source.info(i) for i in range(4)]
    videos = [torch.full((3, 5, 16, 16), value) for value in (0.76, 0.0, 0.24)]
    assert [index for index, _ in closest_clips(source, infos, videos, 8.0)] == [3, 0, 1]


def test_excerpts_span_the_clip_and_the_nearest_counts() -> None:
    parts = excerpts(Brightening(), 0, ClipShape(9, 16, 16, 8.0), num=4)
    starts = [part[0, 0, 0, 0].item() / 0.02 for part in parts]
    assert starts[0] == 0.0
    assert 3.0 < starts[-1] <= 4.0
    assert distance(parts[2], parts) == 0.0
