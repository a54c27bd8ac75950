"""Writing clips: .mp4 (H.264), .gif, and .png for a single frame."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from genworld.ops.pictures import to_uint8

CRF = "17"  # visually lossless; 23 is x264's own default
MAX_GIF_FPS = 50  # browsers slow shorter delays down to a tenth of a second


def write_video(path: str | Path, clip: UInt8[Tensor, "F H W 3"] | Float[Tensor, "3 F H W"], fps: float) -> Path:
    """Write a whole clip; see `VideoWriter`."""
    with VideoWriter(path, fps) as writer:
        writer.append(clip)
    return Path(path)


class VideoWriter:
    """Writes frames as they come, so that a long video need not fit in memory (a .gif does: a byte a pixel).

    The file appears under its name only when it is complete; after an error nothing is left behind. The suffix chooses
    the format. An .mp4 needs even sides: an odd one is extended by repeating its last row or column.
    """

    def __init__(self, path: str | Path, fps: float, drawn: bool = False) -> None:
        """Open the file.

        Args:
            path: ends in .mp4, .gif or .png; its folder is made.
            fps: frames per second; 23.976, 29.97 and their kin become exact NTSC rates.
            drawn: frames are maps, charts and renderings of plain things: a .gif keeps their smallest marks in their
                own colours and is about half as large, where skies and skin would show bands.

        Raises:
            ValueError: another suffix, or a rate the format cannot express.
        """
        path = Path(path)
        makers: dict[str, type[_Sink]] = {".mp4": _Mp4, ".gif": _DrawnGif if drawn else _Gif, ".png": _Png}
        if path.suffix.lower() not in makers:
            raise ValueError(
                f"{path}: cannot write {path.suffix or 'a file without suffix'}: use one of {sorted(makers)}"
            )
        if not (fps > 0 and math.isfinite(fps)):
            raise ValueError(f"{path}: fps must be positive, got {fps}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix.lower()}")
        self._size: tuple[int, int] | None = None
        self._sink = makers[path.suffix.lower()](self._part, fps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sink.close()
            if kind is None and self._size is None:
                raise ValueError(f"{self._path}: no frames were written")
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def append(self, clip: UInt8[Tensor, "F H W 3"] | Float[Tensor, "3 F H W"]) -> None:
        """Add frames: 8 bits with channels last, or a clip in [-1, 1] with channels first.

        Raises:
            ValueError: not such a tensor, or another size than the frames before.
        """
        last = clip.dtype == torch.uint8
        if clip.ndim != 4 or clip.shape[-1 if last else 0] != 3 or not (last or clip.is_floating_point()):
            raise ValueError(
                f"{self._path}: expected uint8 [F H W 3] or floating point [3 F H W], "
                f"got {clip.dtype} {list(clip.shape)}"
            )
        frames = (clip if last else to_uint8(clip)).cpu()
        size = (frames.shape[1], frames.shape[2])
        if self._size not in (None, size):
            raise ValueError(f"{self._path}: frames of {size} after frames of {self._size} (height, width)")
        for frame in frames:
            self._size = size
            self._sink.add(frame.contiguous())


class _Sink(ABC):
    """One file format."""

    @abstractmethod
    def __init__(self, path: Path, fps: float) -> None: ...

    @abstractmethod
    def add(self, frame: UInt8[Tensor, "H W 3"]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class _Mp4(_Sink):
    def __init__(self, path: Path, fps: float) -> None:
        self._container = av.open(str(path.absolute()), "w", options={"movflags": "+faststart"})
        self._rate = exact_rate(fps)
        self._stream: Any = None
        self._count = 0

    def add(self, frame: UInt8[Tensor, "H W 3"]) -> None:
        frame = _even(frame)
        if self._stream is None:
            self._start(*frame.shape[:2])
        # Tagged BT.709: players assume it for large frames and BT.601 for small ones unless told.
        picture = VideoFrame.from_ndarray(frame.numpy(), "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        picture.pts, picture.time_base = self._count, 1 / self._rate
        self._count += 1
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _start(self, height: int, width: int) -> None:
        self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": CRF, "preset": "medium"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        context = self._stream.codec_context
        context.time_base = 1 / self._rate
        context.colorspace, context.color_range = 1, ColorRange.MPEG  # 1: BT.709 in the H.264 tables
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


class _Gif(_Sink):
    _method = Image.Quantize.MEDIANCUT  # fine shades; a colour of few pixels becomes another's

    def __init__(self, path: Path, fps: float) -> None:
        if fps > MAX_GIF_FPS:
            raise ValueError(
                f"{path.name}: a .gif cannot show {fps:g} frames per second: at most {MAX_GIF_FPS}, or use .mp4"
            )
        self._path, self._fps = path, fps
        self._frames: list[Image.Image] = []

    def add(self, frame: UInt8[Tensor, "H W 3"]) -> None:
        self._frames.append(Image.fromarray(frame.numpy()).quantize(256, self._method))

    def close(self) -> None:
        if self._frames:
            # Delays are whole hundredths of a second: rounding the running total keeps the duration right.
            ends = [round(100 * count / self._fps) for count in range(len(self._frames) + 1)]
            delays = [10 * (end - start) for start, end in pairwise(ends)]
            first, *rest = self._frames
            first.save(self._path, save_all=True, append_images=rest, duration=delays, loop=0)


class _DrawnGif(_Gif):
    _method = Image.Quantize.FASTOCTREE  # coarse shades; no colour is far off


class _Png(_Sink):
    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._empty = True

    def add(self, frame: UInt8[Tensor, "H W 3"]) -> None:
        if not self._empty:
            raise ValueError(f"{self._path.name}: a .png holds one frame: use .mp4 or .gif")
        Image.fromarray(frame.numpy()).save(self._path)
        self._empty = False

    def close(self) -> None:
        pass


def exact_rate(fps: float) -> Fraction:
    """The frame rate as a fraction: n * 1000 / 1001 when within 0.002 % of it, else with a denominator up to 1000."""
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    if ntsc and abs(fps / float(ntsc) - 1) < 2e-5 and abs(fps - round(fps)) > 1e-6:
        return ntsc
    return Fraction(fps).limit_denominator(1000) or Fraction(1, 1000)


def _even(frame: UInt8[Tensor, "H W 3"]) -> UInt8[Tensor, "h w 3"]:
    height, width, _ = frame.shape
    if height % 2 == 0 and width % 2 == 0:
        return frame
    planes = rearrange(frame, "H W C -> C H W")
    planes = torch.nn.functional.pad(planes[None].float(), (0, width % 2, 0, height % 2), mode="replicate")[0]
    return rearrange(planes.to(torch.uint8), "C H W -> H W C").contiguous()
