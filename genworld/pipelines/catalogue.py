"""Which metrics there are, what each needs and costs, which apply to what, and how they are built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from genworld.eval.clip_score import PretrainedCLIP
from genworld.eval.frechet import FrechetDistance
from genworld.eval.fvd import FVD, I3D, FVDProtocol, JEDi
from genworld.eval.perceptual import PerceptualDistance
from genworld.eval.reconstruction import ReconstructionFrechet
from genworld.pipelines.entries import Measure
from genworld.pipelines.measures import ClipMeasure, DistanceMeasure, FVDMeasure, ReconstructionMeasure
from genworld.pipelines.measures_prompt import PromptMeasure
from genworld.types import ClipShape

logger = logging.getLogger(__name__)

FOREIGN = "OUT OF DOMAIN"
"""How a warning begins that an encoder knows nothing of the clips."""
LEAST = 4  # videos that a distance can be computed from
_T2V, _VAE, _VIDEOS = "text_to_video", "autoencode", "videos"


@dataclass(frozen=True)
class Metric:
    """A line of the list that `--help` shows.

    Attributes:
        what: it measures.
        needs: beside a run or videos.
        cost: in words.
        subjects: what it can be asked of.
        default: whether it is computed unless others are named; "world": where the clips are of the world.
    """

    what: str
    needs: str
    cost: str
    subjects: tuple[str, ...]
    default: bool | str = False


CATALOGUE: dict[str, Metric] = {
    "reconstruction": Metric(
        "what the VAE gives back: PSNR, SSIM, LPIPS, first against later frames, latent statistics",
        "--lpips FILE for LPIPS",
        "the VAE once",
        (_T2V, _VAE),
        True,
    ),
    "rfd": Metric(
        "Fréchet distance of clips and reconstructions: rfd[ENCODER], with --i3d rfvd",
        "4 clips",
        "the VAE and the encoder once",
        (_T2V, _VAE),
    ),
    "flow_loss": Metric("held-out loss by shape and time bin", "nothing", "5 forward passes a clip", (_T2V,), True),
    "clip_score": Metric(
        "likeness of frames and prompts (clip_score, clipsim), and of neighbouring frames (frame_consistency)",
        "captions",
        "sampling, the encoder once a frame",
        (_T2V, _VIDEOS),
        True,
    ),
    "frame_consistency": Metric(
        "likeness of neighbouring frames alone", "nothing", "the encoder once a frame", (_T2V, _VIDEOS)
    ),
    "fd": Metric(
        "Fréchet distance of real and made videos in the encoder's features, real from real beside it",
        "4 clips, --real with --videos",
        "sampling, the encoder once a video",
        (_T2V, _VIDEOS),
        True,
    ),
    "jedi": Metric("the kernel distance of JEDi in the encoder's features", "as fd", "as fd", (_T2V, _VIDEOS)),
    "fvd": Metric(
        "Fréchet video distance; by protocol as fvd2048_16f, else named after what there is",
        "--i3d FILE, 10 frames; as fd",
        "sampling, I3D once a video",
        (_T2V, _VIDEOS),
    ),
    "prompt": Metric(
        "whether the one object has the colour, shape and motion of its prompt",
        "clips of the world",
        "sampling, tracking on the CPU",
        (_T2V,),
        "world",
    ),
    "world_benchmark": Metric(
        "six abilities on prompts fixed by a hash (--suite single or full)",
        "a run on the world",
        "sampling --num more videos, on one process",
        (_T2V,),
        "world",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user asks for; see tools/evaluate.py.

    Attributes:
        metrics: names; () for the defaults.
        num: videos; None for 100 of a run and all that are given.
        seed: of the first video, of times and noise.
        batch: videos at a time.
        size: height and width.
        frames: of each video.
        fps: of each video.
        i3d: TorchScript file of I3D.
        clip: folder of a CLIP, instead of the encoder that comes with genworld.
        lpips: backbone and its file.
        suite: of the world benchmark.
        steps: of sampling; the run's own by default.
        guidance: the run's own by default.
        of_world: whether given videos are of the world, as the encoder that comes with genworld knows it.
    """

    metrics: tuple[str, ...] = ()
    num: int | None = None
    seed: int = 0
    batch: int = 8
    size: tuple[int, int] | None = None
    frames: int | None = None
    fps: float | None = None
    i3d: Path | None = None
    clip: Path | None = None
    lpips: tuple[str, Path] | None = None
    suite: str = "single"
    steps: int | None = None
    guidance: float | None = None
    of_world: bool = False

    def __post_init__(self) -> None:
        if (self.num is not None and self.num < 1) or self.batch < 1:
            raise ValueError(f"--num and --batch must be at least 1, got {self.num} and {self.batch}")


def choose(options: Options, subject: str, on_world: bool, has_real: bool = True, has_text: bool = True) -> list[str]:
    """The names of the metrics to compute.

    Raises:
        ValueError: one is unknown, does not apply, or lacks what it needs.
    """
    if not options.metrics:
        chosen = [
            name
            for name, each in CATALOGUE.items()
            if subject in each.subjects and (each.default is True or (each.default == "world" and on_world))
        ]
        if not has_text:
            chosen = ["frame_consistency" if name == "clip_score" else name for name in chosen]
        return [name for name in chosen if has_real or name != "fd"]
    for name in options.metrics:
        _check_metric(name, options, subject, on_world)
        if kind_of(name) in ("fd", "fvd", "jedi") and not has_real:
            raise ValueError(f"{name} compares with real videos: name their folder by --real")
        if name == "clip_score" and not has_text:
            raise ValueError(
                "clip_score needs a caption for every video: give --captions FILE (path,text) or a .txt beside "
                "each; or ask for frame_consistency"
            )
    return list(dict.fromkeys(options.metrics))


def kind_of(name: str) -> str:
    """`fvd` for `fvd2048_16f`, else the name."""
    return "fvd" if name.startswith("fvd") and name != "fvd" else name


def _check_metric(name: str, options: Options, subject: str, on_world: bool) -> None:
    kind = kind_of(name)
    if kind not in CATALOGUE:
        raise ValueError(f"unknown metric {name!r}: choose from {', '.join(CATALOGUE)}, or fvd2048_16f and its like")
    if subject not in CATALOGUE[kind].subjects:
        fits = ", ".join(each for each, metric in CATALOGUE.items() if subject in metric.subjects)
        what = {_T2V: "a text-to-video run", _VAE: "an autoencoder's run", _VIDEOS: "videos without a run"}[subject]
        raise ValueError(f"{name} does not apply to {what}: there are {fits}")
    if kind == "fvd" and options.i3d is None:
        raise ValueError(f"{name} needs --i3d FILE, the i3d_torchscript.pt of StyleGAN-V; or use fd[world] by fd")
    if CATALOGUE[kind].default == "world" and not on_world:
        raise ValueError(f"{name} reads videos of the world only, and this run's clips are of another kind")


# ---- encoders ----


class VideoFeatures(nn.Module):
    """One feature vector for each video: of an encoder of videos, or the mean over frames of one of images."""

    def __init__(self, encoder: Any, width: int) -> None:
        super().__init__()
        self.encoder, self.num_features = encoder, width
        self.eval()

    def forward(self, pixels: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B D"]:
        """Features of videos in [-1, 1]."""
        if hasattr(self.encoder, "encode_videos"):
            return self.encoder.encode_videos(pixels)
        each = self.encoder.encode_images(rearrange(pixels, "b c f h w -> (b f) c h w"))
        return reduce(each, "(b f) d -> b d", "mean", b=len(pixels))


@dataclass(frozen=True)
class Encoder:
    """An encoder of images, videos and texts, under the name that results have of it."""

    network: Any
    name: str
    width: int
    domain: str = ""

    @property
    def features(self) -> VideoFeatures:
        """Of whole videos."""
        return VideoFeatures(self.network, self.width)

    @property
    def words(self) -> str:
        """How it makes one vector of a video."""
        whole = hasattr(self.network, "encode_videos")
        return f"features of {self.name}, {self.width} of each video" + ("" if whole else ", the mean over its frames")

    def warnings(self, on_world: bool) -> list[str]:
        """Why its numbers may mean little."""
        if not self.domain or on_world:
            return []
        return [
            f"{FOREIGN}: the encoder {self.name!r} has only ever seen {self.domain}. These clips are not that: its "
            "numbers say little about them and are not to be compared with those of other encoders"
        ]


def open_encoder(folder: Path | None) -> Encoder:
    """The CLIP in a folder, of transformers or of genworld; the one that comes with genworld where none is named."""
    from genworld.models.alignment import load_encoder, world_clip_folder

    if folder is not None and (folder / "preprocessor_config.json").is_file():
        network = PretrainedCLIP(folder)
        return Encoder(network, folder.name, int(network.network.config.projection_dim))
    if folder is not None and not (folder / "words.txt").is_file():
        PretrainedCLIP(folder)  # says what is wrong with it
    encoder, card = load_encoder(folder or world_clip_folder())
    return Encoder(encoder, folder.name if folder else "world", encoder.width, card.domain)


# ---- from names to measures ----


@dataclass
class Builder:
    """Builds measures for clips of one shape; opens an encoder or I3D when the first asks for it, before any work."""

    options: Options
    shape: ClipShape
    num: int
    on_world: bool
    num_channels: int = 0
    _encoder: Encoder | None = None
    _i3d: I3D | None = None

    def build(self, names: Sequence[str]) -> tuple[list[Measure], dict[str, str]]:
        """The measures, and why some of the defaults are left out.

        Raises:
            ValueError: something that is asked for cannot be computed.
        """
        measures: list[Measure] = []
        left_out: dict[str, str] = {}
        for name in names:
            if kind_of(name) in ("fd", "fvd", "jedi", "rfd") and self.num < LEAST:
                if self.options.metrics:
                    raise ValueError(f"{name} needs at least {LEAST} videos of each kind, got {self.num}")
                left_out[name] = f"needs at least {LEAST} videos of each kind, got {self.num}"
            else:
                measures += self._of(name)
        return measures, left_out

    @property
    def encoder(self) -> Encoder:
        """Of frames, videos and texts."""
        if self._encoder is None:
            self._encoder = open_encoder(self.options.clip)
        return self._encoder

    @property
    def i3d(self) -> I3D:
        """The network of FVD."""
        if self._i3d is None:
            assert self.options.i3d is not None
            self._i3d = I3D(self.options.i3d)
        return self._i3d

    def _of(self, name: str) -> list[Measure]:
        kind = kind_of(name)
        if kind == "reconstruction":
            return [self._reconstruction()]
        if kind == "prompt":
            from genworld.eval.shape_recogniser import packaged_recogniser

            return [PromptMeasure(packaged_recogniser())]
        if kind in ("clip_score", "frame_consistency"):
            warnings = self.encoder.warnings(self.on_world)
            return [ClipMeasure(self.encoder.network, self.encoder.name, warnings, kind == "clip_score")]
        if kind == "fvd":
            return [self._fvd(name)]
        if kind in ("fd", "jedi", "rfd"):
            return self._distances(kind)
        return []

    def _reconstruction(self) -> ReconstructionMeasure:
        if self.options.lpips is None:
            return ReconstructionMeasure(self.num_channels)
        backbone, path = self.options.lpips
        return ReconstructionMeasure(self.num_channels, PerceptualDistance(path, backbone), backbone)  # type: ignore[arg-type]

    def _distances(self, kind: str) -> list[Measure]:
        encoder = self.encoder
        known = (encoder.features, encoder.width, encoder.name)
        warnings = encoder.warnings(self.on_world)
        words = f"Fréchet distance, {encoder.words}"
        if kind == "fd":
            return [DistanceMeasure(FrechetDistance(*known), words, warnings=warnings)]
        if kind == "jedi":
            words = f"100 x squared MMD of the kernel (x . y / D)^2, pairs of equals included, {encoder.words}"
            return [DistanceMeasure(JEDi(*known), words, warnings=warnings)]
        found: list[Measure] = [DistanceMeasure(ReconstructionFrechet(*known), words, "again", warnings)]
        if self.options.i3d is not None:
            metric = ReconstructionFrechet(self.i3d, self.i3d.num_features, f"i3d_{self.i3d.sha256[:8]}")
            found.append(DistanceMeasure(metric, "Fréchet distance, I3D logits of whole clips", "again"))
        return found

    def _fvd(self, name: str) -> FVDMeasure:
        exact = name != "fvd"
        frames = min(self.shape.num_frames, 16)
        metric = FVD(name if exact else f"fvd{self.num}_{frames}f", self.i3d)
        protocol: FVDProtocol = metric.protocol
        if protocol.num_frames < 10 or protocol.num_frames * protocol.stride > self.shape.num_frames:
            raise ValueError(
                f"{metric.title} takes {protocol.num_frames * protocol.stride} frames of each video, and I3D at least "
                f"10, but these have {self.shape.num_frames}: give longer ones (--frames)"
            )
        if exact and protocol.num_videos != self.num:
            raise ValueError(f"{name} is of {protocol.num_videos} videos, got {self.num}: set --num or name another")
        return FVDMeasure(metric, exact, self.options.seed)


def device_of(measures: Sequence[Measure], device: torch.device) -> None:
    """Move what they are made of."""
    for measure in measures:
        for metric in measure.metrics():
            metric.to(device)


def describe() -> str:
    """The list of metrics for `--help`."""
    lines = []
    subjects = {_T2V: "text-to-video runs", _VAE: "autoencoders", _VIDEOS: "videos"}
    for name, each in CATALOGUE.items():
        mark = "*" if each.default else " "
        applies = ", ".join(subjects[subject] for subject in each.subjects)
        lines += [f"  {mark} {name:<18} {each.what}", f"{'':23}needs {each.needs}; costs {each.cost}; for {applies}"]
    return "\n".join(lines) + "\n\n* computed unless others are named, as far as they apply and have what they need.\n"
