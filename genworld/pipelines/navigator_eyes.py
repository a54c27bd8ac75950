"""What an agent sees, lifted while it walks: each view is encoded once, into a cloud that grows."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from genworld.models.points import DirectLifterConfig, FeatureCloud, FeatureMap, ViewFeatures
from genworld.models.scene_points import ScenePoints
from genworld.ops.lifted import LiftedScene
from genworld.types import Scene, View
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.observed import view_of

NAME = "seen"


class GrowingLifter:
    """Direct lifting of a scene to which views are added: only new ones are encoded, the sums are kept.

    Sums are exact (see `FeatureMap`), so that the cloud is the one that lifting all views at once gives.

    Args:
        config: how views are sampled.
    """

    def __init__(self, config: DirectLifterConfig) -> None:
        self.config = config
        self._map, self._count = FeatureMap(config), 0

    def lift(self, scene: Scene, features: ViewFeatures) -> FeatureCloud:
        """The cloud of a scene that begins with the views that were lifted before; see `Lifter`."""
        for index in range(self._count, scene.num_views):
            self._map.add(index, scene.aligned_view(index), features)
        self._count = scene.num_views
        return self._map.cloud()


class SceneEyes:
    """See `pipelines.navigator.Eyes`.

    Args:
        points: makes points of scenes; its encoder is shared, what was seen is not.
        camera: of the observations.
        blind: pictures are black; depth remains, without which nobody could walk.
    """

    def __init__(self, points: ScenePoints, camera: CameraConfig, blind: bool = False) -> None:
        if not isinstance(points.config.lifter, DirectLifterConfig) or not points.config.lifted:
            raise ValueError(
                "an agent lifts what it sees view by view, which needs points with a lifter of kind direct, got "
                f"{points.config.lifter.kind!r} with lifted={points.config.lifted}"
            )
        self.camera, self.blind = camera, blind
        self._whole: Any = points
        self.reset()

    def reset(self) -> None:
        """See `Eyes`."""
        self.points = copy(self._whole)
        self.points.features = self._whole.features
        self.points.lifter = GrowingLifter(self._whole.config.lifter)
        self._views: list[View] = []
        self._lifted: LiftedScene | None = None

    def add(self, rgb: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"], stance: Stance) -> None:
        """See `Eyes`."""
        shown = np.zeros_like(rgb) if self.blind else rgb
        self._views.append(view_of(shown, depth, stance, self.camera, f"view {len(self._views)}"))
        self._lifted = None

    def scene(self) -> LiftedScene:
        """See `Eyes`.

        Raises:
            ValueError: nothing was seen.
        """
        if self._lifted is None:
            self._lifted = self.points(Scene(NAME, self._views))
        return self._lifted
