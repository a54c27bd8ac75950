import json
import logging
import math
from pathlib import Path

import pytest

from genworld.data.questions import (
    Situation,
    Turn,
    read_3dllm,
    read_3dmv_vqa,
    read_multi3drefer,
    read_nr3d,
    read_scanqa,
    read_scanrefer,
    read_scene_map,
    read_sqa3d,
    scanqa_type,
    split_turns,
    sqa3d_type,
)


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


SCANQA = [
    {
        "scene_id": "scene0000_00",
        "object_ids": [8],
        "object_names": ["cabinet"],
        "question_id": "train-scene0000-0",
        "question": "What is in the right corner of room by curtains?",
        "answers": ["brown cabinet with tv sitting in it", "brown cabinet"],
    },
    {
        "scene_id": "scene0000_00",
        "object_ids": [3, 4],
        "object_names": ["chair", "chair"],
        "question_id": "train-scene0000-1",
        "question": "How many chairs are there?",
        "answers": ["2"],
    },
]


def test_scanqa(tmp_path: Path) -> None:
    first, second = read_scanqa(write(tmp_path / "train.json", SCANQA)).questions
    assert (first.id, first.scene, first.type) == ("train-scene0000-0", "scene0000_00", "object")
    assert first.answers == ("brown cabinet with tv sitting in it", "brown cabinet")
    assert (second.object_ids, second.object_names, second.type) == ((3, 4), ("chair", "chair"), "number")


def test_scanqa_test_files_have_no_answers(tmp_path: Path) -> None:
    secret = [{key: value for key, value in item.items() if key != "answers"} for item in SCANQA]
    assert [each.answers for each in read_scanqa(write(tmp_path / "test.json", secret)).questions] == [(), ()]


def test_malformed_entries_are_counted_with_their_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def other(number: int, **changes: object) -> dict[str, object]:
        return {**SCANQA[0], "question_id": f"q{number}", **changes}

    bad = [
        other(0, question=" "),
        other(1, question=None),
        other(2, scene_id=None),
        other(3, answers=[]),
        other(4, answers=["brown", ""]),
        other(5, answers=[["brown"]]),
        other(6, object_ids=["eight"]),
        SCANQA[0],
        "a text",
    ]
    with caplog.at_level(logging.WARNING):
        found = read_scanqa(write(tmp_path / "train.json", SCANQA + bad))
    assert [each.id for each in found.questions] == ["train-scene0000-0", "train-scene0000-1"]
    assert found.reasons() == {
        "it has no question": 2,
        "it has no scene": 1,
        "its answers are not a list of texts": 2,
        "an answer is empty": 1,
        "an object's id is not a number": 1,
        "its id occurs before": 1,
        "it is not an object": 1,
    }
    assert found.skipped[0].name.endswith("train.json, item 2")
    assert "9 of 11 entries left out" in caplog.text


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_scanqa(tmp_path / "none.json")
    with pytest.raises(ValueError, match="expected a list of objects"):
        read_scanqa(write(tmp_path / "object.json", {"questions": []}))
    with pytest.raises(ValueError, match="not one of 1 entries can be used"):
        read_scanqa(write(tmp_path / "bad.json", [{"question": "What?"}]))
    with pytest.raises(ValueError, match="not one of 0 entries"):
        read_scanqa(write(tmp_path / "empty.json", []))


def sqa3d(tmp_path: Path, **changes: object) -> tuple[Path, Path]:
    half = math.sqrt(0.5)
    questions = {
        "info": {},
        "questions": [
            {
                "scene_id": "scene0380_00",
                "situation": "I am facing a window.",
                "alternative_situation": ["A window is before me.", "I look at a window."],
                "question": "What color is the desk to my right?",
                "question_id": 220602000002,
            },
            {
                "scene_id": "scene0380_00",
                "situation": "I am on the bed.",
                "alternative_situation": [],
                "question": "Is the door behind me?",
                "question_id": 220602000003,
            },
        ],
    }
    annotation = {
        "scene_id": "scene0380_00",
        "question_type": "N/A",
        "answer_type": "other",
        "question_id": 220602000002,
        "answers": [{"answer": "brown", "answer_confidence": "yes", "answer_id": 1}],
        "rotation": {"_x": 0, "_y": 0, "_z": half, "_w": half},
        "position": {"x": -0.9, "y": 1.5, "z": 0},
        **changes,
    }
    return write(tmp_path / "questions.json", questions), write(tmp_path / "notes.json", {"annotations": [annotation]})


def test_sqa3d(tmp_path: Path) -> None:
    found = read_sqa3d(*sqa3d(tmp_path))
    (question,) = found.questions
    assert (question.id, question.answers, question.type) == ("220602000002", ("brown",), "what")
    situation = question.situation
    assert situation is not None
    assert situation.text == "I am facing a window."
    assert len(situation.alternatives) == 2
    assert situation.position == (-0.9, 1.5, 0)
    assert situation.heading == pytest.approx(math.pi / 2)  # a quarter turn about z: from x to y
    assert found.reasons() == {"no annotation has its id": 1}


def test_sqa3d_without_annotations(tmp_path: Path) -> None:
    first, second = read_sqa3d(sqa3d(tmp_path)[0], None).questions
    assert first.answers == ()
    assert second.type == "is"
    assert second.situation == Situation("I am on the bed.")
    assert second.situation.heading is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"position": {"x": "left"}}, "its position or rotation is not of numbers"),
        ({"position": {"x": math.inf, "y": 0, "z": 0}}, "its position or rotation is not finite"),
    ],
)
def test_a_bad_situation_is_counted(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"not one of 2 entries can be used.*\n.*{reason}"):
        read_sqa3d(*sqa3d(tmp_path, **changes))


def test_scanrefer(tmp_path: Path) -> None:
    item = {
        "scene_id": "scene0000_00",
        "object_id": "34",
        "object_name": "coffee_table",
        "ann_id": "0",
        "description": "a brown table. it is in front of the couch.",
        "token": ["a", "brown", "table"],
    }
    found = read_scanrefer(write(tmp_path / "val.json", [item, {**item, "ann_id": "1"}, {**item, "object_id": "x"}]))
    assert [each.id for each in found.questions] == ["scene0000_00|34|0", "scene0000_00|34|1"]
    assert found.questions[0].object_ids == (34,)
    assert found.questions[0].text.startswith("a brown table")
    assert found.reasons() == {"an object's id is not a number": 1}


NR3D = """assignmentid,stimulus_id,utterance,scan_id,instance_type,target_id,mentions_target_class,correct_guess,tokens
4,scene0525_00-plant-2-9-10,"the plant, at the far right",scene0525_00,plant,9,True,True,"['the', 'plant']"
5,scene0525_00-night-stand-5-3-1-2-4-5,the night stand by the door,scene0525_00,night-stand,3,True,True,[]
6,scene0525_00-plant-2-9-10,the green one,scene0525_00,plant,9,False,True,[]
7,scene0525_00-plant-2-9-10,,scene0525_00,plant,9,True,True,[]
"""


def test_nr3d(tmp_path: Path) -> None:
    path = tmp_path / "nr3d.csv"
    path.write_text(NR3D)
    found = read_nr3d(path)
    easy, hard = found.questions
    assert (easy.id, easy.type, easy.object_ids) == ("4", "easy", (9,))
    assert easy.text == "the plant, at the far right"
    assert (hard.type, hard.object_names) == ("hard", ("night-stand",))
    assert found.reasons() == {"it does not name the object's class": 1, "it has no utterance": 1}
    assert len(read_nr3d(path, only_named=False).questions) == 3


def test_multi3drefer(tmp_path: Path) -> None:
    item = {"scene_id": "scene0011_00", "object_name": "chair", "description": "chairs at the table", "ann_id": 0}
    found = read_multi3drefer(
        write(
            tmp_path / "val.json",
            [
                {**item, "object_ids": [3, 5], "eval_type": "mt"},
                {**item, "object_ids": [], "eval_type": "zt_w_d"},
                {**item, "object_ids": 3},
            ],
        )
    )
    assert [(each.object_ids, each.type) for each in found.questions] == [((3, 5), "mt"), ((), "zt_w_d")]
    assert found.reasons() == {"object_ids is not a list": 1}


def test_3dmv_vqa_in_both_formats(tmp_path: Path) -> None:
    ours = [
        {"scene_id": "00009_1", "question": "Is there a chair?", "answers": ["yes"], "type": 0},
        {"scene_id": "00009_1", "question": "How many chairs?", "answers": [3], "type": 1},
        {"scene_id": "00009_1", "question": "How many chairs?", "answers": ["3"], "type": 4},
    ]
    found = read_3dmv_vqa(write(tmp_path / "test_questions.json", ours))
    assert [(each.id, each.type, each.answers) for each in found.questions] == [
        ("0", "concept", ("yes",)),
        ("1", "counting", ("3",)),
    ]
    assert found.reasons() == {"type 4 is none of 0 to 3": 1}
    theirs = [{"scene_id": "00009_1", "question": "How many?", "program": [], "answer": 2, "template": "counting"}]
    (question,) = read_3dmv_vqa(write(tmp_path / "clr.json", theirs)).questions
    assert (question.answers, question.type) == (("2",), "counting")


def test_3dllm_scenes_and_ids(tmp_path: Path) -> None:
    scenes = read_scene_map(write(tmp_path / "map.json", {"1008": "scene0335_00"}))
    items = [
        {"scene_id": 7, "question": "Human: hi", "answers": ["hello"]},
        {"scene_id": 1008, "question": "What is on the bed?", "answers": ["pillow,"]},
        {"scene_id": "scene0335_00", "question": "Describe the room.", "answers": ["a bedroom"], "question_id": "d-1"},
    ]
    path = write(tmp_path / "all_questions.json", items)
    found = read_3dllm(path, scenes)
    assert [(each.id, each.scene) for each in found.questions] == [("1", "scene0335_00"), ("d-1", "scene0335_00")]
    assert found.reasons() == {"its scene is not in the map": 1}
    assert [each.scene for each in read_3dllm(path).questions] == ["7", "1008", "scene0335_00"]


def test_3dllm_dialogue(tmp_path: Path) -> None:
    items = [
        {
            "scene_id": 3,
            "question": "Human: Could you bring my pillow? Robot: Sure! Where is it? Human: It's on the  sofa.",
            "answers": ["Robot: I see it."],
        },
        {"scene_id": 3, "question": "Agent 1: What's the room like??", "answers": ["Agent 2: It is big."]},
        {"scene_id": 3, "question": "Agent 1: What's the room like??", "answers": ["Agent 2: It is big."]},
        {"scene_id": 3, "question": "Agent A: Go on?", "answers": ["Agent B: yes. Agent A: And then?"]},
        {"scene_id": 3, "question": "Agent1: Where?", "answers": ["Robot"]},
        {"scene_id": 3, "question": "Agent1: Where? Agent2: There.", "answers": ["so"]},
    ]
    found = read_3dllm(write(tmp_path / "dialogue.json", items))
    first, second = found.questions
    assert first.history == (Turn("human", "Could you bring my pillow?"), Turn("assistant", "Sure! Where is it?"))
    assert (first.text, first.answers) == ("It's on the sofa.", ("I see it.",))
    assert (second.text, second.history, second.answers) == ("What's the room like??", (), ("It is big.",))
    assert found.reasons() == {
        "the same question and answer occur before": 1,
        "its answer goes on with a question": 1,
        "its answer says nothing": 1,
        "the last turn is not the human's": 1,
    }


def test_ll3da_files_are_the_same_without_their_markers(tmp_path: Path) -> None:
    items = [
        {
            "question": "### human: i want to tidy up. ### assistant: how? ### human: the desk first ### assistant:",
            "answers": ["open the cabinets"],
            "scene_id": "scene0611_00",
        },
        {"question": "### human: Describe the room. ### assistant:", "answers": ["a hall"], "scene_id": "scene0624_00"},
    ]
    dialogue, plain = read_3dllm(write(tmp_path / "3d_llm_embodied_planning_val.json", items)).questions
    assert [turn.text for turn in dialogue.history] == ["i want to tidy up.", "how?"]
    assert dialogue.text == "the desk first"
    assert (plain.text, plain.history) == ("Describe the room.", ())


def test_words_that_only_look_like_markers_stay() -> None:
    assert split_turns("is the robot: the toy, red") == (Turn("human", "is the robot: the toy, red"),)
    assert split_turns("Human: a Robot: b Agent 2: c") == (
        Turn("human", "a"),
        Turn("assistant", "b"),
        Turn("assistant", "c"),
    )
    assert split_turns("") == ()


def test_types_of_questions() -> None:
    asked = ["What is it?", " is it?", "How?", "Can I?", "Which one?", "Where?"]
    assert [sqa3d_type(text) for text in asked] == ["what", "is", "how", "can", "which", "other"]
    asked = ["Where is it?", "How many?", "What is the color?", "What kind?", "What is it?", "Is it?", "where"]
    assert [scanqa_type(text) for text in asked] == [
        *("place", "number", "color", "object nature", "object", "other", "other")
    ]


def test_a_map_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected an object such as"):
        read_scene_map(write(tmp_path / "map.json", ["scene0335_00"]))
