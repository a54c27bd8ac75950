"""What `sample.py` does: from what a person asked for to video files, with a record beside each."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from genworld.config import encode
from genworld.data.writer import VideoWriter
from genworld.eval.drift import Drift, DriftMeter
from genworld.pipelines.camera import parse_camera
from genworld.pipelines.command import provenance
from genworld.pipelines.keep import Keep, load_media, read_media, resolve
from genworld.pipelines.storyboard import read_storyboard
from genworld.pipelines.stream import Shot, stream
from genworld.pipelines.verbs import connect, edit, extend, inpaint, loop, outpaint
from genworld.pipelines.video import VideoGenerator
from genworld.pipelines.wish import Wish, read_duration, read_mask
from genworld.tasks.text_to_video import Request
from genworld.train.checkpoint import latest_checkpoint
from genworld.types import CameraPath, Clip, ClipShape

logger = logging.getLogger(__name__)

Chunks = Iterable[Float[Tensor, "3 n H W"]]
BATCH = 8
"""Videos sampled together, if not told otherwise."""
DEFAULT_STRENGTH = 0.6
"""Of a clip that is edited."""


class Order(NamedTuple):
    """One of the videos of a wish."""

    prompt: str
    seed: int


class Made(NamedTuple):
    """A file that was written; its drift, where its end should look like its beginning."""

    path: Path
    drift: Drift | None


@dataclass(frozen=True)
class Plan:
    """How the videos of a wish are made.

    Attributes:
        shape: of each file.
        make: from orders to videos, each an iterable of chunks of frames, in order.
        streams: whether frames come window by window, so that there is progress to show.
        drifts: whether the end should look like the beginning, so that it is worth comparing them.
        notes: for the record.
    """

    shape: ClipShape
    make: Callable[[Sequence[Order]], Iterable[Chunks]]
    streams: bool = False
    drifts: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


def fulfil(wish: Wish) -> Iterator[Made]:
    """Make all that is asked for, file by file; each has a .json beside it with all that is needed to make it again.

    Raises:
        ValueError: a file cannot be used, or something cannot be honoured.
    """
    prompts = wish.read_prompts()
    generator = VideoGenerator.from_run(wish.run)
    plan = PLANS[wish.task](generator, wish)
    suffix = wish.format or ("png" if plan.shape.num_frames == 1 else "mp4")
    if suffix == "png" and plan.shape.num_frames > 1:
        raise ValueError(f"--format png holds one frame, not {plan.shape.num_frames}: use --frames 1, or mp4 or gif")
    orders = [Order(prompt, wish.seed + i) for prompt in prompts for i in range(wish.num)]
    record = _record(wish, plan, generator)
    logger.info("%d video(s) of %s from %s", len(orders), plan.shape, wish.run)
    for i, (order, chunks) in enumerate(zip(orders, plan.make(orders), strict=True)):
        slug = re.sub(r"[^a-z0-9]+", "-", order.prompt.lower()).strip("-")[:60]
        path = wish.out / f"{i:03d}-{slug}-seed{order.seed}.{suffix}"
        drift = _write(path, plan, chunks)
        own = order._asdict() | ({} if drift is None else {"drift": asdict(drift)})
        path.with_suffix(".json").write_text(json.dumps(own | record, indent=2) + "\n")
        yield Made(path, drift)


def _write(path: Path, plan: Plan, chunks: Chunks) -> Drift | None:
    """Write a video while it is made."""
    meter = DriftMeter(plan.shape.fps)
    with (
        VideoWriter(path, plan.shape.fps) as writer,
        tqdm(total=plan.shape.num_frames, disable=not plan.streams, desc="streaming", unit="frame") as bar,
    ):
        for chunk in chunks:
            writer.append(chunk)
            meter.update(chunk)
            bar.update(chunk.shape[1])
    return meter.compute() if plan.drifts else None


def _record(wish: Wish, plan: Plan, generator: VideoGenerator) -> dict[str, Any]:
    """What the records of all videos have in common."""
    sampler, guidance = generator.settings(wish.steps, wish.guidance)
    windows = {name: getattr(wish, name) for name in ("window", "history", "given_level", "stagger")}
    return {
        "negative": wish.negative,
        "task": wish.task,
        "options": {name: encode(getattr(wish, name)) for name in wish.said} | {k: v for k, v in windows.items() if v},
        "given": [{"file": str(path), "sha256": _sha256(path)} for path in wish.files],
        "shape": plan.shape._asdict(),
        **plan.notes,
        "sampler": asdict(sampler),
        "guidance": asdict(guidance),
        "run": str(wish.run.resolve()),
        "checkpoint": latest_checkpoint(wish.run).name,
        **provenance(),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- plans, one for each task ----


def _plan_make(generator: VideoGenerator, wish: Wish) -> Plan:
    """A video from its prompt, and perhaps its first and last frame; one longer than a window is made in several."""
    shape = _shape(generator, wish, generator.trained.num_frames)
    camera = _camera(wish, shape)
    first, last = (None if path is None else _image(path, shape.fps) for path in (wish.image, wish.last))
    keeps = ([Keep(first)] if first else []) + ([Keep(last, at="end")] if last else [])
    given, new = resolve(keeps, shape), shape.num_frames - len(keeps)
    if new < 1:
        raise ValueError(f"{shape.num_frames} frame(s) leave nothing to be made beside the given ones: ask for more")
    if shape.num_frames <= (wish.window or generator.trained.num_frames):
        return _in_batches(generator, wish, Request("", shape, given=given, camera=camera))
    if last is None:
        path = None if camera is None else camera.at(slice(len(keeps), None))
        return _streamed(generator, wish, shape, lambda prompt: [Shot(prompt, new, camera=path)], first)
    if camera is not None:
        raise ValueError("--camera cannot lead up to --last in a video longer than a window: leave one of them out")
    if first is None:
        return _by_verb(wish, shape, lambda text, **how: extend(generator, text, last, new, backward=True, **how))
    return _by_verb(wish, shape, lambda text, **how: connect(generator, text, first, last, new, **how))


def _plan_extend(generator: VideoGenerator, wish: Wish) -> Plan:
    clip = _clip(wish.extend)
    new = read_duration("by", wish.by or "", clip.fps)
    shape = clip.shape._replace(num_frames=clip.shape.num_frames + new)
    camera = _camera(wish, shape._replace(num_frames=new))
    if wish.backward:
        return _by_verb(wish, shape, lambda text, **how: extend(generator, text, clip, new, backward=True, **how))
    return _streamed(generator, wish, shape, lambda prompt: [Shot(prompt, new, camera=camera)], clip)


def _plan_connect(generator: VideoGenerator, wish: Wish) -> Plan:
    one, other = wish.connect or (None, None)
    a = _clip(one)
    b = _clip(other, a.fps)
    new = read_duration("gap", wish.gap or "", a.fps)
    shape = a.shape._replace(num_frames=a.shape.num_frames + new + b.shape.num_frames)
    return _by_verb(wish, shape, lambda text, **how: connect(generator, text, a, b, new, **how))


def _plan_loop(generator: VideoGenerator, wish: Wish) -> Plan:
    shape = _shape(generator, wish, max(generator.trained.num_frames - 1, 1))
    size, fps = (shape.height, shape.width), shape.fps
    logger.info("the loop is written without its closing frame, which is its first one again")

    def open_loop(prompt: str, **how: Any) -> Clip:
        closed = loop(generator, prompt, shape.num_frames + 1, size=size, fps=fps, **how)
        return replace(closed, pixels=closed.pixels[:, :-1])

    return _by_verb(wish, shape, open_loop)


def _plan_edit(generator: VideoGenerator, wish: Wish) -> Plan:
    clip, strength = _clip(wish.edit), DEFAULT_STRENGTH if wish.strength is None else wish.strength
    camera = _camera(wish, clip.shape)
    plan = _by_verb(wish, clip.shape, lambda text, **how: edit(generator, text, clip, strength, camera=camera, **how))
    return replace(plan, notes={"strength": strength})


def _plan_inpaint(generator: VideoGenerator, wish: Wish) -> Plan:
    clip, mask = _clip(wish.inpaint), read_mask(wish.mask or "")
    camera = _camera(wish, clip.shape)
    return _by_verb(wish, clip.shape, lambda text, **how: inpaint(generator, text, clip, mask, camera=camera, **how))


def _plan_outpaint(generator: VideoGenerator, wish: Wish) -> Plan:
    clip, size = _clip(wish.outpaint), wish.size
    assert size is not None
    shape = clip.shape._replace(height=size[0], width=size[1])
    camera = _camera(wish, shape)
    return _by_verb(wish, shape, lambda text, **how: outpaint(generator, text, clip, size, camera=camera, **how))


def _plan_storyboard(generator: VideoGenerator, wish: Wish) -> Plan:
    assert wish.storyboard is not None
    story = read_storyboard(wish.storyboard)
    shape = generator.shape(None, wish.size, wish.fps)
    shots = [each.at(shape) for each in story]
    shape = shape._replace(num_frames=sum(shot.frames for shot in shots))
    plan = _streamed(generator, wish, shape, lambda _: shots)
    return replace(plan, drifts=False, notes={"shots": encode(story)})


PLANS: dict[str, Callable[[VideoGenerator, Wish], Plan]] = {
    "make": _plan_make,
    "extend": _plan_extend,
    "connect": _plan_connect,
    "loop": _plan_loop,
    "edit": _plan_edit,
    "inpaint": _plan_inpaint,
    "outpaint": _plan_outpaint,
    "storyboard": _plan_storyboard,
}


# ---- three ways to make videos ----


def _in_batches(generator: VideoGenerator, wish: Wish, request: Request) -> Plan:
    """Each video in one piece, several together."""
    settings, batch = generator.settings(wish.steps, wish.guidance), wish.batch or BATCH
    request = replace(request, negative=wish.negative, stagger=wish.stagger, given_level=wish.given_level)

    def make(orders: Sequence[Order]) -> Iterator[Chunks]:
        for start in range(0, len(orders), batch):
            part = [replace(request, prompt=prompt, seed=seed) for prompt, seed in orders[start : start + batch]]
            yield from ([clip.pixels] for clip in generator.sample(part, settings, progress=True))

    return Plan(request.shape, make)


def _streamed(
    generator: VideoGenerator,
    wish: Wish,
    shape: ClipShape,
    shots: Callable[[str], Sequence[Shot]],
    before: Clip | None = None,
) -> Plan:
    """One after the other, each window by window, behind the clip that it continues."""
    size = (shape.height, shape.width)

    def make(orders: Sequence[Order]) -> Iterator[Chunks]:
        for prompt, seed in orders:
            chunks = stream(generator, shots(prompt), before=before, size=size, fps=shape.fps, **wish.options(seed))
            yield chunks if before is None else chain([before.pixels], chunks)

    return Plan(shape, make, streams=True, drifts=True)


def _by_verb(wish: Wish, shape: ClipShape, verb: Callable[..., Clip]) -> Plan:
    """One after the other by a verb, which is called with the prompt and with options."""

    def make(orders: Sequence[Order]) -> Iterator[Chunks]:
        for prompt, seed in orders:
            yield [verb(prompt, **wish.options(seed, progress=True)).pixels]

    return Plan(shape, make)


# ---- what is given ----


def _shape(generator: VideoGenerator, wish: Wish, frames: int) -> ClipShape:
    """The shape asked for; the size of a given image, and else as in training, with `frames` frames."""
    fps = generator.trained.fps if wish.fps is None else wish.fps
    size = wish.size
    if size is None and (given := wish.image or wish.last):
        image = read_media(given).shape
        size = (image.height, image.width)
    if wish.seconds is not None:
        frames = read_duration("seconds", f"{wish.seconds:f}s", fps)
    return generator.shape(frames if wish.frames is None else wish.frames, size, fps)


def _camera(wish: Wish, shape: ClipShape) -> CameraPath | None:
    return None if wish.camera is None else parse_camera(wish.camera, shape)


def _clip(path: Path | None, fps: float | None = None) -> Clip:
    """A clip at its own rate, which must be `fps` if that is said."""
    assert path is not None
    clip = read_media(path) if fps is None else load_media(path, fps)
    if clip.shape.num_frames == 1:
        raise ValueError(f"{path} is an image: this needs a clip; --image makes a video from an image")
    return clip


def _image(path: Path, fps: float) -> Clip:
    """An image as a clip of one frame."""
    clip = read_media(path)
    if clip.shape.num_frames > 1:
        raise ValueError(f"{path} has {clip.shape.num_frames} frames: --image and --last take images; see --extend")
    return replace(clip, fps=fps)
