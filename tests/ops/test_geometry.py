import pytest
import torch

from genworld.ops.geometry import plucker, project, relative_to_first, unproject
from genworld.types import ClipShape
from genworld.world import WorldConfig, sample_clip

INTRINSICS = torch.tensor([[50.0, 0.0, 30.0], [0.0, 40.0, 22.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
SIZE, GRID = (48, 64), (3, 4)


def poses(number: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(number, 3, 3, generator=generator, dtype=torch.float64))
    pose = torch.eye(4, dtype=torch.float64).repeat(number, 1, 1)
    pose[:, :3, :3] = rotation * torch.linalg.det(rotation).sign()[:, None, None]
    pose[:, :3, 3] = torch.randn(number, 3, generator=generator, dtype=torch.float64)
    return pose


def centres() -> torch.Tensor:
    """Pixels of the cells' centres, row by row, written out by hand."""
    rows, columns = (8.0, 24.0, 40.0), (8.0, 24.0, 40.0, 56.0)
    return torch.tensor([[x, y] for y in rows for x in columns], dtype=torch.float64)


def test_the_first_pose_becomes_the_identity_and_the_others_keep_their_places():
    pose = poses(4)
    relative = relative_to_first(pose)
    torch.testing.assert_close(relative[0], torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(pose[0] @ relative, pose)
    torch.testing.assert_close(relative_to_first(poses(1, seed=3) @ pose), relative)  # whatever the world's axes


def test_unproject_inverts_project():
    pose = poses(5)
    points = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    pixels, depth = project(points, pose, INTRINSICS)
    torch.testing.assert_close(unproject(pixels, depth, pose, INTRINSICS), points)
    again, same = project(unproject(pixels, depth.abs(), pose, INTRINSICS), pose, INTRINSICS)
    torch.testing.assert_close((again, same), (pixels, depth.abs()))


def test_project_agrees_with_the_world():
    clip = sample_clip(5, WorldConfig(cameras=("orbit",)), ClipShape(5, 32, 48, 8.0))
    pixels, depth = project(clip.positions, clip.world_from_camera, clip.intrinsics)
    torch.testing.assert_close(pixels, clip.pixel_positions)
    assert (depth > 0).all()


def test_rays_are_those_of_the_cells_centres():
    pose = poses(2)
    rays = plucker(pose, INTRINSICS, SIZE, GRID)
    assert rays.shape == (2, *GRID, 6)
    direction, moment = rays.flatten(1, 2).split(3, dim=-1)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones_like(direction[..., 0]))
    pixels = centres().expand(2, -1, 2)
    for metres in (0.5, 9.0):  # every point seen there lies on the ray: p x d is the moment of the line through p
        point = unproject(pixels, torch.full((2, 12), metres, dtype=torch.float64), pose, INTRINSICS)
        torch.testing.assert_close(torch.linalg.cross(point, direction), moment)
        away = point - pose[:, None, :3, 3]
        torch.testing.assert_close(away / away.norm(dim=-1, keepdim=True), direction)  # and in front


@pytest.mark.parametrize("metres", [-2.0, 0.3, 7.0])
def test_a_ray_does_not_change_when_the_camera_slides_along_it(metres):
    pose = poses(1)
    rays = plucker(pose, INTRINSICS, SIZE, GRID)
    moved = pose.clone()
    moved[0, :3, 3] += metres * rays[0, 1, 2, :3]
    after = plucker(moved, INTRINSICS, SIZE, GRID)
    torch.testing.assert_close(after[0, 1, 2], rays[0, 1, 2])
    assert (after - rays).abs()[0, 0, 0].max() > 0.01  # the other rays do


def test_a_camera_at_the_origin_has_no_moments():
    rays = plucker(torch.eye(4, dtype=torch.float64)[None], INTRINSICS, SIZE, GRID)
    assert (rays[..., 3:] == 0).all()
    assert (rays[..., 2] > 0).all()


def test_rays_do_not_depend_on_the_resolution():
    double = INTRINSICS * torch.tensor([[2.0], [2.0], [1.0]], dtype=torch.float64)
    torch.testing.assert_close(plucker(poses(2), double, (96, 128), GRID), plucker(poses(2), INTRINSICS, SIZE, GRID))


def test_precision_follows_the_poses():
    rays = plucker(poses(2).float(), INTRINSICS.float(), SIZE, GRID)
    assert rays.dtype == torch.float32
    torch.testing.assert_close(rays.double(), plucker(poses(2), INTRINSICS, SIZE, GRID), atol=1e-5, rtol=1e-5)
