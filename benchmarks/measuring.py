"""What the benchmarks share: a clock that suits the device, facts of the machine, and files of figures."""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from data_pipelines.whole_files import write_whole

RESULTS = Path(__file__).parents[1] / "docs" / "results"
"""Where committed figures are."""
OUT_OF_MEMORY = "out of memory"


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """What one run takes: on the CPU the time of all threads, which other programs hardly move."""
    if device.type == "cpu":
        begin = time.process_time()
        run()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def machine(device: torch.device) -> dict[str, Any]:
    """What figures depend on, as it is written down beside them."""
    return {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.machine(),
        "load_average": os.getloadavg()[0],
        "versions": {name: _version(name) for name in ("torch", "open_clip_torch")},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_figures(path: Path, figures: dict[str, Any]) -> None:
    """All figures as JSON, in place of what was there."""
    write_whole(path, json.dumps(figures, indent=1) + "\n", overwrite=True)


def cause_of(error: Exception) -> str:
    """Why something was not measured, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that was held at once, of a GPU's."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Give back what nobody holds any more, and count the most anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def take_turns(
    runs: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """What each run takes, round by round, so that whatever else the machine does falls on all alike.

    No round begins after `seconds`. One more round than asked for warms up; it counts only where it is alone.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    for number in range(rounds + 1 if rounds else 0):
        if number and time.perf_counter() - begin > seconds:
            break
        for name, run in runs.items():
            taken[name].append(seconds_of(run, device))
    return {name: found[1:] or found for name, found in taken.items()}


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The median over rounds of the ratio in each; None where one of them was not measured."""
    ratios = [a / b for a, b in zip(one, other, strict=True)] if one and other else []
    return statistics.median(ratios) if ratios else None
