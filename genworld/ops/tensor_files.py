"""Tensors in files: what others wrote is read without running anything that it says; ours are whole or not there."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar
from safetensors.torch import save_file
from torch import Tensor

_SIGNATURE_LFS = b"version https://git-lfs"
_OLD, _NEW = "numpy.core.multiarray", "numpy._core.multiarray"


def load_tensors(path: Path) -> Any:
    """What `torch.save` wrote: tensors, numpy arrays and plain containers of them, on the CPU.

    A folder that a zip program unpacked from such a file is read too (downloads of .pth files end up so).

    Raises:
        ValueError: no such file, not one that `torch.save` wrote, or one with objects of other classes.
    """
    if path.is_dir():
        with tempfile.TemporaryFile() as whole:
            _pack_again(path, whole)
            return _load(whole, path)
    _check_file(path)
    return _load(path, path)


def save_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, and its folders, whole or not at all; processes may write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.part")
    # Parts of one tensor would share memory, which is refused.
    kept = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    save_file(kept, draft, None if metadata is None else dict(metadata))
    draft.replace(path)


def load_array(path: Path) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        ValueError: no such file, no array, or one of Python objects.
    """
    _check_file(path)
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise ValueError(
                f"{path}: it holds Python objects (a pickle), which could run anything and is not read. Where you "
                "trust it, convert it once: numpy.save(..., numpy.load(..., allow_pickle=True).astype(float))"
            ) from None
        raise ValueError(f"{path}: not a .npy file that can be read: {error}") from None


def _load(source: Path | BinaryIO, path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error):
            raise ValueError(f"{path}: not a file of torch.save: a pickle of something else") from None
        raise ValueError(
            f"{path}: it holds {_culprit(str(error))} beside tensors, arrays, numbers and text: what could run "
            "anything is not read. Where you trust it, load it once with torch.load(..., weights_only=False) and save "
            "its tensors"
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"{path}: not a file of torch.save, or cut off while it was copied ({type(error).__name__})"
        ) from None


def _numpy_globals() -> list[Callable | tuple[Callable, str]]:
    """What arrays within a file of `torch.save` are made of; numpy 1 knew two of them by another name."""
    kinds = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")]
    made: list[Callable | tuple[Callable, str]] = [np.ndarray, np.dtype, *kinds]
    for module in (_OLD, _NEW):
        made += [(_reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return made


def _pack_again(folder: Path, whole: BinaryIO) -> None:
    roots = [file.parent for file in sorted(folder.rglob("data.pkl"))]
    if len(roots) != 1:
        raise ValueError(
            f"{folder}: a folder, where a file of torch.save was expected; one that was unpacked from such a file has "
            f"one data.pkl in it, this has {len(roots)}"
        )
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(roots[0].rglob("*")):
            if file.is_file():
                archive.write(file, Path("archive") / file.relative_to(roots[0]))
    whole.seek(0)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE_LFS)) == _SIGNATURE_LFS:
            raise ValueError(f"{path}: only a pointer of git LFS is here: fetch the file itself with `git lfs pull`")


def _culprit(message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", message)
    return f"a {found[1]}" if found else "an unknown class"
