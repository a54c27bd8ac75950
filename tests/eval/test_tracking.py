import numpy as np
import torch

from genworld.eval.tracking import find_things, find_wall, gaps_of, hidden_frames, shrunk
from genworld.eval.worldbench_cases import cases
from genworld.world.objects import PALETTE

GREY = 0.4


def blocks(*boxes: tuple[str, slice, slice, slice], frames: int = 9) -> torch.Tensor:
    """A grey clip with coloured boxes: colour, frames, rows, columns."""
    clip = torch.full((3, frames, 64, 64), GREY)
    for colour, when, rows, columns in boxes:
        clip[:, when, rows, columns] = torch.tensor(PALETTE[colour]).view(3, 1, 1, 1) * 2 - 1
    return clip


def test_things_of_real_scenes_are_found_where_they_are() -> None:
    for case in cases("full", 8):
        things = {thing.colour: thing for thing in find_things(case.pixels, case.wall)}
        assert set(things) == {wanted.colour for wanted in case.objects}
        for index, wanted in enumerate(case.objects):
            found, real = things[wanted.colour].masks, case.clip.masks[:, index].numpy()
            assert (found & real).sum() / (found | real).sum() > 0.65
            assert things[wanted.colour].parts.max() == 1


def test_walls_are_found_in_the_picture_and_only_there() -> None:
    made = cases("full", 8)
    for case in made:
        if case.ask != "prompt":
            continue
        wall = find_wall(case.pixels)
        if case.wall is None:
            assert wall is None
        else:
            assert wall is not None
            assert (wall & case.wall).sum() / (wall | case.wall).sum() > 0.6


def test_what_passes_slowly_before_a_wall_does_not_hide_it() -> None:
    wall = slice(20, 36), slice(20, 44)
    ball = [("green", slice(i, i + 1), slice(22, 40), slice(14 + 3 * i, 30 + 3 * i)) for i in range(9)]  # mostly there
    clip = blocks()
    clip[:, :, *wall] = -0.4
    both = torch.where(blocks(*ball) == GREY, clip, blocks(*ball))
    for video in (clip, both):
        found, truth = find_wall(video), np.zeros((64, 64), dtype=bool)
        truth[wall] = True
        assert found is not None
        assert (found & truth).sum() / (found | truth).sum() > 0.6


def test_a_shadow_at_the_foot_of_a_wall_is_not_wall() -> None:
    clip, truth = blocks(), np.zeros((64, 64), dtype=bool)
    truth[20:36, 20:44] = True
    clip[:, :, truth] = -0.4
    clip[:, :, 36:44, 24:31] = -0.5  # with it the wall fills 0.74 of the box around both
    found = find_wall(clip)
    assert found is not None
    np.testing.assert_array_equal(found, truth)


def test_what_is_dark_and_no_box_is_no_wall() -> None:
    rows, columns = np.indices((64, 64))
    for shape in (rows + columns < 60, np.abs(rows - 32) + np.abs(columns - 32) < 20, (rows < 10) | (columns < 10)):
        clip = blocks()
        clip[:, :, shape] = -0.4
        assert find_wall(clip) is None


def test_two_patches_of_a_colour_are_one_thing_only_behind_another() -> None:
    rows, left, right = slice(20, 34), slice(10, 18), slice(24, 32)
    halves = [("red", slice(None), rows, left), ("red", slice(None), rows, right)]
    (apart,) = find_things(blocks(*halves))
    assert set(apart.parts) == {2}
    covered = find_things(blocks(*halves, ("blue", slice(None), slice(16, 38), slice(18, 24))))
    assert {thing.colour: set(thing.parts) for thing in covered} == {"red": {1}, "blue": {1}}


def test_presence_gaps_and_edges() -> None:
    (thing,) = find_things(
        blocks(
            ("green", slice(0, 3), slice(0, 12), slice(30, 42)), ("green", slice(5, 9), slice(20, 32), slice(30, 42))
        )
    )
    assert gaps_of(thing.present) == [(3, 5)]
    assert thing.cut.tolist() == [True] * 3 + [False] * 6
    np.testing.assert_allclose(thing.centres[5], np.array([36.0, 26.0]) / 64)
    assert np.isnan(thing.centres[3]).all()
    assert thing.whole.tolist() == [False] * 5 + [True] * 4


def test_the_wall_hides_only_what_it_has_begun_to_cover() -> None:
    wall = np.zeros((64, 64), dtype=bool)
    wall[10:40, 30:50] = True
    whole = ("red", slice(0, 4), slice(20, 32), slice(16, 28))
    sliver = ("red", slice(4, 5), slice(20, 32), slice(24, 29))
    (gone,) = find_things(blocks(whole), wall)
    (covered,) = find_things(blocks(whole, sliver), wall)
    assert not hidden_frames(gone, wall).any()
    assert hidden_frames(covered, wall).tolist() == [False] * 5 + [True] * 4
    assert not hidden_frames(covered, None).any()


def test_what_comes_out_larger_does_not_make_what_went_in_look_covered() -> None:
    wall = np.zeros((64, 64), dtype=bool)
    wall[10:40, 30:50] = True
    small = ("red", slice(0, 3), slice(20, 30), slice(20, 30))
    large = ("red", slice(5, 9), slice(16, 36), slice(50, 63))
    (thing,) = find_things(blocks(small, large), wall)
    before = np.arange(9) < 3
    assert shrunk(thing).tolist() == [True] * 3 + [False] * 6
    assert not shrunk(thing, before)[before].any()
