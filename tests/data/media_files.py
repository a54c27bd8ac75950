"""Small video files whose frames say which frame they are: made on the spot, in whatever odd form a test needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.stream import VideoStream
from torch import Tensor

CLIPS = Path(__file__).resolve().parents[2] / "../shared/data/clips"
BITS = 6


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A grey frame with a red top left corner and `index` in binary as white bars along the bottom."""
    image = np.full((height, width, 3), 60, np.uint8)
    image[: height // 3, : width // 3] = (200, 30, 30)
    bar = width // BITS
    for bit in range(BITS):
        if index >> bit & 1:
            image[height // 2 :, bit * bar : (bit + 1) * bar] = 230
    return image


def numbers(frames: Tensor) -> list[int]:
    """Read the binary bars of `picture` back, from frames of any size."""
    _, height, width, _ = frames.shape
    bar = width // BITS
    rows = frames[:, height * 3 // 4, :, 1]
    return [sum(int(row[bit * bar + bar // 2] > 145) << bit for bit in range(BITS)) for row in rows]


def red_corner(frames: Tensor) -> str:
    """Which corner of the first frame is red."""
    _, height, width, _ = frames.shape
    spots = {"top left": (4, 4), "top right": (4, width - 5), "bottom left": (height - 5, 4)}
    spots["bottom right"] = (height - 5, width - 5)
    frame = frames[0].int()
    return max(spots, key=lambda name: int(frame[spots[name]][0] - frame[spots[name]][1]))


def write_clip(
    path: Path,
    num_frames: int = 30,
    size: tuple[int, int] = (48, 64),
    fps: Fraction | int = 10,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    audio: bool = False,
    sample_aspect: Fraction | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode pictures 0, 1, 2, ... with a key frame every 10 frames and B-frames where the codec has them.

    `pts` are timestamps in `time_base`; without them frames come at `fps`.
    """
    settings = {"g": "10"} | ({"x265-params": "log-level=none:keyint=10"} if codec == "libx265" else {})
    settings |= {"bf": "2"} if codec in ("libx264", "mpeg4") else {}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options=settings | (options or {}))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        if time_base is not None:
            stream.time_base = stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        sound = container.add_stream("aac", rate=8000, layout="mono") if audio else None
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), "rgb24").reformat(format=pixel_format)
            frame.pts = index if pts is None else pts[index]
            frame.time_base = Fraction(1) / fps if time_base is None else time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            noise = np.random.default_rng(0).normal(0, 0.1, (1, 8000)).astype(np.float32)
            wave = av.AudioFrame.from_ndarray(noise, "fltp", "mono")
            wave.sample_rate = 8000
            container.mux(sound.encode(wave))
            container.mux(sound.encode(None))
    return path


def edit_start(path: Path, ticks: int, seconds: float | None = None) -> None:
    """Move the start of the only edit in an .mp4 by `ticks`, and set how long it lasts, as trimming on a phone does."""
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4
    assert data[at] == 0
    assert struct.unpack_from(">I", data, at + 4) == (1,)
    (media_time,) = struct.unpack_from(">i", data, at + 12)
    struct.pack_into(">i", data, at + 12, media_time + ticks)
    if seconds is not None:
        (clock,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
        struct.pack_into(">I", data, at + 8, round(seconds * clock))
    path.write_bytes(data)


def frames_of(count: int, height: int = 48, width: int = 64) -> Tensor:
    """Pictures 0 ... count - 1 as one tensor."""
    return torch.from_numpy(np.stack([picture(index, height, width) for index in range(count)]))
