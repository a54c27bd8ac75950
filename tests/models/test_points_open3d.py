"""The real room: our unprojection, our voxels and our clouds against Open3D's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scene_cases import random_patches

from genworld.data.scenes import open_scenes
from genworld.models.points import DirectLifter, DirectLifterConfig, sample_depth
from genworld.models.points_fusion import FusionLifter, FusionLifterConfig
from genworld.types import Scene, View

ROOM = Path(__file__).resolve().parents[3] / "shared" / "data" / "rgbd_room"
VOXEL = 0.05
pytestmark = pytest.mark.skipif(not ROOM.is_dir(), reason=f"no real room in {ROOM}")


def real_room(every: int) -> Scene:
    source = open_scenes(ROOM)
    scene = source.read(source.names[0])
    return Scene(scene.name, tuple(scene.view(i) for i in range(0, scene.num_views, every)))  # in the world's axes


def intrinsics_of(view: View):
    import open3d as o3d

    height, width = view.pixels.shape[1:]
    matrix = view.intrinsics.double().numpy()
    # Open3D puts the centre of the first pixel at 0, we at a half.
    return o3d.camera.PinholeCameraIntrinsic(
        width, height, matrix[0, 0], matrix[1, 1], matrix[0, 2] - 0.5, matrix[1, 2] - 0.5
    )


def depth_image(view: View, far: float):
    import open3d as o3d

    assert view.depth is not None
    depth = torch.where(view.depth <= far, view.depth, 0.0)
    return o3d.geometry.Image(np.ascontiguousarray(depth.numpy(), dtype=np.float32))


def test_unprojected_points_agree_to_a_millimetre():
    import open3d as o3d

    config = DirectLifterConfig(stride=1)
    for view in real_room(every=10).views:
        theirs = o3d.geometry.PointCloud.create_from_depth_image(
            depth_image(view, config.far),
            intrinsics_of(view),
            np.linalg.inv(view.world_from_camera.double().numpy()),
            depth_scale=1.0,
            depth_trunc=1000.0,
        )
        ours = sample_depth(view, config).points
        assert len(ours) > 200_000
        expected = torch.from_numpy(np.asarray(theirs.points))
        assert ours.shape == expected.shape
        assert (ours - expected).norm(dim=-1).max() < 1e-3


def fused_surface(scene: Scene, far: float):
    """Points of the surface of Open3D's truncated signed distances, voxels of 2.5 cm."""
    import open3d as o3d

    types = ([o3d.core.float32, o3d.core.float32], [[1], [1]])
    grid = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight"), *types, VOXEL / 2, 16, 20_000)
    for view in scene.views:
        depth = o3d.t.geometry.Image.from_legacy(depth_image(view, far))
        camera = o3d.core.Tensor(intrinsics_of(view).intrinsic_matrix)
        pose = o3d.core.Tensor(np.linalg.inv(view.world_from_camera.double().numpy()))
        blocks = grid.compute_unique_block_coordinates(depth, camera, pose, 1.0, far)
        grid.integrate(blocks, depth, camera, pose, 1.0, far)
    return grid.extract_point_cloud(weight_threshold=0.5).to_legacy()


def beside_surface(name: str, scene: Scene):
    """A lifter's cloud, how far its points are from Open3D's surface, and that from them; metres."""
    import open3d as o3d

    surface = fused_surface(scene, 4.0)
    lifter = (
        DirectLifter(DirectLifterConfig(voxel=VOXEL, far=4.0))
        if name == "direct"
        else FusionLifter(FusionLifterConfig(voxel=VOXEL, far=4.0))
    )
    cloud = lifter.lift(scene, random_patches(scene.num_views, (30, 40)))
    ours = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(cloud.points.double().numpy()))
    away = torch.from_numpy(np.asarray(ours.compute_point_cloud_distance(surface)))
    back = torch.from_numpy(np.asarray(surface.compute_point_cloud_distance(ours)))
    return cloud, away, back


@pytest.mark.parametrize("name", ["direct", "fusion"])
def test_one_view_lifted_lies_on_the_surface_that_open3d_fuses(name):
    for view in real_room(every=10).views:
        _, away, _ = beside_surface(name, Scene("one", (view,)))
        assert len(away) > 1500
        assert (away < VOXEL).float().mean() > 0.995


@pytest.mark.parametrize("name", ["direct", "fusion"])
def test_lifted_points_lie_on_the_surface_that_open3d_fuses(name):
    cloud, away, back = beside_surface(name, real_room(every=3))
    assert len(back) > 50_000
    assert away.median() < VOXEL / 4
    # Where views of this recording disagree by more than a voxel, means keep both surfaces and distances one between.
    assert (away < VOXEL).float().mean() > 0.97
    assert cloud.weights[away < VOXEL].sum() / cloud.weights.sum() > 0.99
    # Its surface also runs on where distances are truncated far from samples.
    assert (back < VOXEL).float().mean() > 0.8
