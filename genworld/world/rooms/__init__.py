"""Furnished rooms: floors of one to five rooms, their views, and everything that is true about them."""

from genworld.world.rooms.floor import Floor, FloorConfig, sample_floor

__all__ = ["Floor", "FloorConfig", "sample_floor"]
