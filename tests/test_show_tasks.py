"""The tool that draws every task runs each of them, on an untrained model."""

from __future__ import annotations

import pytest
import torch
from tiny_generator import tiny_generator

from genworld.data.loader import WorldData
from genworld.pipelines.video import VideoGenerator
from genworld.pipelines.world_cases import Case, still_cases
from tools import show_tasks


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    return tiny_generator()


@pytest.fixture(scope="module")
def cases(generator: VideoGenerator) -> list[Case]:
    data = generator.experiment.data
    assert isinstance(data, WorldData)
    return still_cases(data, generator.trained, 8)


@pytest.mark.parametrize("name", show_tasks.SHEETS)
def test_every_sheet_has_videos_and_labels(
    generator: VideoGenerator, cases: list[Case], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_tasks, "SECONDS", 3)
    draw, columns, _ = show_tasks.SHEETS[name]
    shown = list(draw(generator, cases))
    assert len(shown) % columns == 0, "the sheet's last row is full"
    for clip, label in shown:
        assert label
        assert torch.isfinite(clip.pixels).all()
        assert clip.pixels.shape[1] == 1 or clip.pixels.diff(dim=1).abs().max() > 0
