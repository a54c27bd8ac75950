import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genworld.eval.continuation import (
    cross_fade,
    made_psnr,
    paired_difference,
    pixel_centres,
    position_error,
    repeat_nearest,
    seam_step,
)
from genworld.eval.palette import track_object
from genworld.world.objects import PALETTE

NUM_FRAMES = 9


def square(lefts: Sequence[float | None], colour: str = "red", side: int = 12) -> torch.Tensor:
    """A square of a palette colour on grey, at column `lefts[f]` of frame f (None: not there), rows 20 to 32."""
    video = torch.full((3, len(lefts), 48, 64), 0.2)
    for frame, left in enumerate(lefts):
        if left is not None:
            x = int(left)
            video[:, frame, 20 : 20 + side, x : x + side] = 2 * torch.tensor(PALETTE[colour]).view(3, 1, 1) - 1
    return video


def mask(*frames: int) -> torch.Tensor:
    given = torch.zeros(NUM_FRAMES, dtype=torch.bool)
    given[list(frames)] = True
    return given


def centres(lefts: list[int], side: int = 12) -> np.ndarray:
    return np.array([(left + side / 2, 20 + side / 2) for left in lefts])


EVERY = np.ones(NUM_FRAMES, dtype=bool)
MOVING = [4 + 3 * frame for frame in range(NUM_FRAMES)]


# ---- baselines ----


def test_the_nearest_given_frame_is_repeated() -> None:
    video = torch.arange(NUM_FRAMES).float().expand(3, 2, 2, -1).movedim(-1, 1)
    assert repeat_nearest(video, mask(0))[0, :, 0, 0].tolist() == [0] * 9
    assert repeat_nearest(video, mask(0, 1, 2))[0, :, 0, 0].tolist() == [0, 1] + [2] * 7
    assert repeat_nearest(video, mask(0, 8))[0, :, 0, 0].tolist() == [0] * 5 + [8] * 4  # the earlier of two


def test_cross_fade_is_linear_between_the_given_frames() -> None:
    values = torch.tensor([2.0, 7, 7, 7, 6, 1, 1, 1, 1])
    video = values.expand(3, 2, 2, -1).movedim(-1, 1)
    assert cross_fade(video, mask(0, 4))[0, :, 0, 0].tolist() == [2, 3, 4, 5, 6, 6, 6, 6, 6]
    assert torch.equal(cross_fade(video, mask(6)), repeat_nearest(video, mask(6)))


@pytest.mark.parametrize("baseline", [repeat_nearest, cross_fade])
def test_baselines_keep_what_is_given_and_see_nothing_else(baseline) -> None:
    video = torch.rand(3, NUM_FRAMES, 4, 4, generator=torch.Generator().manual_seed(0))
    given = mask(0, 1, 7)
    other = torch.where(given.view(1, -1, 1, 1), video, -1.0)
    assert torch.equal(baseline(video, given), baseline(other, given))
    assert torch.equal(baseline(video, given)[:, given], video[:, given])


def test_psnr_counts_only_what_was_made() -> None:
    real = torch.zeros(3, NUM_FRAMES, 4, 4)
    made = real.clone()
    made[:, 0] = 1.0  # given: does not matter
    assert made_psnr(real, made, mask(0)) == 100
    made[:, 1:] = 0.2
    assert made_psnr(real, made, mask(0)) == pytest.approx(20.0)  # 10 log10(4 / 0.04)


def test_a_baseline_against_itself_is_no_better() -> None:
    videos = [square(MOVING), square(MOVING[::-1])]
    scores = [made_psnr(video, repeat_nearest(video, mask(0)), mask(0)) for video in videos]
    assert scores[0] < 25
    difference = paired_difference(scores, scores)
    assert (difference.mean, difference.low, difference.high, difference.num) == (0, 0, 0, 2)
    assert not difference.beats
    assert not difference.excludes_zero


# ---- where the object is ----


def test_a_square_with_a_known_error() -> None:
    track = track_object(square([left + 5 for left in MOVING]))
    assert pixel_centres(track_object(square(MOVING))) == pytest.approx(centres(MOVING), abs=1e-6)
    error = position_error(track, centres(MOVING), EVERY, "red")
    assert error.pixels == pytest.approx(5)
    assert (error.num_judged, error.num_missing) == (9, 0)


def test_only_the_frames_asked_for_are_judged() -> None:
    track = track_object(square([4] + [left + 5 for left in MOVING[1:]]))
    truth = centres(MOVING)
    assert position_error(track, truth, ~EVERY).num_judged == 0
    assert math.isnan(position_error(track, truth, ~EVERY).pixels)
    assert position_error(track, truth, ~mask(0).numpy()).pixels == pytest.approx(5)
    truth[1:5] = math.nan
    assert position_error(track, truth, EVERY).num_judged == 5
    assert position_error(track, truth, EVERY).pixels == pytest.approx(4 * 5 / 5)


def test_a_frame_without_the_object_costs_as_much_as_the_farthest_corner() -> None:
    lefts: list[float | None] = [*MOVING]
    lefts[4] = None
    truth = centres(MOVING)  # of frame 4: (22, 26) of 64 x 48
    error = position_error(track_object(square(lefts)), truth, EVERY, "red")
    assert (error.num_judged, error.num_missing) == (9, 1)
    assert error.pixels == pytest.approx(math.hypot(64 - 22, 26) / 9)
    anywhere = [np.linalg.norm(truth[4] - (x, y)) for x in range(65) for y in range(49)]
    assert error.pixels * 9 == pytest.approx(max(anywhere))  # no answer could have been worse


def test_a_baseline_is_not_punished_for_missing_frames() -> None:
    lefts: list[float | None] = [*MOVING]
    lefts[0] = lefts[4] = lefts[5] = None
    error = position_error(track_object(square(lefts)), centres(MOVING), EVERY, missing="interpolate")
    assert error.num_missing == 3
    assert error.pixels == pytest.approx(3 / 9)  # frame 0 takes its neighbour's place, 3 pixels away


@pytest.mark.parametrize("missing", ["worst", "interpolate"])
def test_an_object_that_is_nowhere_is_worst_for_anyone(missing) -> None:
    error = position_error(track_object(square([None] * 9)), centres(MOVING), EVERY, missing=missing)
    assert error.num_missing == 9
    assert error.pixels > 40


def test_an_object_of_another_colour_is_not_found() -> None:
    track = track_object(square(MOVING, "blue"))
    assert position_error(track, centres(MOVING), EVERY, "blue").num_missing == 0
    assert position_error(track, centres(MOVING), EVERY, "red").num_missing == 9


# ---- differences ----


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    source = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        found = paired_difference((0.5 + source.normal(size=40)).tolist(), [0.0] * 40, seed=trial, resamples=500)
        covered += found.low <= 0.5 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_a_clear_difference_excludes_zero() -> None:
    found = paired_difference([3.0, 4.0, 5.0, 4.0], [1.0, 1.0, 1.0, 1.0])
    assert found.mean == 3
    assert 2 <= found.low <= 3 <= found.high <= 4
    assert found.beats
    assert found.excludes_zero
    other = paired_difference([1.0, 1.0], [3.0, 4.0])
    assert not other.beats
    assert other.excludes_zero


def test_bad_questions() -> None:
    video = torch.zeros(3, NUM_FRAMES, 4, 4)
    with pytest.raises(ValueError, match="no frame is given"):
        repeat_nearest(video, mask())
    with pytest.raises(ValueError, match="every frame is given"):
        made_psnr(video, video, mask(*range(NUM_FRAMES)))
    with pytest.raises(ValueError, match=r"9 frames but `given` has shape \[4\]"):
        cross_fade(video, torch.ones(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="the track has 9 frames"):
        position_error(track_object(square(MOVING)), centres(MOVING[:5]), EVERY)
    with pytest.raises(ValueError, match="as many clips"):
        paired_difference([1.0], [])
    with pytest.raises(ValueError, match="no finite difference"):
        paired_difference([math.nan], [1.0])


def test_a_seam_is_the_step_from_given_to_made() -> None:
    video = torch.zeros(3, 2, 2, 3)
    video[..., 2] = 0.5  # a step between columns 1 and 2
    video[:, 1] += 0.25  # and one between the frames
    columns = torch.tensor([True, True, False]).expand(2, 2, 3)
    assert seam_step(video, columns) == pytest.approx(0.5)
    frames = torch.tensor([True, False])[:, None, None].expand(2, 2, 3)
    assert seam_step(video, frames) == pytest.approx(0.25)
    assert seam_step(video, ~frames) == seam_step(video, frames)
    with pytest.raises(ValueError, match="no seam"):
        seam_step(video, torch.ones(2, 2, 3, dtype=torch.bool))
