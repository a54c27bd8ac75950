"""Pixels that were given, put back over what was made, so that they are exact and no seam shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.tasks.given import Given

MOST = 0.1
"""Of the range [-1, 1]: more than a VAE loses. What is further off was made otherwise, and would shine through."""


def paste(
    video: Float[Tensor, "3 F H W"], given: Sequence[Given], reach: tuple[int, int] = (0, 0)
) -> Float[Tensor, "3 F H W"]:
    """The video with the pixels that were given to be kept (strength 1) in place of what was made there.

    Args:
        video: what was made.
        given: what is known of it.
        reach: how many frames, and how many pixels, beyond what is kept the video is led over to it.
    """
    video = video.clone()
    kept = [each for each in given if each.strength == 1]
    for each in kept:
        if each.known is None:
            _lead_over_frames(video, each, reach[0])
        else:
            _lead_over_edges(video, each, reach[1])
    for each in kept:
        frames, pixels = video[:, each.first : each.first + each.num_frames], each.pixels.to(video)
        frames.copy_(pixels if each.known is None else torch.where(each.known.to(video.device), pixels, frames))
    return video


def _lead_over_frames(video: Float[Tensor, "3 F H W"], given: Given, reach: int) -> None:
    """What the VAE lost of the frames at both ends of what is kept, given back to their neighbours, less and less."""
    first, end = given.first, given.first + given.num_frames
    kept = given.pixels.to(video)
    for edge, neighbours in ((first, range(first - 1, first - 1 - reach, -1)), (end - 1, range(end, end + reach))):
        lost = (kept[:, edge - first] - video[:, edge]).clamp(-MOST, MOST)
        for i, frame in enumerate(neighbours):
            if 0 <= frame < video.shape[1]:
                video[:, frame].add_(lost, alpha=1 - (i + 1) / (reach + 1)).clamp_(-1, 1)


def _lead_over_edges(video: Float[Tensor, "3 F H W"], given: Given, reach: int) -> None:
    """By how much what was made is off at the edge of a kept region: all of it there, none from `reach` pixels on."""
    if reach < 2 or given.known is None:
        return
    made = video[:, given.first : given.first + given.num_frames]
    weight = given.known.to(made)[None]
    rows, columns = (_triangles(size, reach).to(made) for size in made.shape[2:])
    total = rows @ torch.cat([(given.pixels.to(made) - made) * weight, weight]) @ columns
    near, all_around = total[3:], rows.sum(1)[:, None] * columns.sum(0)
    share = near / all_around * (2 * reach / (reach - 1))  # 1 for the first pixel beyond a straight edge
    made.add_(total[:3] / near.clamp_min(1e-6) * share.clamp_max(1)).clamp_(-1, 1)


def _triangles(size: int, reach: int) -> Float[Tensor, "size size"]:
    """Weights that fall from each place to nothing `reach` places from it."""
    places = torch.arange(size)
    return (reach - (places[:, None] - places).abs()).clamp_min(0).float()
