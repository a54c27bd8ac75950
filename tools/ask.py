"""Ask about a scene.

    python tools/ask.py --run runs/scene_world --scene FOLDER "How many chairs are there?"
    python tools/ask.py --run runs/scene_world --scene 7001 --do ground "the red chair" --out chair.png
    python tools/ask.py --run runs/scene_world --scene ROOM --situation "I am beside the sofa." "What is behind me?"
    python tools/ask.py --run runs/scene_world --scene 7001 --do caption
    python tools/ask.py --run runs/scene_world --scene 7001 --do describe "6.7 4.3 0 8.7 5.3 0.9"
    python tools/ask.py --run weights/scene_rooms --scene FOLDER "Any chairs?" "task.points.lifter={kind: fusion}"

FOLDER holds a scene (see docs/scenes.md); a number is the seed of one of the world's floors. Prints the answer, and the
boxes that it names in metres. With --out, a picture: the scene from above and from the side, and one view, with these
boxes, and with those of the things that it names in words, which the model is then asked to find.

How the scene becomes points can be otherwise than in training, by KEY=VALUE at the end: another lifter ({kind: direct},
{kind: fusion}, or {kind: field}, which needs no depth), and whatever else stands in task.points.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genworld.ops.lifted import LiftedScene
    from genworld.pipelines.scene import SceneAssistant
    from genworld.types import Scene, SceneBox

SIZE = (96, 96)
DEEDS = ("ask", "caption", "plan", "ground", "describe")


def main() -> int:
    """Parse the command line, answer, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run of train.py with task converse")
    parser.add_argument("--scene", required=True, help="a folder with a scene, or the seed of a floor")
    parser.add_argument("--name", help="which scene of the folder; the first by default")
    parser.add_argument("--do", choices=DEEDS, default="ask", help="what (ask)")
    parser.add_argument("--situation", default="", help="where you are, in words")
    parser.add_argument("--out", type=Path, metavar="PNG", help="also draw the scene with what the answer names")
    parser.add_argument("text", nargs="?", default="", help="question, goal, phrase or box; none for a caption")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="otherwise than in training: task.points.lifter.voxel=0.15"
    )
    args = parser.parse_intermixed_args()  # overrides may also come after --out
    if args.do == "caption" and args.text:
        args.overrides.insert(0, args.text)
    elif args.do != "caption" and not args.text.strip():
        raise ValueError(f"--do {args.do} needs a text: a question, a goal, a phrase or a box")

    from genworld.pipelines.scene import SceneAssistant
    from genworld.pipelines.scene_picture import draw_answer

    scene = read_scene(args.scene, args.name)
    assistant = SceneAssistant.from_pretrained(args.run, overrides=args.overrides)
    lifted = assistant.lift(scene)
    answer, boxes = reply(assistant, lifted, args)
    print(answer)
    for box in boxes:
        print(f"  box {box.id}: {extent(box)}")
    if args.out:
        grounded = assistant.ground_mentions(lifted, answer)
        for box in grounded:
            print(f"  grounded by the model: {box.label}: {extent(box)}")
        if not assistant.can_ground:
            print("  this run was not trained to find things: those named in words are not drawn")
        print(f"wrote {draw_answer(scene, boxes, args.out, grounded=grounded)}")
    return 0


def extent(box: SceneBox) -> str:
    """Where a box is, metres."""
    low, high = (", ".join(f"{x:.2f}" for x in corner.tolist()) for corner in (box.lower, box.upper))
    return f"from ({low}) to ({high}) m"


def read_box(text: str) -> SceneBox:
    """A box from its corners in metres.

    Raises:
        ValueError: these are not six numbers.
    """
    import torch

    from genworld.types import SceneBox

    try:
        lower, upper = torch.tensor([float(number) for number in text.replace(",", " ").split()]).view(2, 3)
    except (ValueError, RuntimeError):
        raise ValueError(
            f"a box is six numbers in metres, the least x, y and z, then the greatest ('1 0 0 2.5 1 0.8'), got {text!r}"
        ) from None
    return SceneBox("the box", 0, lower, upper)


def read_scene(name: str, which: str | None) -> Scene:
    """A scene from a folder, or a floor from its seed."""
    if name.isdecimal() and not Path(name).exists():
        from genworld.world.rooms import sample_floor

        return sample_floor(int(name)).scene(SIZE)
    from genworld.data.scenes import open_scenes

    source = open_scenes(Path(name))
    return source.read(which or source.names[0])


def reply(assistant: SceneAssistant, scene: LiftedScene, args: argparse.Namespace) -> tuple[str, list[SceneBox]]:
    """What is answered, and the boxes that it names."""
    if args.do == "ground":
        boxes = assistant.ground(scene, args.text)
        return ("found" if boxes else "not found"), boxes
    if args.do == "describe":
        box = read_box(args.text)
        return assistant.describe(scene, box), [box]
    if args.do == "plan":
        steps = assistant.plan(scene, args.text, args.situation)
        answer = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    elif args.do == "caption":
        answer = assistant.caption(scene)
    else:
        answer = assistant.ask(scene, args.text, args.situation or None)
    return answer, assistant.boxes(scene, answer)


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
