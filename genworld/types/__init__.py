"""The records that every part of genworld speaks. No logic beyond arithmetic on their own fields."""

from genworld.types.clips import (
    CameraPath,
    Clip,
    ClipInfo,
    ClipShape,
    ClipSource,
    Example,
    ExampleT,
    Pack,
    Pick,
    Sample,
    TokenGrid,
)
from genworld.types.scenes import About, Counted, PointSet, Scene, SceneBox, SceneSource, Skipped, Turn, View

__all__ = [
    "About",
    "CameraPath",
    "Clip",
    "ClipInfo",
    "ClipShape",
    "ClipSource",
    "Counted",
    "Example",
    "ExampleT",
    "Pack",
    "Pick",
    "PointSet",
    "Sample",
    "Scene",
    "SceneBox",
    "SceneSource",
    "Skipped",
    "TokenGrid",
    "Turn",
    "View",
]
