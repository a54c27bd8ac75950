"""Every frame reader by name: PyAV, images (Pillow), decord and torchcodec."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from einops import repeat
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from genworld.data.media import FrameReader, MediaError, MediaInfo, MediaLimits, check_times, resize
from genworld.data.video import PyAVReader

ReaderKind = Literal["pyav", "decord", "torchcodec"]
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


class ImageReader:
    """An image as a clip of one frame: rotated as its EXIF says, transparent parts white, 16 bits cut to 8."""

    def __init__(self, path: str | Path, limits: MediaLimits | None = None) -> None:
        self._path, limits = Path(path), limits or MediaLimits()
        try:
            with Image.open(self._path) as image:
                limits.check(self._path, pixels=image.width * image.height)
                if getattr(image, "n_frames", 1) > 1:
                    raise MediaError(f"{self._path}: an animated {image.format}: convert it to a video first")
                codec = (image.format or self._path.suffix[1:]).lower()
                self._frame = torch.from_numpy(np.array(_to_rgb(ImageOps.exif_transpose(image))))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"{self._path}: not a readable image ({error}): fetch or convert it again") from error
        height, width, _ = self._frame.shape
        self.info = MediaInfo(1, height, width, fps=1.0, seconds=1.0, rotation=0, codec=codec)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._frame

    def read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        """See `FrameReader`; an image has only the time 0."""
        check_times(self._path, times)
        if any(times):
            raise MediaError(f"{self._path}: an image has no frame at {max(times)} s: use it for shapes of one frame")
        return repeat(self._frame, "H W C -> F H W C", F=len(times)).clone()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow's own conversion would saturate
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


class _LibraryReader:
    """A reader whose facts and limits come from PyAV and whose pixels come from another library."""

    def __init__(self, path: str | Path, limits: MediaLimits | None = None) -> None:
        self._path, self._limits = Path(path), limits or MediaLimits()
        with PyAVReader(self._path, self._limits) as reader:
            self.info = reader.info

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        """See `FrameReader`."""
        check_times(self._path, times)
        self.info.check_time(self._path, max(times))
        self._limits.check(self._path, read_bytes=len(times) * self.info.height * self.info.width * 3)
        return resize(self._read(times), self.info.height, self.info.width)

    def _read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        raise NotImplementedError


class DecordReader(_LibraryReader):
    """Frames by decord. It cannot rotate (it returns noise), so rotated files are refused."""

    def __init__(self, path: str | Path, limits: MediaLimits | None = None) -> None:
        decord = _require("decord")
        super().__init__(path, limits)
        if self.info.rotation:
            raise MediaError(f"{path}: decord cannot read videos with rotation metadata: use reader: pyav")
        try:
            self._video = decord.VideoReader(str(path), num_threads=1)
        except decord.DECORDError as error:
            raise MediaError(f"{path}: decord cannot open it ({error}): use reader: pyav") from error
        if len(self._video) != self.info.num_frames:
            # Asking decord for a frame that is not there can hang it for good.
            counts = f"{len(self._video)} frames where the file holds {self.info.num_frames}"
            raise MediaError(f"{path}: decord counts {counts}: use reader: pyav")
        self._starts = self._video.get_frame_timestamp(np.arange(len(self._video)))[:, 0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._video  # it decodes ahead for as long as it lives

    def _read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        # decord has no clock tick to offer: half a millisecond or half the shortest frame stands in.
        slack = min(5e-4, float(np.diff(self._starts).min(initial=1e-3)) / 2)
        wanted = np.asarray(times) + self._starts[0] + slack
        indices = np.searchsorted(self._starts, wanted, side="right") - 1
        return torch.from_numpy(self._video.get_batch(indices.clip(0)).asnumpy())


class TorchcodecReader(_LibraryReader):
    """Frames by torchcodec, which needs FFmpeg's shared libraries on the system."""

    def __init__(self, path: str | Path, limits: MediaLimits | None = None) -> None:
        decoders = _require("torchcodec.decoders")
        super().__init__(path, limits)
        try:
            self._decoder = decoders.VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, device="cpu")
        except RuntimeError as error:
            if "libtorchcodec" in str(error):
                raise ValueError(
                    "torchcodec is installed but cannot load (no FFmpeg libraries, or a torch it was not built for): "
                    "install FFmpeg, or use reader: pyav"
                ) from error
            raise MediaError(f"{path}: torchcodec cannot open it ({error}): use reader: pyav") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._decoder

    def _read(self, times: Sequence[float]) -> UInt8[Tensor, "F H W 3"]:
        facts = self._decoder.metadata
        first, last = facts.begin_stream_seconds, facts.end_stream_seconds
        wanted = [min(first + time + 5e-4, last - 1e-6) for time in times]
        try:
            return self._decoder.get_frames_played_at(wanted).data
        except RuntimeError as error:
            raise MediaError(f"{self._path}: torchcodec cannot decode it ({error}): use reader: pyav") from error


def open_reader(path: str | Path, kind: ReaderKind = "pyav", limits: MediaLimits | None = None) -> FrameReader:
    """Open a video with the named reader, or an image as a clip of one frame.

    Raises:
        MediaError: the file is missing, broken, beyond the limits, or has no video in it.
        ValueError: the reader's package is not installed.
    """
    path, limits = Path(path), limits or MediaLimits()
    if not path.is_file():
        raise MediaError(f"{path}: no such file: correct its path or the data root")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageReader(path, limits)
    classes: dict[str, Callable[[Path, MediaLimits], FrameReader]] = {
        "pyav": PyAVReader,
        "decord": DecordReader,
        "torchcodec": TorchcodecReader,
    }
    if kind not in classes:
        raise ValueError(f"unknown reader {kind!r}: use one of {sorted(classes)}")
    return classes[kind](path, limits)


def _require(module: str) -> Any:
    import importlib

    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise ValueError(
            f"reader {package!r} cannot be imported ({error}): pip install 'genworld[{package}]', or use reader: pyav"
        ) from error
