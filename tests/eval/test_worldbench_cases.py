import dataclasses

import pytest

from genworld.eval.worldbench_cases import (
    ABILITIES,
    ASKS,
    CYCLES,
    FINGERPRINTS,
    SUITES,
    cases,
    fingerprint,
)
from genworld.types import ClipShape


@pytest.mark.parametrize("suite", SUITES)
def test_the_suite_is_the_one_of_the_published_hash(suite) -> None:
    assert fingerprint(cases(suite, 24)) == FINGERPRINTS[suite]


def test_fewer_cases_are_the_beginning_of_more() -> None:
    few, more = cases("single", 4), cases("single", 9)
    assert fingerprint(few) == fingerprint(more[:4]) != fingerprint(more[:5])
    assert fingerprint(cases("single", 5, first=4)) == fingerprint(more[4:])
    later = cases("single", 2, asks=("prompt",), first=3)
    assert [case.index for case in later] == [4, 6]
    prompts = cases("single", 4, asks=("prompt",))
    assert [case.ask for case in prompts] == ["prompt"] * 4
    assert fingerprint(prompts[:2]) == fingerprint([case for case in more if case.ask == "prompt"][:2])


def test_the_hash_sees_every_change() -> None:
    (case,) = cases("single", 1)
    known = {fingerprint([case])}
    story = dataclasses.replace(case.clip.scene, caption_style="detailed")
    for change in ({"seed": 1}, {"num_given": 1}, {"clip": dataclasses.replace(case.clip, scene=story)}):
        known.add(fingerprint([dataclasses.replace(case, **change)]))
    assert len(known) == 4


def test_suites_ask_for_what_their_worlds_can_have() -> None:
    asked = {
        suite: {name for case in cases(suite, 2 * len(CYCLES[suite])) for name in case.abilities} for suite in SUITES
    }
    assert asked["full"] == set(ABILITIES)
    assert asked["single"] == set(ABILITIES) - {"permanence"}
    single = cases("single", 12)
    assert all(len(case.objects) == 1 and case.objects[0].size == "large" for case in single)
    assert {case.ask for case in single} == set(ASKS)
    for case in single:
        given = case.given.shape[1]
        assert given == {"prompt": 0, "camera": 1}.get(case.ask, case.num_given)
        assert len(case.camera) == case.shape.num_frames


def test_other_sizes_and_rates() -> None:
    shape = ClipShape(33, 96, 128, 16.0)
    made = cases("single", 2, shape)
    assert [case.shape for case in made] == [shape, shape]
    assert made[1].num_given == 9  # half a second, too


@pytest.mark.parametrize(
    ("suite", "num", "shape", "message"),
    [
        ("double", 3, ClipShape(17, 64, 64, 8.0), "unknown suite 'double'"),
        ("single", 0, ClipShape(17, 64, 64, 8.0), "at least one case"),
        ("single", 3, ClipShape(17, 32, 64, 8.0), "48 pixels along the shorter side"),
        ("single", 3, ClipShape(5, 64, 64, 8.0), r"1.5 to 3.5 seconds in at least 9 frames, got 5x64x64@8 \(0.50 s\)"),
        ("single", 3, ClipShape(65, 64, 64, 8.0), r"8.00 s"),
    ],
)
def test_what_cannot_be_judged_is_refused(suite, num, shape, message) -> None:
    with pytest.raises(ValueError, match=message):
        cases(suite, num, shape)


def test_cases_are_numbered_from_nought() -> None:
    with pytest.raises(ValueError, match="numbered from 0 on, got first=-1"):
        cases("single", 2, first=-1)
