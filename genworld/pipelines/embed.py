"""Images, videos and texts as vectors for people: search a folder, name what clips show, judge an encoder."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from genworld.data.media import MediaError, MediaLimits
from genworld.data.readers import open_reader
from genworld.data.sources import scan
from genworld.data.synthetic import from_bytes
from genworld.eval.clip_score import PretrainedCLIP
from genworld.eval.retrieval import TEMPLATES, MeanOfFrames, VideoTextEncoder, class_features
from genworld.eval.retrieval_world import WorldProtocol, evaluate_on_world
from genworld.experiment import fingerprint
from genworld.models.alignment import DualEncoder, load_encoder, world_clip_folder
from genworld.models.alignment_text import words_of
from genworld.models.alignment_video import spread_frames
from genworld.pipelines.runs import open_run, pick_device
from genworld.tasks.align import Align
from genworld.types import Clip

logger = logging.getLogger(__name__)

Media = Clip | Tensor | Image.Image | str | Path

FEATURES_FILE, MANIFEST_FILE = "features.safetensors", "manifest.json"
_BATCH = 32


@dataclass(frozen=True)
class Classification:
    """What things were taken for.

    Attributes:
        classes: the choice.
        probabilities: softmax of the scaled cosines; as sure as training made the encoder, which is too sure.
    """

    classes: tuple[str, ...]
    probabilities: Float[Tensor, "n K"]

    @property
    def names(self) -> list[str]:
        """The likeliest class of each."""
        return [self.classes[i] for i in self.probabilities.argmax(dim=1).tolist()]


@dataclass(frozen=True)
class FolderEmbedding:
    """A folder's images and videos as vectors.

    Attributes:
        root: the folder.
        files: paths below it.
        texts: captions that lay beside the files; "" where there was none.
        features: unit vectors, in the order of the files.
        rejected: files that could not be used, and why.
        encoder: name of the encoder.
        fingerprint: hash of its weights.
    """

    root: Path
    files: tuple[str, ...]
    texts: tuple[str, ...]
    features: Float[Tensor, "n D"]
    rejected: Mapping[str, str]
    encoder: str
    fingerprint: str

    def save(self, folder: Path, more: Mapping[str, Any] | None = None) -> Path:
        """Write features.safetensors and manifest.json, with `more` in it; returns the manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"features": self.features.contiguous()}, folder / FEATURES_FILE)
        record = {
            "root": str(self.root.resolve()),
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "files": [{"path": path, "text": text} for path, text in zip(self.files, self.texts, strict=True)],
            "rejected": dict(self.rejected),
            **(more or {}),
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        return folder / MANIFEST_FILE

    @classmethod
    def load(cls, folder: Path) -> FolderEmbedding:
        """Read what `save` wrote.

        Raises:
            ValueError: the folder holds no embedding, or a damaged one.
        """
        if not (folder / MANIFEST_FILE).is_file() or not (folder / FEATURES_FILE).is_file():
            raise ValueError(
                f"{folder} holds no embedding: expected {MANIFEST_FILE} and {FEATURES_FILE}, which `tools/embed.py "
                "folder` writes"
            )
        record = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
        features = load_file(folder / FEATURES_FILE)["features"]
        files = record["files"]
        if len(files) != len(features):
            raise ValueError(f"{folder} is damaged: {len(files)} files but {len(features)} features; embed them again")
        paths, texts = (tuple(file[name] for file in files) for name in ("path", "text"))
        where = Path(record["root"])
        return cls(where, paths, texts, features, record["rejected"], record["encoder"], record["fingerprint"])


class Embedder:
    """An encoder with a front door: media of any kind in, unit vectors out.

    Example:
        >>> embedder = Embedder.default()  # doctest: +SKIP
        >>> found = embedder.search(embedder.folder("clips"), "a red ball rolls to the left")  # doctest: +SKIP
        >>> embedder.classify(["a.mp4"], ["red ball", "blue cube"]).names  # doctest: +SKIP

    Args:
        encoder: of images, videos and texts, in evaluation mode.
        name: for reports.
        scale: that makes cosines logits.
        max_frames: frames read of each video.
        domain: what the encoder was trained on, in words.
    """

    def __init__(
        self, encoder: VideoTextEncoder, name: str, scale: float = 100.0, max_frames: int = 8, domain: str = ""
    ) -> None:
        self.encoder, self.name, self.scale = encoder, name, scale
        self.max_frames, self.domain = max_frames, domain

    @classmethod
    def from_run(cls, run: str | Path, device: str | torch.device | None = None) -> Embedder:
        """The averaged weights of a run of `kind: align`.

        Args:
            run: the folder that `train.py` wrote.
            device: CUDA where there is one, by default.

        Raises:
            ValueError: the folder holds no finished checkpoint, or its task is another.
        """
        experiment, task = open_run(run, Align, "embedding needs 'align'", device)
        frames = task.config.encoder.video.max_frames
        return cls(
            task.encoder, experiment.name, task.loss.scale().item(), frames, f"what {experiment.name} trained on"
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device | None = None) -> Embedder:
        """A CLIP of OpenAI or open_clip in the layout of transformers; of a video, the mean over its frames.

        Raises:
            ValueError: the folder holds no complete CLIP.
        """
        clip = PretrainedCLIP(Path(folder)).to(pick_device(device))
        scale = clip.network.logit_scale.exp().item()
        return cls(MeanOfFrames(clip), Path(folder).name, scale, domain="pictures and captions of the web")

    @classmethod
    def default(cls, device: str | torch.device | None = None) -> Embedder:
        """The encoder that comes with genworld."""
        return cls.from_folder(world_clip_folder(), "world", device)

    @classmethod
    def from_folder(
        cls, folder: str | Path, name: str | None = None, device: str | torch.device | None = None
    ) -> Embedder:
        """An encoder of clips that `export.export_run` wrote.

        Raises:
            ValueError: the folder holds none, or a damaged one.
        """
        encoder, card = load_encoder(Path(folder))
        name = name or Path(folder).name
        return cls(encoder.to(pick_device(device)), name, card.scale, encoder.config.video.max_frames, card.domain)

    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n D"]:
        """Unit features of texts."""
        if not texts:
            raise ValueError("there are no texts to embed")
        return F.normalize(self.encoder.encode_texts(list(texts)).float(), dim=-1).cpu()

    def images(self, images: Sequence[Media]) -> Float[Tensor, "n D"]:
        """Unit features of images: tensors [3 H W] in [-1, 1], pictures or paths, of any sizes.

        Raises:
            ValueError: there are none, one cannot be read, or is a video.
        """
        clips = [self._load(image) for image in images]
        for image, clip in zip(images, clips, strict=True):
            if clip.shape[1] > 1:
                name = image if isinstance(image, str | Path) else "what was given"
                raise ValueError(f"expected images, but {name} has {clip.shape[1]} frames: use `videos`")
        return self._embed(clips)

    def videos(self, videos: Sequence[Media]) -> Float[Tensor, "n D"]:
        """Unit features of videos: clips, tensors [3 F H W] in [-1, 1] or paths, of any shapes. An image counts as one.

        Raises:
            ValueError: there are none, or one cannot be read.
        """
        return self._embed([self._load(video) for video in videos])

    def classify(
        self, media: Sequence[Media], classes: Sequence[str], templates: Sequence[str] = TEMPLATES
    ) -> Classification:
        """Zero-shot: which class each image or video shows, by the likeness to its name in all templates.

        Raises:
            ValueError: as `videos` and `class_features`; or a class has a word that the encoder never learned.
        """
        words = self.encoder.words if isinstance(self.encoder, DualEncoder) else None
        if words is not None:
            unknown = [name for name in classes if not words.issuperset(words_of(name))]
            if unknown:
                raise ValueError(
                    f"the captions that {self.name} learned from ({self.domain}) never say what these classes do: "
                    f"{', '.join(unknown)}; choose classes of its words, or use a CLIP (`from_pretrained`)"
                )
        names = class_features(self.encoder, classes, templates).float().cpu()
        return Classification(tuple(classes), (self.scale * self.videos(media) @ names.T).softmax(dim=1))

    def folder(self, path: str | Path, progress: bool = False) -> FolderEmbedding:
        """All images and videos of a folder, or of a list of them (see `read_manifest`).

        Files that cannot be used are left out, counted, logged, and listed in the result.

        Raises:
            ValueError: there are no images or videos, or none can be used.
        """
        path = Path(path)
        rows, rejected = scan(path)
        reasons = {item.row.name: item.reason for item in rejected}
        files, texts, features = [], [], []
        for row in tqdm(rows, desc="embedding", unit="file", disable=not progress):
            num_frames, _, _, fps = row.facts
            try:
                pixels = self._read(row.path, num_frames, fps, row.start)
            except (MediaError, OSError) as error:
                reasons[row.name] = str(error)
                continue
            files.append(row.name)
            texts.append(row.text)
            features.append(self._embed([pixels]))
        for name, reason in reasons.items():
            logger.warning("left out: %s: %s", name, reason)
        if not files:
            raise ValueError(f"{path}: none of its {len(reasons)} images and videos can be used")
        root = path if path.is_dir() else path.parent
        return FolderEmbedding(
            root, tuple(files), tuple(texts), torch.cat(features), reasons, self.name, self.fingerprint()
        )

    def evaluate(self, protocol: WorldProtocol | None = None) -> dict[str, float]:
        """Zero-shot accuracy and retrieval on held-out clips of the world; see `evaluate_on_world`."""
        return evaluate_on_world(self.encoder, protocol)

    def search(self, embedding: FolderEmbedding, text: str, top: int = 10) -> list[tuple[str, float]]:
        """The files that are most like a text, and their cosines, the best first.

        Raises:
            ValueError: the folder was embedded by another encoder.
        """
        if embedding.fingerprint != self.fingerprint():
            raise ValueError(
                f"{embedding.root} was embedded by another encoder ({embedding.encoder}) than {self.name}: their "
                "vectors have nothing in common; embed the folder again"
            )
        cosines = embedding.features @ self.texts([text])[0]
        best = cosines.argsort(descending=True, stable=True)[:top].tolist()
        return [(embedding.files[i], float(cosines[i])) for i in best]

    def fingerprint(self) -> str:
        """Hash of the encoder's weights."""
        network = self.encoder.encoder if isinstance(self.encoder, MeanOfFrames) else self.encoder
        if not isinstance(network, torch.nn.Module):
            raise ValueError(f"the encoder {self.name} has no weights to tell it by")
        return fingerprint(network)

    def read(self, path: Path) -> Float[Tensor, "3 F H W"]:
        """The frames of an image or video that are looked at.

        Raises:
            MediaError: the file cannot be read.
        """
        with open_reader(path, limits=MediaLimits()) as reader:
            info = reader.info
        return self._read(path, info.num_frames, info.fps)

    def _read(self, path: Path, num_frames: int, fps: float, start: float = 0.0) -> Float[Tensor, "3 F H W"]:
        times = [start + index / fps for index in spread_frames(num_frames, self.max_frames)]
        with open_reader(path, limits=MediaLimits()) as reader:
            return from_bytes(rearrange(reader.read(times), "f h w c -> c f h w"))

    def _load(self, media: Media) -> Float[Tensor, "3 F H W"]:
        if isinstance(media, str | Path):
            if not Path(media).is_file():
                raise ValueError(f"{media}: there is no such file")
            return self.read(Path(media))
        if isinstance(media, Image.Image):
            return from_bytes(rearrange(torch.from_numpy(np.array(media.convert("RGB"))), "h w c -> c 1 h w"))
        pixels = media.pixels if isinstance(media, Clip) else media
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels
        if pixels.ndim != 4 or pixels.shape[0] != 3 or 0 in pixels.shape or not pixels.is_floating_point():
            raise ValueError(
                f"expected floating-point pixels [3 F H W] or [3 H W] in [-1, 1], got {pixels.dtype} "
                f"{list(pixels.shape)}"
            )
        return pixels

    def _embed(self, clips: Sequence[Float[Tensor, "3 F H W"]]) -> Float[Tensor, "n D"]:
        """Unit features; clips of equal shape are encoded together, a few at a time."""
        if not clips:
            raise ValueError("there are no images or videos to embed")
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        for index, clip in enumerate(clips):
            groups[clip.shape].append(index)
        found: dict[int, Tensor] = {}
        for group in groups.values():
            for first in range(0, len(group), _BATCH):
                part = group[first : first + _BATCH]
                features = self.encoder.encode_videos(torch.stack([clips[i] for i in part]))
                found |= dict(zip(part, F.normalize(features.float(), dim=-1).cpu(), strict=True))
        return torch.stack([found[i] for i in range(len(clips))])
