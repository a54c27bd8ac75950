"""Records of scenes: views, boxes, points, and what is said about them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One posed picture of a scene.

    Attributes:
        pixels: colour in [-1, 1].
        depth: metres along the camera's z axis (not along the ray); 0 where there is no reading; None without depth.
        world_from_camera: pose, OpenCV camera axes (x right, y down, z forward), metres.
        intrinsics: pinhole matrix in pixels of `pixels`; the first pixel spans 0 to 1. A calibration that puts the
            first pixel's centre at 0, as OpenCV and Open3D do, has half a pixel less in `cx` and `cy`.
        name: which one it is, for messages.
    """

    pixels: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"] | None
    world_from_camera: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    name: str = ""


@dataclass(frozen=True)
class SceneBox:
    """An object of a scene: the box along the scene's axes that encloses it, metres.

    Attributes:
        label: what it is, as annotated.
        id: number of the instance, unique in its scene.
        lower: least x, y and z.
        upper: greatest x, y and z.
        turned: centre, size along the object's own axes, and heading (radians about z, from x towards y) of the tight
            box, for objects that are annotated with a heading.
    """

    label: str
    id: int
    lower: Float[Tensor, " 3"]
    upper: Float[Tensor, " 3"]
    turned: Float[Tensor, " 7"] | None = None

    @property
    def centre(self) -> Float[Tensor, " 3"]:
        """Middle of the box."""
        return (self.lower + self.upper) / 2

    @property
    def size(self) -> Float[Tensor, " 3"]:
        """Its extent along x, y and z."""
        return self.upper - self.lower


class Skipped(NamedTuple):
    """A view that was left out, and why."""

    name: str
    reason: str


def left_out(skipped: Sequence[Skipped], most: int = 3) -> str:
    """The first of what was left out, and why, in one line; "" for none."""
    return "; ".join(f"{name}: {reason}" for name, reason in skipped[:most])


class UnreadableViewError(ValueError):
    """A view that looked right until it was read: its files are broken further on, or say nothing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.skipped = Skipped(name, reason)

    def __str__(self) -> str:
        return self.skipped.reason


@dataclass(frozen=True)
class Scene:
    """A place or an object: posed views, points and boxes, in metres.

    Two sets of axes: the *world's*, those of the poses and of `points`, as they were recorded; and the *scene's*, those
    of `boxes`, with z up. `aligned_from_world` (rigid) leads from the first to the second.

    Attributes:
        name: unique in its data set.
        views: read when asked for; a tuple will do.
        points: world axes.
        colours: of the points, in [0, 1].
        boxes: scene axes.
        aligned_from_world: identity where the world's axes are the scene's.
        text: what it is said to be, where that is known.
        skipped: views that could not be used.
    """

    name: str
    views: Sequence[View] = ()
    points: Float[Tensor, "P 3"] | None = None
    colours: Float[Tensor, "P 3"] | None = None
    boxes: tuple[SceneBox, ...] = ()
    aligned_from_world: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    text: str = ""
    skipped: tuple[Skipped, ...] = ()

    @property
    def num_views(self) -> int:
        """How many views can be used."""
        return len(self.views)

    def view(self, index: int) -> View:
        """Read one view; its pose is in world axes.

        Raises:
            UnreadableViewError: it cannot be used.
        """
        return self.views[index]

    def aligned_view(self, index: int) -> View:
        """Read one view, with its pose in scene axes; see `view`."""
        return self.align(self.view(index))

    def align(self, view: View) -> View:
        """A view of this scene with its pose taken from world to scene axes."""
        return replace(view, world_from_camera=self.aligned_from_world @ view.world_from_camera)

    def readable(self, skipped: list[Skipped], indices: Iterable[int] | None = None) -> Iterator[tuple[int, View]]:
        """Views with their numbers, poses in world axes, each read once, when its turn comes.

        Args:
            skipped: those that cannot be read are left out, put on this list, and warned of.
            indices: of the views to read; all by default.
        """
        for index in range(self.num_views) if indices is None else indices:
            try:
                view = self.view(index)
            except UnreadableViewError as error:
                skipped.append(error.skipped)
                logger.warning("%s: view %s is left out: %s", self.name, *error.skipped)
            else:
                yield index, view

    def aligned_points(self) -> Float[Tensor, "P 3"] | None:
        """The points in scene axes."""
        if self.points is None:
            return None
        return self.points @ self.aligned_from_world[:3, :3].T + self.aligned_from_world[:3, 3]


class SceneSource(Protocol):
    """A data set of scenes: names that cost nothing, and a way to read one."""

    @property
    def names(self) -> Sequence[str]:
        """One name per scene, in a fixed order."""
        ...

    def read(self, name: str) -> Scene:
        """Read a scene; its views are read when asked for."""
        ...


@dataclass(frozen=True)
class PointSet:
    """One scene as a model sees it: points with features.

    Attributes:
        features: of each point.
        points: metres, scene axes.
        colours: in [0, 1].
        voxels: cells of the scene's codec that the points lie in.
    """

    features: Float[Tensor, "P D"]
    points: Float[Tensor, "P 3"]
    colours: Float[Tensor, "P 3"]
    voxels: Int[Tensor, "P 3"]

    def __len__(self) -> int:
        return len(self.points)

    def map(self, change: Callable[[Tensor], Tensor]) -> PointSet:
        """A copy with `change` applied to every tensor."""
        return PointSet(change(self.features), change(self.points), change(self.colours), change(self.voxels))


class About(NamedTuple):
    """A thing that a turn is about.

    Attributes:
        thing: its number among the things of the turn.
        known_at: how many characters of the prompt have to be read until it can be known which thing is meant.
        share: of what is looked at there, how much should be this thing: less than 1 where others are meant too.
        late: whether the look tells the answer, and so comes after all others; a share of 0 then tells "no".
    """

    thing: int
    known_at: int
    share: float = 1.0
    late: bool = False


class Counted(NamedTuple):
    """Things whose number matters to a turn.

    Attributes:
        known_at: how many characters of the prompt have to be read until it can be known which things are meant.
        things: their numbers among the things of the turn; there may be none.
    """

    known_at: int
    things: tuple[int, ...]


class Told(NamedTuple):
    """Words of an answer that tell of a thing.

    Attributes:
        thing: its number among the things of the turn.
        start: how many characters of the answer stand before these words.
        end: the same with them.
        share: as of `About`: less than 1 where others are told of with the same words.
    """

    thing: int
    start: int
    end: int
    share: float = 1.0


@dataclass(frozen=True)
class Turn:
    """One exchange about one scene: what a model is trained on, and what it is asked.

    Attributes:
        position: place in the global order; all randomness is a function of (seed, position).
        scene: name of the scene.
        points: the scene itself.
        history: what was said before, user and assistant in turn.
        prompt: question or instruction; a situation stands before it, in words and location tokens.
        answer: the text wanted; boxes in it are location tokens. Empty where it is not known.
        kind: what it is, such as "count", "caption" or "ground": losses and scores are told apart by it.
        id: unique among the turns of a data set.
        things: all objects of the scene, each labelled with the words that name it, where they are known: what a
            connector may be taught with; never what a model is shown.
        about: those among `things` that the turn is about, where that is known; a box in the answer is of the first;
            for teaching too.
        standing: where who asks stands and looks, where that is told: x and y in metres, scene axes, and radians from
            +x towards +y.
        counted: what has to be counted for the answer, where that is known; for teaching too.
        told: which words of the answer tell of which things, where that is known; for teaching too.
    """

    position: int
    scene: str
    points: PointSet
    history: tuple[str, ...]
    prompt: str
    answer: str
    kind: str
    id: str
    things: tuple[SceneBox, ...] = ()
    about: tuple[About, ...] = ()
    standing: tuple[float, float, float] | None = None
    counted: tuple[Counted, ...] = ()
    told: tuple[Told, ...] = ()

    def map(self, change: Callable[[Tensor], Tensor]) -> Turn:
        """A copy with `change` applied to every tensor of the scene."""
        return replace(self, points=self.points.map(change))
