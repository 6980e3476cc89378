"""Threads, and the switches that make a run repeatable bit for bit on the same machine."""

import os
from typing import Any

import torch

from data_pipelines.errors import UserError

WORKSPACES = (":4096:8", ":16:8")
"""The values of CUBLAS_WORKSPACE_CONFIG with which cuBLAS always adds in one order."""


def set_threads(num_threads: int) -> None:
    """Fix the threads of one operation, and keep to one operation at a time. For a process's beginning."""
    torch.set_num_threads(num_threads)
    # torch allows this once a process.
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)


def make_deterministic() -> None:
    """Refuse every operation that could give other bits the next time. Must come before CUDA is used."""
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    wanted = f"set CUBLAS_WORKSPACE_CONFIG={WORKSPACES[0]} before the start, or leave out --deterministic"
    if workspace is not None and workspace not in WORKSPACES:
        raise UserError(
            f"CUBLAS_WORKSPACE_CONFIG is {workspace!r}, with which cuBLAS is not deterministic; {wanted}"
        )
    if workspace is None and torch.cuda.is_initialized():
        raise UserError(f"deterministic is asked for after CUDA has been started; {wanted}")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACES[0])
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def describe_determinism() -> dict[str, Any]:
    """The threads and switches as they are in force."""
    return {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace_config": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }
