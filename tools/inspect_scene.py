"""Shows what a scene holds and whether its axes and units are what they seem.

    python tools/inspect_scene.py FOLDER [--kind auto] [--name SCENE] [--out scene.png] [--views 12]
    python tools/inspect_scene.py FOLDER --lift direct fusion field --out lifted.png

Prints its views, points, boxes and size, the views that had to be left out with the reason, and what the check of
frames thinks, with its evidence; writes a picture from above and from the side: of what some views show, or with --lift
of what lifters make of all views, each in a row. Exits with 1 when something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import torch

from genworld.data.scene_check import check_scene
from genworld.data.scene_files import some_views
from genworld.data.scene_picture import coloured_points, draw_scene
from genworld.data.scenes import READERS, open_scenes
from genworld.models.images import EncodedViews, RandomEncoder, RandomEncoderConfig
from genworld.models.points import DirectLifterConfig, FeatureCloud
from genworld.models.points_field import FieldLifterConfig
from genworld.models.points_fusion import FusionLifterConfig
from genworld.models.scene_points import build_lifter
from genworld.pipelines.command import run_command
from genworld.pipelines.scene_picture import draw_clouds
from genworld.types import Scene, View

LIFTERS = {"direct": DirectLifterConfig(), "fusion": FusionLifterConfig(), "field": FieldLifterConfig()}


def main() -> int:
    """Read the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a scene, a folder of scenes, or a data set")
    parser.add_argument("--kind", default="auto", choices=["auto", *READERS], help="which reader")
    parser.add_argument("--name", help="which scene; the first by default")
    parser.add_argument("--out", type=Path, default=Path("scene.png"), help="picture to write")
    parser.add_argument("--views", type=int, default=12, help="views to read, spread evenly")
    parser.add_argument("--lift", nargs="+", choices=LIFTERS, metavar="LIFTER", help=f"of {', '.join(LIFTERS)}")
    args = parser.parse_args()
    source = open_scenes(args.path, args.kind)
    print(f"{args.path}: {len(source.names)} scenes, read by {type(source).__name__}")
    scene = source.read(args.name or source.names[0])
    scene, views = some_views(scene, args.views)
    print("\n".join(describe(scene, views)))
    report = check_scene(scene, args.views)
    print(report)
    if args.lift:
        clouds = {kind: lift(scene, kind) for kind in args.lift}
        print(f"wrote {draw_clouds(scene.name, clouds, args.out)}")
    else:
        print(f"wrote {draw_scene(scene, views, args.out)}")
    return 1 if report.causes else 0


def lift(scene: Scene, kind: str) -> FeatureCloud:
    """All views of a scene as points, by a lifter as it is by default; no features but a stand-in for them."""
    start = time.perf_counter()
    cloud = build_lifter(LIFTERS[kind]).lift(scene, EncodedViews(RandomEncoder(RandomEncoderConfig(width=4))))
    print(f"{kind}: {len(cloud)} points in {time.perf_counter() - start:.1f} s; left out {list(cloud.skipped)}")
    return cloud


def describe(scene: Scene, views: list[View]) -> list[str]:
    """Lines on what a scene holds, in its own axes."""
    lines = [f"text: {scene.text}"] if scene.text else []
    if views:
        height, width = views[0].pixels.shape[1:]
        depths = [view.depth for view in views if view.depth is not None]
        covered = sum(float((depth > 0).float().mean()) for depth in depths) / max(len(depths), 1)
        lines.append(f"{scene.num_views} views of {width}x{height}, depth in {covered:.0%} of their pixels")
    if scene.points is not None:
        lines.append(f"{len(scene.points)} points{'' if scene.colours is None else ' with colours'}")
    points, _ = coloured_points(scene, views)
    low, high = (torch.quantile(points[:: max(len(points) // 100_000, 1)], q, dim=0) for q in (0.005, 0.995))
    size = " x ".join(f"{x:.2f}" for x in (high - low).tolist())
    lines.append(f"{size} metres, from {_vector(low)} to {_vector(high)}")
    counts = Counter(box.label for box in scene.boxes)
    if counts:
        lines.append(f"{len(scene.boxes)} boxes: " + ", ".join(f"{n} {label}" for label, n in counts.most_common()))
    return lines


def _vector(values: torch.Tensor) -> str:
    return "(" + ", ".join(f"{x:.2f}" for x in values.tolist()) + ")"


if __name__ == "__main__":
    sys.exit(run_command(main))
