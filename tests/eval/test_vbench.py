"""VBench: names and numbers of its videos, and its scores against a table that was added up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genworld.eval.vbench import DIMENSIONS, read_prompts, read_results, vbench_scores, videos_of

RAW = {
    "subject_consistency": 0.95,
    "background_consistency": 0.96,
    "temporal_flickering": 0.98,
    "motion_smoothness": 0.9975,
    "dynamic_degree": 0.5,
    "aesthetic_quality": 0.6,
    "imaging_quality": 0.65,
    "object_class": 0.9,
    "multiple_objects": 0.6,
    "human_action": 0.95,
    "color": 0.85,
    "spatial_relationship": 0.7,
    "scene": 0.4111,
    "appearance_style": 0.0009,
    "temporal_style": 0.182,
    "overall_consistency": 0.273,
}


def test_scores_by_hand() -> None:
    """The seven of Quality normalised, dynamic degree at half weight; the nine of Semantic at weight one.

    (0.95 - 0.1462) / 0.8538 = 0.941438, (0.96 - 0.2615) / 0.7385 = 0.945836, (0.98 - 0.6293) / 0.3707 = 0.946048,
    motion smoothness at its best 1, and 0.6, 0.65, 0.5: (0.941438 + 0.945836 + 0.946048 + 1 + 0.6 + 0.65 + 0.25) / 6.5.
    Scene at half of its best 0.5, appearance style at its worst 0, the two of ViCLIP 0.5 and 0.75:
    (0.9 + 0.6 + 0.95 + 0.85 + 0.7 + 0.5 + 0 + 0.5 + 0.75) / 9.
    """
    scores = vbench_scores(RAW)
    assert scores.normalised["subject_consistency"] == pytest.approx(0.941438, abs=1e-6)
    assert scores.quality == pytest.approx(5.333322 / 6.5, abs=1e-6)
    assert scores.semantic == pytest.approx(5.75 / 9, abs=1e-9)
    assert scores.total == pytest.approx((4 * 5.333322 / 6.5 + 5.75 / 9) / 5, abs=1e-6)


def test_there_are_sixteen_dimensions_in_eleven_suites() -> None:
    assert len(DIMENSIONS) == 16
    assert sum(each.quality for each in DIMENSIONS.values()) == 7
    assert len({each.suite for each in DIMENSIONS.values()}) == 11
    best = {name: each.high for name, each in DIMENSIONS.items()}
    assert vbench_scores(best).total == pytest.approx(1.0)
    worst = {name: each.low for name, each in DIMENSIONS.items()}
    assert vbench_scores(worst).total == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scene": None}, "missing are scene.*would count them as 0"),
        ({"sharpness": 0.5}, "unknown dimensions sharpness"),
        ({"imaging_quality": 65.0}, r"imaging_quality is 65.0, expected was a number in \[0, 1\].*divide it by 100"),
        ({"color": float("nan")}, "color is nan"),
        ({"color": -0.1}, "color is -0.1"),
    ],
)
def test_no_score_from_what_is_not_there(change, message) -> None:
    raw = {name: value for name, value in (RAW | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        vbench_scores(raw)


def test_result_files_are_read_and_must_agree(tmp_path: Path) -> None:
    for name, value in RAW.items():
        content = {name: [value, [{"video_path": "a-0.mp4", "video_results": value}]]}
        (tmp_path / f"{name}_eval_results.json").write_text(json.dumps(content))
    assert read_results([tmp_path]) == RAW
    assert read_results([tmp_path / "scene_eval_results.json"]) == {"scene": RAW["scene"]}
    (tmp_path / "again_eval_results.json").write_text(json.dumps({"scene": [0.1, []]}))
    with pytest.raises(ValueError, match="keep one run"):
        read_results([tmp_path])
    for content, message in [
        ("{", "is not JSON"),
        ("[]", "expected a .*_eval_results.json"),
        ('{"hue": [1, []]}', "'hue' is no dimension"),
        ('{"scene": []}', r"expected \[mean, results of each video\]"),
    ]:
        (tmp_path / "again_eval_results.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_results([tmp_path / "again_eval_results.json"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no \*_eval_results.json"):
        read_results([tmp_path / "none"])


def test_five_videos_of_each_prompt_and_twenty_five_where_flicker_is_judged(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("alley\na beach, “dusk”\n\n")
    (tmp_path / "temporal_flickering.txt").write_text("alley\na quiet room\n")
    (tmp_path / "notes.txt").write_text("not a suite\n")
    counts = read_prompts(tmp_path)
    assert counts == {"alley": 25, "a beach, “dusk”": 5, "a quiet room": 25}
    wanted = videos_of(counts)
    assert len(wanted) == 55
    assert [each.name for each in wanted if each.prompt == "a beach, “dusk”"] == [
        f"a beach, “dusk”-{i}.mp4" for i in range(5)
    ]
    assert read_prompts(tmp_path / "scene.txt") == {"alley": 5, "a beach, “dusk”": 5}


def test_a_full_run_has_6230_videos(tmp_path: Path) -> None:
    """946 prompts, of which 75 are of temporal flickering: 946 x 5 + 75 x 20."""
    rows = [
        {"prompt_en": f"prompt {i}", "dimension": ["temporal_flickering"] if i < 75 else ["scene"]} for i in range(946)
    ]
    (tmp_path / "VBench_full_info.json").write_text(json.dumps(rows))
    assert len(videos_of(read_prompts(tmp_path / "VBench_full_info.json"))) == 6230


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("and/or", "holds '/'"), ("x" * 250, "a file name of 256 bytes"), ("é" * 130, "a file name of 266 bytes")],
)
def test_names_that_no_file_can_have(tmp_path: Path, prompt: str, message: str) -> None:
    (tmp_path / "scene.txt").write_text(f"alley\n{prompt}\n")
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / "scene.txt")


def test_the_longest_name_that_files_can_have(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("x" * 249)
    wanted = videos_of(read_prompts(tmp_path / "scene.txt"))
    assert [len(each.name) for each in wanted] == [255] * 5
    (tmp_path / wanted[0].name).write_text("fits")


def test_no_prompts(tmp_path: Path) -> None:
    (tmp_path / "scene.txt").write_text("\n")
    for path, message in [(tmp_path / "scene.txt", "no prompts"), (tmp_path / "no.txt", "no such file of prompts")]:
        with pytest.raises(ValueError, match=message):
            read_prompts(path)
