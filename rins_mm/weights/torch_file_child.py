"""Run by torch_file.py as a program of its own: a file of torch's to safetensors, under limits.

It imports nothing of this project, and works on no more than the two files that it is given.
"""

import resource
import sys

import torch
from safetensors.torch import save_file
from torch import Tensor


def tensors_of(loaded: object) -> dict[str, Tensor]:
    """The weights in what a training program has saved: on their own, or below a usual name."""
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, not names with tensors")
    usual = (loaded.get(name) for name in ("state_dict", "model_state_dict", "model"))
    named = next((inner for inner in usual if isinstance(inner, dict)), loaded)
    found = {
        str(name).removeprefix("module."): value.detach().contiguous().clone()
        for name, value in named.items()
        if isinstance(value, Tensor)
    }
    if not found:
        raise ValueError("it holds no names with tensors")
    return found


def allowed(kind: int, most: int) -> int:
    """The limit, or the lower one that whoever started this has, which cannot be raised."""
    limit = resource.getrlimit(kind)[1]
    return most if limit == resource.RLIM_INFINITY else min(most, limit)


def main(source: str, target: str, most_bytes: int, most_seconds: int) -> None:
    """Read the first file and write the second."""
    for kind, most in (
        (resource.RLIMIT_DATA, most_bytes),
        (resource.RLIMIT_FSIZE, most_bytes),
        (resource.RLIMIT_CPU, most_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (allowed(kind, most),) * 2)
    save_file(tensors_of(torch.load(source, map_location="cpu", weights_only=True)), target)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except Exception as error:
        sys.exit(" ".join(str(error).split())[:300] or type(error).__name__)
