"""One of several processes that align together; run by test_align.py.

Takes its share of the samples of `joined_pack`, goes one step as the trainer does, and writes loss and gradients.
"""

import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from genworld.models.alignment import DualEncoderConfig
from genworld.models.alignment_video import VideoTowerConfig
from genworld.models.text import WordsTextConfig
from genworld.tasks.align import Align, AlignConfig, CLIPLossConfig, SigLIPLossConfig
from genworld.train.evaluate import TaskLosses
from genworld.types import ClipShape, Pack, Sample

CAPTIONS = [
    "a red ball",
    "a blue cube",
    "A red  ball",
    "a green cone rolls",
    "a cyan ring",
    "a blue cube",
    "a pink ball",
]
SHARES = (4, 3)
"""Samples of each rank: uneven, and captions repeat within and across ranks."""
SMALL = DualEncoderConfig(
    width=16,
    video=VideoTowerConfig(size=16, stem=(8, 16), depth=1, num_heads=2, max_frames=3),
    text=WordsTextConfig(width=16, depth=1, num_heads=2, vocabulary=300),
)


def make_task(kind: str) -> Align:
    torch.manual_seed(0)
    task = Align(AlignConfig(encoder=SMALL, loss=CLIPLossConfig() if kind == "clip" else SigLIPLossConfig()))
    for name, parameter in task.named_parameters():
        if name.endswith(("out.weight", "down.weight")):  # blocks start as the identity
            torch.nn.init.normal_(parameter, std=0.2)
    task.encoder.fit(CAPTIONS, [torch.stack([item.need_pixels() for item in joined_pack()][:4])])
    return task


def joined_pack() -> Pack:
    """Four clips of three frames and three images."""
    noise = torch.Generator().manual_seed(1)
    frames = (3, 3, 3, 3, 1, 1, 1)
    samples = [
        Sample(i, ClipShape(count, 16, 16, 2.0), text, torch.rand(3, count, 16, 16, generator=noise) * 2 - 1)
        for i, (count, text) in enumerate(zip(frames, CAPTIONS, strict=True))
    ]
    return Pack(tuple(samples))


def step(task: Align, pack: Pack, world: int) -> dict[str, torch.Tensor]:
    """Sums, and gradients of the mean over all samples, as `Trainer` makes them."""
    model = DistributedDataParallel(TaskLosses(task)) if world > 1 else TaskLosses(task)
    sums = model(pack, seed=0, step=0)
    (sums["loss"] * world / len(CAPTIONS)).backward()
    totals = torch.stack([sums["loss"].detach(), sums["accuracy"]])
    if world > 1:
        dist.all_reduce(totals)
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    return {"totals": totals, **gradients}


def main() -> None:
    rank, world, store, out = int(sys.argv[1]), len(SHARES), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    first = sum(SHARES[:rank])
    pack = Pack(joined_pack().samples[first : first + SHARES[rank]])
    for kind in ("clip", "siglip"):
        results = step(make_task(kind), pack, world)
        save_file({name: value.contiguous() for name, value in results.items()}, f"{out}/{kind}_{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
