"""The world benchmark of a generator: who is asked what, what comes back, and that two processes score as one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import torch
from tiny_generator import tiny_generator

from genworld.eval.worldbench import WorldBench
from genworld.eval.worldbench_cases import FINGERPRINTS, cases, fingerprint
from genworld.eval.worldbench_defects import plant
from genworld.pipelines.benchmark import Court, asks_of, line, make_videos, record, run_benchmark

SHAPE = "task.sample={size: [64, 64], frames: 17, fps: 8, sampler: {num_steps: 1}}"


@pytest.fixture(scope="module")
def result() -> dict:
    return run_benchmark(tiny_generator(SHAPE, "task.given={nothing: 1, first_frame: 1}"), "single", 6, batch=4)


def test_a_run_is_asked_scored_and_bounded(result) -> None:
    plain = json.loads(json.dumps(record(result)))
    assert plain["asks"] == ["prompt", "frames", "camera"]
    assert plain["suite_sha256"] == FINGERPRINTS["single"]
    assert plain["cases_sha256"] == fingerprint(cases("single", 6))
    assert plain["not_asked"] == {
        "permanence": "suite 'single' has no such case",
        "interaction": "too few videos to reach such a case",
    }
    for each in plain["abilities"].values():
        assert 0 <= each["low"] <= each["score"] <= each["high"] <= 1
        assert each["ceiling"] >= 0.97 > each["score"]  # its weights are noise
        assert each["floor"] <= 1
        assert each["criteria"]
    assert [video["prompt"] for video in plain["videos"]] == result["sheet"]["captions"]
    assert [clip.shape for clip in result["sheet"]["columns"]["made"]] == [(3, 17, 64, 64)] * 6


def test_the_line(result) -> None:
    said = line(result)
    assert said.startswith("world[single, 6 videos]: text 0.")
    assert "\n" not in said
    for name in ("text", "3D", "reasoning"):
        assert f" {name} " in said
    assert " consistency " in said
    assert said.count("floor") == said.count("ceiling") - 1  # shuffled prompts are no floor of consistency


def test_models_are_asked_only_what_they_take() -> None:
    generator = tiny_generator(SHAPE, "task.dit.camera=false")
    assert asks_of(generator) == ("prompt",)
    text_only = run_benchmark(generator, "single", 3)
    assert {video["kind"] for video in text_only["videos"]} == {"words"}
    assert text_only["not_asked"]["reasoning"] == "the model does not take first frames"
    assert text_only["not_asked"]["coherence"] == "the model does not take a camera path"


def test_what_is_given_is_kept_and_batches_do_not_matter() -> None:
    generator = tiny_generator(SHAPE, "task.given={nothing: 1, head: 1}")
    chosen = cases("single", 4)
    settings = generator.settings(None, None)
    together = make_videos(generator, chosen, range(4), settings)
    apart = [make_videos(generator, [case], [i], settings)[0] for i, case in enumerate(chosen)]
    for case, one, other in zip(chosen, together, apart, strict=True):
        given = case.given.shape[1]
        torch.testing.assert_close(one[:, :given], case.given, atol=1e-6, rtol=0)
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_real_videos_as_answers_lie_above_the_floor_at_the_ceiling() -> None:
    chosen = cases("full", 16)
    court = Court("full", chosen, ("prompt", "frames", "camera"))
    court.judge(range(16), chosen, [case.pixels for case in chosen])
    found = court.result()
    assert found["mean"]["score"] == found["mean"]["ceiling"] >= 0.97
    assert "ceiling_vae" not in found["mean"]
    for name in ("text", "reasoning", "interaction"):
        assert found["abilities"][name]["floor"] < 0.5
    assert found["not_asked"] == {}


def test_sizes_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(ValueError, match="48 pixels along the shorter side"):
        run_benchmark(tiny_generator(), "single", 2)


def _share(mine: list[int]) -> dict[str, torch.Tensor]:
    """What the metric says of the videos `mine`, or of everyone's in a group of processes."""
    made = cases("single", 6)
    bench = WorldBench()
    for i in mine:
        video = plant(made[i], "frozen") if i % 2 else None
        bench.update([made[i].pixels if video is None else video], [made[i]], [i])
    return {**bench.compute(), **{f"{name} of each": value for name, value in bench.per_video().items()}}


def _process(rank: int, shares: list[list[int]], folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", timedelta(seconds=60), len(shares), rank)
    torch.save(_share(shares[rank]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _result(mine: range) -> dict:
    """Of real videos and planted ones, as the share `mine` of a process finds it."""
    court = Court("single", cases("single", 6), ("prompt", "frames", "camera"))
    for i in mine:
        case = court.cases[i].afresh()
        video = plant(case, "frozen") if i % 2 else None
        court.judge([i], [case], [case.pixels if video is None else video], [case.pixels])
    return court.result()


def _court(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", timedelta(seconds=60), 2, rank)
    torch.save(_result(range(6)[rank::2]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_find_what_one_finds(tmp_path) -> None:
    torch.set_num_threads(1)
    expected = _result(range(6))
    torch.multiprocessing.start_processes(_court, (str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert record(found) == record(expected)
        assert found["sheet"]["captions"] == expected["sheet"]["captions"]
        for name, videos in expected["sheet"]["columns"].items():
            assert all(torch.equal(*pair) for pair in zip(videos, found["sheet"]["columns"][name], strict=True))


def test_cases_keep_no_pictures() -> None:
    case = cases("single", 1)[0]
    assert "pixels" not in vars(case)
    assert not {"clip", "stage", "masks", "visibility"} & set(vars(case.clip))
    fingerprint([case])
    assert not {"clip", "stage", "masks", "visibility"} & set(vars(case.clip))


def test_two_processes_are_one(tmp_path) -> None:
    torch.set_num_threads(1)  # threads of this process would not survive the fork
    shares = [[3, 0, 5, 4], [2, 1]]
    expected = _share(list(range(6)))
    torch.multiprocessing.start_processes(_process, (shares, str(tmp_path)), nprocs=2, start_method="fork")
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, equal_nan=True, atol=0, rtol=0, msg=name)
