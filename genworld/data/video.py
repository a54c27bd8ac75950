"""Frames of real videos by timestamp.

PyAV (FFmpeg inside its wheel) is the default reader. It decodes with one thread, because loaders run many workers,
and finds a frame by seeking to the key frame before it and decoding on: never by frame number, which is wrong as soon
as a rate varies or a header lies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8
from torch import Tensor

from genworld.data.media import MediaError, MediaInfo, MediaLimits, check_end, check_times, resize

# Real containers only: a playlist named clip.mp4 must not make FFmpeg open other files or the network.
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif,apng,h264,hevc,av1,obu,ivf,m4v,mjpeg,nut,mxf,dv,yuv4mpegpipe"
)
SEEK_MARGIN = 10  # frames: a key frame nearer than this is reached sooner by decoding on than by flushing the decoder
BLIND_SEEK = 5.0  # seconds: jump further than this even where the container has no index to ask


def frame_times(start: float, num_frames: int, fps: float) -> list[float]:
    """When the frames of a clip are taken: `num_frames` times in seconds, 1 / `fps` apart.

    Frames are chosen by these times, so that a clip lasts as long as what it shows, at any source rate. A source slower
    than `fps` repeats frames: see `effective_fps`.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be positive, got {fps}")
    return [start + index / fps for index in range(num_frames)]


def effective_fps(source_fps: float, fps: float) -> float:
    """Different frames per second when a source of `source_fps` is read at `fps`."""
    return min(source_fps, fps)


class PyAVReader:
    """The default `FrameReader`."""

    def __init__(self, path: str | Path, limits: MediaLimits | None = None) -> None:
        self._path, self._limits = Path(path), limits or MediaLimits()
        self._reformat = VideoReformatter()  # keeps swscale's tables from frame to frame
        self._timed = True
        with _media_errors(self._path), ExitStack() as undo:
            self._open()
            undo.callback(self._container.close)
            self._check_header()
            first = next(self._frames, None)
            if first is None:
                raise MediaError(f"{self._path}: no frame could be decoded: the file is damaged, encode it again")
            self._start_at(first)
            undo.pop_all()
        assert first.pts is not None
        self._first, self._size = first.pts, (first.height, first.width)
        self._rotation = round(first.rotation / 90) * 90 % 360
        self._codec = self._stream.codec_context.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()
        del self._frames, self._shown, self._next  # pictures are large, and the generator keeps this object alive

    @cached_property
    def info(self) -> MediaInfo:
        """See `FrameReader`. Counts packets through a second handle; the first stays where it is."""
        with _media_errors(self._path), _open_video(self._path) as (container, stream):
            num_frames, fps, seconds = _scan(container, stream, self._first, self._limits.frames + 1)
        self._limits.check(self._path, frames=num_frames, seconds=seconds)
        height, width = self._shape
        return MediaInfo(num_frames, height, width, fps, seconds, self._rotation, self._codec)

    def read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        """See `FrameReader`. Fastest when times rise from call to call."""
        check_times(self._path, times)
        height, width = self._size
        self._limits.check(self._path, read_bytes=len(times) * height * width * 3)
        # numpy asks for huge pages where torch does not: a fresh buffer otherwise costs a tenth of the decoding.
        pictures = np.empty((len(times), height, width, 3), np.uint8)
        done: tuple[VideoFrame, int] | None = None
        with _media_errors(self._path):
            for index in sorted(range(len(times)), key=times.__getitem__):
                frame = self._frame_at(times[index])
                if done is not None and done[0] is frame:
                    pictures[index] = pictures[done[1]]
                else:
                    self._convert(frame, pictures[index])
                    done = frame, index
        frames = torch.from_numpy(pictures)
        frames = torch.rot90(frames, self._rotation // 90, dims=(1, 2)) if self._rotation else frames
        return resize(frames.contiguous(), *self._shape)

    @property
    def _shape(self) -> tuple[int, int]:
        """Height and width as shown: square pixels, then rotated."""
        height, width = self._size
        aspect = self._stream.sample_aspect_ratio or 1
        width = max(round(width * aspect), 1) if Fraction(1, 8) < aspect < 8 else width
        return (width, height) if self._rotation % 180 else (height, width)

    def _open(self) -> None:
        self._container, self._stream = _open_streams(self._path)
        assert self._stream.time_base is not None
        self._tick = float(self._stream.time_base)
        # Also stops a stream whose frames grow after the first.
        self._stream.codec_context.options = {"max_pixels": str(self._limits.pixels)}
        self._frames = self._decode()

    def _check_header(self) -> None:
        context = self._stream.codec_context
        seconds = (self._stream.duration or 0) * self._tick or (self._container.duration or 0) / av.time_base
        self._limits.check(
            self._path, pixels=context.width * context.height, frames=self._stream.frames, seconds=seconds
        )

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames in the order shown. After a seek, FFmpeg itself holds back those whose references were skipped."""
        last = 0
        step = max(round(1 / (float(self._stream.average_rate or 25) * self._tick)), 1)
        for packet in self._container.demux(self._stream):
            for frame in packet.decode():
                if frame.pts is None:  # some raw streams carry no clock: count
                    self._timed, frame.pts = False, last + step
                last = frame.pts
                yield frame

    def _start_at(self, frame: VideoFrame) -> None:
        self._shown, self._next = frame, next(self._frames, None)

    def _frame_at(self, time: float) -> VideoFrame:
        target = self._first + time / self._tick + 0.5
        if target < _pts(self._shown) or self._should_jump(target):
            self._seek(target)
        while self._next is not None and _pts(self._next) <= target:
            self._shown, self._next = self._next, next(self._frames, None)
        if self._next is None:
            interval = self._shown.duration * self._tick or 1 / float(self._stream.average_rate or 25)
            check_end(self._path, time, (_pts(self._shown) - self._first) * self._tick + interval, interval)
        return self._shown

    def _should_jump(self, target: float) -> bool:
        """Whether a key frame lies well between where we are and `target`."""
        if self._next is None or not self._timed:
            return False
        gap = (target - _pts(self._next)) * self._tick
        margin = SEEK_MARGIN / float(self._stream.average_rate or 25)
        if gap < margin:
            return False
        index = self._stream.index_entries
        key = index.search_timestamp(int(target)) if len(index) and index[-1].timestamp >= target - margin else -1
        if key < 0:
            return gap > BLIND_SEEK
        return (index[key].timestamp - _pts(self._next)) * self._tick > margin

    def _seek(self, target: float) -> None:
        """Stand on a frame at or before `target`. Key frames are indexed by decoding time: if late, go further back."""
        back = 0.0
        while self._timed and target - back / self._tick > self._first:
            self._container.seek(int(target - back / self._tick), stream=self._stream)
            self._frames = self._decode()
            frame = next(self._frames, None)
            if frame is not None and _pts(frame) <= target:
                return self._start_at(frame)
            back = back * 4 or 0.5
        return self._restart()

    def _restart(self) -> None:
        self._container.close()
        self._open()
        frame = next(self._frames, None)
        assert frame is not None  # it was there when the file was opened
        self._start_at(frame)

    def _convert(self, frame: VideoFrame, out: UInt8[np.ndarray, "H W 3"]) -> None:
        time = (_pts(frame) - self._first) * self._tick
        if frame.is_corrupt:
            raise MediaError(f"{self._path}: the frame at {time:.3f} s is damaged: restore or encode the file again")
        if (frame.height, frame.width) != self._size:
            sizes = f"{self._size[1]}x{self._size[0]} to {frame.width}x{frame.height}"
            raise MediaError(f"{self._path}: frames change from {sizes} at {time:.3f} s: split or encode it again")
        rgb = self._reformat.reformat(frame, format="rgb24", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        np.copyto(out, rows[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3))


def _pts(frame: VideoFrame) -> int:
    assert frame.pts is not None  # `_decode` gives every frame one
    return frame.pts


def _open_streams(path: Path) -> tuple[InputContainer, VideoStream]:
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    # A title in Latin-1 is no reason to refuse a video.
    container = av.open(str(path.absolute()), container_options=options, metadata_errors="replace")
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.time_base is None:
        container.close()
        raise MediaError(f"{path}: no video in this file: remove it from the manifest")
    if not isinstance(stream.codec_context, VideoCodecContext):
        container.close()
        raise MediaError(f"{path}: its codec is unknown to this FFmpeg: encode it again, as H.264 say")
    stream.thread_type = "NONE"
    return container, stream


@contextmanager
def _open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    container, stream = _open_streams(path)
    try:
        yield container, stream
    finally:
        container.close()


@contextmanager
def _media_errors(path: Path) -> Iterator[None]:
    """Name the file in whatever FFmpeg raises."""
    try:
        yield
    except (av.FFmpegError, IndexError) as error:  # IndexError: PyAV's, when a stream appears in the middle of a file
        reason = error.strerror if isinstance(error, av.FFmpegError) else "its streams change"
        raise MediaError(
            f"{path}: cannot be decoded ({reason}): the file is damaged or cut short, fetch or encode it again"
        ) from error


def _scan(container: InputContainer, stream: VideoStream, first: int, most: int) -> tuple[int, float, float]:
    """Count the frames shown (giving up at `most`), their rate and duration, from packets alone."""
    assert stream.time_base is not None
    starts: set[int] = set()
    untimed = last = 0
    length = 0
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard or packet.is_corrupt:
            continue
        if packet.pts is None:
            untimed += 1
        elif packet.pts >= first:
            starts.add(packet.pts)
            if packet.pts >= last:
                last, length = packet.pts, packet.duration or 0
        if len(starts) + untimed >= most:
            break
    nominal = float(stream.average_rate or 25)
    count = len(starts) + untimed
    if untimed or count < 2:
        return max(count, 1), nominal, max(count, 1) / nominal
    ticks = np.diff(np.array(sorted(starts)))
    seconds = float(ticks.sum() + (length or np.median(ticks))) * float(stream.time_base)
    # The declared rate is the exact one if most frames keep to it (coarse clocks round) and it explains the duration;
    # a pause here and there does not make a 30 fps film a 29.7 fps one.
    keeps = abs(float(np.median(ticks)) - 1 / (nominal * float(stream.time_base))) <= 0.5
    exact = keeps and abs(count / nominal / seconds - 1) < 0.05
    return count, nominal if exact else count / seconds, seconds
