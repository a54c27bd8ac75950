"""A simple judge of clips that show one object of the world: which colour it has, and how it moves.

It looks for pixels with the hue of a palette colour, keeps the largest connected patch of every frame, and follows its
centre and area. It is meant for a still camera, one object, a floor and a sky without much colour of their own, and
clips of one to three seconds. What it does not do: several objects, moving cameras, textured backgrounds; an object
that is shown as two patches (behind a pole, say) is judged by its larger one.

A motion is read only from a track that is *coherent*: one solid patch, nearly always there, whose position and area
could have been foreseen from the frames around. Otherwise the answer is "incoherent": an object that flickers up and
down does not bounce.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.world.cameras import Camera
from genworld.world.layout import Motion
from genworld.world.objects import COLOURS, PALETTE, SHAPES

Verdict = Motion | Literal["incoherent"]

MIN_CHROMA = 0.16  # of an object's pixel; grey floor and shade have less, palette colours in deep shade more
MIN_HUE_AGREEMENT = math.cos(math.radians(20))  # of a pixel with the object's colour
MIN_AREA = 0.003  # of the image: 12 pixels of 64x64
MIN_SOLIDITY = 0.6  # part of the coloured pixels that lie in the largest patch
MIN_PRESENCE = 0.6  # part of the frames

MIN_TRACKED = 0.8  # part of the frames a motion needs
MIN_TRAVEL = 0.06  # of the tangent of the angle: sideways travel over distance, or relative growth
MIN_BOUNCE = 0.016  # image sides: 1 pixel of 64, both down before and up after
MAX_BOUNCE_PATH = 3.4  # ups and downs together against the highest fall: every bounce is lower than the one before
MAX_ROUGHNESS = 0.2  # acceleration per frame against all the way gone
MAX_SIZE_ROUGHNESS = 0.08  # relative, per frame
MIN_STRAIGHTNESS = 0.75  # way from start to end against the length of the path
_SLACK = 0.008  # image sides: half a pixel of 64 that a patch's centre may tremble
_FOCAL = 0.5 / math.tan(Camera().half_fov)  # image sides


@dataclass(frozen=True)
class Wish:
    """What a prompt asks of its one object; None where it says nothing."""

    colour: str
    shape: str | None
    motion: Motion | None


_NOUNS = {"ball": "sphere", "ring": "torus"} | {shape: shape for shape in SHAPES}
_VERBS: dict[str, Motion] = {
    "left": "left",
    "right": "right",
    "towards": "towards",
    "closer": "towards",
    "away": "away",
    "bounces": "bounce",
    "stays": "stay",
}


def read_prompt(prompt: str) -> Wish:
    """The colour, shape and motion words of a prompt about one object, such as the world's captions.

    Raises:
        ValueError: the prompt does not name exactly one colour of the palette, or names several shapes or motions.
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    colours = [word for word in words if word in PALETTE]
    shapes = [_NOUNS[word] for word in words if word in _NOUNS]
    motions = [_VERBS[word] for word in words if word in _VERBS]
    if len(colours) != 1 or len(shapes) > 1 or len(motions) > 1:
        raise ValueError(
            f"this judge needs a prompt about one object, with one colour of {list(PALETTE)} and at most one shape and "
            f"one motion; {prompt!r} names the colours {colours}, shapes {shapes} and motions {motions}"
        )
    return Wish(colours[0], next(iter(shapes), None), next(iter(motions), None))


@dataclass(frozen=True)
class Track:
    """One object followed through a clip of F frames.

    Attributes:
        colour: name in the palette, or None when there is no object.
        present: whether a frame shows one solid patch of that colour.
        centres: x to the right and y down from the top left corner, in lengths of the shorter side; NaN where absent.
        areas: part of the image that the patch covers; 0 where absent.
        cut: whether the patch touches the edge of the image, so that its area says nothing of its size.
        masks: the patch itself.
    """

    colour: str | None
    present: Bool[np.ndarray, " F"]
    centres: Float[np.ndarray, "F 2"]
    areas: Float[np.ndarray, " F"]
    cut: Bool[np.ndarray, " F"]
    masks: Bool[np.ndarray, "F H W"]

    @property
    def presence(self) -> float:
        """Part of the frames in which the object is there."""
        return float(self.present.mean())


def track_object(pixels: Float[Tensor, "3 F H W"]) -> Track:
    """Find the one coloured object of a clip and follow it.

    Args:
        pixels: in [-1, 1].
    """
    hue, chroma = hue_and_chroma(pixels)
    names, directions = palette_hues()
    agreement = hue @ directions.T
    nearest = agreement.argmax(-1)
    votes = torch.zeros(len(names)).index_add_(0, nearest[chroma > MIN_CHROMA], chroma[chroma > MIN_CHROMA])
    best = int(votes.argmax())
    coloured = (chroma > MIN_CHROMA) & (agreement[..., best] > MIN_HUE_AGREEMENT)
    masks = np.stack([_largest_patch(frame) for frame in coloured.numpy()])
    areas = masks.mean((1, 2))
    every = (chroma > MIN_CHROMA).float().mean((1, 2)).numpy()
    present = np.asarray((areas > MIN_AREA) & (areas > MIN_SOLIDITY * every))
    masks &= present[:, None, None]
    found = present.mean() >= MIN_PRESENCE
    return Track(
        names[best] if found else None, present, centres_of(masks), areas * present, touches_edge(masks), masks
    )


def hue_and_chroma(pixels: Tensor) -> tuple[Float[Tensor, "F H W 2"], Float[Tensor, "F H W"]]:
    """Direction and length of what is left of a colour without its brightness."""
    rgb = rearrange((pixels.detach().float().cpu().clamp(-1, 1) + 1) / 2, "c f h w -> f h w c")
    rgb = _blur(rgb)
    plane = rgb @ _HUE_PLANE
    chroma = plane.norm(dim=-1)
    return plane / chroma.clamp(min=1e-6)[..., None], chroma


def _blur(rgb: Float[Tensor, "F H W 3"]) -> Float[Tensor, "F H W 3"]:
    """Means of 3 x 3 pixels, so that a noisy grey is grey."""
    channels = rearrange(rgb, "f h w c -> f c h w")
    means = torch.nn.functional.avg_pool2d(channels, 3, stride=1, padding=1, count_include_pad=False)
    return rearrange(means, "f c h w -> f h w c")


_HUE_PLANE = torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])


def palette_hues() -> tuple[list[str], Float[Tensor, "K 2"]]:
    """The names of the palette's colours and the directions of their hues."""
    colours = torch.tensor([PALETTE[name] for name in COLOURS])
    return list(COLOURS), torch.nn.functional.normalize(colours @ _HUE_PLANE, dim=-1)


def _largest_patch(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    patches, count = label(mask)
    if count == 0:
        return mask
    return patches == np.bincount(patches.ravel())[1:].argmax() + 1


def touches_edge(masks: Bool[np.ndarray, "F H W"]) -> Bool[np.ndarray, " F"]:
    """Whether each frame's mask reaches the edge of the picture."""
    return np.asarray(masks[:, [0, -1]].any((1, 2)) | masks[:, :, [0, -1]].any((1, 2)))


def centres_of(masks: Bool[np.ndarray, "F H W"]) -> Float[np.ndarray, "F 2"]:
    """Mean column and row of each frame's mask in lengths of the shorter side; NaN where it is empty."""
    height, width = masks.shape[1:]
    found = masks.sum((1, 2))
    counts = np.maximum(found, 1)
    x = (masks.sum(1) * (np.arange(width) + 0.5)).sum(1) / counts
    y = (masks.sum(2) * (np.arange(height) + 0.5)).sum(1) / counts
    centres = np.stack([x, y], axis=-1) / min(height, width)
    return np.where(np.asarray(found > 0)[:, None], centres, np.nan)


def read_motion(track: Track) -> Verdict | None:
    """How the object of a track moves; None when there is no object.

    - "bounce": it goes down, turns, and goes up again, at least once;
    - "left", "right": mostly across the image; "towards", "away": mostly growing or shrinking;
    - "stay": none of these by more than a trembling;
    - "incoherent": seen in too few frames, or position or size jump about.
    """
    if track.colour is None:
        return None
    frames = np.arange(len(track.present))
    if track.presence < MIN_TRACKED:
        return "incoherent"
    x, y = (np.interp(frames, frames[track.present], track.centres[track.present, i]) for i in range(2))
    whole = track.present & ~track.cut
    if whole.sum() < 2:
        return "incoherent"
    size = np.interp(frames, frames[whole], np.log(track.areas[whole]) / 2)
    if is_rough(x) or is_rough(y) or np.median(np.abs(np.diff(size, 2))) > MAX_SIZE_ROUGHNESS:
        return "incoherent"
    if bounces(y):
        return "bounce"
    across, growth = _change(x) / _FOCAL, _change(size)
    if max(np.ptp(x) / _FOCAL, np.ptp(y) / _FOCAL, abs(growth)) < MIN_TRAVEL:
        return "stay"
    if max(abs(across), abs(growth)) < MIN_TRAVEL or max(_straightness(x), _straightness(size)) < MIN_STRAIGHTNESS:
        return "incoherent"
    if abs(across) > abs(growth):
        return "right" if across > 0 else "left"
    return "towards" if growth > 0 else "away"


def is_rough(values: Float[np.ndarray, " F"]) -> bool:
    """Whether a frame says little about the next: most accelerations are large against all the way there is."""
    bend = np.median(np.abs(np.diff(values, 2)))
    return bool(bend > MAX_ROUGHNESS * np.ptp(values) + _SLACK)


def bounces(y: Float[np.ndarray, " F"]) -> bool:
    """Whether y (downwards) has a peak with lower values on both sides, and all its peaks are less and less."""
    before = y - np.minimum.accumulate(y)
    after = y - np.minimum.accumulate(y[::-1])[::-1]
    path = np.abs(np.diff(y)).sum()
    return bool(np.minimum(before, after).max() > MIN_BOUNCE and path < MAX_BOUNCE_PATH * np.ptp(y))


def _change(values: Float[np.ndarray, " F"]) -> float:
    """From the first frames to the last ones."""
    few = max(1, len(values) // 8)
    return float(values[-few:].mean() - values[:few].mean())


def _straightness(values: Float[np.ndarray, " F"]) -> float:
    """Way from the first frames to the last ones against the length of the path, trembling of a frame left out."""
    smooth = np.convolve(values, np.full(3, 1 / 3), mode="valid")
    return float(abs(smooth[-1] - smooth[0]) / max(np.abs(np.diff(smooth)).sum(), 1e-9))
