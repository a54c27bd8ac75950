"""Videos that lie in folders, measured without any run: those that were made, and real ones to compare them with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from genworld.data.reading import BadClips, CountingSource, readable
from genworld.data.sources import ManifestSource
from genworld.data.video import effective_fps
from genworld.pipelines.catalogue import Builder, Options, choose, device_of
from genworld.pipelines.entries import MADE, REAL, Batch
from genworld.pipelines.evaluation import Evaluation, shared_record
from genworld.pipelines.tally import GIVEN, Tally, clips_record, gather, need_videos
from genworld.train.runtime import find_world
from genworld.types import ClipInfo, ClipShape, Pick

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """Videos of a folder that will be used, at one shape."""

    source: ManifestSource
    picks: Sequence[Pick]
    skipped: dict[str, str]

    @property
    def texts(self) -> list[str]:
        """Their captions."""
        return [self.source.info(pick.index).text for pick in self.picks]


def evaluate_videos(
    folder: Path, options: Options, captions: Path | None = None, real_folder: Path | None = None
) -> Evaluation:
    """Measure videos that lie in a folder.

    Args:
        folder: of the videos; a .txt beside each is its caption.
        options: what to measure.
        captions: table of captions, with the columns path and text; paths start in `folder`.
        real_folder: real videos to compare with.

    Raises:
        ValueError: there is nothing to measure, the videos are not of one size, length and rate and none was named, or
            a metric lacks what it needs.
    """
    world = find_world()
    made = open_folder(folder, captions)
    real = None if real_folder is None else open_folder(real_folder, None)
    shape = shape_of(
        [made] if real is None else [made, real], [folder, *([real_folder] if real_folder else [])], options
    )
    sides = {MADE: take(made, folder, shape, options.num)}
    if real is not None and real_folder is not None:
        sides[REAL] = take(real, real_folder, shape, options.num)
    num = min(len(side.picks) for side in sides.values())
    names = choose(options, "videos", options.of_world, real is not None, all(sides[MADE].texts))
    measures, left_out = Builder(options, shape, num, options.of_world).build(names)
    device_of(measures, world.device)
    tally = Tally(world, measures)
    for side, each in sides.items():
        tally.skipped |= each.skipped if world.rank == 0 else {}
        _walk(tally, side, each, options.batch)
    entries, tables = tally.results()
    everyone = tally.everyone()
    record: dict[str, Any] = {
        "subject": {"videos": str(folder), "real": None if real_folder is None else str(real_folder)},
        "clips": {"kind": "given", "shape": str(shape), **clips_record(everyone.seen.get(MADE, []))},
        "settings": {"of_world": options.of_world},
        **shared_record(everyone, entries, tables, left_out),
    }
    if real is not None:
        record["real_clips"] = clips_record(everyone.seen.get(REAL, []))
    given, others = ([each for each in everyone.shown if name in each.columns] for name in (GIVEN, REAL))
    videos = [dict(each.columns) for each in given]
    if len(others) >= len(given):  # side by side, though they are not of each other
        videos = [row | dict(other.columns) for row, other in zip(videos, others, strict=False)]
    return Evaluation(record, videos, [each.text for each in given], is_main=world.rank == 0)


def open_folder(folder: Path, captions: Path | None) -> ManifestSource:
    """The videos of a folder, or of a table of captions whose paths start in it.

    Raises:
        ValueError: there are none, or none can be used.
    """
    if not folder.exists():
        raise ValueError(f"{folder}: no such folder of videos")
    return ManifestSource(folder) if captions is None else ManifestSource(captions, folder)


def shape_of(sources: Sequence[ManifestSource], folders: Sequence[Path], options: Options) -> ClipShape:
    """The one shape that all videos are brought to: what is asked for, else what they have in common.

    Raises:
        ValueError: they differ in what is not asked for.
    """
    infos = [source.info(i) for source in sources for i in range(len(source))]
    where = " and ".join(map(str, folders))
    sizes = {(info.height, info.width) for info in infos}
    height, width = options.size or _one(sizes, where, "sizes", "--size HEIGHTxWIDTH")
    fps = options.fps or _one({info.fps for info in infos}, where, "frame rates", "--fps RATE")
    frames = options.frames or _one({info.num_frames for info in infos}, where, "numbers of frames", "--frames N")
    return ClipShape(frames, height, width, fps)


def take(source: ManifestSource, folder: Path, shape: ClipShape, num: int | None) -> Folder:
    """Which videos can serve a shape; those that are too short or too slow are left out, with the reason.

    Raises:
        ValueError: none can.
    """
    skipped = {item.row.name: item.reason for item in source.rejected}
    picks: list[Pick] = []
    for i in range(len(source)):
        info = source.info(i)
        if reason := _unfit(info, shape):
            skipped[info.name] = reason
        elif num is None or len(picks) < num:
            picks.append(Pick(i, i, shape, 0.0))
    need_videos(len(picks), f"the {len(source) + len(source.rejected)} videos in {folder}", skipped)
    for name, reason in skipped.items():
        logger.warning("skipped %s: %s", name, reason)
    return Folder(source, picks, skipped)


def _unfit(info: ClipInfo, shape: ClipShape) -> str:
    if shape.num_frames == 1:
        return ""
    if effective_fps(info.fps, shape.fps) < shape.fps * 0.999:
        return f"has {info.fps:g} frames a second, fewer than the {shape.fps:g} asked for: some would be shown twice"
    needed = (shape.num_frames - 1) / shape.fps
    if info.num_frames < shape.num_frames or info.seconds - 1 / info.fps < needed - 0.5 / info.fps:
        return f"is too short: {info.num_frames} frames at {info.fps:g} a second cannot make {shape}"
    return ""


def _one(values: set[Any], where: str, what: str, flag: str) -> Any:
    if len(values) == 1:
        return values.pop()
    shown = ", ".join("x".join(map(str, v)) if isinstance(v, tuple) else f"{v:g}" for v in sorted(values)[:4])
    raise ValueError(f"{where}: videos of different {what} ({shown}{', …' if len(values) > 4 else ''}): give {flag}")


def _walk(tally: Tally, side: str, folder: Folder, batch: int) -> None:
    counting = CountingSource(folder.source, BadClips(folder.source, max_fraction=1.0))
    texts, num = dict(zip((pick.position for pick in folder.picks), folder.texts, strict=True)), len(folder.picks)
    places = {pick.position: i for i, pick in enumerate(folder.picks)}
    mine = tally.mine(folder.picks)
    for first in tqdm(range(0, len(mine), batch), desc=side, unit="batch", disable=tally.world.rank > 0):
        with tally.clock("reading"):
            samples = list(readable(counting, mine[first : first + batch]))
        if not samples:
            continue
        positions = [sample.position for sample in samples]
        pixels = torch.stack([sample.need_pixels() for sample in samples]).to(tally.world.device)
        others = None
        if num > 1 and all(texts.values()):
            others = [folder.texts[(places[position] + num // 2) % num] for position in positions]
        fields: dict[str, Any] = {side: pixels}
        made = Batch(positions, [texts[p] for p in positions], samples[0].shape.fps, others, **fields)
        tally.add(made, [folder.source.info(p).name for p in positions], side)
    tally.skipped |= {folder.source.info(i).name: reason for i, reason in counting.bad.found.items()}
    need_videos(sum(gather(len(tally.seen.get(side, [])))), f"the {num} {side} videos", tally.skipped)
