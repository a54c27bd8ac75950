import math

import numpy as np
import pytest
import torch

from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip
from genworld.world.clip import render_together
from genworld.world.objects import COLOURS, PALETTE, WorldObject, nearest_colour


def mesh_of(thing: WorldObject, o3d):
    make, (a, b, c) = o3d.geometry.TriangleMesh, thing.dims
    if thing.shape == "sphere":
        return make.create_sphere(a, 200)
    if thing.shape in ("cube", "wall"):
        return make.create_box(2 * a, 2 * b, 2 * c).translate((-a, -b, -c))
    if thing.shape == "cylinder":
        return make.create_cylinder(a, 2 * c, 400)
    if thing.shape == "cone":
        return make.create_cone(a, 2 * c, 400).translate((0, 0, -c))
    return make.create_torus(a, b, 300, 150)


@pytest.mark.parametrize("seed", [0, 2, 5, 7, 8, 40])
def test_depth_and_ids_equal_open3d(seed: int) -> None:
    o3d = pytest.importorskip("open3d", exc_type=ImportError)  # it also needs libraries of the system
    clip = sample_clip(seed, shape=ClipShape(3, 120, 160, 2.0))
    rotations = clip.trajectory.rotations(clip.times)
    places = clip.trajectory.positions(clip.times)
    for frame in range(3):
        scene = o3d.t.geometry.RaycastingScene()
        floor = o3d.geometry.TriangleMesh.create_box(400, 400, 1).translate((-200, -200, -1))
        for index, mesh in enumerate([floor, *(mesh_of(thing, o3d) for thing in clip.scene.objects)]):
            if index:
                mesh.rotate(rotations[frame, index - 1], center=(0, 0, 0)).translate(places[frame, index - 1])
            scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
        camera_from_world = np.linalg.inv(clip.world_from_camera[frame].double().numpy())
        rays = scene.create_rays_pinhole(clip.intrinsics.double().numpy(), camera_from_world, 160, 120)
        truth = scene.cast_rays(rays)
        distance = torch.from_numpy(truth["t_hit"].numpy())  # Open3D's rays advance by 1 along the camera's z axis too
        ids = torch.from_numpy(truth["geometry_ids"].numpy().astype(np.int64))
        sky = clip.depth[frame].isinf() | (clip.depth[frame] > 100)
        ids[sky] = 0
        steady = same_around(ids) & same_around(clip.ids[frame])
        assert (ids == clip.ids[frame]).float().mean() > 0.998
        assert torch.equal(ids[steady], clip.ids[frame][steady])
        inner = steady & ~sky
        assert inner.float().mean() > 0.7
        difference = (distance - clip.depth[frame])[inner].abs()
        assert difference.max() < 0.01
        assert difference.mean() < 5e-4


def same_around(ids: torch.Tensor) -> torch.Tensor:
    grid = ids.float()[None, None]
    padded = torch.nn.functional.pad(grid, (1, 1, 1, 1), mode="replicate")
    pool = torch.nn.functional.max_pool2d
    return (pool(padded, 3, 1) == -pool(-padded, 3, 1))[0, 0]


def test_normals_agree_with_depth() -> None:
    clip = sample_clip(3, shape=ClipShape(1, 200, 200, 8.0))
    rows, columns = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(200) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    points = (pixels @ clip.intrinsics.inverse().T) * clip.depth[0, ..., None] @ clip.world_from_camera[0, :3, :3].T
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    measured = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1)
    given = clip.normals[0, 1:-1, 1:-1]
    inner = same_around(clip.ids[0])[1:-1, 1:-1] & (clip.ids[0, 1:-1, 1:-1] > 0)
    assert ((measured * given).sum(-1)[inner] > 0.99).float().mean() > 0.97


def test_the_centre_of_a_spheres_mask_is_where_it_projects() -> None:
    easy = WorldConfig(max_objects=1, shapes=("sphere",), sizes=("small",), cameras=("orbit",), occluders=0)
    for seed in range(4):
        clip = sample_clip(seed, easy, ClipShape(3, 256, 256, 4.0))
        for frame in range(3):
            rows, columns = clip.masks[frame, 0].nonzero(as_tuple=True)
            middle = torch.stack([columns.float().mean(), rows.float().mean()]) + 0.5
            assert (middle - clip.pixel_positions[frame, 0]).norm() < 1.0


def test_colour_can_be_told_from_pixels() -> None:
    """At least 99.5 % of clips; here all of them."""
    for seed in range(40):
        clip = sample_clip(seed, shape=ClipShape(2, 64, 64, 1.0))
        pixels = (clip.clip.pixels + 1) / 2
        for index, thing in enumerate(clip.scene.objects):
            mask = clip.masks[:, index]
            if thing.shape != "wall" and mask.sum() > 20:
                assert COLOURS[int(nearest_colour(pixels[:, mask].mean(1)))] == thing.colour


def test_palette_names_itself_in_light_and_shade() -> None:
    rgb = torch.tensor([PALETTE[name] for name in COLOURS])
    for scale, grey in ((1.0, 0.0), (0.3, 0.0), (0.6, 0.3)):
        assert nearest_colour(rgb * scale + grey).tolist() == list(range(8))


@pytest.mark.parametrize("shape", [ClipShape(1, 64, 64, 8.0), ClipShape(3, 37, 61, 5.0), ClipShape(129, 16, 24, 24.0)])
def test_any_shape(shape: ClipShape) -> None:
    clip = sample_clip(1, shape=shape)
    assert clip.clip.shape == shape
    assert clip.depth.shape == (shape.num_frames, shape.height, shape.width)
    assert clip.clip.pixels.isfinite().all()
    assert -1 <= clip.clip.pixels.min() < clip.clip.pixels.max() <= 1


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second, other = (sample_clip(seed).clip for seed in (11, 11, 12))
    assert torch.equal(first.pixels, second.pixels)
    assert first.text == second.text
    assert not torch.equal(first.pixels, other.pixels)


def test_frames_of_one_time_are_equal_at_every_rate() -> None:
    slow, fast = (sample_clip(2, shape=ClipShape(1 + 2 * rate, 48, 48, float(rate))) for rate in (4, 8))
    torch.testing.assert_close(slow.clip.pixels, fast.clip.pixels[:, ::2], atol=2e-3, rtol=0)
    later = sample_clip(2, shape=ClipShape(5, 48, 48, 8.0), start=1.0)
    torch.testing.assert_close(later.clip.pixels, fast.clip.pixels[:, 8:13], atol=2e-3, rtol=0)


def test_clips_rendered_together_equal_clips_rendered_alone() -> None:
    shapes = [ClipShape(5, 40, 40, 8.0), ClipShape(2, 40, 40, 4.0), ClipShape(1, 40, 40, 8.0)]
    clips = [sample_clip(seed, shape=shape) for seed, shape in enumerate(shapes)]
    for alone, together in zip(clips, render_together(clips), strict=True):
        torch.testing.assert_close(alone.clip.pixels, together.pixels, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="one size"):
        render_together([clips[0], sample_clip(0, shape=ClipShape(1, 32, 40, 8.0))])


def test_objects_can_be_recognised_at_64() -> None:
    sizes = []
    for seed in range(30):
        clip = sample_clip(seed, WorldConfig(max_objects=1, occluders=0), ClipShape(1, 64, 64, 8.0))
        sizes.append(math.sqrt(float(clip.masks[0, 0].sum())))
    assert min(sizes) > 6
    assert 9 < np.median(sizes) < 24


@pytest.mark.gpu
def test_cuda_equals_cpu() -> None:
    for seed in range(4):
        here, there = (sample_clip(seed, device=device) for device in ("cpu", "cuda"))
        difference = (here.clip.pixels - there.clip.pixels.cpu()).abs()
        assert difference.mean() < 1e-3
        assert (here.ids == there.ids.cpu()).float().mean() > 0.999
