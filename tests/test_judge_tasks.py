"""Tasks are judged by numbers that can be worked out by hand, and a perfect model is seen to be perfect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genworld.data.loader import WorldData
from genworld.eval.palette import track_object
from genworld.experiment import build_task, load_experiment
from genworld.pipelines.judge_tasks import (
    CEILING,
    FADE,
    FRAME_TASKS,
    OURS,
    REPEAT,
    TASKS,
    TaskJudge,
    boxes,
    end_frames,
    ends_of,
    evaluate_tasks,
    given_ends,
    lines,
)
from genworld.pipelines.video import VideoGenerator
from genworld.pipelines.world_cases import Case, camera_cases, still_cases
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.types import Clip, ClipShape
from genworld.world import WorldConfig, sample_clip

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke" / "text_to_video.yaml"
SHAPE = ClipShape(9, 64, 64, 8.0)
NUM = 2


def tiny(*overrides: str) -> VideoGenerator:
    settings = ["task.sample={size: [64, 64], frames: 9, fps: 8, sampler: {num_steps: 1}}", "task.dit.depth=1"]
    experiment = load_experiment(SMOKE, [*settings, *overrides])
    task = build_task(experiment).eval()
    assert isinstance(task, TextToVideo)
    task.text.fit(["a red ball rolls to the left", "a blue cube stays still"])
    return VideoGenerator(experiment, task)


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    return tiny("task.dit.camera=true")


@pytest.fixture(scope="module")
def data(generator: VideoGenerator) -> WorldData:
    assert isinstance(generator.experiment.data, WorldData)
    return generator.experiment.data


def mean(values: Sequence) -> float:
    return float(sum(values) / len(values))


# ---- clips ----


def test_cases_are_scenes_that_were_not_trained_on(data: WorldData) -> None:
    world = replace(data.world, cameras=("stand",), occluders=0.0)
    for i, case in enumerate(still_cases(data, SHAPE, NUM)):
        clip = sample_clip(data.offset + data.num_clips + i, world, SHAPE)
        assert torch.allclose(case.pixels, clip.clip.pixels, atol=0.5 / 127.5 + 1e-6)
        assert case.text == clip.caption
        assert case.colour in case.text
        assert case.colour not in case.other_text
        assert case.other_colour in case.other_text
        assert np.allclose(case.path, clip.pixel_positions[:, 0])
        assert (case.camera.world_from_camera == case.camera.world_from_camera[0]).all()


def test_camera_cases_move_the_camera_alone(data: WorldData) -> None:
    for case in camera_cases(data, SHAPE, NUM):
        assert (case.camera.world_from_camera[0] != case.camera.world_from_camera[-1]).any()
        assert np.ptp(case.path, axis=0).max() > 0.1
    with pytest.raises(ValueError, match="judged by moving ones"):
        camera_cases(replace(data, world=WorldConfig(cameras=("stand",))), SHAPE, NUM)


# ---- what is given ----


@pytest.mark.parametrize(
    ("num_frames", "ends"),
    [(17, [(1, 0), (5, 0), (0, 5), (5, 5), (1, 1)]), (9, [(1, 0), (1, 0), (0, 1), (1, 1), (1, 1)])],
)
def test_what_each_task_gives(num_frames: int, ends: list[tuple[int, int]]) -> None:
    assert [given_ends(name, num_frames, 4) for name in FRAME_TASKS] == ends


def test_given_parts_are_those_frames() -> None:
    pixels = torch.rand(3, 17, 2, 2)
    head, tail = ends_of(pixels, (5, 1))
    assert (head.first, tail.first) == (0, 16)
    assert torch.equal(torch.cat([head.pixels, tail.pixels], 1), pixels[:, end_frames((5, 1), 17)])
    assert [part.first for part in ends_of(pixels, (0, 5))] == [12]
    assert [part.first for part in ends_of(pixels, (1, 0))] == [0]


def test_boxes_hold_their_object_with_a_margin() -> None:
    mask = torch.zeros(2, 12, 10, dtype=torch.bool)
    mask[0, 5, 4] = mask[0, 7, 6] = True  # not a solid box
    box = boxes(mask, margin=2)
    expected = torch.zeros(12, 10, dtype=torch.bool)
    expected[3:10, 2:9] = True
    assert torch.equal(box[0], expected)
    assert not box[1].any()


# ---- tasks ----


def test_an_untrained_model_is_judged_in_every_task(generator: VideoGenerator, data: WorldData) -> None:
    judge = TaskJudge(generator, generator.settings(None, None))
    results = {result.name: result for result in evaluate_tasks(judge, data, NUM)}
    assert tuple(results) == TASKS
    cases = still_cases(data, SHAPE, NUM)
    assert len(lines(results["camera"].record)) >= 4
    for result in results.values():
        json.dumps(result.record, allow_nan=False)
        assert len(result.captions) == NUM
        assert all(len(videos) == NUM for videos in result.columns.values())
        assert all(clip.shape == (3, 9, 64, 64) for videos in result.columns.values() for clip in videos)
    for name in FRAME_TASKS:
        record, columns = results[name].record, results[name].columns
        given = record["given_frames"]
        assert all(torch.equal(a[:, given], b[:, given]) for a, b in zip(columns[OURS], columns["real"], strict=True))
        assert set(record["methods"]) == {OURS, REPEAT, FADE, CEILING}
        assert record["methods"][REPEAT]["frames_judged"] == NUM * (9 - len(given))
        assert {row["reference"] for row in record["against"]} == {REPEAT, FADE}
        num = [row["num"] for row in record["against"] if (row["measure"], row["reference"]) == ("psnr", REPEAT)]
        assert sum(num) == NUM
    check_by_hand(results["first and last frame"].record, cases)


def check_by_hand(record: dict, cases: list[Case]) -> None:
    """Both baselines of "first and last frame", written out frame by frame."""
    for i, case in enumerate(cases):
        real = case.pixels
        nearest = torch.stack([real[:, 0]] * 5 + [real[:, 8]] * 4, dim=1)
        faded = torch.stack([real[:, 0] + (real[:, 8] - real[:, 0]) * f / 8 for f in range(9)], dim=1)
        for label, video in ((REPEAT, nearest), (FADE, faded)):
            error = (real[:, 1:8] - video[:, 1:8]).square().mean().clamp_min(4e-10)
            expected = 10 * torch.log10(4 / error).item()
            assert record["methods"][label]["psnr"][i] == pytest.approx(expected, abs=1e-3)
        centres = track_object(real).centres * 64
        away = [np.linalg.norm(centres[f] - centres[0 if f < 5 else 8]) for f in range(1, 8)]
        assert record["methods"][REPEAT]["position_error"][i] == pytest.approx(mean(away), abs=1e-6)
    row = next(row for row in record["against"] if row["reference"] == REPEAT and row["measure"] == "psnr")
    chosen = [i for i, case in enumerate(cases) if case.moves == (row["group"] == "moving")]
    psnr = record["methods"]
    differences = [psnr[OURS]["psnr"][i] - psnr[REPEAT]["psnr"][i] for i in chosen]
    assert row["mean"] == pytest.approx(mean(differences))
    assert row["beats"] == (mean(differences) > 0)


class Oracle(VideoGenerator):
    """Answers every request with the clip that it was made from; paints objects in the colour asked for."""

    def __init__(self, source: VideoGenerator, cases: Sequence[Case]) -> None:
        super().__init__(source.experiment, source.task)
        self.cases = cases

    def sample(self, requests: Sequence[Request], settings: tuple, *, progress: bool = False) -> list[Clip]:
        clips = []
        for request in requests:
            case = self.cases[request.seed]
            right = request.prompt == case.text
            pixels = case.pixels if right else torch.where(case.mask, case.pixels.flip(0), case.pixels)
            clips.append(Clip(pixels, request.shape.fps, request.prompt))
        return clips


def test_a_perfect_model_beats_both_baselines(generator: VideoGenerator, data: WorldData) -> None:
    cases = still_cases(data, SHAPE, 4)
    judge = TaskJudge(Oracle(generator, cases), generator.settings(None, None))
    result = judge.frames("extension backward", cases)
    assert result.record["methods"][OURS]["psnr"] == [100.0] * 4
    assert result.record["methods"][OURS]["position_error"] == [0.0] * 4
    moving = [row for row in result.record["against"] if row["group"] == "moving"]
    assert len(moving) == 4
    assert all(row["beats"] and row["excludes_zero"] and row["low"] > 0 for row in moving)
    restored = judge.inpainting(cases).record
    assert restored["restored"]["part"] == 1
    assert restored["ceiling"]["num"] == 4


def test_the_colour_is_read_inside_the_box_alone(generator: VideoGenerator, data: WorldData) -> None:
    cases = still_cases(data, SHAPE, 2)
    judge = TaskJudge(Oracle(generator, cases[::-1]), generator.settings(None, None))  # objects somewhere else
    assert cases[0].colour != cases[1].colour
    assert judge.inpainting(cases).record["restored"]["part"] == 0


def test_a_perfect_model_follows_the_camera(generator: VideoGenerator, data: WorldData) -> None:
    cases = camera_cases(data, SHAPE, 4)
    record = TaskJudge(Oracle(generator, cases), generator.settings(None, None)).camera(cases).record
    errors = {label: mean(each["position_error"]) for label, each in record["methods"].items()}
    assert errors[OURS] == errors["real"] < 0.6  # what is left is the tracker's own error
    stays = [np.linalg.norm(case.path[1:] - case.path[0], axis=1).mean() for case in cases]
    assert record["methods"][REPEAT]["position_error"] == pytest.approx(stays, abs=1e-6)
    against = {(row["reference"], row["measure"]): row for row in record["against"]}
    assert against[REPEAT, "position_error"]["beats"]
    assert not against["no camera", "position_error"]["beats"]  # here the same video


def test_bad_questions(generator: VideoGenerator, data: WorldData) -> None:
    judge = TaskJudge(generator, generator.settings(None, None))
    with pytest.raises(ValueError, match=r"unknown tasks \['teleport'\]: choose from image to video"):
        evaluate_tasks(judge, data, 2, ["teleport"])
    with pytest.raises(ValueError, match="at least 1 clip"):
        evaluate_tasks(judge, data, 0)
    blind = tiny()
    with pytest.raises(ValueError, match=r"task\.dit\.camera=true"):
        evaluate_tasks(TaskJudge(blind, blind.settings(None, None)), data, 1, ["camera"])
