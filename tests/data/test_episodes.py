"""Files of episodes, written as their readme's and code describe them: read, changed, written, and broken."""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genworld.data.episodes import (
    EpisodeFormat,
    EpisodeRecord,
    ExpertPath,
    new_set,
    read_episodes,
    read_expert_paths,
    read_split,
    write_episodes,
    write_expert_paths,
    write_split,
)
from genworld.data.episodes_axes import from_habitat, heading_of_rotation, rotation_of_heading, to_habitat
from genworld.data.episodes_ce import tokens_of
from genworld.data.episodes_predictions import (
    AgentState,
    read_r2r_predictions,
    write_r2r_predictions,
    write_rxr_predictions,
)
from genworld.world.navigation.episode import Episode, Goal

HALF = math.sqrt(0.5)


def base(name: object, **more: Any) -> dict[str, Any]:
    return {
        "episode_id": name,
        "scene_id": "mp3d/17DRP5sb8fy/17DRP5sb8fy.glb",
        "start_position": [1.25, 0.17, -4.5],
        "start_rotation": [0, 0.3826834323650898, 0, 0.9238795325112867],
        "info": {"geodesic_distance": 6.425, "some_day": [1]},
        **more,
    }


def r2r_ce() -> dict[str, Any]:
    items = [
        base(
            number,
            trajectory_id=4,
            goals=[{"position": [3.5, 0.17, -1.25], "radius": 3.0}],
            instruction={"instruction_text": "Walk past the table.", "instruction_tokens": [4, 3, 5, 2] + [0] * 196},
            reference_path=[[1.25, 0.17, -4.5], [3.5, 0.17, -1.25]],
            note={"kept": True},
        )
        for number in (1, 2)
    ]
    words = ["<pad>", "<unk>", "table", "past", "walk", "the"]
    index = {word: number for number, word in enumerate(words)}
    vocab = {"word_list": words, "word2idx_dict": index, "itos": words, "stoi": index, "num_vocab": 6}
    return {"episodes": items, "instruction_vocab": {**vocab, "UNK_INDEX": 1, "PAD_INDEX": 0}}


def rxr_ce() -> dict[str, Any]:
    items = []
    for number, language in enumerate(("en-US", "hi-IN", "te-IN", "en-IN")):
        said = {
            "instruction_text": "मेज़ के पास रुकें" if language == "hi-IN" else "Stop at the table.",
            "instruction_id": str(70 + number),
            "language": language,
            "annotator_id": "17",
            "edit_distance": 0.1,
            "timed_instruction": [{"word": "Stop", "start_time": 0.5, "end_time": 0.8}],
        }
        goals = [{"position": [3.5, 0.17, -1.25], "radius": 3.0}]
        items.append(base(str(number), goals=goals, instruction=said, reference_path=[[1.25, 0.17, -4.5]]))
    return {"episodes": items}


def objectnav() -> dict[str, Any]:
    views = [
        {"agent_state": {"position": [x, 0.1, 2.0], "rotation": [0, HALF, 0, HALF]}, "iou": 0.1} for x in (1.0, 1.5)
    ]
    chair = {"object_id": 5, "object_name": "chair_5", "object_category": "chair", "position": [1.2, 0.5, 2.5]}
    more = {"goals": [], "shortest_paths": None}
    scene = {"scene_id": "hm3d/val/00800-TEEsavR23oF/TEEsavR23oF.basis.glb"}
    return {
        "episodes": [
            base("0", object_category="chair", **more) | scene,
            base("1", object_category="bed", **more) | scene,
        ],
        "goals_by_category": {
            "TEEsavR23oF.basis.glb_chair": [
                {**chair, "view_points": views},
                {**chair, "object_id": 6, "view_points": []},
            ],
            "TEEsavR23oF.basis.glb_bed": [{**chair, "object_category": "bed", "view_points": views[:1]}],
        },
        "category_to_task_category_id": {"chair": 0, "bed": 1},
        "category_to_scene_annotation_category_id": {"chair": 0, "bed": 1},
    }


def pointnav() -> dict[str, Any]:
    goals = [{"position": [3.5, 0.17, -1.25], "radius": None}]
    return {"episodes": [base(str(number), goals=goals, shortest_paths=None) for number in range(3)]}


def r2r() -> list[dict[str, Any]]:
    item = {"distance": 11.65, "scan": "17DRP5sb8fy", "path": ["a", "b", "c"], "heading": 4.055}
    told = ["Leave the bedroom.", "Exit and turn left.", "Go to the hall."]
    return [{**item, "path_id": 4370 + number, "instructions": told} for number in range(2)]


def rxr() -> list[dict[str, Any]]:
    item = {"path_id": 12, "split": "train", "scan": "17DRP5sb8fy", "heading": 1.0, "path": ["a", "b"]}
    more = {"annotator_id": 3, "timed_instruction": [{"word": "Go"}], "edit_distance": 0.0}
    return [
        {**item, **more, "instruction_id": number, "language": language, "instruction": "Go on."}
        for number, language in enumerate(("en-US", "hi-IN"))
    ]


def connectivity(folder: Path) -> Path:
    pose = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    items = []
    for number, name in enumerate("abc"):
        own = copy.copy(pose)
        own[3], own[7], own[11] = 2.0 * number, -1.0, 1.6
        items.append({"image_id": name, "pose": own, "height": 1.5, "included": True, "unobstructed": [True] * 3})
    (folder / "17DRP5sb8fy_connectivity.json").write_text(json.dumps(items))
    return folder


CASES: dict[EpisodeFormat, tuple[str, Callable[[], Any]]] = {
    "r2r": ("R2R_train.json", r2r),
    "rxr": ("rxr_train_guide.jsonl.gz", rxr),
    "r2r_ce": ("train.json.gz", r2r_ce),
    "rxr_ce": ("val_seen_follower.json.gz", rxr_ce),
    "objectnav": ("TEEsavR23oF.json.gz", objectnav),
    "pointnav": ("val.json.gz", pointnav),
}


def write(path: Path, contents: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in contents] if ".jsonl" in path.name else []
    data = ("".join(lines) or json.dumps(contents, ensure_ascii=False)).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def contents_of(path: Path) -> Any:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines()] if ".jsonl" in path.name else json.loads(text)


@pytest.mark.parametrize("format", CASES)
def test_what_is_read_is_written_back_the_same(format: EpisodeFormat, tmp_path: Path) -> None:
    name, make = CASES[format]
    path = write(tmp_path / name, make())
    given = read_episodes(path, connectivity=connectivity(tmp_path))
    assert given.format == format  # seen from the contents
    assert not given.skipped
    out = tmp_path / "out" / name
    write_episodes(out, given)
    assert contents_of(out) == make()
    assert json.dumps(contents_of(out), sort_keys=True) == json.dumps(make(), sort_keys=True)  # 0 is not 0.0
    assert read_episodes(out, connectivity=tmp_path) == given


def test_axes_of_habitat() -> None:
    # One step forward (-z) of an agent that has turned 90 degrees to its left (about +y) leads along -x.
    turned = (0.0, HALF, 0.0, HALF)
    assert abs(heading_of_rotation(turned)) == pytest.approx(math.pi)
    ahead = np.array(from_habitat((-1.0, 0.0, 0.0)))
    assert ahead == pytest.approx([math.cos(math.pi), math.sin(math.pi), 0], abs=1e-12)
    assert heading_of_rotation((0, 0, 0, 1)) == pytest.approx(math.pi / 2)
    assert from_habitat((0.0, 0.0, -1.0)) == (0.0, 1.0, 0.0)
    assert from_habitat((1.0, 2.0, 3.0))[2] == 2.0  # up
    basis = np.array([from_habitat(row) for row in np.eye(3).tolist()])
    assert np.linalg.det(basis) == pytest.approx(1.0)  # no mirror
    for heading in np.linspace(-3.1, 3.1, 30).tolist():
        assert heading_of_rotation(rotation_of_heading(heading)) == pytest.approx(heading, abs=1e-12)
        rotation = rotation_of_heading(heading)
        assert heading_of_rotation([-value for value in rotation]) == pytest.approx(heading, abs=1e-12)
    place = (1.0, -2.5, 0.1)
    assert from_habitat(to_habitat(place)) == place
    # A head that is tilted by 30 degrees looks the same way.
    tilt = (math.sin(math.pi / 12), 0.0, 0.0, math.cos(math.pi / 12))
    assert heading_of_rotation(tilt) == pytest.approx(math.pi / 2)
    with pytest.raises(ValueError, match="straight up or down"):
        heading_of_rotation((HALF, 0, 0, HALF))
    with pytest.raises(ValueError, match="unit quaternion"):
        heading_of_rotation((0, 0, 0, 0))


def test_axes_are_those_of_scene_readers() -> None:
    from genworld.data.scene_axes import aligned_from_up, up_vector

    turn = aligned_from_up(up_vector("y"))[:3, :3].numpy()
    place = (1.0, 2.0, 3.0)
    assert turn @ np.array(place) == pytest.approx(np.array(from_habitat(place)), abs=1e-6)


def test_r2r_ce(tmp_path: Path) -> None:
    first, _ = read_episodes(write(tmp_path / "train.json.gz", r2r_ce())).episodes
    assert (first.id, first.scene) == ("1", "mp3d/17DRP5sb8fy/17DRP5sb8fy.glb")
    assert first.start_position == (1.25, 4.5, 0.17)
    assert first.start_heading == pytest.approx(math.pi / 2 + math.pi / 4)
    assert first.goals == (Goal((3.5, 1.25, 0.17), 3.0),)
    assert first.instruction == "Walk past the table."
    assert first.reference_path == ((1.25, 4.5, 0.17), (3.5, 1.25, 0.17))
    assert (first.geodesic_distance, first.category) == (6.425, None)


def test_languages_and_roles(tmp_path: Path) -> None:
    given = read_episodes(write(tmp_path / "val_seen_follower.json.gz", rxr_ce()))
    assert [record.language for record in given.records] == ["en-US", "hi-IN", "te-IN", "en-IN"]
    assert {record.role for record in given.records} == {"follower"}
    assert [each.id for each in given.chosen(languages=["en"]).episodes] == ["0", "3"]
    assert [each.id for each in given.chosen(languages=["hi-IN"], roles=["follower"]).episodes] == ["1"]
    assert not given.chosen(roles=["guide"]).records
    guide = read_episodes(write(tmp_path / "rxr_train_guide.jsonl.gz", rxr()), connectivity=connectivity(tmp_path))
    assert [(r.episode.id, r.language, r.role) for r in guide.records] == [
        ("0", "en-US", "guide"),
        ("1", "hi-IN", "guide"),
    ]


def test_r2r_has_three_episodes_to_a_path(tmp_path: Path) -> None:
    path = write(tmp_path / "R2R_train.json", r2r())
    given = read_episodes(path, connectivity=connectivity(tmp_path))
    assert [each.id for each in given.episodes] == [f"{4370 + n}_{part}" for n in range(2) for part in range(3)]
    first = given.episodes[0]
    assert first.reference_path == (
        (0.0, -1.0, pytest.approx(0.1)),
        (2.0, -1.0, pytest.approx(0.1)),
        first.goals[0].position,
    )
    # Matterport3DSimulator's heading grows to the right from +y: a quarter turn looks along +x.
    assert first.start_heading == pytest.approx(math.pi / 2 - 4.055)
    with pytest.raises(ValueError, match="give connectivity=FOLDER"):
        read_episodes(path)
    fewer = replace(given, records=given.records[1:])
    with pytest.raises(ValueError, match="write all of them"):
        write_episodes(tmp_path / "x.json", fewer)
    moved = replace(given.records[0], episode=replace(first, start_position=(0.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="start_position cannot be told by viewpoints: write it as r2r_ce"):
        write_episodes(tmp_path / "x.json", replace(given, records=(moved, *given.records[1:])))
    write_episodes(tmp_path / "ce.json.gz", given.converted("r2r_ce"))
    again = read_episodes(tmp_path / "ce.json.gz")
    assert again.format == "r2r_ce"
    assert [each.reference_path for each in again.episodes] == [each.reference_path for each in given.episodes]
    assert [each.instruction for each in again.episodes] == [each.instruction for each in given.episodes]


def test_goals_of_objects_are_where_they_are_seen_from(tmp_path: Path) -> None:
    chair, bed = read_episodes(write(tmp_path / "a.json.gz", objectnav())).episodes
    assert (chair.category, bed.category) == ("chair", "bed")
    # Two places of one chair, and the other chair itself, which no place is listed for.
    assert [goal.position for goal in chair.goals] == [(1.0, -2.0, 0.1), (1.5, -2.0, 0.1), (1.2, -2.5, 0.5)]
    assert {goal.radius for goal in chair.goals} == {0.1}
    assert len(bed.goals) == 1
    none = objectnav()
    del none["goals_by_category"]["TEEsavR23oF.basis.glb_bed"]
    with pytest.raises(
        ValueError, match=r"episode 1: 'goals_by_category' has no goals under 'TEEsavR23oF\.basis\.glb_bed'"
    ):
        read_episodes(write(tmp_path / "b.json.gz", none))


def test_a_goal_without_radius_has_that_of_pointnav(tmp_path: Path) -> None:
    assert read_episodes(write(tmp_path / "a.json.gz", pointnav())).episodes[0].goals[0].radius == 0.2


def test_splits_with_content(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    empty = {**objectnav(), "episodes": [], "goals_by_category": {}}
    write(folder / "val.json.gz", empty)
    write(folder / "content" / "TEEsavR23oF.json.gz", objectnav())
    sets = read_split(folder / "val.json.gz")
    assert {name: len(each.records) for name, each in sets.items()} == {
        "val.json.gz": 0,
        "content/TEEsavR23oF.json.gz": 2,
    }
    write_split(tmp_path / "again", sets)
    assert contents_of(tmp_path / "again" / "val.json.gz") == empty
    assert contents_of(tmp_path / "again" / "content" / "TEEsavR23oF.json.gz") == objectnav()
    write(tmp_path / "points" / "val.json.gz", {"episodes": []})
    write(tmp_path / "points" / "content" / "a.json.gz", pointnav())
    assert {each.format for each in read_split(tmp_path / "points" / "val.json.gz").values()} == {"pointnav"}
    write(tmp_path / "none" / "val.json.gz", {"episodes": []})
    with pytest.raises(ValueError, match="neither it nor any of 0 files"):
        read_split(tmp_path / "none" / "val.json.gz")


def test_only_what_changed_is_written_anew(tmp_path: Path) -> None:
    given = read_episodes(write(tmp_path / "train.json.gz", r2r_ce()))
    first = given.records[0]
    text = "Walk past the unknown table"
    new = replace(first, episode=replace(first.episode, instruction=text, start_heading=0.0))
    write_episodes(tmp_path / "out.json.gz", replace(given, records=(new, given.records[1])))
    one, two = contents_of(tmp_path / "out.json.gz")["episodes"]
    before = r2r_ce()["episodes"]
    assert two == before[1]
    assert {key for key in one if one[key] != before[0][key]} == {"instruction", "start_rotation"}
    assert one["instruction"]["instruction_text"] == text
    assert one["instruction"]["instruction_tokens"] == [4, 3, 5, 1, 2] + [0] * 195
    assert heading_of_rotation(one["start_rotation"]) == pytest.approx(0.0, abs=1e-12)


def own_episodes() -> list[Episode]:
    goals = (Goal((1.0, 2.0, 0.0), 0.2), Goal((1.5, 2.5, 0.0), 0.2))
    path = ((0.5, 0.25, 0.0), (1.0, 2.0, 0.0))
    return [
        Episode(
            id=f"rooms-1/{n}",
            scene=f"rooms-{n % 2}",
            start_position=path[0],
            start_heading=0.7 - n,
            goals=goals,
            instruction=f"Find the red {kind}.",
            category=f"red {kind}",
            reference_path=path,
            geodesic_distance=1.875,
        )
        for n, kind in enumerate(("chair", "lamp", "chair", "sofa"))
    ]


@pytest.mark.parametrize("format", ["r2r_ce", "rxr_ce", "objectnav", "pointnav"])
def test_new_episodes_come_back_whole(format: EpisodeFormat, tmp_path: Path) -> None:
    episodes = own_episodes()
    path = tmp_path / "own.json.gz"
    write_episodes(path, new_set(format, episodes, language="en"))
    found = read_episodes(path)
    assert found.format == format
    for one, other in zip(found.episodes, episodes, strict=True):
        assert one.start_heading == pytest.approx(other.start_heading, abs=1e-12)
        assert replace(one, start_heading=other.start_heading) == other
    # and from then on nothing moves
    write_episodes(tmp_path / "again.json.gz", found)
    assert (tmp_path / "again.json.gz").read_bytes() == path.read_bytes()
    if format == "r2r_ce":
        contents = contents_of(path)
        vocab = contents["instruction_vocab"]
        tokens = contents["episodes"][0]["instruction"]["instruction_tokens"]
        assert len(tokens) == 200
        assert [vocab["itos"][token] for token in tokens[:5]] == ["find", "the", "red", "chair", "."]
        assert tokens_of("find zebras", vocab)[:2] == [vocab["stoi"]["find"], vocab["UNK_INDEX"]]


def test_categories_with_two_sets_of_goals_are_refused(tmp_path: Path) -> None:
    one = own_episodes()[0]
    other = replace(one, id="other", goals=(Goal((9.0, 9.0, 0.0), 0.2),))
    with pytest.raises(ValueError, match=r"episode 'other'.*different categories"):
        write_episodes(tmp_path / "x.json.gz", new_set("objectnav", [one, other]))
    with pytest.raises(ValueError, match="objectnav wants a category"):
        write_episodes(tmp_path / "x.json.gz", new_set("objectnav", [replace(one, category=None)]))
    with pytest.raises(ValueError, match="r2r_ce wants an instruction"):
        write_episodes(tmp_path / "x.json.gz", new_set("r2r_ce", [replace(one, instruction="")]))


def broken(**changes: Any) -> dict[str, Any]:
    contents = r2r_ce()
    for key, value in changes.items():
        contents["episodes"][1][key] = value
    return contents


BAD: dict[str, Any] = {
    "expected start_position as": {"start_position": [1.0, 2.0]},
    "expected start_position as \\[x, y, z\\]": {"start_position": [1.0, math.nan, 2.0]},
    "expected start_rotation as a number": {"start_rotation": [0, 0, 0, "1"]},
    "expected a unit quaternion": {"start_rotation": [0, 0, 1]},
    "it has no goal": {"goals": []},
    "expected the position of a goal": {"goals": [{"radius": 3.0}]},
    "expected the radius of a goal": {"goals": [{"position": [0, 0, 0], "radius": "3"}]},
    "radius of a goal in metres": {"goals": [{"position": [0, 0, 0], "radius": -3.0}]},
    "expected 'instruction_text'": {"instruction": {}},
    "expected 'instruction' as an object": {"instruction": "Go"},
    "expected reference_path": {"reference_path": [[0, 0, None]]},
    "expected geodesic_distance": {"info": {"geodesic_distance": "far"}},
    "its id occurs before": {"episode_id": 1},
}


@pytest.mark.parametrize("message", BAD)
def test_a_malformed_episode_is_named(message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "train.json.gz", broken(**BAD[message]))
    with pytest.raises(ValueError, match=message) as error:
        read_episodes(path)
    name = BAD[message].get("episode_id", 2)
    assert str(error.value).startswith(f"{path}, episode {name}: ")
    given = read_episodes(path, skip_bad=True)
    assert [each.id for each in given.episodes] == ["1"]
    assert sum(given.reasons().values()) == 1
    assert given.skipped[0].name == f"{path}, episode {name}"


def test_malformed_files_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "train.json.gz", r2r_ce()).read_bytes()
    cases = {
        "a broken gzip file": whole[: len(whole) // 2],
        "not valid JSON": b"{",
        "expected a list of episodes": b'{"a": 1}',
        "cannot see which kind": b'[{"a": 1}]',
        "not one of 0 episodes": gzip.compress(b'{"episodes": [], "instruction_vocab": {}}'),
    }
    for message, data in cases.items():
        path = tmp_path / "bad.json.gz"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as error:
            read_episodes(path, "r2r_ce" if "not one" in message else None)
        assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_episodes(tmp_path / "missing.json")
    all_bad = {"episodes": [{**item, "goals": []} for item in r2r_ce()["episodes"]]}
    with pytest.raises(ValueError, match="not one of 2 episodes can be used"):
        read_episodes(write(tmp_path / "b.json", all_bad), skip_bad=True)
    with pytest.raises(ValueError, match=r"item 0: expected an object, got 3"):
        read_episodes(write(tmp_path / "c.json", [3]), "pointnav")


def test_expert_paths(tmp_path: Path) -> None:
    contents = {"1": {"locations": [[1.0, 0.5, -2.0], [1.0, 0.5, -2.25]], "forward_steps": 1, "actions": [1, 0]}}
    path = write(tmp_path / "val_gt.json.gz", contents)
    found = read_expert_paths(path)
    assert found["1"].locations.tolist() == [[1.0, 2.0, 0.5], [1.0, 2.25, 0.5]]
    assert (found["1"].actions, found["1"].forward_steps) == ((1, 0), 1)
    write_expert_paths(tmp_path / "again.json.gz", found)
    assert contents_of(tmp_path / "again.json.gz") == contents
    assert isinstance(found["1"], ExpertPath)
    with pytest.raises(ValueError, match=r"val_gt.json.gz, episode 1: expected 'locations'"):
        read_expert_paths(write(path, {"1": {"actions": [0]}}))
    with pytest.raises(ValueError, match="expected an object such as"):
        read_expert_paths(write(path, r2r_ce()))


def test_predictions(tmp_path: Path) -> None:
    walk = [
        AgentState((1.0, 2.0, 0.5), math.pi / 2, False),
        AgentState((1.0, 2.0, 0.5), math.pi / 2 + math.radians(15), False),
        AgentState((1.0, 2.25, 0.5), math.pi / 2 + math.radians(15), True),
    ]
    write_r2r_predictions(tmp_path / "r2r.json", {"7": walk})
    first = contents_of(tmp_path / "r2r.json")["7"][0]
    assert first == {"position": [1.0, 0.5, -2.0], "heading": 0.0, "stop": False}
    for one, other in zip(read_r2r_predictions(tmp_path / "r2r.json")["7"], walk, strict=True):
        assert (one.position, one.stop) == (other.position, other.stop)
        assert one.heading == pytest.approx(other.heading)
    write_rxr_predictions(tmp_path / "rxr.jsonl", {"7": walk})
    assert contents_of(tmp_path / "rxr.jsonl") == [
        {"instruction_id": "7", "path": [[1.0, 0.5, -2.0], [1.0, 0.5, -2.25]]}
    ]
    (tmp_path / "r2r.json").write_text('{"7": [{"position": [0, 0, 0]}]}')
    with pytest.raises(ValueError, match="episode 7: expected position, heading and stop"):
        read_r2r_predictions(tmp_path / "r2r.json")


def test_a_record_knows_what_changed() -> None:
    episode = own_episodes()[0]
    fresh, same = EpisodeRecord(episode), EpisodeRecord(replace(episode, instruction="x"), {"a": 1}, episode)
    assert fresh.changed("id")
    assert same.changed("instruction")
    assert not same.changed("id")
