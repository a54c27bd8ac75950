import pytest
import torch

from genworld.eval.palette import track_object
from genworld.eval.shape_recogniser import cut_out, recognise_shapes, train_shape_recogniser
from genworld.world.clip import sample_clip
from genworld.world.layout import WorldConfig
from genworld.world.objects import SHAPES


def held_out(count: int) -> tuple[list[torch.Tensor], list[str]]:
    config = WorldConfig(min_objects=1, max_objects=1, cameras=("stand",), occluders=0.0)
    made = [sample_clip(seed, config) for seed in range(10_000, 10_000 + count)]
    return [clip.clip.pixels for clip in made], [clip.scene.objects[0].shape for clip in made]


def test_cuttings_hold_the_object_and_nothing_of_its_place_or_hue() -> None:
    pixels, _ = held_out(1)
    track = track_object(pixels[0])
    cuttings = cut_out(pixels[0], track)
    assert cuttings.shape == (17, 2, 32, 32)
    middle, corner = cuttings[:, 1, 12:20, 12:20].mean(), cuttings[:, 1, :3, :3].mean()
    assert middle > corner + 0.3
    moved = torch.roll(pixels[0], (3, -2), (2, 3))
    torch.testing.assert_close(cut_out(moved, track_object(moved)), cuttings, atol=1e-4, rtol=0)
    empty = torch.zeros(3, 5, 64, 64)
    assert len(cut_out(empty, track_object(empty))) == 0


def test_a_short_training_learns_and_repeats() -> None:
    """Far above chance (0.2) after a few seconds; the same seed gives the same network."""
    first, second = (train_shape_recogniser(seed=1, num_clips=50, num_steps=15) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    pixels, shapes = held_out(20)
    answers = recognise_shapes(first, pixels)
    assert sum(a == b for a, b in zip(answers, shapes, strict=True)) / 20 > 0.35
    assert set(answers) <= set(SHAPES)
    assert recognise_shapes(first, [torch.zeros(3, 5, 64, 64)]) == [None]


@pytest.mark.slow
def test_shapes_of_held_out_clips() -> None:
    pixels, shapes = held_out(150)
    answers = recognise_shapes(train_shape_recogniser(), pixels)
    assert sum(a == b for a, b in zip(answers, shapes, strict=True)) / 150 >= 0.97
