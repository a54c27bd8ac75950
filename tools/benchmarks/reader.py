"""Benchmark `reader`: frames per second of our reader over a bare PyAV loop that decodes and converts.

Both use one thread, keep one converter per file, and are timed in processor seconds, in turns. The bare loop gets
everything for free that our reader has to find out: it is told each frame's timestamp, and where to seek. It holds as
many frames at a time as ours returns, for whoever wants them, in whatever memory the converter gave it: ours must lay
them out as one array.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from genworld.data.readers import open_reader
from genworld.data.writer import VideoWriter

CLIPS = Path(__file__).resolve().parents[2] / "../shared/data/clips"
TARGET = 0.9
ROUNDS = 7
CHUNK = 8  # frames a read, about what a `ManifestSource` asks for
RANDOM_READS, RUN = 6, 8  # clips of 8 consecutive frames from 6 random places of each file


def run() -> list[dict]:
    """Measure sequential and random access on the real clips, or on generated ones where they are absent."""
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(CLIPS.glob("*.mp4")) or _generate(Path(folder))
        stamps = {path: _timestamps(path) for path in paths}
        starts = {path: _random_starts(len(stamps[path][0])) for path in paths}
        return [
            _compare(
                "reader: sequential",
                lambda: sum(_read_all(path, stamps[path]) for path in paths),
                lambda: sum(_bare_all(path) for path in paths),
            ),
            _compare(
                "reader: random access",
                lambda: sum(_read_some(path, stamps[path], starts[path]) for path in paths),
                lambda: sum(_bare_some(path, stamps[path], starts[path]) for path in paths),
            ),
        ]


def _compare(name: str, ours: Callable[[], int], reference: Callable[[], int]) -> dict:
    ours(), reference()
    rates = [(_rate(ours), _rate(reference)) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in rates)
    return {
        "name": name,
        "ours": round(statistics.median(a for a, _ in rates), 1),
        "reference": round(statistics.median(b for _, b in rates), 1),
        "ratio": round(ratio, 3),
        "unit": "frames/s of one core",
        "target": f">= {TARGET}",
        "holds": ratio >= TARGET,
    }


def _rate(work: Callable[[], int]) -> float:
    start = time.process_time()
    frames = work()
    return frames / (time.process_time() - start)


def _timestamps(path: Path) -> tuple[list[int], Fraction]:
    """The timestamp of every frame, and the clock they count in."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream is not None
        assert stream.time_base is not None
        pts = sorted(packet.pts for packet in container.demux(stream) if packet.size and packet.pts is not None)
        return pts, stream.time_base


def _random_starts(num_frames: int) -> list[int]:
    return np.random.default_rng(0).integers(0, num_frames - RUN, RANDOM_READS).tolist()


def _read_all(path: Path, stamps: tuple[list[int], Fraction]) -> int:
    times = _times(stamps)
    with open_reader(path) as reader:
        return sum(len(reader.read(times[i : i + CHUNK])) for i in range(0, len(times), CHUNK))


def _read_some(path: Path, stamps: tuple[list[int], Fraction], starts: Sequence[int]) -> int:
    times = _times(stamps)
    with open_reader(path) as reader:
        return sum(len(reader.read(times[start : start + RUN])) for start in starts)


def _times(stamps: tuple[list[int], Fraction]) -> list[float]:
    pts, tick = stamps
    return [float((each - pts[0]) * tick) for each in pts]


def _bare_all(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "NONE"
        converter, count = VideoReformatter(), 0
        frames = (_convert(converter, frame) for frame in container.decode(stream))
        while held := list(itertools.islice(frames, CHUNK)):
            count += len(held)
        return count


def _bare_some(path: Path, stamps: tuple[list[int], Fraction], starts: Sequence[int]) -> int:
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "NONE"
        converter = VideoReformatter()
        for start in starts:
            first, last = stamps[0][start], stamps[0][start + RUN - 1]
            container.seek(first, stream=stream)
            held = []
            for frame in container.decode(stream):
                assert frame.pts is not None
                if frame.pts >= first:
                    held.append(_convert(converter, frame))
                if frame.pts >= last:
                    break
            count += len(held)
    return count


def _convert(converter: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    return converter.reformat(frame, format="rgb24", threads=1).to_ndarray()


def _generate(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3))
    paths = []
    for height, width in ((360, 640), (480, 832)):
        rows, columns = np.arange(height)[:, None] // 12, np.arange(width)[None] // 12
        paths.append(folder / f"{width}x{height}.mp4")
        with VideoWriter(paths[-1], 24) as writer:
            for shift in range(72):
                frame = noise[rows % 30, (columns + shift // 4) % 40]
                writer.append(torch.from_numpy(frame.astype(np.uint8))[None])
    return paths
