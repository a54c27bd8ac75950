"""Is a scene in the axes and units it says it is? The classic errors, found by re-projecting depth between views.

Poses, units and camera axes are judged by whether one view's depth confirms another's; which way is up, by how cameras
are held and what surfaces are level; points, by whether they lie on what the views see; boxes, by whether rays end in
them. A judgement is only ever relative to the other conventions tried, and the figures it rests on come with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_axes import UPS, estimate_up, up_vector
from genworld.data.scene_files import listing, some_views
from genworld.data.scene_hypotheses import (
    Convention,
    displacements,
    fit_boxes,
    fit_points,
    moved,
    rays_of,
    readings,
    reproject,
)
from genworld.types import Scene, Skipped, View

Verdict = Literal["right", "wrong", "unknown"]

_RIVAL = 0.9  # a convention that confirms so much of what the best one does cannot be told from it
_WEAKEST = 0.5  # consistency below which no convention explains the views
_OVERLAP = 0.01
_SCALES = (0.08, 200.0)  # metres: median depths between a close-up of an object and a street
_TILT = 5.0  # degrees
_BOX_GAIN = 0.05  # what a nudge may gain where boxes are right, and another reading has to
_NEAR = 20  # nudges of boxes to try
_WORTH = 0.5  # part of the best reading's confirmations below which points are thought to lie elsewhere
_BOXES = 3  # fewer are too few to judge


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at.
        verdict: "unknown" where the evidence does not decide.
        cause: the error it looks like, one of `CAUSES`; empty when right.
        says: in words, with what to do.
        evidence: the numbers it rests on.
    """

    check: str
    verdict: Verdict
    cause: str
    says: str
    evidence: dict[str, float]

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:.3g}" for name, value in self.evidence.items())
        return f"{self.verdict:<7} {self.check}: {self.says}{f' ({figures})' if figures else ''}"


CAUSES = {
    "camera_from_world": "the poses look like camera-from-world where world-from-camera is meant: invert them",
    "opengl_camera": "the cameras look like OpenGL's (y up, looking along -z): multiply poses by diag(1, -1, -1, 1)",
    "vehicle_camera": "the cameras' axes look like a vehicle's (x forward, z up): turn them to x right, z forward",
    "depth_in_millimetres": "depth looks like millimetres where the poses are in metres: divide it by 1000",
    "poses_in_millimetres": "the poses look like millimetres where depth is in metres: divide their offsets by 1000",
    "depth_divided_twice": "depth looks 1000 times too small for the poses: was it divided by 1000 twice?",
    "all_in_millimetres": "depth and poses agree but are not in metres: divide both by 1000",
    "wrong_scale": "depth and poses agree but their scale is not that of metres",
    "not_z_up": "another axis than z looks like up: give the alignment that takes it to z",
    "tilted": "z is near up but tilted",
    "no_convention": "no convention tried makes the views agree: look at intrinsics, time stamps, depth along the ray",
    "points_elsewhere": "the points lie where the views see something else",
    "unaligned_boxes": "the boxes are not in the scene's axes",
    "misplaced_boxes": "the boxes fit better elsewhere: is the alignment missing or another scene's?",
    "principal_point": "the principal point is far from the middle: are the intrinsics those of another picture size?",
}


@dataclass(frozen=True)
class SceneReport:
    """All findings on a scene.

    Attributes:
        name: of the scene.
        num_views: usable ones.
        findings: one per check that applies.
        skipped: views that could not be used.
    """

    name: str
    num_views: int
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """What is thought to be wrong; empty when nothing is."""
        return tuple(finding.cause for finding in self.findings if finding.verdict == "wrong")

    def finding(self, check: str) -> Finding:
        """The finding of a check that was made."""
        return next(finding for finding in self.findings if finding.check == check)

    def __str__(self) -> str:
        head = f"{self.name}: {self.num_views} views, {len(self.skipped)} left out{listing(self.skipped)}"
        return "\n".join([head, *map(str, self.findings)])


def check_scene(scene: Scene, most: int = 12) -> SceneReport:
    """Look for the classic errors of a scene.

    Args:
        scene: with views, or points and boxes alone.
        most: views to read, spread evenly; those that cannot be read are in the report's `skipped`.

    Raises:
        ValueError: a scene with neither views nor points, or not one of whose views can be read.
    """
    if not scene.num_views and (scene.points is None or not len(scene.points)):
        raise ValueError(f"{scene.name}: an empty scene: it has neither views nor points")
    scene, views = some_views(scene, most)
    deep = [view for view in views if view.depth is not None]
    findings = [_principal_point(views)] if views else []
    if len(deep) >= 2:
        pose, convention = _conventions(deep)
        findings += pose
        views = [_meant(view, convention, pose[-1].cause) for view in views]  # what the later checks see
        deep = [view for view in views if view.depth is not None]
    if views:
        findings.append(_up(views, scene.aligned_from_world))
    if deep and scene.points is not None and len(scene.points):
        findings.append(_points(scene, deep))
    if deep and scene.boxes:
        findings.append(_boxes(scene, deep))
    return SceneReport(scene.name, scene.num_views, tuple(findings), scene.skipped)


def _wrong(check: str, cause: str, evidence: dict[str, float], more: str = "") -> Finding:
    return Finding(check, "wrong", cause, CAUSES[cause] + more, evidence)


def _meant(view: View, convention: Convention, units: str) -> View:
    """The view as it seems to be meant: world-from-camera with OpenCV axes, metres."""
    pose = convention.pose(view.world_from_camera).clone()
    depth_unit = {"depth_in_millimetres": 1e-3, "all_in_millimetres": 1e-3, "depth_divided_twice": 1e3}.get(units, 1.0)
    if units in ("poses_in_millimetres", "all_in_millimetres"):
        pose[:3, 3] /= 1000
    return replace(view, world_from_camera=pose, depth=None if view.depth is None else view.depth * depth_unit)


def _principal_point(views: Sequence[View]) -> Finding:
    worst = 0.0
    for view in views:
        height, width = view.pixels.shape[1:]
        offset = max(abs(float(view.intrinsics[0, 2]) / width - 0.5), abs(float(view.intrinsics[1, 2]) / height - 0.5))
        worst = max(worst, offset)
    evidence = {"largest offset, part of the picture": worst}
    if worst > 0.2:
        return _wrong("intrinsics", "principal_point", evidence)
    return Finding("intrinsics", "right", "", "the principal point is near the middle", evidence)


def _conventions(views: Sequence[View]) -> tuple[list[Finding], Convention]:
    """Findings on poses, camera axes and units, and the convention that fits best."""
    fits = reproject(views)
    given, (best, top) = fits[Convention()], max(fits.items(), key=lambda item: item[1].confirmed)
    evidence = {
        "confirmed as given": given.confirmed,
        "best": top.confirmed,
        "consistent as given": given.consistency,
        "at best": top.consistency,
        "median depth error as given": given.error,
        "with the best": top.error,
    }
    if given.overlap < _OVERLAP and top.consistency < _WEAKEST:
        nothing = Finding("poses", "unknown", "", "no two of the views look at the same place", evidence)
        return [nothing, _scale(views, Convention())], Convention()
    if top.consistency < _WEAKEST:
        return [_wrong("poses", "no_convention", evidence)], Convention()
    rivals = [convention for convention, fit in fits.items() if fit.confirmed >= _RIVAL * top.confirmed]
    if Convention() in rivals:
        best = Convention()
    poses = _judge_poses(best, rivals, evidence)
    return [*poses, _judge_units(best, rivals, views, evidence)], best


def _judge_poses(best: Convention, rivals: Sequence[Convention], evidence: dict[str, float]) -> list[Finding]:
    found = []
    if best.inverted:
        found.append(_wrong("poses", "camera_from_world", evidence))
    if best.axes != "opencv":
        found.append(_wrong("camera axes", f"{best.axes}_camera", evidence))
    if found:
        return found
    others = sorted({f"{'inverse, ' * c.inverted}{c.axes}" for c in rivals} - {"opencv"})
    if others:
        says = f"the views do not tell these poses from: {'; '.join(others)}"
        return [Finding("poses", "unknown", "", says, evidence)]
    return [Finding("poses", "right", "", "world-from-camera with OpenCV axes explains the views best", evidence)]


def _judge_units(
    best: Convention, rivals: Sequence[Convention], views: Sequence[View], evidence: dict[str, float]
) -> Finding:
    median = _median_depth(views)
    if best.depth_unit == 1e-3:
        return _wrong("units", "depth_in_millimetres", evidence | {"median depth": median})
    if best.depth_unit == 1e3:
        cause = "depth_divided_twice" if median < _SCALES[0] else "poses_in_millimetres"
        return _wrong("units", cause, evidence | {"median depth": median})
    if any(c.depth_unit != 1.0 for c in rivals if (c.inverted, c.axes) == (best.inverted, best.axes)):
        says = "the cameras turn but hardly move: nothing ties the unit of depth to that of the poses"
        return Finding("units", "unknown", "", says, {"median depth": median})
    return _scale(views, best)


def _scale(views: Sequence[View], convention: Convention) -> Finding:
    """Whether depths are of the order of metres."""
    median = _median_depth(views) * convention.depth_unit
    evidence = {"median depth": median}
    if _SCALES[0] <= median <= _SCALES[1]:
        return Finding("units", "right", "", "depth and poses agree, and are of the order of metres", evidence)
    like_metres = _SCALES[0] <= median / 1000 <= _SCALES[1]
    return _wrong("units", "all_in_millimetres" if like_metres else "wrong_scale", evidence)


def _median_depth(views: Sequence[View]) -> float:
    depths = [view.depth[view.depth > 0] for view in views if view.depth is not None]
    return float(torch.stack([depth.median() for depth in depths]).median())


def _up(views: Sequence[View], aligned_from_world: Float[Tensor, "4 4"]) -> Finding:
    lean = -torch.stack([view.world_from_camera[:3, 1] for view in views]).mean(dim=0)
    held = aligned_from_world[:3, :3] @ lean
    found = aligned_from_world[:3, :3] @ estimate_up(views, most=len(views))
    tilt = math.degrees(math.acos(max(-1.0, min(1.0, float(found[2])))))
    evidence = {"degrees between z and up": tilt, "cameras' mean up along z": float(held[2])}
    axis = max(UPS, key=lambda up: float(up_vector(up) @ found))
    if float(lean.norm()) < 0.4:
        return Finding("up", "unknown", "", "the cameras are held in all ways: they do not show what is up", evidence)
    if axis != "z":
        return _wrong("up", "not_z_up", evidence, f" (it is {axis})")
    if tilt > _TILT:
        return _wrong("up", "tilted", evidence, f" by {tilt:.0f} degrees")
    return Finding("up", "right", "", "z is up", evidence)


def _points(scene: Scene, views: Sequence[View]) -> Finding:
    """Whether the cloud lies on the surfaces that the views see."""
    assert scene.points is not None
    points = scene.points.double()
    mistakes = readings(scene.aligned_from_world, "aligned the wrong way", "in the scene's axes, not the world's")
    fits = {name: fit_points(moved(points, pose), views) for name, pose in mistakes.items()}
    given, (best, top) = fit_points(points, views), max(fits.items(), key=lambda item: item[1].confirmed)
    evidence = {"confirmed as given": given.confirmed, best: top.confirmed, "consistent as given": given.consistency}
    if given.confirmed >= _WORTH * top.confirmed and given.consistency >= _WEAKEST:
        return Finding("points", "right", "", "the points lie on what the views see", evidence)
    return _wrong("points", "points_elsewhere", evidence, f": they look {best}" if top.consistency >= _WEAKEST else "")


def _boxes(scene: Scene, views: Sequence[View]) -> Finding:
    """Whether rays end in the boxes, more than in any displaced copy of them and than in other axes."""
    boxes, rays = scene.boxes, rays_of(views).moved(scene.aligned_from_world.double())
    given = fit_boxes(rays, boxes)
    mistakes = readings(scene.aligned_from_world, "in the world's axes, unaligned", "aligned twice")
    del mistakes["z up"]  # what they ought to be
    fits = {name: fit_boxes(rays.moved(torch.linalg.inv(pose)), boxes) for name, pose in mistakes.items()}
    best, top = max(fits.items(), key=lambda item: item[1])
    displaced = [fit_boxes(rays.moved(pose), boxes) for pose in displacements(boxes, _NEAR)]
    nudged, elsewhere = max(displaced[:_NEAR]), max(displaced[_NEAR:])
    evidence = {"solid as given": given, best: top, "best nudged": nudged, "best elsewhere": elsewhere}
    if len(boxes) < _BOXES and given > 0:
        return Finding("boxes", "unknown", "", f"fewer than {_BOXES} boxes are too few to judge", evidence)
    if top > given + _BOX_GAIN and top >= max(nudged, elsewhere):
        return _wrong("boxes", "unaligned_boxes", evidence, f": they look {best}")
    if nudged > given + _BOX_GAIN or elsewhere > given or given == 0:
        return _wrong("boxes", "misplaced_boxes", evidence)
    return Finding("boxes", "right", "", "the boxes are where things are", evidence)
