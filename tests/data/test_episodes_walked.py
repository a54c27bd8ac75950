"""Episodes from files of the field, walked and scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from genworld.data.episodes import EpisodeFormat, new_set, read_episodes, write_episodes
from genworld.eval.navigation import Geodesic, MeasureConfig, Walk, score
from genworld.world.navigation.baselines import OraclePolicy, run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv, r2r_config, rxr_config
from genworld.world.navigation.place import Place, Places, place_of_floor
from genworld.world.navigation.routes import RouteConfig, floor_episodes
from tests.world.room_floors import floor_of

OBJECT = replace(r2r_config(), task="object")
SETTINGS: dict[EpisodeFormat, NavigationConfig] = {
    "r2r_ce": r2r_config(),
    "rxr_ce": rxr_config(),
    "objectnav": OBJECT,
    "pointnav": replace(OBJECT, task="point"),
}


@pytest.mark.parametrize("format", SETTINGS)
def test_episodes_of_files_are_walked_and_scored(format: EpisodeFormat, tmp_path: Path) -> None:
    config = replace(SETTINGS[format], images=False)
    sort = {"object": "objects", "point": "points"}.get(config.task, "instructions")
    counts = {name: int(name == sort) for name in ("objects", "points", "instructions")}
    made = [each for seed in (1, 2) for each in floor_episodes(floor_of(seed), RouteConfig(wordings=1, **counts))]
    assert len(made) == 2
    names = {f"mp3d/{each.scene}/{each.scene}.glb": each.scene for each in made}
    filed = [replace(each, scene=f"mp3d/{each.scene}/{each.scene}.glb") for each in made]
    write_episodes(tmp_path / "val.json.gz", new_set(format, filed, language="en-US"))
    episodes = read_episodes(tmp_path / "val.json.gz").episodes

    def place(name: str) -> Place:
        return place_of_floor(floor_of(int(names[name].rpartition("-")[2])), config.agent, config.camera)

    places = Places(place)
    env = NavigationEnv(episodes, places, config)
    runs = [run(env, OraclePolicy(env), episode.id) for episode in episodes]
    assert all(each.success for each in runs)
    walks = [(each.episode, Walk(each.positions, each.stopped, each.collisions)) for each in runs]
    distances = {name: Geodesic(places(name).geodesics) for name in names}
    report = score(walks, episodes, distances, MeasureConfig(dtw="fastdtw"))
    assert (report.num, report.num_scenes, report.dtw) == (2, 2, "fastdtw")
    assert report.figures["success"].value == 1
    assert report.figures["spl"].value > 0.85
    if sort == "instructions":
        assert report.figures["ndtw"].value > 0.8
    told = {"object": "category", "instruction": "instruction"}.get(config.task)
    assert told is None or [getattr(each, told) for each in episodes] == [getattr(each, told) for each in made]
