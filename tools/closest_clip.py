"""After overfitting a few clips: is the sample for each caption closer to its own clip than to all others?

    python tools/closest_clip.py --run runs/folder [--frames 17 --fps 8 --out closest.png]

Every caption is sampled at the aspect ratio of its clip; the sample is compared, in pixels, with excerpts of all clips
cropped to the same shape. Exits with 1 when fewer than 9 in 10 are closest to their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Sample every caption, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="a text-to-video run trained on a manifest")
    parser.add_argument("--frames", type=int, default=17, help="pixel frames of the samples (17)")
    parser.add_argument("--fps", type=float, default=8.0, help="their rate (8)")
    parser.add_argument("--pixels", type=int, default=4096, help="their pixel budget (4096)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, metavar="YAML", help="whose clips to compare with; the run's own")
    parser.add_argument("--out", type=Path, default=Path("closest.png"), help="contact sheet (closest.png)")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of --config to change")
    args = parser.parse_intermixed_args()

    from genworld.data.loader import build_source
    from genworld.data.packing import PackingConfig, ShapeConfig
    from genworld.data.shapes import assign
    from genworld.eval.nearest import closest_clips
    from genworld.experiment import CONFIG_FILE, load_experiment
    from genworld.ops.pictures import write_sheet
    from genworld.pipelines.command import provenance
    from genworld.pipelines.video import VideoGenerator
    from genworld.tasks.text_to_video import Request
    from genworld.types import Pick

    generator = VideoGenerator.from_run(args.run)
    source = build_source(load_experiment(args.config or args.run / CONFIG_FILE, args.overrides).data)
    infos = [source.info(i) for i in range(len(source))]
    only = ShapeConfig(pixels=args.pixels, frames=args.frames, fps=args.fps)
    packing = PackingConfig(shapes=[only], tokens_per_pack=10**6)
    shapes = [assign(info, generator.task.grid, packing, 0, 0)[0] for info in infos]
    jobs = zip(infos, shapes, strict=True)
    requests = [Request(info.text, shape, args.seed + i) for i, (info, shape) in enumerate(jobs)]
    videos = [clip.pixels for clip in generator.sample(requests, generator.settings(None, None), progress=True)]
    found = closest_clips(source, infos, videos, args.fps)
    right = sum(i == j for i, (j, _) in enumerate(found))
    for info, (j, away) in zip(infos, found, strict=True):
        print(f"{info.name:<20} closest to {infos[j].name:<20} at {away:.4f}")
    own = [source.read(Pick(0, i, shape, 0.0)).need_pixels() for i, shape in enumerate(shapes)]
    clips = [clip for pair in zip(own, videos, strict=True) for clip in pair]
    labels = [text for info in infos for text in (f"{info.name}: {info.text}", "sampled from its caption")]
    write_sheet(args.out, clips, labels, columns=2)
    results = {"right": right, "clips": len(infos), **provenance()}
    args.out.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"{right} of {len(infos)} samples are closest to their own clip; wrote {args.out}")
    return 0 if right >= 0.9 * len(infos) else 1


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
