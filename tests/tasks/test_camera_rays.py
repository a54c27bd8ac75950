"""What a token is told of the camera: its ray, and by how much that has changed since the first frame."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_generator import random_clip, tiny_generator

from genworld.pipelines.camera import parse_camera
from genworld.tasks.given import Given, lay_given
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.types import ClipShape

SHAPE = ClipShape(17, 32, 32, 8.0)


@pytest.fixture(scope="module")
def task() -> TextToVideo:
    return tiny_generator().task


def rays_of(task: TextToVideo, words: str, given: tuple[Given, ...] = ()) -> list[torch.Tensor]:
    request = Request("a red ball", SHAPE, given=given, camera=parse_camera(words, SHAPE))
    layout = lay_given(task.vae, task.grid, SHAPE, given)
    pieces = task._pieces(request, layout.latents, layout.start, layout, (0,))
    return [piece.rays for piece in pieces if piece.rays is not None]


def test_a_standing_camera_changes_nothing(task: TextToVideo) -> None:
    (rays,) = rays_of(task, "stand")
    assert rays.shape[-1] == 12
    assert rays[..., 6:].abs().max() < 1e-6
    assert (rays[0] - rays[-1]).abs().max() < 1e-6


def test_a_pan_changes_all_rays_alike_and_more_and_more(task: TextToVideo) -> None:
    (rays,) = rays_of(task, "pan:+10deg")
    change = rays[..., 6:9].norm(dim=-1)
    assert change[0].max() < 1e-6
    assert (change.flatten(1).mean(1).diff() > 0).all()
    turned = 2 * math.sin(math.radians(10) / 2)
    assert 0.8 * turned < change[-1].min() <= change[-1].max() < 1.02 * turned
    assert rays[..., 9:].abs().max() < 1e-6, "a camera that only turns has no moments"
    torch.testing.assert_close(rays[..., :6] - rays[:1, ..., :6], rays[..., 6:])


def test_what_is_given_elsewhere_is_told_the_same_as_in_its_place(task: TextToVideo) -> None:
    tail = (Given(random_clip(5), first=12),)
    video, piece = rays_of(task, "orbit:+20deg", tail)
    torch.testing.assert_close(piece[0], video[3])
    torch.testing.assert_close(piece[1], video[4])
