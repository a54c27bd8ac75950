"""The procedural world: small physical scenes, their pictures, and everything that is true about them."""

from genworld.world.clip import WorldClip, sample_clip
from genworld.world.layout import Scene, WorldConfig, sample_scene

__all__ = ["Scene", "WorldClip", "WorldConfig", "sample_clip", "sample_scene"]
