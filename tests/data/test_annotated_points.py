"""Names under which points are kept: of scenes in folders by the folder too, of the world's floors as ever."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from test_scenes_scannet import NAME, write_exported
from tiny_rooms import points_config, rooms_data

from genworld.data.scene_turns import RoomTurns
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns, AnnotationFile
from genworld.data.scenes import scene_key
from genworld.models.scene_points import ScenePoints
from genworld.ops.lifted import LiftedScene
from genworld.ops.scene_codec import SceneCodec
from genworld.types import PointSet
from tests.models.scene_cases import room


def test_folders_with_scenes_of_equal_names_share_a_cache(tmp_path: Path) -> None:
    asked = [{"question_id": "q", "scene_id": NAME, "question": "What is here?", "answers": ["a pillar"]}]
    (tmp_path / "qa.json").write_text(json.dumps(asked))
    found = []
    for folder, pillar in (("a", True), ("b", False), ("a", True)):
        scans = tmp_path / folder
        if not scans.exists():
            write_exported(scans / NAME, room(2, (24, 32), pillar))
        files = [AnnotationFile(format="scanqa", path=tmp_path / "qa.json")]
        data = AnnotatedData(scenes=scans, files=files, held_out=[])
        found.append(AnnotatedTurns(data, ScenePoints(points_config(tmp_path / "points"))).lifted(0).points)
    assert len(list((tmp_path / "points").rglob("*.safetensors"))) == 2
    first, other, again = found
    assert torch.equal(first.points, again.points)
    assert torch.equal(first.features, again.features)
    assert first.points.shape != other.points.shape or not torch.equal(first.points, other.points)


def test_a_key_is_of_a_folder_and_a_name(tmp_path: Path) -> None:
    keys = {scene_key(folder, name) for folder in (tmp_path / "a", tmp_path / "b") for name in ("x/y", "x_y")}
    assert len({key.replace("/", "_") for key in keys}) == 4  # as file names
    assert scene_key(tmp_path / "b" / ".." / "a", "x") == scene_key(tmp_path / "a", "x")


class Keys:
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def lift(self, key: str, scene) -> LiftedScene:
        self.asked.append(key)
        one = torch.zeros(1, 3)
        return LiftedScene(key, PointSet(one, one, one, one.long()), SceneCodec.from_bounds((0, 0, 0), (1, 1, 1)))


def test_floors_of_the_world_keep_their_names(tmp_path: Path) -> None:
    keys = Keys()
    RoomTurns(rooms_data(tmp_path), keys).lifted(1)
    assert keys.asked == ["rooms-1-1-2-32x32"]
