"""Scenes from wherever they are kept: every reader behind one protocol, `SceneSource`.

A reader is a frozen dataclass tagged by `kind`, and so its own config: a field of type `SceneConfig` takes any of them
in a YAML. Views are read when asked for; one that cannot be used is listed in `Scene.skipped` with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from genworld.data.scenes_driving import Kitti
from genworld.data.scenes_nuscenes import NuScenes
from genworld.data.scenes_objects import Cap3D, ModelNet, ScanObjectNN, ShapeNet
from genworld.data.scenes_rgbd import HabitatRooms, RgbdFolder, is_habitat_room, is_rgbd_folder
from genworld.data.scenes_scannet import ScanNet, is_scannet_scan
from genworld.data.scenes_waymo import Waymo
from genworld.types import SceneSource

SceneConfig = (
    RgbdFolder | HabitatRooms | ScanNet | ModelNet | ShapeNet | ScanObjectNN | Cap3D | Kitti | NuScenes | Waymo
)

READERS: dict[str, type[SceneConfig]] = {
    "rgbd": RgbdFolder,
    "habitat": HabitatRooms,
    "scannet": ScanNet,
    "modelnet": ModelNet,
    "shapenet": ShapeNet,
    "scanobjectnn": ScanObjectNN,
    "cap3d": Cap3D,
    "kitti": Kitti,
    "nuscenes": NuScenes,
    "waymo": Waymo,
}


def open_scenes(path: str | Path, kind: str = "auto") -> SceneSource:
    """The scenes at a path, with the defaults of their reader.

    Args:
        path: a scene, a folder of scenes, a data set, or a file of one.
        kind: which reader, one of `READERS`; "auto" looks at what is there.

    Raises:
        ValueError: there is no such path or reader, or nothing there is known.
    """
    path = Path(path)
    if kind != "auto":
        if kind not in READERS:
            raise ValueError(f"no reader of scenes {kind!r}: there are {', '.join(READERS)}")
        return READERS[kind](path)
    if not path.exists():
        raise ValueError(
            f"{path}: no such file or folder: expected scenes, such as a folder of ScanNet scans or of posed RGB-D. "
            f"Nothing is downloaded: fetch them first and give the folder they lie in (readers: {', '.join(READERS)})"
        )
    return READERS[recognise(path)](path)


def scene_key(path: Path, name: str) -> str:
    """What tells scene `name` of the scenes at `path` from all others, also from those of its name elsewhere."""
    place = hashlib.blake2b(f"{path.resolve()}\n{name}".encode(), digest_size=6).hexdigest()
    return f"{name}-{place}"


def recognise(path: Path) -> str:
    """Which reader a path is for.

    Raises:
        ValueError: none knows it.
    """
    if path.is_file():
        if path.suffix in (".csv", ".h5"):
            return {".csv": "cap3d", ".h5": "scanobjectnn"}[path.suffix]
        raise ValueError(f"{path}: expected a folder of scenes, Cap3D's .csv or ScanObjectNN's .h5")
    folders: dict[str, Callable[[Path], bool]] = {
        "rgbd": is_rgbd_folder,
        "habitat": is_habitat_room,
        "scannet": is_scannet_scan,
    }
    datasets = {
        "kitti": "velodyne/*.bin",
        "waymo": "vehicle_pose/*.parquet",
        "nuscenes": "v*/sample_data.json",
        "scanobjectnn": "*.h5",
        "modelnet": "**/*.off",
        "shapenet": "**/*.obj",
    }
    inside = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
    for kind, is_scene in folders.items():
        if any(map(is_scene, inside)):
            return kind
    for kind, pattern in datasets.items():
        if any(path.glob(pattern)):
            return kind
    raise ValueError(f"{path}: scenes of no known kind: expected one of {', '.join(READERS)}, or say which with `kind`")
