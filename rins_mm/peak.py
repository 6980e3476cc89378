"""The most operations per second that a device can do: the ceiling that a run is measured against."""

import time
from typing import Any, Literal

import torch

from rins_mm.flops import PEAK_FLOPS

SMALLEST_SIDE, LARGEST_SIDE = 256, 8192
LONG_ENOUGH = 0.01
"""Seconds of a product that starting it does not blur."""
REPEATS = 5


def describe_peak(device: torch.device, precision: Literal["fp32", "bf16"]) -> dict[str, Any]:
    """Operations per second of one rank's device, and where the number is from.

    The maker's, for dense bf16 on a GPU that `PEAK_FLOPS` knows; else the best of a few products of
    square matrices, with the threads that training has, which takes a fraction of a second.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    known = known_gpu(name) if precision == "bf16" else None
    if known is not None:
        return {"flops_per_second": PEAK_FLOPS[known], "source": f"data sheet of {known}, bf16"}
    rate, side = measured_peak(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    source = f"measured: {precision} products of {side} x {side} matrices on {name}{threads}"
    return {"flops_per_second": rate, "source": source}


def known_gpu(name: str) -> str | None:
    """The entry of `PEAK_FLOPS` for a GPU that calls itself `name`."""
    joined = name.lower().replace(" ", "")
    if "pcie" in joined or "nvl" in joined:
        # Slower forms of the same chip, which the data sheets tell apart.
        return None
    return next((known for known in PEAK_FLOPS if known in joined), None)


def measured_peak(device: torch.device, dtype: torch.dtype) -> tuple[float, int]:
    """Operations per second of the best of a few products, and the side of the matrices."""
    side = SMALLEST_SIDE
    while _seconds_of_product(side, device, dtype) < LONG_ENOUGH and side < LARGEST_SIDE:
        side *= 2
    fastest = min(_seconds_of_product(side, device, dtype) for _ in range(REPEATS))
    return 2 * side**3 / fastest, side


def _seconds_of_product(side: int, device: torch.device, dtype: torch.dtype) -> float:
    factor = torch.full((side, side), 1 / side, device=device, dtype=dtype)
    factor @ factor
    begin = _clock(device)
    factor @ factor
    return _clock(device) - begin


def _clock(device: torch.device) -> float:
    """Seconds: of a GPU when it has nothing to do any more; of a CPU by the work of its threads.

    What other programs take from a CPU would make its peak look small, and utilisation large.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()
