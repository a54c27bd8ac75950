"""Clouds of features as safetensors files, their codec and origin inside, so that a scene is lifted once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from genworld.config import encode
from genworld.models.points import FeatureCloud, Lifter, ViewFeatures
from genworld.ops.scene_codec import SceneCodec
from genworld.ops.tensor_files import save_whole
from genworld.types import Scene, Skipped

logger = logging.getLogger(__name__)

_TENSORS = ("points", "features", "colours", "weights")
_FORMAT = "genworld feature cloud 1"


def save_cloud(path: Path, cloud: FeatureCloud, facts: Mapping[str, Any] | None = None) -> None:
    """Write a cloud, whole or not at all, with its codec and any `facts` about it as JSON in the file's metadata."""
    metadata = {
        "format": _FORMAT,
        "codec": cloud.codec.to_json(),
        "voxel": repr(cloud.voxel),
        "skipped": json.dumps(cloud.skipped),
        "facts": json.dumps(dict(facts or {})),
    }
    save_whole(path, {name: getattr(cloud, name) for name in _TENSORS}, metadata)


def load_cloud(path: Path) -> tuple[FeatureCloud, dict[str, Any]]:
    """Read what `save_cloud` wrote: the cloud and the facts.

    Raises:
        ValueError: it is no such file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
            if metadata.get("format") != _FORMAT or names != set(_TENSORS):
                raise ValueError(
                    f"{path}: expected {_FORMAT!r} with {_TENSORS}, got {metadata.get('format')!r} with {names}"
                )
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    skipped = tuple(Skipped(*each) for each in json.loads(metadata["skipped"]))
    codec = SceneCodec.from_json(metadata["codec"])
    cloud = FeatureCloud(**tensors, voxel=float(metadata["voxel"]), codec=codec, skipped=skipped)
    return cloud, json.loads(metadata["facts"])


@dataclass(frozen=True)
class CloudCache:
    """A folder of clouds. A file belongs to a scene's name and views, a lifter's config and the features' name.

    What a scene's files hold is not looked at: clear the folder when pictures change under an old name.
    """

    folder: Path

    def lift(self, scene: Scene, lifter: Lifter, features: ViewFeatures) -> FeatureCloud:
        """The cloud of a scene, from its file if there is one; see `Lifter.lift`."""
        facts = {
            "scene": scene.name,
            "views": scene.num_views,
            "aligned_from_world": scene.aligned_from_world.tolist(),
            "lifter": encode(lifter.config),
            "features": features.name,
        }
        digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
        safe = "".join(mark if mark.isalnum() or mark in "-_." else "_" for mark in scene.name)
        path = self.folder / f"{safe}-{digest}.safetensors"
        if path.is_file():
            cloud, found = load_cloud(path)
            if found != facts:
                raise ValueError(f"{path} holds a cloud of {found}, not of {facts}: delete it")
            return cloud
        cloud = lifter.lift(scene, features)
        save_cloud(path, cloud, facts)
        logger.info("lifted %s: %d points, %s", scene.name, len(cloud), path)
        return cloud
