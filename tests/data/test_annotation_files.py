"""Files of questions that do not come from a benchmark: what was written here, what 3D-LLM released; and classes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tiny_rooms import points_config

from genworld.config import ConfigError, decode
from genworld.data import scene_turns_annotated
from genworld.data.annotation_files import AnnotationFile, labels_of, read_classes
from genworld.data.generated import SceneBrief, SceneObject, entries, parse_item, split_of
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns
from genworld.models.scene_points import ScenePoints
from genworld.types import Turn
from genworld.world.rooms import sample_floor
from genworld.world.rooms.floor import FloorConfig

TRAIN, VAL = "rooms-10", "rooms-11"  # of these splits


@pytest.fixture(autouse=True)
def _small_floors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_turns_annotated, "sample_floor", partial(sample_floor, config=FloorConfig(max_rooms=1)))


def turns_of(data: dict[str, Any], split: str = "train") -> tuple[AnnotatedTurns, list[Turn]]:
    """The turns of data as a YAML has it."""
    source = AnnotatedTurns(decode(AnnotatedData, data), ScenePoints(points_config()), split)  # type: ignore[arg-type]
    return source, [source.read(index, index) for index in range(len(source))]


def data(*files: dict[str, Any], held_out: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"kind": "annotated", "scenes": None, "files": list(files), "held_out": held_out or [], "batch": 2}


ITEMS: dict[str, dict[str, Any]] = {
    "qa": {"question": "How many chairs are there?", "answer": "1"},
    "caption": {"caption": "There is a chair."},
    "plan": {"goal": "Sit down.", "steps": ["Walk to the chair.", "Sit down on the chair."]},
    "dialogue": {
        "turns": [
            {"speaker": "human", "text": "What is here?"},
            {"speaker": "assistant", "text": "A chair."},
            {"speaker": "human", "text": "And what colour is it?"},
            {"speaker": "assistant", "text": "The chair is red."},
        ]
    },
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Splits as the generator writes them, with one record of each kind about each scene."""
    splits: dict[str, list[Any]] = {"train": [], "val": []}
    for name in (TRAIN, VAL):
        brief = SceneBrief(name, (SceneObject(0, "chair", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),))
        for kind, item in ITEMS.items():
            record = parse_item(item | {"objects": [0]}, kind, f"{name}/{kind}", name)  # type: ignore[arg-type]
            splits[split_of(name)] += entries(record, brief)
    for name, items in splits.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(items))
    return tmp_path


def test_what_was_generated_is_trained_on(written: Path) -> None:
    config = data({"format": "generated", "path": str(written / "train.json")})
    _, turns = turns_of(config)
    assert {turn.scene for turn in turns} == {TRAIN}
    assert [(turn.id, turn.kind, turn.answer) for turn in turns] == [
        (f"qa/{TRAIN}/qa", "qa", "1"),
        (f"caption/{TRAIN}/caption", "caption", "There is a chair."),
        (f"plan/{TRAIN}/plan", "plan", "1. Walk to the chair.\n2. Sit down on the chair."),
        (f"dialogue/{TRAIN}/dialogue/0", "dialogue", "A chair."),
        (f"dialogue/{TRAIN}/dialogue/1", "dialogue", "The chair is red."),
    ]
    assert turns[0].prompt == "How many chairs are there?"
    assert (turns[3].prompt, turns[3].history) == ("What is here?", ())
    assert (turns[4].prompt, turns[4].history) == ("And what colour is it?", ("What is here?", "A chair."))
    assert all(len(turn.points) == 64 for turn in turns)


def test_a_folder_that_was_generated_has_splits(written: Path) -> None:
    file = {"format": "generated", "path": str(written)}
    config = data(file | {"split": "train"}, held_out=[file | {"split": "val"}])
    assert {turn.scene for turn in turns_of(config)[1]} == {TRAIN}
    source, held_out = turns_of(config, "validation")
    assert {turn.scene for turn in held_out} == {VAL}
    assert set(source.exam().files.values()) == {written.name}
    with pytest.raises(ValueError, match="is a folder: say which of its files, by split"):
        turns_of(data(file))
    with pytest.raises(ValueError, match=r"test\.json"):
        turns_of(data(file | {"split": "test"}))


RELEASED = [
    {"scene_id": 1008, "question": "Human: Where is the bed? Robot: Here. Human: Go on.", "answers": ["Robot: I go."]},
    {"scene_id": 1009, "question": "Describe the room.", "answers": ["a bedroom"]},
    {"scene_id": 1010, "question": "Describe the room.", "answers": ["a kitchen"]},
    {"scene_id": 7, "question": "Describe the room.", "answers": ["a hall"]},
]


@pytest.fixture
def released(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "all_questions.json").write_text(json.dumps(RELEASED))
    (tmp_path / "map.json").write_text(json.dumps({"1008": TRAIN, "1009": VAL, "1010": "scene0335_00"}))
    return {
        "format": "3dllm",
        "path": str(tmp_path / "all_questions.json"),
        "scene_map": str(tmp_path / "map.json"),
    }


def test_what_3dllm_released_is_trained_on(released: dict[str, Any]) -> None:
    source, (first, second) = turns_of(data(released))
    assert (first.id, first.scene, first.kind) == ("3dllm/0", TRAIN, "3dllm")
    assert (first.history, first.prompt, first.answer) == (("Where is the bed?", "Here."), "Go on.", "I go.")
    assert (second.id, second.scene, second.answer) == ("3dllm/1", VAL, "a bedroom")
    reasons = [item.reason for item in source.skipped]
    assert reasons == ["its scene is not in the map", "its scene is no floor of the world"]


def test_a_file_in_one_piece_is_split_by_scene(released: dict[str, Any]) -> None:
    config = data(released | {"split": "train"}, held_out=[released | {"split": "val"}])
    source, turns = turns_of(config)
    assert [(turn.id, turn.scene) for turn in turns] == [("3dllm/0", TRAIN)]
    assert "its scene is not of split train" in [item.reason for item in source.skipped]
    assert [(turn.id, turn.scene) for turn in turns_of(config, "validation")[1]] == [("3dllm/1", VAL)]


def test_ids_of_two_files_without_ids_differ(released: dict[str, Any]) -> None:
    source, turns = turns_of(data(released, released))
    assert [turn.id for turn in turns] == ["3dllm/0", "3dllm/1", "3dllm/0#2", "3dllm/1#2"]
    assert len({question.id for question in source.exam().questions}) == 4


def test_3dllms_copy_of_sqa3d(tmp_path: Path) -> None:
    item = {"scene_id": TRAIN, "question": "I sit. How many chairs?", "answers": ["2"], "question_id": 7}
    (tmp_path / "SQA_train.json").write_text(json.dumps([item, {**item, "question": "How many?", "question_id": 8}]))
    _, turns = turns_of(data({"format": "3dllm-sqa3d", "path": str(tmp_path / "SQA_train.json")}))
    assert [(turn.id, turn.answer) for turn in turns] == [("other/7", "2"), ("how/8", "2")]


def test_what_does_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scene_map is for files of format 3dllm, not scanqa"):
        decode(AnnotationFile, {"format": "scanqa", "path": "a.json", "scene_map": "b.json"})
    with pytest.raises(ConfigError, match="expected one of"):
        decode(AnnotationFile, {"format": "3dllm", "path": "a.json", "split": "validation"})
    files = [AnnotationFile(format="generated", path=Path(path)) for path in ("a/x.json", "b/x.json", "b/y.json")]
    assert labels_of(files) == ["a/x.json", "b/x.json", "y.json"]


def test_phrases_know_their_boxes_and_the_classes_of_all_that_is_named(tmp_path: Path) -> None:
    named = {"0": "coffee_table", "1": "dining_chair", "998": "", "999": "thing"}  # the last two have no box
    items = [
        {"scene_id": TRAIN, "object_id": thing, "object_name": name, "ann_id": "0", "description": f"the {name}"}
        for thing, name in named.items()
    ]
    (tmp_path / "refer.json").write_text(json.dumps(items))
    (tmp_path / "labels.tsv").write_text("raw_category\tnyu40class\ncoffee table\ttable\ndining chair\tchair\n")
    config = data({"format": "scanrefer", "path": str(tmp_path / "refer.json")})
    exam = turns_of(config)[0].exam()
    assert exam.named == {TRAIN: {0: "coffee table", 1: "dining chair", 998: "", 999: "thing"}}
    exam = turns_of(config | {"classes": str(tmp_path / "labels.tsv")})[0].exam()
    assert exam.named == {TRAIN: {0: "table", 1: "chair", 998: "", 999: "others"}}
    assert set(exam.boxes) == {f"ground/{TRAIN}|0|0", f"ground/{TRAIN}|1|0"}
    assert {key: box.id for key, box in exam.described.items()} == {
        f"describe/{TRAIN}|0|0": 0,
        f"describe/{TRAIN}|1|0": 1,
    }
    assert set(exam.files.values()) == {"refer.json"}


def test_classes_of_scannet(tmp_path: Path) -> None:
    path = tmp_path / "scannetv2-labels.combined.tsv"
    rows = ["1\tdining chair\tchair\tx\tchair", '2\tbox 7"\tbox\tx\tbox', "3\tshower curtain\tc\tx\tshower curtain"]
    path.write_text("id\traw_category\tcategory\tcount\tnyu40class\n" + "\n".join(rows) + "\n")
    assert read_classes(path) == {"dining chair": "chair", 'box 7"': "others", "shower curtain": "shower curtain"}
    path.write_text("id\traw_category\tnyu40class\n1\tchair\n")
    with pytest.raises(ValueError, match=r"line 2: expected 3 cells"):
        read_classes(path)
    path.write_text("")
    with pytest.raises(ValueError, match="columns raw_category and nyu40class"):
        read_classes(path)
    with pytest.raises(ValueError, match="no such file"):
        read_classes(tmp_path / "none.tsv")
