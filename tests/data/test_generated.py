import json
from pathlib import Path

import pytest
import torch

from genworld.data.generated import (
    Checker,
    Generated,
    SceneBrief,
    SceneObject,
    entries,
    items_of,
    parse_item,
    read_generated,
    split_of,
)
from genworld.types import Scene, SceneBox

BRIEF = SceneBrief(
    "a",
    (
        SceneObject(1, "chair", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), ("red",)),
        SceneObject(2, "chair", (2.0, 0.0, 0.0), (3.0, 1.0, 1.0)),
        SceneObject(5, "table lamp", (0.0, 2.0, 0.0), (1.0, 3.0, 1.0)),
    ),
)
OTHER = SceneBrief("b", (SceneObject(1, "table", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),))


def qa(question: str, answer: str, *objects: int, **more: object) -> Generated:
    return parse_item({"question": question, "answer": answer, "objects": list(objects), **more}, "qa", "i", "a")


def test_briefs_tell_objects_and_count_what_is_left_out() -> None:
    boxes = [SceneBox("chair", i, torch.zeros(3), torch.full((3,), i + 1.0)) for i in range(3)]
    boxes.append(SceneBox("odd", 3, torch.ones(3), torch.zeros(3)))
    brief = SceneBrief.of(Scene("s", boxes=tuple(boxes)), {2: ("red",)}, most=2)
    assert [each.id for each in brief.objects] == [1, 2]
    assert str(brief).splitlines()[1] == "chair(2): red; centre [1.50, 1.50, 1.50] size [3.00, 3.00, 3.00]"
    assert brief.left_out == {"a box is not finite, or upside down": 1, "more than 2 objects": 1}
    assert SceneBrief.from_json(json.loads(json.dumps(brief.to_json()))) == brief


@pytest.mark.parametrize(
    ("text", "cut_off", "number", "faults"),
    [
        ('```json\n[{"a": 1}, {"a": 2}]\n```', False, 2, []),
        ('Sure! {"a": 1}', False, 1, []),
        ('[{"a": 1}, {"a": {"b": 2}}, {"a"', True, 2, ["the reply was cut off"]),
        ('[{"a": 1},, {"a": 2}]', False, 2, ["the reply is no valid JSON"]),
        ("I cannot.", False, 0, ["the reply has no JSON"]),
        ("[]", False, 0, ["the reply has no items"]),
    ],
)
def test_what_can_be_used_of_a_reply(text: str, cut_off: bool, number: int, faults: list[str]) -> None:
    items, found = items_of(text, cut_off)
    assert (len(items), found) == (number, faults)


@pytest.mark.parametrize(
    ("kind", "item", "reason"),
    [
        ("qa", "text", "not an object"),
        ("qa", {"question": "What?", "answer": " "}, "no answer"),
        ("qa", {"question": "What?", "answer": "a", "objects": ["1"]}, "list of ids"),
        ("qa", {"question": "What?", "answer": "a", "boxes": [[1, 2]]}, "six numbers"),
        ("caption", {"text": "A chair."}, "no caption"),
        ("plan", {"goal": "Sit.", "steps": []}, "no steps"),
        ("plan", {"goal": "Sit.", "steps": ["Walk.", "2. "]}, "no steps, or an empty one"),
        ("plan", {"steps": ["Walk."]}, "no goal"),
        ("dialogue", {"turns": [{"speaker": "human", "text": "Hi"}]}, "pairs of turns"),
        ("dialogue", {"turns": [{"speaker": "assistant", "text": "Hi"}] * 2}, "do not take turns"),
    ],
)
def test_items_that_are_no_records(kind: str, item: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_item(item, kind, "i", "a")  # type: ignore[arg-type]


def test_plans_are_numbered_once() -> None:
    item = {"goal": "Sit.", "situation": "I am here.", "steps": ["1. Walk.", "Sit down."], "objects": [1]}
    asked, answer = parse_item(item, "plan", "i", "a").turns
    assert (asked.text, answer.text) == ("I am here. Sit.", "1. Walk.\n2. Sit down.")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (qa("What is there?", "a chair", 9), "an object that is not there"),
        (qa("What is there?", "chair(7)"), "an object that is not there"),
        (qa("What is there?", "lamp(1)"), "by another name"),
        (qa("What is there?", "a table", 1), "a thing that the scene does not have"),
        (qa("What is there?", "a chair"), "no object that it rests on"),
        (qa("How many chairs are there?", "three", 1, 2), "count"),
        (qa("Where is it?", "there", 1, boxes=[[0, 0, 0, 9, 1, 1]]), "outside the scene"),
        (qa("Where is it?", "there", 1, boxes=[[1, 0, 0, 0, 1, 1]]), "upside down"),
    ],
)
def test_records_that_cannot_be_true(record: Generated, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Checker([BRIEF, OTHER]).check(record)


def test_records_that_can() -> None:
    checker = Checker([BRIEF, OTHER])
    assert checker.check(qa("What is next to the lamp?", "the red chair(1)", 5)).objects == (5, 1)
    checker.check(qa("What is the smallest?", "the table lamp", 5))  # one thing, though "table" is another's name
    checker.check(qa("Is there a table?", "No."))
    checker.check(qa("How many chairs are there?", "2", 1, 2))
    with pytest.raises(ValueError, match="the same was said"):
        checker.check(qa("How many chairs are there", "2", 2, 1))
    with pytest.raises(ValueError, match="contradicts"):
        checker.check(qa("Is there a table", "yes", 1))


def test_split_is_by_place() -> None:
    splits = [split_of(f"rooms-{seed}") for seed in range(2000)]
    assert [round(splits.count(name) / 2000, 1) for name in ("train", "val", "test")] == [0.8, 0.1, 0.1]
    assert len({split_of(f"scene0011_{i:02}") for i in range(10)}) == 1


def test_entries_are_read_as_3dllms(tmp_path: Path) -> None:
    turns = [
        ("human", "What is here?"),
        ("assistant", "Two chairs."),
        ("human", "More?"),
        ("assistant", "A table lamp."),
    ]
    item = {"turns": [{"speaker": who, "text": text} for who, text in turns], "objects": [1, 2, 5]}
    record = Checker([BRIEF]).check(parse_item(item, "dialogue", "i", "a"))
    assert Generated.from_json(json.loads(json.dumps(record.to_json()))) == record
    (tmp_path / "train.json").write_text(json.dumps(list(entries(record, BRIEF))))
    first, second = read_generated(tmp_path / "train.json").questions
    assert (first.text, first.answers, first.history, first.type) == ("What is here?", ("Two chairs.",), (), "dialogue")
    assert (second.text, second.answers) == ("More?", ("A table lamp.",))
    assert [tuple(turn) for turn in second.history] == turns[:2]
    assert second.object_names == ("chair", "chair", "table lamp")
