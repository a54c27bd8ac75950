"""Pictures of clips for people to look at: contact sheets and curves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 6
FONT_SIZE = 13


def to_uint8(pixels: Float[Tensor, "3 F H W"]) -> UInt8[Tensor, "F H W 3"]:
    """Frames as bytes from pixels in [-1, 1]; what lies outside is clipped."""
    levels = (pixels.float().clamp(-1, 1) + 1) * 127.5
    return rearrange(levels.round().to(torch.uint8).cpu(), "c f h w -> f h w c")


def film_strip(
    pixels: Float[Tensor, "3 F H W"], num_frames: int = 6, height: int = 96, gap: int = 2
) -> UInt8[Tensor, "height width 3"]:
    """Frames spread evenly over a clip, side by side; an image is one frame."""
    frames = to_uint8(pixels)
    picked = torch.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().long()
    scale = height / frames.shape[1]
    size = (height, max(round(frames.shape[2] * scale), 1))
    small = rearrange(frames[picked], "n h w c -> n c h w").float()
    shown = F.interpolate(small, size, mode="nearest" if scale >= 1 else "area").round().to(torch.uint8)
    shown = F.pad(shown, (0, gap), value=255)
    return rearrange(shown, "n c h w -> h (n w) c")[:, :-gap]


def contact_sheet(
    clips: Sequence[Float[Tensor, "3 F H W"]],
    labels: Sequence[str],
    columns: int = 1,
    num_frames: int = 6,
    height: int = 96,
) -> Image.Image:
    """Film strips in a grid, each under its label.

    Args:
        clips: pixels in [-1, 1], of any shapes.
        labels: a line or two of text for each.
        columns: strips side by side.
        num_frames: frames shown of each clip.
        height: of a frame in the sheet.
    """
    assert len(clips) == len(labels), (len(clips), len(labels))
    strips = [film_strip(clip, num_frames, height) for clip in clips]
    cell_width = max([strip.shape[1] for strip in strips] + [240]) + MARGIN
    font = ImageFont.load_default(FONT_SIZE)
    texts = [textwrap.wrap(label, max(int(cell_width / (FONT_SIZE * 0.52)), 10))[:3] or [""] for label in labels]
    line = FONT_SIZE + 3
    rows = [range(start, min(start + columns, len(clips))) for start in range(0, len(clips), columns)]
    heights = [max(len(texts[i]) for i in row) * line + height + 2 * MARGIN for row in rows]
    sheet = Image.new("RGB", (columns * cell_width + MARGIN, sum(heights) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, row_height in zip(rows, heights, strict=True):
        lines = max(len(texts[i]) for i in row)
        for column, i in enumerate(row):
            left = MARGIN + column * cell_width
            draw.multiline_text((left, top), "\n".join(texts[i]), "black", font, spacing=3)
            sheet.paste(Image.fromarray(strips[i].numpy()), (left, top + lines * line))
        top += row_height
    return sheet


def mark_places(
    pixels: Float[Tensor, "3 H W"],
    boxes: Sequence[tuple[float, float, float, float]],
    colours: Sequence[str],
    side: int,
) -> Float[Tensor, "3 1 h w"]:
    """A picture with numbered frames in it, as a clip of one frame for `contact_sheet`.

    Args:
        pixels: in [-1, 1].
        boxes: left, top, right and bottom of each frame, as parts of the width and height.
        colours: of each frame, by name.
        side: height of the result, pixels.
    """
    picture = Image.fromarray(to_uint8(pixels[:, None])[0].numpy())
    width = round(picture.width * side / picture.height)
    picture = picture.resize((width, side), Image.Resampling.NEAREST)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_SIZE)
    for number, (box, colour) in enumerate(zip(boxes, colours, strict=True), 1):
        left, top, right, bottom = (part * end for part, end in zip(box, (width, side) * 2, strict=True))
        pen.rectangle((left - 1, top - 1, right, bottom), outline=colour, width=2)
        beside = right + 3 if right + FONT_SIZE < width else left - FONT_SIZE
        place = (beside, min(top - 3, side - FONT_SIZE - 4))
        pen.text(place, str(number), "white", font, stroke_width=2, stroke_fill="black")
    shown = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(side, width, 3)
    return rearrange(shown.float() / 127.5 - 1, "h w c -> c 1 h w")


def write_sheet(path: Path, clips: Sequence[Float[Tensor, "3 F H W"]], labels: Sequence[str], columns: int = 1) -> Path:
    """Write a `contact_sheet` as a picture, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(clips, labels, columns).save(path)
    return path
