"""The tensors of a file or folder of weights, in whichever of the usual forms; nothing in it is executed here."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_object
from rins_mm.checkpoint import read_tensors, require_real
from rins_mm.weights.torch_file import read_torch_file

IN_FOLDERS = (
    "model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin",
)  # fmt: skip
"""Names of weights in a folder, the best first."""
INDEX = "model.safetensors.index.json"
MOST_UNPACKING = 8
SPARE_BYTES = 64 * 2**20
MOST_TENSORS = 30_000
"""A thousand blocks of thirty tensors; to find our names for more takes long."""
LONGEST_NAME = 1_000
"""Characters: the names of blocks that lie in one tensor are written out for each."""
TORCH_ENDINGS = (".pt", ".pth", ".bin")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the weights in a folder, none of them empty.

    Raises UserError for what holds none or too many, and for names longer than any.
    """
    tensors = _read(path)
    if len(tensors) > MOST_TENSORS:
        raise UserError(
            f"{path} holds {len(tensors):,} tensors, and weights of a model at most {MOST_TENSORS:,}; use another copy"
        )
    for name, tensor in tensors.items():
        if len(name) > LONGEST_NAME:
            raise UserError(
                f"{path} holds a name of {len(name):,} characters, and {LONGEST_NAME:,} is the limit; use another copy"
            )
        if not tensor.numel():
            raise UserError(
                f"{name} in {path} is empty (its shape is {list(tensor.shape)}); use another copy"
            )
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise UserError(
            f"there is no file {path}; weights are read from this disk and never fetched: give their path"
        )
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if path.suffix == ".npz":
        return _read_arrays(path)
    if path.suffix in TORCH_ENDINGS:
        return read_torch_file(path)
    raise UserError(
        f"{path} does not end like weights; give a .safetensors, .npz, {', '.join(TORCH_ENDINGS)} file or a folder"
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    return read_plain_object(path)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    parts = read_json(folder / INDEX).get("weight_map")
    if isinstance(parts, dict):
        # A name is looked up in the folder itself, wherever it points.
        files = sorted({Path(str(name)).name for name in parts.values()})
        return {name: t for file in files for name, t in read_tensors(folder / file).items()}
    for name in IN_FOLDERS:
        if (folder / name).is_file():
            return _read(folder / name)
    raise UserError(f"{folder} holds no weights; it should have one of {', '.join(IN_FOLDERS)}")


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {name: _as_tensor(arrays[name]) for name in arrays.files}
    # numpy's parsers meet hostile files with nearly any exception there is.
    except Exception as error:
        raise UserError(
            f"cannot read the arrays in {path}: {error}; give an .npz file of plain numbers"
        ) from error
    require_real(tensors, path)
    return tensors


def _refuse_bomb(path: Path) -> None:
    """Raise ValueError for a zip that unpacks to many times its size: weights hardly get smaller."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > SPARE_BYTES + MOST_UNPACKING * path.stat().st_size:
        raise ValueError(f"it would unpack to {unpacked:,} bytes")


def _as_tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        # numpy knows no bfloat16 and keeps its bytes.
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
