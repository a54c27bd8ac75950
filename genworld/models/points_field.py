"""A neural voxel field: density, colour and features fitted to posed pictures by volume rendering; needs no depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from genworld.models.points import CODEC_MARGIN, FeatureCloud, FeatureTable, ViewFeatures
from genworld.ops.geometry import unproject
from genworld.ops.random import generator
from genworld.ops.scene_codec import SceneCodec
from genworld.types import Scene, Skipped, View
from genworld.types.scenes import left_out

_TINY = 1e-3  # the share of light that each cell stops at first: fog so thin that all cells are seen and can be learned
_COARSE = 4  # the first grid has cells so many times as large; twice refined by halves


@dataclass(frozen=True, kw_only=True)
class FieldLifterConfig:
    """How a field is fitted.

    Attributes:
        voxel: edge of the finest cells, metres.
        lower: least corner of what is modelled, metres, scene axes; None takes all that cameras see up to `far`.
        upper: greatest corner.
        near: nothing is nearer to a camera, metres.
        far: nothing is farther, where no corners are given.
        steps: of the optimiser, over all grids.
        rays: per step.
        size: pixels of the shorter side of the pictures that are fitted.
        rate: learning rate of both grids.
        smooth: weight of the density's total variation.
        solid: weight of the loss that makes every place on a ray have the colour of the ray itself, as far as it counts
            (DVGO's per-point loss): it clears fog.
        sweeps: over all rays when features are fitted to the finished density.
        visible: cells that never make up this share of a ray are not part of the cloud.
        max_voxels: a finer grid is refused.
        seed: of the rays.
    """

    kind: Literal["field"] = "field"
    voxel: float = 0.1
    lower: tuple[float, float, float] | None = None
    upper: tuple[float, float, float] | None = None
    near: float = 0.1
    far: float = 6.0
    steps: int = 800
    rays: int = 1024
    size: int = 96
    rate: float = 0.1
    smooth: float = 1e-4
    solid: float = 0.1
    sweeps: int = 10
    visible: float = 0.25
    max_voxels: int = 1 << 21
    seed: int = 0

    def __post_init__(self) -> None:
        if self.voxel <= 0 or not 0 <= self.near < self.far or min(self.steps, self.rays, self.size, self.sweeps) < 1:
            raise ValueError(
                "a field needs voxel > 0, 0 <= near < far and at least one step, ray, pixel and sweep, got "
                f"voxel {self.voxel}, near {self.near}, far {self.far}, steps {self.steps}, rays {self.rays}, "
                f"size {self.size}, sweeps {self.sweeps}"
            )
        if not self.visible > 0:
            raise ValueError(f"visible must be above 0, as of what no ray met, nothing is known, got {self.visible}")
        if (self.lower is None) != (self.upper is None):
            raise ValueError(f"a field needs both corners or none, got lower {self.lower} and upper {self.upper}")


class Rays(NamedTuple):
    """Half lines: where they start and where they go, so that the camera's depth grows by 1 a step; metres."""

    eyes: Float[Tensor, "R 3"]
    directions: Float[Tensor, "R 3"]


class Rendered(NamedTuple):
    """What rays meet: colour, and for each place on them its share, its point and its colour."""

    colours: Float[Tensor, "R 3"]
    shares: Float[Tensor, "R S"]
    points: Float[Tensor, "R S 3"]
    placed: Float[Tensor, "R S 3"]


class VoxelField(nn.Module):
    """Density and colour on a grid of cells; between their centres both are interpolated before the density is made
    positive, so that a surface can run through a cell (DVGO, Sun et al. 2022, section 3).
    """  # noqa: D205

    def __init__(self, lower: Float[Tensor, " 3"], upper: Float[Tensor, " 3"], cell: float):
        super().__init__()
        self.lower, self.cell = lower, cell
        shape = [max(math.ceil(side / cell - 1e-6), 2) for side in (upper - lower).tolist()]
        self.upper = lower + torch.tensor(shape) * cell
        self.density = nn.Parameter(torch.zeros(1, 1, *shape))
        self.colour = nn.Parameter(torch.zeros(1, 3, *shape))

    @property
    def shape(self) -> torch.Size:
        """Cells along x, y and z."""
        return self.density.shape[2:]

    def refined(self, cell: float) -> VoxelField:
        """The same field on smaller cells."""
        finer = VoxelField(self.lower, self.upper, cell)
        centres = torch.stack(torch.meshgrid(*(torch.arange(n) + 0.5 for n in finer.shape), indexing="ij"), dim=-1)
        places = (self.lower + centres * cell).flatten(0, 2)
        with torch.no_grad():
            finer.density.copy_(self._read(self.density, places).T.view_as(finer.density))
            finer.colour.copy_(self._read(self.colour, places).T.view_as(finer.colour))
        return finer

    def render(self, rays: Rays, near: float, jitter: Float[Tensor, "R 1"]) -> Rendered:
        """Emission and absorption along rays, a place per cell's edge, from where a ray enters the grid.

        Args:
            rays: in scene axes.
            near: metres from the camera that are empty.
            jitter: in [0, 1), shifts the places of a ray.
        """
        length = rays.directions.norm(dim=-1, keepdim=True)
        unit = rays.directions / length
        first, last = (
            (side - rays.eyes) / torch.where(unit.abs() < 1e-9, 1e-9, unit) for side in (self.lower, self.upper)
        )
        enter = torch.minimum(first, last).amax(dim=-1, keepdim=True).clamp(min=near)
        leave = torch.maximum(first, last).amin(dim=-1, keepdim=True)
        count = int(((leave - enter).amax() / self.cell).ceil().clamp(min=1))
        along = enter + (torch.arange(count) + jitter) * self.cell
        points = rays.eyes[:, None] + unit[:, None] * along[..., None]
        raw = self._read(self.density, points.flatten(0, 1)).view(along.shape)
        stopped = -torch.expm1(-F.softplus(raw + math.log(math.expm1(-math.log1p(-_TINY)))))
        stopped = stopped * (along < leave)
        passed = F.pad((1 - stopped + 1e-10).cumprod(dim=-1)[:, :-1], (1, 0), value=1.0)
        placed = self.colours_at(points.flatten(0, 1)).view(*along.shape, 3)
        shares = stopped * passed
        return Rendered(torch.einsum("rs,rsc->rc", shares, placed), shares, points, placed)

    def colours_at(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Colours at points, in [0, 1]."""
        return self._read(self.colour, points).sigmoid()

    def _read(self, grid: Float[Tensor, "1 C X Y Z"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "n C"]:
        places = (points - self.lower) / (self.upper - self.lower) * 2 - 1
        read = F.grid_sample(grid, places.flip(-1)[None, :, None, None], padding_mode="border", align_corners=False)
        return rearrange(read, "1 c n 1 1 -> n c")


@dataclass(frozen=True)
class FieldLifter:
    """The third way of 3D-LLM, for pictures without depth: fit a field to the colours, then features to the field.

    Density and colour are fitted by Adam from coarse to fine. Then each patch's feature is the sum of its ray's cells,
    weighted by their shares; that is linear in the cells' features, and solved by simultaneous reconstruction (SIRT,
    Gilbert 1972). Memory: the grid, D numbers per visible cell, and the patch features of all views.

    The same seed gives the same bits on one machine; unlike the other lifters, the order of views counts.
    """

    config: FieldLifterConfig = field(default_factory=FieldLifterConfig)

    def lift(self, scene: Scene, features: ViewFeatures) -> FeatureCloud:
        """Lift a whole scene; see `Lifter`. Its depth, if it has any, is not looked at."""
        cameras, skipped = _usable(scene)
        volume = self.fit(scene, cameras)
        return self._cloud(volume, scene, cameras, features, tuple(skipped))

    def fit(self, scene: Scene, cameras: list[int]) -> VoxelField:
        """Density and colour of a scene from the colours of some of its views."""
        config = self.config
        pictures = [_Picture.of(scene.aligned_view(index), config.size) for index in cameras]
        lower, upper = self._corners(pictures)
        cells = math.prod(math.ceil(side / config.voxel) for side in (upper - lower).tolist())
        if cells > config.max_voxels:
            raise ValueError(
                f"scene {scene.name!r}: a field from {lower.tolist()} to {upper.tolist()} m has {cells} cells of "
                f"{config.voxel} m, more than max_voxels = {config.max_voxels}: take larger ones, or nearer corners"
            )
        volume = VoxelField(lower, upper, config.voxel * _COARSE)
        draw = generator(config.seed, "field", scene.name)
        for stage, factor in enumerate((_COARSE, 2, 1)):
            if stage:
                volume = volume.refined(config.voxel * factor)
            steps = config.steps // 2 if factor == 1 else config.steps // 4
            self._train(volume, pictures, max(steps, 1), draw)
        return volume.requires_grad_(requires_grad=False)

    def _train(self, volume: VoxelField, pictures: list[_Picture], steps: int, draw: torch.Generator) -> None:
        optimiser = torch.optim.Adam(volume.parameters(), lr=self.config.rate, betas=(0.9, 0.99))
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = self.config.rate * 0.1 ** (step / steps)
            rays, wanted = _draw_rays(pictures, self.config.rays, draw)
            jitter = torch.rand(len(wanted), 1, generator=draw)
            seen = volume.render(rays, self.config.near, jitter)
            # Light that is not stopped meets a colour that nobody can foresee: only what is opaque is right.
            behind = torch.rand(wanted.shape, generator=draw) * (1 - seen.shares.sum(dim=-1, keepdim=True))
            loss = F.mse_loss(seen.colours + behind, wanted)
            each = (seen.placed - wanted[:, None]).square().sum(dim=-1)
            loss = loss + self.config.solid * (seen.shares.detach() * each).sum(dim=-1).mean()
            loss = loss + self.config.smooth * _variation(volume.density)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def _corners(self, pictures: list[_Picture]) -> tuple[Tensor, Tensor]:
        if self.config.lower is not None and self.config.upper is not None:
            return torch.tensor(self.config.lower), torch.tensor(self.config.upper)
        ends = []
        for picture in pictures:
            height, width = picture.colours.shape[:2]
            corners = torch.tensor([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
            rays = picture.rays(corners)
            unit = F.normalize(rays.directions, dim=-1)
            ends.append(torch.cat([rays.eyes, rays.eyes + unit * self.config.far]))
        reached = torch.cat(ends)
        return reached.amin(dim=0), reached.amax(dim=0)

    def _cloud(
        self, volume: VoxelField, scene: Scene, cameras: list[int], features: ViewFeatures, skipped: tuple[Skipped, ...]
    ) -> FeatureCloud:
        met = [
            self._meet(volume, scene.aligned_view(index), features(index, scene.aligned_view(index)))
            for index in cameras
        ]
        wanted = torch.cat([each.features for each in met])
        starts = torch.tensor([0, *(len(each.features) for each in met[:-1])]).cumsum(0)
        ray = torch.cat([each.ray + start for each, start in zip(met, starts, strict=True)])
        cell, share = torch.cat([each.cell for each in met]), torch.cat([each.share for each in met])
        points = torch.cat([each.points for each in met])
        peak = torch.zeros(volume.density.numel()).scatter_reduce_(0, cell, share, "amax")
        shown = peak >= self.config.visible
        keep = shown[cell]
        if not keep.any():
            raise ValueError(
                f"scene {scene.name!r}: no cell of the field is solid (the most solid makes up {peak.max():.2f} of a "
                f"ray, visible = {self.config.visible}): fit it longer, or check the poses"
            )
        number = shown.cumsum(0)[cell[keep]] - 1
        ray, share, points = ray[keep], share[keep], points[keep]
        total = torch.zeros(int(shown.sum())).index_add_(0, number, share)
        centre = torch.zeros(len(total), 3).index_add_(0, number, points * share[:, None]) / total[:, None]
        lower, upper = (centre.amin(dim=0) - CODEC_MARGIN).tolist(), (centre.amax(dim=0) + CODEC_MARGIN).tolist()
        # Of a ray that mostly meets cells that are not kept, the kept ones need to explain no more than their share.
        wanted = wanted * torch.zeros(len(wanted), 1).index_add_(0, ray, share[:, None])
        return FeatureCloud(
            points=centre,
            features=solve_shares(number, ray, share, wanted, len(total), self.config.sweeps),
            colours=volume.colours_at(centre),
            weights=total,
            voxel=self.config.voxel,
            codec=SceneCodec.from_bounds(lower, upper),
            skipped=skipped,
        )

    def _meet(self, volume: VoxelField, view: View, table: FeatureTable) -> _Met:
        """What the rays through the middles of a view's patches meet."""
        height, width = view.pixels.shape[1:]
        rows, columns = table.index.shape
        grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        kept = table.index.flatten() >= 0
        places = torch.stack([(grid[1] + 0.5) * (width / columns), (grid[0] + 0.5) * (height / rows)], dim=-1)
        rays = _rays(view.world_from_camera.float(), view.intrinsics.float(), places.flatten(0, 1)[kept])
        seen = volume.render(rays, self.config.near, torch.full((len(rays.eyes), 1), 0.5))
        ray, place = (seen.shares > 0.01).nonzero(as_tuple=True)
        points = seen.points[ray, place]
        limit = torch.tensor(volume.shape) - 1
        cells = (
            ((points - volume.lower) / volume.cell)
            .floor()
            .long()
            .clamp(min=torch.zeros(3, dtype=torch.long), max=limit)
        )
        cell = (cells[:, 0] * volume.shape[1] + cells[:, 1]) * volume.shape[2] + cells[:, 2]
        return _Met(ray, cell, seen.shares[ray, place], points, table.rows[table.index.flatten()[kept]].float())


class _Met(NamedTuple):
    """For every place where a ray is stopped: the ray, the cell, the share, the point; and a feature per ray."""

    ray: Int[Tensor, " n"]
    cell: Int[Tensor, " n"]
    share: Float[Tensor, " n"]
    points: Float[Tensor, "n 3"]
    features: Float[Tensor, "R D"]


def solve_shares(
    cell: Int[Tensor, " n"],
    ray: Int[Tensor, " n"],
    share: Float[Tensor, " n"],
    wanted: Float[Tensor, "R D"],
    num_cells: int,
    sweeps: int,
) -> Float[Tensor, "G D"]:
    """Features of cells whose sums over rays, weighted by shares, are nearest to the rays' own features.

    A sweep spreads what each ray still lacks over its cells, by their shares: it solves least squares weighted by one
    over each ray's total share.
    """
    rays_from_cells = _sparse(ray, cell, share, (len(wanted), num_cells))
    cells_from_rays = _sparse(cell, ray, share, (num_cells, len(wanted)))
    per_ray = torch.zeros(len(wanted)).index_add_(0, ray, share).clamp(min=1e-6)[:, None]
    per_cell = torch.zeros(num_cells).index_add_(0, cell, share).clamp(min=1e-6)[:, None]
    found = torch.zeros(num_cells, wanted.shape[1])
    for _ in range(sweeps):
        found = found + cells_from_rays @ ((wanted - rays_from_cells @ found) / per_ray) / per_cell
    return found


@dataclass(frozen=True)
class _Picture:
    """A small picture and its camera."""

    colours: Float[Tensor, "H W 3"]
    pose: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]

    @classmethod
    def of(cls, view: View, size: int) -> _Picture:
        height, width = view.pixels.shape[1:]
        scale = min(size / min(height, width), 1.0)
        rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
        small = F.interpolate(view.pixels[None].float(), (rows, columns), mode="area")[0]
        stretch = torch.tensor([columns / width, rows / height, 1.0])[:, None]
        colours = rearrange((small + 1) / 2, "c h w -> h w c")
        return cls(colours, view.world_from_camera.float(), view.intrinsics.float() * stretch)

    def rays(self, pixels: Float[Tensor, "n 2"]) -> Rays:
        """Rays through pixels (column, row)."""
        return _rays(self.pose, self.intrinsics, pixels)


def _rays(pose: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"], pixels: Float[Tensor, "n 2"]) -> Rays:
    ends = unproject(pixels[None], torch.ones(1, len(pixels)), pose[None], intrinsics)[0]
    eyes = pose[:3, 3].expand_as(ends)
    return Rays(eyes, ends - eyes)


def _draw_rays(pictures: list[_Picture], number: int, draw: torch.Generator) -> tuple[Rays, Float[Tensor, "R 3"]]:
    """Rays through the middles of random pixels of all pictures, and their colours."""
    which = torch.randint(len(pictures), (number,), generator=draw)
    place = torch.rand(number, 2, generator=draw)
    drawn = []
    for index, picture in enumerate(pictures):
        chosen = place[which == index]
        height, width = picture.colours.shape[:2]
        pixels = (chosen * torch.tensor([width, height])).floor().long()
        rays = picture.rays(pixels + 0.5)
        drawn.append((rays.eyes, rays.directions, picture.colours[pixels[:, 1], pixels[:, 0]]))
    eyes, directions, colours = (torch.cat(each) for each in zip(*drawn, strict=True))
    return Rays(eyes, directions), colours


def _usable(scene: Scene) -> tuple[list[int], list[Skipped]]:
    good: list[int] = []
    skipped: list[Skipped] = []
    for index, view in scene.readable(skipped):
        if view.world_from_camera.isfinite().all():
            good.append(index)
        else:
            skipped.append(Skipped(view.name or f"view {index}", "its pose is not finite"))
    if len(good) < 2:
        raise ValueError(
            f"scene {scene.name!r}: a field needs at least 2 views, got {len(good)} ({left_out(skipped) or 'no more'})"
        )
    return good, skipped


def _variation(grid: Float[Tensor, "1 1 X Y Z"]) -> Tensor:
    """Mean absolute difference of neighbours."""
    return sum((grid.diff(dim=axis).abs().mean() for axis in (2, 3, 4)), start=torch.zeros(()))


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False).coalesce()
