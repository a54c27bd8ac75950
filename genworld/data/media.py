"""What every frame reader shares: its interface, what is known of a file, the limits, and the errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor


class MediaError(ValueError):
    """A file cannot be used as a clip. The message starts with its path and ends with what to do."""


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """What a file may ask of this machine; checked before anything is decoded.

    Attributes:
        pixels: of one frame.
        frames: of the whole file.
        seconds: of the whole file.
        read_bytes: of decoded RGB in one `read`.
    """

    pixels: int = 8192 * 8192
    frames: int = 2_000_000
    seconds: float = 24 * 3600.0
    read_bytes: int = 4 << 30

    def check(self, path: Path, *, pixels: int = 0, frames: int = 0, seconds: float = 0, read_bytes: int = 0) -> None:
        """Compare what is known so far with the limits.

        Raises:
            MediaError: naming the limit and both numbers.
        """
        asked = {"pixels": pixels, "frames": frames, "seconds": seconds, "read_bytes": read_bytes}
        for name, value in asked.items():
            if value > (limit := getattr(self, name)):
                hint = "read it in smaller parts, or" if name == "read_bytes" else "if you trust the file,"
                raise MediaError(
                    f"{path}: {value:.10g} {name}, but at most {limit:.10g} are allowed: {hint} raise limits.{name}"
                )


@dataclass(frozen=True)
class MediaInfo:
    """What a file really holds: counted and measured, never read off its header.

    Attributes:
        num_frames: frames shown.
        height: in pixels, after rotation and with square pixels.
        width: likewise.
        fps: frames per second; the mean one where it varies.
        seconds: from the start of the first frame to the end of the last.
        rotation: degrees counterclockwise that `read` has already applied (0, 90, 180 or 270).
        codec: its name, such as h264.
    """

    num_frames: int
    height: int
    width: int
    fps: float
    seconds: float
    rotation: int
    codec: str

    def check_time(self, path: Path, time: float) -> None:
        """Refuse a time after the end; a little rounding in a manifest's frame rate is forgiven.

        Raises:
            MediaError: `time` is more than two frames and 0.2 % after the end.
        """
        check_end(path, time, self.seconds, 1 / self.fps)


class FrameReader(Protocol):
    """Frames of one file by time. A context manager; times are in seconds from the first frame shown."""

    @property
    def info(self) -> MediaInfo:
        """What the file holds. The first use reads through the file, without decoding it."""
        ...

    def read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        """The frame shown at each of `times` (in any order): the last that starts at or before it.

        Half a tick of the file's clock is forgiven, so that i / fps finds frame i whatever the rounding.

        Raises:
            MediaError: a time is outside the clip, or the file is broken there.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_end(path: Path, time: float, seconds: float, interval: float) -> None:
    """Refuse a `time` well after the end of a clip that lasts `seconds`, with frames `interval` seconds apart."""
    if time > seconds + 2 * interval + 0.002 * seconds:
        raise MediaError(
            f"{path}: the frame at {time:.3f} s was asked for, but the clip ends at {seconds:.3f} s: "
            "correct its length in the manifest, or leave the column empty so that it is measured"
        )


def check_times(path: Path, times: Sequence[float]) -> None:
    """Refuse an empty request and times that are negative or not finite."""
    if not len(times):
        raise MediaError(f"{path}: no times were given to read")
    for time in times:
        if not (math.isfinite(time) and time >= 0):
            raise MediaError(f"{path}: the frame at {time} s was asked for: times start at 0, the first frame shown")


def resize(frames: UInt8[Tensor, "F H W 3"], height: int, width: int) -> UInt8[Tensor, "F h w 3"]:
    """Antialiased bicubic resize in 8 bits (Pillow's arithmetic), the same whichever reader made the frames."""
    if frames.shape[1:3] == (height, width):
        return frames
    # A [F 3 H W] view of channels-last memory is what torch's vectorised 8-bit kernel wants.
    small = F.interpolate(rearrange(frames, "F H W C -> F C H W"), (height, width), mode="bicubic", antialias=True)
    return rearrange(small, "F C H W -> F H W C")
