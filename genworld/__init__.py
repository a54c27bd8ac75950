"""Generate worlds, and understand them. Imports nothing heavy until it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genworld.pipelines import Embedder, Keep, Navigator, SceneAssistant, Shot, VideoGenerator

__all__ = ["Embedder", "Keep", "Navigator", "SceneAssistant", "Shot", "VideoGenerator"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562): those of `genworld.pipelines`."""
    if name not in __all__:
        raise AttributeError(f"module 'genworld' has no attribute {name!r}")
    from genworld import pipelines

    return getattr(pipelines, name)
