"""Turns about scenes: functions of (seed, position), true to the scene, cheap, and complete about what is left out."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny_rooms import points_config, room_turns, rooms_data

from genworld.data import scene_turns_annotated
from genworld.data.examples import ExampleLoader
from genworld.data.scene_prompts import Standing, situated_prompt
from genworld.data.scene_turns import RoomTurns
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns, AnnotationFile
from genworld.data.scene_turns_rooms import TELLERS
from genworld.eval.grounding import box_iou, corners_of
from genworld.models.scene_points import ScenePoints
from genworld.types import Scene
from genworld.world.rooms import sample_floor
from genworld.world.rooms.floor import FloorConfig
from genworld.world.rooms.furniture import COLOURS, SIZES
from genworld.world.rooms.language.captions import number
from genworld.world.rooms.language.facts import plural
from genworld.world.rooms.store import FloorStore, load_floor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rooms")
    room_turns(folder).prepare()
    return folder


def test_a_floor_comes_back_from_its_file(tmp_path: Path) -> None:
    store = FloorStore(tmp_path, FloorConfig(max_rooms=3))
    drawn, kept = store(5), store(5)
    fresh = sample_floor(5, FloorConfig(max_rooms=3))
    for floor in (drawn, kept):
        assert floor.things == fresh.things
        assert (floor.room_names, floor.view_rooms, floor.plan.doors) == (
            fresh.room_names,
            fresh.view_rooms,
            fresh.plan.doors,
        )
        assert (floor.ground.free == fresh.ground.free).all()
        assert (floor.pixels == fresh.pixels).all()
        torch.testing.assert_close(floor.render([0], (16, 16)), fresh.render([0], (16, 16)), rtol=0, atol=0)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="expected 'genworld floor 1'"):
        load_floor(tmp_path / "other.safetensors")


def test_a_turn_is_a_function_of_seed_and_position(folder: Path) -> None:
    one, other = room_turns(folder), room_turns(folder)
    other.read(1, 77)  # what was read before does not matter
    for position in range(30):
        first, again = one.read(position % 2, position), other.read(position % 2, position)
        assert replace(first, points=again.points, things=again.things) == again
        assert [thing.label for thing in first.things] == [thing.label for thing in again.things]
        assert all(torch.equal(a.lower, b.lower) for a, b in zip(first.things, again.things, strict=True))
        assert torch.equal(first.points.features, again.points.features)
    assert any(one.read(0, p).prompt != room_turns(folder, seed=1).read(0, p).prompt for p in range(5))


def test_words_of_answers_tell_of_the_things_that_they_fit(folder: Path) -> None:
    source = room_turns(folder, weights={"describe": 1.0, "plan": 1.0, "dialogue": 1.0, "caption": 1.0})
    seen: Counter[str] = Counter()
    for position in range(200):
        turn, facts = source.read(position % 2, position), source.facts(position % 2)
        shares: Counter[tuple[int, int]] = Counter()
        for told in turn.told:
            words = turn.answer[told.start : told.end].lower().split()
            thing = facts.things[told.thing]
            assert words[-1] in (thing.kind, plural(thing.kind))
            assert all(word in (thing.size, thing.colour) for word in words if word in (*SIZES, *COLOURS))
            shares[told.start, told.end] += told.share
            seen[turn.kind] += 1
        assert list(shares.values()) == pytest.approx([1.0] * len(shares))
        for counted in turn.counted:
            others = len(counted.things) - 1
            assert turn.answer == (f"Yes, {number(others)}." if others else "No, it is the only one.")
            assert turn.prompt[: counted.known_at].endswith(plural(facts.things[counted.things[0]].kind))
            seen["others"] += 1
        if turn.kind == "describe":
            assert turn.told[0].thing == turn.about[0].thing
            assert turn.told[0].share == 1
    assert set(seen) == {"describe", "plan", "dialogue", "caption", "others"}


def test_every_kind_is_told_and_weights_are_kept(folder: Path) -> None:
    source = room_turns(folder)
    assert {source.read(p % 2, p).kind for p in range(400)} == {name for name in TELLERS if "/" not in name}
    only = room_turns(folder, weights={"count": 3.0, "ground": 1.0, "plan": 0.0})
    counts = Counter(only.read(p % 2, p).kind for p in range(400))
    assert set(counts) == {"count", "ground"}
    assert counts["count"] > counts["ground"]
    one = room_turns(folder, weights={"count/count_colour": 1.0})
    turns = [one.read(p % 2, p) for p in range(12)]
    assert {turn.kind for turn in turns} == {"count"}
    assert all(turn.prompt.startswith("How many things are ") for turn in turns)


def test_boxes_of_answers_are_the_boxes_of_things(folder: Path) -> None:
    exam = room_turns(folder, "validation").exam(3)
    assert len({turn.id for turn in exam.turns}) == len(exam.turns) == len(exam.questions)
    assert {turn.kind for turn in exam.turns} >= {"existence", "count", "situated", "ground", "caption"}
    assert exam.boxes
    for turn in exam.turns:
        if turn.kind == "ground":
            (box,) = exam.scenes[turn.scene].boxes_in(turn.answer)
            assert float(box_iou(box[None], corners_of(exam.boxes[turn.id])[None])) > 0.6


def test_what_is_counted_tells_the_answer(folder: Path) -> None:
    counted = {"existence": 1.0, "count": 2.0, "comparison/more_of_which": 1.0, "colour": 0.5}
    counted |= {"relation/is_next_to": 1.0, "relation/is_in_room_with": 1.0, "comparison/same_colour": 1.0}
    source, seen = room_turns(folder, weights=counted), Counter[str]()
    for position in range(300):
        turn = source.read(position % 2, position)
        read, numbers = [turn.prompt[: x.known_at] for x in turn.counted], [len(x.things) for x in turn.counted]
        last = [text.rpartition(" ")[2] for text in read]
        if turn.kind == "relation" or "same colour" in turn.prompt:
            assert turn.answer == ("yes" if numbers == [1] else "no")
            assert numbers in ([0], [1])
            assert turn.prompt.startswith(read[0])
            assert last[0] in turn.prompt[-20:] or "same colour" in turn.prompt
        elif turn.kind == "comparison":
            assert last == [turn.prompt.split()[3], turn.prompt.split()[6]]
            assert turn.answer == ("yes" if numbers[0] > numbers[1] else "no")
        elif turn.kind == "colour":
            assert not turn.counted
        else:
            (number,) = numbers
            assert turn.answer == (str(number) if turn.kind == "count" else "yes" if number else "no")
            if "in the room with" in turn.prompt:
                assert read == [turn.prompt[:-1]]
                seen["room"] += 1
            else:
                thing = turn.things[turn.counted[0].things[0]].label.split() if number else [last[0]]
                assert any(last[0].startswith(word[:4]) for word in thing)
        seen[turn.kind] += 1
    assert min(seen.values()) > 10


def test_situations_are_told_in_words_and_tokens(folder: Path) -> None:
    source = room_turns(folder, weights={"situated": 1.0})
    turn = source.read(0, 3)
    assert turn.prompt.startswith("I am standing")
    assert turn.prompt.count("<loc") == 6
    scene = source.lifted(0)
    with pytest.raises(ValueError, match="no text"):
        situated_prompt(scene, "  ")
    with pytest.raises(ValueError, match="two or three finite numbers"):
        situated_prompt(scene, "Where?", Standing("here", (float("nan"), 0.0)))


def test_turns_know_where_their_situation_is(folder: Path) -> None:
    source = room_turns(folder, weights={"situated": 1.0, "colour": 1.0})
    turns = [source.read(0, position) for position in range(12)] + list(source.exam(2).turns)
    assert {turn.kind for turn in turns} >= {"situated", "colour"}
    for turn in turns:
        assert (turn.standing is not None) == (turn.kind == "situated")


def test_turns_in_a_row_share_a_scene_and_held_out_floors_are_others(folder: Path) -> None:
    source = room_turns(folder, in_a_row=4)
    (pack,) = next(ExampleLoader.for_rank(source, source.data, 0, 0, 1).steps())
    assert len({id(turn.points.features) for turn in pack}) == 1
    assert not set(source.seeds) & set(room_turns(folder, "validation").seeds)


def test_points_come_back_from_their_file_and_keep_what_is_small(folder: Path) -> None:
    source = room_turns(folder)
    kept = source.lifted(0)
    fresh = ScenePoints(points_config())(source.facts(0).floor.scene(source.data.size))
    assert len(kept.points) == 64
    for name in ("features", "points", "colours", "voxels"):
        assert torch.equal(getattr(kept.points, name), getattr(fresh.points, name)), name
    assert kept.codec == fresh.codec


def test_without_lifting_views_lie_side_by_side(folder: Path) -> None:
    source = room_turns(folder)
    scene = source.facts(0).floor.scene(source.data.size)
    placed, flat = (ScenePoints(replace(points_config(), lifted=lifted))(scene) for lifted in (True, False))
    assert flat.codec == placed.codec
    assert len(flat.points) == 64
    view, column, row = flat.points.voxels.unbind(dim=1)
    assert view.unique().tolist() == list(range(scene.num_views))
    wide = 4  # patches of a view
    assert max(column.max(), row.max()) < wide
    across = next(n for n in range(1, 99) if n * n >= scene.num_views)
    x, y = column + 1.5 * wide * (view % across), row + 1.5 * wide * (view // across)
    expected = torch.stack([x, y, torch.zeros_like(x)], dim=1) / 20
    assert torch.allclose(flat.points.points, expected)
    assert flat.points.features.shape == placed.points.features.shape
    assert len(flat.points.features.unique(dim=0)) > 32


def test_training_does_not_wait_for_turns(folder: Path) -> None:
    source = room_turns(folder)
    for position in range(20):
        source.read(position % 2, position)
    begin = time.process_time()
    for position in range(200):
        source.read(position // 8 % 2, position)
    assert 200 / (time.process_time() - begin) > 200  # turns per cpu-second; about ten times as many on an idle core


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"cuont": 1.0}}, "there is no kind 'cuont'"),
        ({"weights": {"count": 0.0}}, "one of them positive"),
        ({"floors": 0}, "must be positive"),
        ({"held_out": 0, "validation": 2}, "set held_out"),
    ],
)
def test_rooms_that_cannot_be(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rooms_data(tmp_path, **settings)


def test_nothing_held_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="held_out is 0"):
        room_turns(tmp_path, "validation", held_out=0)


# Annotation files


@dataclass(frozen=True)
class Folder:
    """Two scenes, one of which shows nothing."""

    scenes: dict[str, Scene]

    @property
    def names(self) -> list[str]:
        return list(self.scenes)

    def read(self, name: str) -> Scene:
        return self.scenes[name]


@pytest.fixture
def annotated(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    floor = room_turns(folder).facts(0).floor
    whole = replace(floor.scene((32, 32)), name="whole")
    dark = replace(
        whole, name="dark", views=[replace(view, depth=torch.zeros_like(view.depth)) for view in whole.views[:2]]
    )
    scenes = {"whole": whole, "dark": replace(dark, points=None), "empty": Scene("empty")}
    monkeypatch.setattr(scene_turns_annotated, "open_scenes", lambda path: Folder(scenes))
    qa = [
        {"question_id": f"q{i}", "scene_id": scene, "question": text, "answers": answers}
        for i, (scene, text, answers) in enumerate(
            [
                ("whole", "How many doors are there?", ["2", "two"]),
                ("dark", "What is here?", ["a bed"]),
                ("empty", "What is here?", ["a bed"]),
                ("nowhere", "What is here?", ["a bed"]),
            ]
        )
    ]
    qa += [{"question_id": "q8", "scene_id": "whole", "question": "What is this?"}]
    qa += [{"question_id": "q9", "scene_id": "whole", "question": " ", "answers": ["a bed"]}]
    (tmp_path / "qa.json").write_text(json.dumps(qa))
    refer = [
        {"scene_id": "whole", "object_id": str(i), "object_name": "thing", "ann_id": "0", "description": f"thing {i}"}
        for i in (0, 1, 999)
    ]
    (tmp_path / "refer.json").write_text(json.dumps(refer))
    return tmp_path


def files(folder: Path) -> AnnotatedData:
    both = [AnnotationFile(format="scanqa", path=folder / "qa.json")]
    both += [AnnotationFile(format="scanrefer", path=folder / "refer.json")]
    return AnnotatedData(scenes=folder, files=both, held_out=both[:1], batch=4, validation=1)


def test_annotations_become_turns_and_the_rest_is_counted(annotated: Path) -> None:
    source = AnnotatedTurns(files(annotated), ScenePoints(points_config()))
    turns = [source.read(index, index) for index in range(len(source))]
    assert Counter(turn.kind for turn in turns) == {"number": 1, "ground": 2, "describe": 2}
    assert {turn.answer for turn in (source.read(0, p) for p in range(40))} == {"2", "two"}
    reasons = Counter(item.reason.split(":")[0] for item in source.skipped)
    assert reasons == {
        "its scene cannot be lifted": 2,
        "its scene is not in the folder": 1,
        "it has no answer": 1,
        "it has no question": 1,
        "its object has no box in the scene": 1,
    }
    exam = source.exam()
    assert {question.id for question in exam.questions} == {turn.id for turn in turns}
    assert len(exam.boxes) == 2


def test_not_one_annotation_is_left(annotated: Path) -> None:
    (annotated / "qa.json").write_text(
        json.dumps([{"question_id": "q", "scene_id": "nowhere", "question": "What?", "answers": ["a"]}])
    )
    data = replace(files(annotated), files=files(annotated).held_out)
    with pytest.raises(ValueError, match="not one question"):
        AnnotatedTurns(data, ScenePoints(points_config()))


def test_sqa3d_places_are_told_from_the_middle(annotated: Path) -> None:
    asked = {"question_id": 1, "scene_id": "whole", "question": "What is behind me?", "situation": "I sit."}
    (annotated / "q.json").write_text(json.dumps({"questions": [{**asked, "alternative_situation": []}]}))
    note = {
        "question_id": 1,
        "answers": [{"answer": "bed"}],
        "position": {"x": 0, "y": 0, "z": 0},
        "rotation": {"_x": 0, "_y": 0, "_z": 0, "_w": 1},
    }
    (annotated / "a.json").write_text(json.dumps({"annotations": [note]}))
    file = AnnotationFile(format="sqa3d", path=annotated / "q.json", answers=annotated / "a.json")
    source = AnnotatedTurns(replace(files(annotated), files=[file]), ScenePoints(points_config()))
    turn = source.read(0, 0)
    assert turn.prompt.startswith("I sit. <loc")
    assert turn.prompt.endswith("What is behind me?")
    assert "<loc128>" in turn.prompt  # the middle of 256 cells


def test_rooms_of_two_sources_differ_by_the_seed_alone(folder: Path) -> None:
    assert isinstance(room_turns(folder), RoomTurns)
    texts = room_turns(folder).texts(20)
    assert texts == room_turns(folder).texts(20)
    assert texts != room_turns(folder, seed=9).texts(20)
