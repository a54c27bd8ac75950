"""A tiny task, an endless loader for it, and a program that trains it in as many processes as it is launched in."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn

from genworld.config import decode
from genworld.ops.random import normal
from genworld.tasks.base import Task, TaskOutput
from genworld.train import runtime
from genworld.train.trainer import TrainConfig, Trainer
from genworld.types import ClipShape, Pack, Sample

SEED = 7


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3, padding=1).to(memory_format=torch.channels_last)
        self.table = nn.Embedding(5, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, 2)
        self.register_buffer("mean", torch.zeros(3))


class FakeTask(Task):
    """A generator with dropout, a convolution in channels-last layout, and a critic that joins at step 3."""

    leaves_out_parameters = True

    def __init__(self, bad_steps=(), width=8):
        super().__init__()
        torch.manual_seed(0)
        self.net = Net(width)
        self.critic = nn.Linear(2, 1)
        self.bad_steps = bad_steps
        self.vocabulary = "unset"

    def units(self, pack):
        return sum(sample.latents.numel() for sample in pack)

    def forward(self, pack, seed, step):
        loss = torch.zeros(())
        critic = torch.zeros(())
        for sample in pack:
            x = sample.latents.movedim(1, 0).contiguous(memory_format=torch.channels_last)
            noise = normal(x.shape, seed, "noise", sample.position)
            h = self.net.conv(x + noise).movedim(1, -1) + self.net.table.weight[sample.position % 5]
            y = self.net.out(self.net.drop(self.net.norm(h).tanh())).movedim(-1, 1)
            loss = loss + (y - x).square().sum()
            if step >= 3:
                critic = critic + self.critic(y.movedim(1, -1)).square().sum()
        if step in self.bad_steps and pack.samples[0].position % 2 == 0:
            loss = loss * torch.nan
        return TaskOutput(loss + 0.1 * critic, {"square": loss, **({"critic": critic} if step >= 3 else {})})

    def networks(self):
        return {"net": self.net, "critic": self.critic}

    def assets(self):
        return {"vocabulary.txt": self.vocabulary}

    def load_assets(self, assets):
        self.vocabulary = assets["vocabulary.txt"]

    def preview(self, packs, folder, seed):
        file = folder / "mean.txt"
        file.write_text(repr(self.net.out.bias.tolist()))
        return [file]


def make_pack(step, index, packs_per_step):
    """Pack `index` of a step: two to four samples of different sizes."""
    number = step * packs_per_step + index
    samples = []
    for k in range(2 + number % 3):
        position = 4 * number + k
        latents = normal((2, 1 + position % 2, 4, 4 + position % 3), SEED, "latents", position)
        samples.append(Sample(position=position, shape=ClipShape(1, 4, 4, 8), text="", latents=latents))
    return Pack(tuple(samples))


class FakeLoader:
    def __init__(self, packs_per_step, rank=0, size=1, signal_at=None, number=signal.SIGTERM):
        assert packs_per_step % size == 0
        self.packs_per_step, self.rank, self.size = packs_per_step, rank, size
        self.signal_at, self.number = signal_at, number

    def steps(self, start_step):
        each = self.packs_per_step // self.size
        step = start_step
        while True:
            if step == self.signal_at and self.rank == self.size - 1:
                os.kill(os.getpid(), self.number)
            yield [make_pack(step, self.rank * each + i, self.packs_per_step) for i in range(each)]
            step += 1


VALIDATION = [make_pack(1000, index, 3) for index in range(3)]


def shard_on_cpu(accelerator, model, optimizer):
    """What `Accelerator.prepare` does under FSDP2 on GPUs, which it does not offer on a CPU."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model.to(memory_format=torch.contiguous_format)  # FSDP2 takes no other
    mesh = init_device_mesh("cpu", (accelerator.num_processes,))
    old = dict(model.named_parameters())
    # Only the whole: ranks call the parts once per sample, not equally often, and their gathers would never match up.
    fully_shard(model, mesh=mesh)
    new = {id(old[name]): parameter for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        group["params"] = [new[id(parameter)] for parameter in group["params"]]
    return model, accelerator.prepare(optimizer)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--train", type=json.loads, default={})
    parser.add_argument("--packs-per-step", type=int, default=2)
    parser.add_argument("--signal-at", type=int)
    parser.add_argument("--bad-steps", type=json.loads, default=[])
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--shard", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    world = runtime.find_world("cpu")
    config = decode(TrainConfig, {"device": "cpu", "precision": "fp32", "threads": 1, "log_every": 1, **options.train})
    loader = FakeLoader(options.packs_per_step, world.rank, world.size, options.signal_at)
    validation = VALIDATION if config.validate_every else ()
    trainer = Trainer(FakeTask(options.bad_steps), config, loader, options.run, SEED, validation, "name: fake\n")
    if options.shard:
        prepare = trainer.accelerator.prepare
        trainer.accelerator.prepare = lambda *items: (
            prepare(*items) if len(items) == 1 else shard_on_cpu(trainer.accelerator, *items)
        )
    result = trainer.fit(options.resume)
    if world.rank == 0:
        record = {**asdict(result), "checkpoint": str(result.checkpoint)}
        (options.run / f"result{world.size}.json").write_text(json.dumps(record))
    PartialState().destroy_process_group()
    sys.exit(result.exit_code)


if __name__ == "__main__":
    main()
