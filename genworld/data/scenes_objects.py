"""Single objects as scenes: ModelNet, ShapeNet, ScanObjectNN, and Objaverse with Cap3D's captions.

An object has points and the box around them, and no views. CAD models have no unit: their coordinates are kept.
"""

from __future__ import annotations

import csv
import pickle
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.data.scene_axes import Up, aligned_from_up, up_vector
from genworld.data.scene_files import pick, read_json
from genworld.types import Scene, SceneBox

# The order of ScanObjectNN's labels (Uy et al. 2019).
SCAN_OBJECTS = (
    *("bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table"),
    *("bed", "pillow", "sink", "sofa", "toilet"),
)


@dataclass(frozen=True)
class ModelNet:
    """ModelNet (Wu et al. 2015): `CLASS/{train,test}/NAME.off`, z up. Implements `SceneSource`.

    Attributes:
        path: the data set, or any folder of .off files.
        num_points: drawn evenly from the surface, by a draw that depends on the name alone.
        up: which axis of the models points up.
    """

    path: Path
    num_points: int = 8192
    up: Up = "z"
    kind: Literal["modelnet"] = "modelnet"

    @cached_property
    def _files(self) -> dict[str, Path]:
        return _find(
            self.path, "*.off", "ModelNet's .off files", lambda file: file.relative_to(self.path).with_suffix("")
        )

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._files)

    def read(self, name: str) -> Scene:
        """Read a model.

        Raises:
            ValueError: there is no such model, or it is broken or empty.
        """
        path = pick(self._files, name)
        label = Path(name).name.rpartition("_")[0] or Path(name).name
        return _object(name, sample_surface(*read_off(path), self.num_points, name), label, self.up)


@dataclass(frozen=True)
class ShapeNet:
    """ShapeNetCore (Chang et al. 2015), y up. Implements `SceneSource`.

    `SYNSET/MODEL/models/model_normalized.obj` (version 2) or `SYNSET/MODEL/model.obj` (version 1); labels come from
    `taxonomy.json` where it is, else they are the synset's number.

    Attributes:
        path: the data set.
        num_points: drawn evenly from the surface, by a draw that depends on the name alone.
        up: which axis of the models points up.
    """

    path: Path
    num_points: int = 8192
    up: Up = "y"
    kind: Literal["shapenet"] = "shapenet"

    @cached_property
    def _files(self) -> dict[str, Path]:
        return _find(
            self.path, "*.obj", "ShapeNet's .obj files", lambda file: Path(*file.relative_to(self.path).parts[:2])
        )

    @cached_property
    def _labels(self) -> Mapping[str, str]:
        path = self.path / "taxonomy.json"
        if not path.is_file():
            return {}
        return {record["synsetId"]: record["name"].partition(",")[0] for record in read_json(path)}

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self._files)

    def read(self, name: str) -> Scene:
        """Read a model.

        Raises:
            ValueError: there is no such model, or it is broken or empty.
        """
        path, synset = pick(self._files, name), name.partition("/")[0]
        points = sample_surface(*_read_obj(path), self.num_points, name)
        return _object(name, points, self._labels.get(synset, synset), self.up)


@dataclass(frozen=True)
class ScanObjectNN:
    """ScanObjectNN (Uy et al. 2019): scanned objects with background, in .h5 files. Implements `SceneSource`.

    Scenes are called `FILE/ROW`. Needs h5py: HDF5 is a format that nothing else here reads.

    Attributes:
        path: a .h5 file, or a folder of them.
        up: which axis of the scans points up.
    """

    path: Path
    up: Up = "y"
    kind: Literal["scanobjectnn"] = "scanobjectnn"

    @cached_property
    def _files(self) -> dict[str, Path]:
        if self.path.is_file():
            return {self.path.stem: self.path}
        return _find(
            self.path, "*.h5", "ScanObjectNN's .h5 files", lambda file: file.relative_to(self.path).with_suffix("")
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        rows = []
        for stem, path in self._files.items():
            with _open_h5(path) as file:
                rows += [f"{stem}/{row}" for row in range(len(file["label"]))]
        return tuple(rows)

    def read(self, name: str) -> Scene:
        """Read an object; its box is that of the points which are not background.

        Raises:
            ValueError: there is no such object, or no h5py.
        """
        stem, _, row = name.rpartition("/")
        path = pick(self._files, stem)
        with _open_h5(path) as file:
            if not row.isdigit() or int(row) >= len(file["label"]):
                raise ValueError(f"{path}: no row {row!r}: it has {len(file['label'])}")
            points = torch.from_numpy(np.asarray(file["data"][int(row)], dtype=np.float32))
            label = int(file["label"][int(row)])
            mask = np.asarray(file["mask"][int(row)]) if "mask" in file else np.zeros(len(points))
        if not 0 <= label < len(SCAN_OBJECTS):
            raise ValueError(f"{path}, row {row}: label {label} is none of the {len(SCAN_OBJECTS)} classes")
        return _object(name, points, SCAN_OBJECTS[label], self.up, torch.from_numpy(mask != -1))


@dataclass(frozen=True)
class Cap3D:
    """Objaverse objects with Cap3D's captions (Luo et al. 2023). Implements `SceneSource`.

    Captions are a CSV without header, `uid,caption`; points, where they are, `PointCloud_pt/UID.pt`: a tensor (6, N) of
    coordinates and colours. Coordinates are taken as z up: they come from Blender's renders.

    Attributes:
        path: the CSV.
        points: folder of the point clouds; `PointCloud_pt` beside the CSV by default.
        up: which axis of the points points up.
    """

    path: Path
    points: Path | None = None
    up: Up = "z"
    kind: Literal["cap3d"] = "cap3d"

    @cached_property
    def captions(self) -> Mapping[str, str]:
        """Caption by uid."""
        return read_captions(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """See `SceneSource`."""
        return tuple(self.captions)

    def read(self, name: str) -> Scene:
        """Read an object; one without a point cloud has its caption alone.

        Raises:
            ValueError: there is no caption of such an object, or its point cloud is broken.
        """
        if name not in self.captions:
            raise ValueError(f"{self.path}: no caption of {name!r}")
        path = (self.points or self.path.parent / "PointCloud_pt") / f"{name}.pt"
        aligned = aligned_from_up(up_vector(self.up))
        if not path.is_file():
            return Scene(name, aligned_from_world=aligned, text=self.captions[name])
        cloud = _load_tensor(path)
        if cloud.ndim != 2 or cloud.shape[0] != 6:
            raise ValueError(f"{path}: expected a tensor (6, N) of x y z r g b, got {tuple(cloud.shape)}")
        colours = cloud[3:].T / (255.0 if float(cloud[3:].max()) > 1.5 else 1.0)
        scene = _object(name, cloud[:3].T.contiguous(), "object", self.up)
        return Scene(name, (), scene.points, colours, scene.boxes, aligned, self.captions[name])


def read_captions(path: Path) -> dict[str, str]:
    """Captions by uid (32 hexadecimal digits in Objaverse, 64 in Objaverse-XL), from a CSV without header.

    Raises:
        ValueError: the file is missing, or a row has not two cells; names it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file: expected Cap3D's CSV of uid,caption")
    found: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        for row in filter(None, reader):
            if len(row) != 2:
                raise ValueError(f"{path}, row {reader.line_num}: expected uid,caption, got {len(row)} cells: quote it")
            found[row[0]] = row[1].strip()
    return found


def read_off(path: Path) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "T 3"]]:
    """Vertices and triangles of an .off file, also where the header is glued to the counts (`OFF490 518 0`).

    Raises:
        ValueError: it is no such file, or ends early.
    """
    lines = [line.partition("#")[0] for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    words = " ".join(lines).split()
    if not words or not words[0].startswith("OFF"):
        raise ValueError(f"{path}: expected it to begin with OFF, got {' '.join(words[:1])!r}")
    words = [words[0][3:], *words[1:]] if len(words[0]) > 3 else words[1:]
    try:
        vertices, faces = int(words[0]), int(words[1])
        points = np.array(words[3 : 3 + 3 * vertices], dtype=np.float32).reshape(vertices, 3)
        triangles, at = [], 3 + 3 * vertices
        for _ in range(faces):
            size = int(words[at])
            corners = [int(word) for word in words[at + 1 : at + 1 + size]]
            if len(corners) != size or not all(0 <= corner < vertices for corner in corners):
                raise ValueError(f"a face has the corners {corners}")
            triangles += [(corners[0], corners[i], corners[i + 1]) for i in range(1, size - 1)]
            at += 1 + size
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: not a whole .off file ({error})") from None
    return torch.from_numpy(points), torch.tensor(triangles, dtype=torch.int64).reshape(-1, 3)


def sample_surface(
    points: Float[Tensor, "V 3"], triangles: Int[Tensor, "T 3"], num: int, name: str
) -> Float[Tensor, "P 3"]:
    """Points drawn evenly from a surface; the same for the same name.

    Raises:
        ValueError: the surface has no area.
    """
    corners = points.double()[triangles]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 2
    if not len(areas) or not float(areas.sum()) > 0:
        raise ValueError(f"{name}: an empty model: its surface has no area")
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    place = torch.rand(num, 3, generator=generator, dtype=torch.float64)
    edges = areas.cumsum(dim=0) / areas.sum()
    chosen = torch.searchsorted(edges, place[:, 0].contiguous()).clamp_max(len(areas) - 1)
    u, v = place[:, 1].sqrt(), place[:, 2]
    weights = torch.stack([1 - u, u * (1 - v), u * v], dim=-1)
    return torch.einsum("pk,pki->pi", weights, corners[chosen]).float()


def _object(name: str, points: Tensor, label: str, up: Up, inside: Tensor | None = None) -> Scene:
    aligned = aligned_from_up(up_vector(up))
    own = (points if inside is None else points[inside]) @ aligned[:3, :3].T
    if not len(own):
        raise ValueError(f"{name}: an empty scene: it has not one point of the object")
    box = SceneBox(label, 0, own.amin(dim=0), own.amax(dim=0))
    return Scene(name, points=points, boxes=(box,), aligned_from_world=aligned, text=label)


def _find(root: Path, pattern: str, expected: str, name: Any) -> dict[str, Path]:
    found = {name(path).as_posix(): path for path in sorted(root.rglob(pattern))} if root.is_dir() else {}
    if not found:
        raise ValueError(f"{root}: expected a folder with {expected}")
    return found


def _read_obj(path: Path) -> tuple[Tensor, Tensor]:
    """Vertices and triangles of all parts; `read_triangle_mesh` would leave out faces of more than three corners."""
    import open3d

    points, triangles, count = [torch.zeros(0, 3)], [torch.zeros(0, 3, dtype=torch.int64)], 0
    for part in open3d.io.read_triangle_model(str(path)).meshes:  # type: ignore[arg-type]
        points.append(torch.from_numpy(np.asarray(part.mesh.vertices).copy()).float())
        triangles.append(torch.from_numpy(np.asarray(part.mesh.triangles).copy()).long() + count)
        count += len(points[-1])
    return torch.cat(points), torch.cat(triangles)


def _open_h5(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path}: reading .h5 files needs h5py: pip install genworld[h5]") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable .h5 file ({error})") from None


def _load_tensor(path: Path) -> Tensor:
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, struct.error, IndexError) as error:
        raise ValueError(f"{path}: not a readable tensor ({str(error).splitlines()[0]})") from None
    if not isinstance(value, Tensor):
        raise ValueError(f"{path}: expected a tensor, got {type(value).__name__}")
    return value.float()
