"""What the inspection says is what training will do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.data.inspect import first_samples, inspect_clips, inspect_packs, totals
from genworld.data.packing import PackingConfig, PackOrder, ShapeConfig
from genworld.types import ClipInfo, ClipShape, Pick, Sample, TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
INFOS = [
    ClipInfo("a", 100, 180, 320, 25.0, "wide.mp4"),
    ClipInfo("b", 30, 256, 256, 7.0, "slow.mp4"),
    ClipInfo("c", 3, 256, 256, 8.0, "short.mp4"),
    ClipInfo("d", 1, 256, 256, 0.0, "image.png"),
]
CONFIG = PackingConfig(
    shapes=[ShapeConfig(pixels=64 * 64, frames=17, fps=8.0, weight=3.0), ShapeConfig(pixels=96 * 96)],
    tokens_per_pack=400,
    packs_per_step=2,
)


def test_uses_are_those_of_the_order() -> None:
    reports = list(inspect_clips(INFOS, GRID, CONFIG))
    assert [use.probability for use in reports[0].uses] == pytest.approx([0.75, 0.25])
    order = PackOrder(INFOS, GRID, CONFIG, 0)
    for position in range(200):
        pick = order.pick(position)
        use = next(use for use in reports[pick.index].uses if use.shape == pick.shape)
        assert 0 <= pick.start <= use.slack
        assert use.tokens == GRID.num_tokens(pick.shape)


def test_reports_read_well() -> None:
    wide, slow, short, image = map(str, inspect_clips(INFOS, GRID, CONFIG))
    assert wide.startswith("wide.mp4  [320x180 25 fps 4.00 s]\n     75%   17 x 48x80 @ 8 fps")
    assert "frames at 0, 0.125, 0.250 .. 2.000 s, starting in [0, 1.96] s" in wide
    assert "8 fps, effectively 7 (repeats frames)" in slow
    assert "image.png  [256x256 image]" in image
    videos_only = replace(CONFIG, shapes=CONFIG.shapes[:1])
    assert "REJECTED: its 0.38 s are too short" in str(list(inspect_clips(INFOS, GRID, videos_only))[2])
    assert "100%" in short
    text = totals(list(inspect_clips(INFOS, GRID, videos_only)))
    assert text.startswith("2 of 4 clips are used, 2 rejected")
    assert "50.0%  17x48x80@8" in text


def test_pack_statistics() -> None:
    report = inspect_packs(INFOS, GRID, CONFIG, seed=0, num_steps=30)
    assert report.imbalance[1] == 0
    assert 0 <= report.imbalance[2] < 0.05
    assert 0 <= report.imbalance[8] < 0.05
    assert report.unfilled == pytest.approx(1 - report.tokens_per_pack / 400)
    assert 0 <= report.unfilled < 0.1
    assert "on 8 (over 30 steps)" in str(report)


def test_the_sheet_shows_the_first_samples() -> None:
    class Source:
        def __len__(self) -> int:
            return len(INFOS)

        def info(self, index: int) -> ClipInfo:
            return INFOS[index]

        def read(self, pick: Pick) -> Sample:
            frames, height, width, _ = pick.shape
            return Sample(pick.position, pick.shape, "text", pixels=torch.zeros(3, frames, height, width))

    order = PackOrder(INFOS, GRID, CONFIG, 0)
    shown = first_samples(Source(), order, 5)
    assert [pick for pick, _ in shown] == [order.pick(i) for i in range(5)]
    assert all(isinstance(sample.shape, ClipShape) for _, sample in shown)
