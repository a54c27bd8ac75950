import dataclasses

import pytest
import torch
from scene_cases import random_patches, room
from test_points import same_bits

from genworld.models.points import DirectLifter, DirectLifterConfig
from genworld.models.points_cache import CloudCache, load_cloud, save_cloud

LIFTER = DirectLifter(DirectLifterConfig(voxel=0.2, max_voxels=5000))


def test_a_cloud_is_read_back_with_its_codec(tmp_path):
    scene = room(2)
    broken = dataclasses.replace(scene.views[0], depth=torch.zeros_like(scene.views[0].pixels[0]), name="dark")
    cloud = LIFTER.lift(dataclasses.replace(scene, views=(*scene.views, broken)), random_patches(3))
    save_cloud(tmp_path / "deep" / "cloud.safetensors", cloud, {"by": "hand"})
    back, facts = load_cloud(tmp_path / "deep" / "cloud.safetensors")
    assert same_bits(back, cloud)
    assert (back.codec, back.voxel, back.skipped, facts) == (cloud.codec, cloud.voxel, cloud.skipped, {"by": "hand"})
    assert back.skipped[0].name == "dark"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_a_scene_is_lifted_once(tmp_path):
    scene, given, asked = room(2), random_patches(2), []

    @dataclasses.dataclass
    class Counting:
        name: str = "counting"

        def __call__(self, index, view):
            asked.append(index)
            return given(index, view)

    cache = CloudCache(tmp_path)
    first = cache.lift(scene, LIFTER, Counting())
    assert same_bits(cache.lift(scene, LIFTER, Counting()), first)
    assert asked == [0, 1]
    other = DirectLifter(DirectLifterConfig(voxel=0.25, max_voxels=5000))
    cache.lift(scene, other, Counting())
    cache.lift(scene, LIFTER, Counting("others"))
    cache.lift(dataclasses.replace(scene, name="a/b"), LIFTER, Counting())
    assert asked == [0, 1] * 4
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_no_cloud_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"points": torch.zeros(1, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("other", "text"):
        with pytest.raises(ValueError, match=name):
            load_cloud(tmp_path / f"{name}.safetensors")
