"""What a user types. Imports nothing heavy until it is used; `genworld` has the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genworld.pipelines.embed import Embedder
    from genworld.pipelines.keep import Keep
    from genworld.pipelines.navigator import Navigator
    from genworld.pipelines.scene import SceneAssistant
    from genworld.pipelines.stream import Shot
    from genworld.pipelines.video import VideoGenerator

__all__ = ["Embedder", "Keep", "Navigator", "SceneAssistant", "Shot", "VideoGenerator"]

_HOMES = {
    "Embedder": "genworld.pipelines.embed",
    "Keep": "genworld.pipelines.keep",
    "Navigator": "genworld.pipelines.navigator",
    "SceneAssistant": "genworld.pipelines.scene",
    "Shot": "genworld.pipelines.stream",
    "VideoGenerator": "genworld.pipelines.video",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'genworld.pipelines' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
