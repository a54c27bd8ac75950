"""Latents and text features ahead of training, so that no step pays for the VAE or a large text encoder."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from genworld.config import encode
from genworld.data.loader import build_source, clip_infos
from genworld.data.packing import PackOrder
from genworld.data.reading import BadClips, PackReader
from genworld.data.shards import ShardWriter, precompute_picks
from genworld.experiment import Experiment, build_task, clip_data, fingerprint
from genworld.models.vae import CausalVAEConfig
from genworld.tasks.text_to_video import TextToVideo
from genworld.train.runtime import find_world, resolve_precision
from genworld.types import Pick, Sample

logger = logging.getLogger(__name__)


def precompute(experiment: Experiment, folder: Path, epochs: int = 1) -> int:
    """Encode every clip of the training split and write shards that `data: {kind: shards, path: ...}` reads.

    Work is shared between the processes of `accelerate launch`; started again, it does what is missing. As in training,
    a clip that cannot be read is replaced by one of the same shape, which the shard records, until there are more than
    `data.max_bad_fraction`, counted by each process from its start.

    Args:
        experiment: a text-to-video experiment; its data section says which clips, at which shapes.
        folder: where shards go.
        epochs: how many draws of shape and start to write for each clip.

    Returns:
        The number of clips this process encoded.

    Raises:
        ValueError: the task has no latents, the folder was begun with other settings, or too many clips are bad.
    """
    world = find_world(experiment.train.device)
    task = build_task(experiment)
    if not isinstance(task, TextToVideo):
        raise ValueError(
            f"{experiment.name} has task {experiment.task.kind!r}; only 'text_to_video' can be precomputed"
        )
    if isinstance(task.config.vae, CausalVAEConfig):
        raise ValueError(
            "task.vae is a new VAE, which is fitted when training begins: train one (configs/vae/), and set "
            "task.vae={kind: run, path: FOLDER}"
        )
    task.to(world.device).eval()
    source = build_source(clip_data(experiment))
    order = PackOrder(clip_infos(source), task.grid, clip_data(experiment).packing, experiment.seed)
    settings = {"vae": fingerprint(task.vae), "text": encode(task.config.text), "seed": experiment.seed}
    writer = ShardWriter(
        folder, source, precompute_picks(order, epochs), settings, rank=world.rank, world_size=world.size
    )
    reader = PackReader(source, order, replace=clip_data(experiment).max_bad_fraction > 0)
    bad = BadClips(source, clip_data(experiment).max_bad_fraction)
    precision = resolve_precision(experiment.train.precision, world.device)
    done = 0
    with tqdm(total=len(writer.picks) // world.size, desc="encoding", unit="clip", disable=world.rank != 0) as bar:
        for shard, group in writer.pending():
            encoded: list[Sample] = []
            picks: list[Pick] = []
            for first in range(0, len(group), 16):
                read = reader[group[first : first + 16]]
                samples = list(bad.accept(read))
                picks += read.picks
                with torch.autocast(world.device.type, torch.bfloat16, enabled=precision == "bf16"):
                    encoded += _encode(task, samples, world.device)
                bar.update(len(samples))
            writer.write(shard, encoded, picks, bad.found)
            done += len(group)
    return done


@torch.no_grad()
def _encode(task: TextToVideo, samples: list[Sample], device: torch.device) -> list[Sample]:
    moved = [replace(item, pixels=None if item.pixels is None else item.pixels.to(device)) for item in samples]
    latents = task.latents(moved)
    features: list = [None] * len(samples)
    if not task.text.trainable:
        text = task.text.encode([item.text for item in samples])
        features = list(text.features.split(list(text.segments.lengths)))
    return [
        replace(item, pixels=None, latents=x, text_features=text)
        for item, x, text in zip(samples, latents, features, strict=True)
    ]
