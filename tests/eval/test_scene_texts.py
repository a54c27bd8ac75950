"""Descriptions and plans against the truth: what is right earns all, and every single wrong earns less."""

from itertools import pairwise
from pathlib import Path

import pytest
from tiny_rooms import room_turns

from genworld.data.scene_exam import RoomExam, dialogue_type, room_exam
from genworld.eval.scene_texts import mark_description, mark_plan, score_descriptions, score_plans
from genworld.world.rooms import sample_floor
from genworld.world.rooms.language import Facts
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.plans import plans


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> RoomExam:
    return room_exam(room_turns(tmp_path_factory.mktemp("rooms"), "validation"), 3)


def test_the_exam_is_fixed_and_every_turn_has_its_question(exam: RoomExam, tmp_path: Path) -> None:
    again = room_exam(room_turns(tmp_path, "validation"), 3)
    assert [(turn.id, turn.prompt, turn.answer) for turn in exam.turns] == [
        (turn.id, turn.prompt, turn.answer) for turn in again.turns
    ]
    assert [turn.id for turn in exam.turns] == [question.id for question in exam.questions]
    assert len({turn.id for turn in exam.turns}) == len(exam.turns)
    kinds = {turn.kind for turn in exam.turns}
    assert {"count", "ground", "caption", "describe", "plan", "dialogue"} <= kinds
    talk = [turn for turn in exam.turns if turn.kind == "dialogue"]
    for turn in talk:
        assert len(turn.history) % 2 == 0
    assert any(turn.history[-2:] == (before.prompt, before.answer) for before, turn in pairwise(talk))


def test_the_truth_earns_everything_and_another_floor_less(exam: RoomExam) -> None:
    truth = {question.id: question.answers[0] for question in exam.questions}
    for kind in ("describe", "plan"):
        asked = [question for question in exam.questions if question.type == kind]
        assert asked
        wrong = {question.id: "1. Go away." for question in asked}
        shares = (
            score_descriptions(asked, truth, wrong)
            if kind == "describe"
            else score_plans(asked, truth, wrong, exam.facts)
        )
        assert {figure.value for figure in shares.scores.values()} == {100.0}
        assert {figure.value for figure in shares.blind.values()} == {0.0}
        assert shares.num == len(asked)
        assert "blind 0.0" in str(shares)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("A large matte red box in the kitchen, next to a blue bin.", {"kind", "colour", "size", "all three"}),
        ("A small matte red box in the kitchen.", {"kind", "colour"}),
        ("A large shiny blue bin, next to a red box.", {"size"}),
        ("In the kitchen.", set()),
        ("", set()),
    ],
)
def test_parts_of_a_description(said: str, right: set[str]) -> None:
    marks = mark_description(said, "A large wooden red box in the kitchen, on a blue table.")
    assert {name for name, mark in marks.items() if mark} == right


def test_every_plan_of_the_world_is_well_formed_and_what_is_wrong_is_told() -> None:
    facts = Facts(sample_floor(14))
    made = plans(facts, 8)
    assert len(made) > 3
    for plan in made:
        assert set(mark_plan(plan.text, plan.text, facts).values()) == {1.0}
        assert set(mark_plan(plan.text.lower(), plan.text, facts).values()) == {1.0}  # as genworld's own model writes
    text = max((plan.text for plan in made), key=len)
    lines = text.splitlines()
    count = len(lines)
    fewer = mark_plan("\n".join(lines[:-1]), text, facts)
    assert (fewer["well-formed"], fewer["exact"], fewer["steps"]) == (1, 0, pytest.approx((count - 1) / count))
    assert mark_plan("\n".join([*lines[:-1], lines[-1][3:]]), text, facts)["well-formed"] == 0  # no number
    assert mark_plan("\n".join([*lines, "7. Dance."]), text, facts)["well-formed"] == 0
    absent = next(kind for kind in ("bench", "tv", "sink", "stove", "bed", "sofa", "desk") if not facts.kinds[kind])
    invented = mark_plan(f"1. Walk to the {absent}.", text, facts)
    assert (invented["well-formed"], invented["things exist"], invented["steps"]) == (1, 0, 0)
    elsewhere = mark_plan("1. Go through the door into the ballroom.\n2. " + lines[-1][3:], text, facts)
    assert elsewhere["things exist"] == 0
    assert set(mark_plan("", text, facts).values()) == {0.0}


def test_turns_of_dialogues_have_types() -> None:
    found = {
        dialogue_type(turn.text)
        for seed in range(12)
        for turn in dialogue(Facts(sample_floor(14)), seed)
        if turn.speaker == "human"
    }
    assert found == {"rooms", "contents", "colour", "size", "others", "surroundings"}
