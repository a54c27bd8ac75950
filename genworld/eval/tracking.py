"""Everything coloured in a video of the world, found by hue and followed through its frames; and its wall.

No two objects of a scene share a colour, so that a colour's patches are one object: no frame has to be matched with the
next. Patches that only something in front keeps apart are one patch; what is split in the open is two, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.eval.palette import (
    MIN_AREA,
    MIN_CHROMA,
    MIN_HUE_AGREEMENT,
    centres_of,
    hue_and_chroma,
    palette_hues,
    touches_edge,
)

WALL_LIGHT = 0.47  # brightness in [0, 1] that the wall stays below
WALL_CHROMA = 0.10
WALL_AREA = 0.012  # of the image
WALL_SOLIDITY = 0.75  # overlap of what is dark with an upright box, as intersection over union
COVERED = 0.8  # of the largest area of a thing: where less is seen, something is in front of it
NEAR = 0.035  # shorter sides: closer patches may cover one another


@dataclass(frozen=True)
class Thing:
    """One colour followed through a clip of F frames.

    Attributes:
        colour: name in the palette.
        hue: mean direction of its colour in each frame, radians; NaN where absent.
        present: whether a frame shows it.
        parts: patches in each frame, of those that are large enough to be seen.
        centres: of all its patches, x to the right and y down from the top left corner, in lengths of the shorter side;
            NaN where absent.
        areas: part of the image covered; 0 where absent.
        cut: whether it touches the edge of the image.
        near: whether it is so close to another thing or the wall that part of it may be hidden.
        masks: its pixels.
    """

    colour: str
    hue: Float[np.ndarray, " F"]
    present: Bool[np.ndarray, " F"]
    parts: Int[np.ndarray, " F"]
    centres: Float[np.ndarray, "F 2"]
    areas: Float[np.ndarray, " F"]
    cut: Bool[np.ndarray, " F"]
    near: Bool[np.ndarray, " F"]
    masks: Bool[np.ndarray, "F H W"]

    @property
    def presence(self) -> float:
        """Part of the frames in which it is there."""
        return float(self.present.mean())

    @property
    def whole(self) -> Bool[np.ndarray, " F"]:
        """Frames that show all of it, so that its area says how large it looks."""
        return self.present & ~self.cut & ~self.near


def find_things(pixels: Float[Tensor, "3 F H W"], wall: Bool[np.ndarray, "H W"] | None = None) -> list[Thing]:
    """All coloured things of a clip, the most often seen first.

    Args:
        pixels: in [-1, 1]; what is not finite is taken for grey.
        wall: pixels that may hide things.
    """
    hue, chroma = hue_and_chroma(torch.nan_to_num(pixels.float(), 0.0, 0.0, 0.0))
    names, directions = palette_hues()
    agreement, nearest = (hue @ directions.T).max(-1)
    coloured = (chroma > MIN_CHROMA) & (agreement > MIN_HUE_AGREEMENT)
    labels = torch.where(coloured, nearest, -1).numpy()
    hidden = np.zeros(labels.shape[1:], dtype=bool) if wall is None else wall
    things = []
    for number, name in enumerate(names):
        own = labels == number
        if own.sum() < MIN_AREA * own[0].size:
            continue
        others = ((labels >= 0) & ~own) | hidden
        pieces = [_patches(frame, other) for frame, other in zip(own, others, strict=True)]
        masks, parts = np.stack([piece[0] for piece in pieces]), np.array([piece[1] for piece in pieces])
        if parts.any():
            things.append(_thing(name, masks, parts, others, hue.numpy()))
    return sorted(things, key=lambda thing: -thing.presence)


def find_wall(pixels: Float[Tensor, "3 F H W"]) -> Bool[np.ndarray, "H W"] | None:
    """The pixels of a dark grey box that stands still before a camera that stands still; None where there is none.

    It is looked for in the median over time, in which the shadows of what moves vanish; what is coloured and passes
    before the wall has no say in it, however slowly it passes. A shadow that comes to rest at the wall's foot hangs on
    it like a tail: beyond the rows and columns that are filled a third as far as the fullest nothing is wall.
    """
    pixels = torch.nan_to_num(pixels.float(), 0.0, 0.0, 0.0)
    coloured = hue_and_chroma(pixels)[1] > MIN_CHROMA
    free = torch.where(coloured, torch.nan, pixels).nanmedian(dim=1, keepdim=True).values
    middle = torch.where(free.isnan(), pixels.median(dim=1, keepdim=True).values, free)
    _, chroma = hue_and_chroma(middle)
    light = ((middle[:, 0].clamp(-1, 1) + 1) / 2).amax(0)
    found = _largest((chroma[0] < WALL_CHROMA).numpy() & (light < WALL_LIGHT).numpy())
    if found.mean() < WALL_AREA:
        return None
    box = np.outer(_well_filled(found.sum(1)), _well_filled(found.sum(0)))
    wall = found & box
    return wall if wall.sum() > WALL_SOLIDITY * (found | box).sum() else None


def grown(mask: Bool[np.ndarray, "*F H W"], sides: float) -> Bool[np.ndarray, "*F H W"]:
    """A mask and all around it up to so many shorter sides (at least a pixel)."""
    height, width = mask.shape[-2:]
    reach = max(1, round(sides * min(height, width)))
    flat = torch.from_numpy(mask.reshape(-1, 1, height, width).astype(np.float32))
    return torch.nn.functional.max_pool2d(flat, 2 * reach + 1, 1, reach).numpy().reshape(mask.shape) > 0


def gaps_of(present: Bool[np.ndarray, " F"]) -> list[tuple[int, int]]:
    """Stretches of frames without a thing: first frame and first one after."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]]).astype(int)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def shrunk(thing: Thing, among: Bool[np.ndarray, " F"] | None = None) -> Bool[np.ndarray, " F"]:
    """Frames that show so little of a thing, next to others, that the rest must be covered.

    Args:
        thing: to look at.
        among: frames whose largest area is the one to compare with, if it may be another size in others.
    """
    largest = thing.areas.max() if among is None else thing.areas[among].max(initial=0.0)
    return thing.present & thing.near & (thing.areas < COVERED * largest)


def hidden_frames(thing: Thing, wall: Bool[np.ndarray, "H W"] | None) -> Bool[np.ndarray, " F"]:
    """Frames without a thing that was partly covered by the wall when last seen (or first, if not seen before)."""
    absent = np.zeros(len(thing.present), dtype=bool)
    if wall is None:
        return absent
    going = (grown(thing.masks, NEAR) & wall).any((1, 2)) & shrunk(thing)
    for begin, end in gaps_of(thing.present):
        absent[begin:end] = going[begin - 1] if begin > 0 else end < len(absent) and going[end]
    return absent


def _thing(name: str, masks: np.ndarray, parts: np.ndarray, others: np.ndarray, hue: np.ndarray) -> Thing:
    present = parts > 0
    sums = (hue * masks[..., None]).sum((1, 2))
    return Thing(
        colour=name,
        hue=np.where(present, np.arctan2(sums[:, 1], sums[:, 0]), np.nan),
        present=present,
        parts=parts,
        centres=centres_of(masks),
        areas=masks.mean((1, 2)),
        cut=touches_edge(masks),
        near=np.asarray((grown(masks, NEAR) & others).any((1, 2))),
        masks=masks,
    )


def _patches(own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, int]:
    """The pixels of the patches that are large and thick enough to be things, and how many stand apart."""
    from scipy.ndimage import binary_erosion, label

    marks, count = label(own)
    if count == 0:
        return own, 0
    thick = np.bincount(marks[binary_erosion(own)], minlength=count + 1) > 0
    large = np.bincount(marks.ravel(), minlength=count + 1) > MIN_AREA * own.size
    kept = np.flatnonzero(thick & large)
    kept = kept[kept > 0]
    mask = np.isin(marks, kept)
    if len(kept) < 2:
        return mask, len(kept)
    bridges, _ = label(own | others)
    return mask, len(np.unique(bridges[mask]))


def _well_filled(counts: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """From the first to the last of the rows (or columns) in which there is a third as much as in the fullest."""
    full, places = np.flatnonzero(3 * counts >= counts.max()), np.arange(len(counts))
    return (places >= full[0]) & (places <= full[-1])


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    marks, count = label(mask)
    return marks == np.bincount(marks.ravel())[1:].argmax() + 1 if count else mask
