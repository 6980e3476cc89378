"""What a soaked run must keep to: memory that does not grow, counts that stay, an end that leaves nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import theilslopes

COUNTS = {
    "processes": ("processes", 0.0),
    "shared_memory_entries": ("entries in /dev/shm", 0.0),
    "temporary_files": ("temporary files", 0.0),
    "descriptors": ("open file descriptors", 0.05),
    "threads": ("threads", 0.05),
    "sockets": ("sockets", 0.05),
}
"""What must stay as it is: its name for people, and the share by which medians may stray. More or fewer
batches on their way to the trainers hold more or fewer of the last three; on a busy machine it is fewer."""

CUT_OFF = ("SIGKILL of torchrun", "SIGKILL of a rank")
"""Ends that may cut off a save, whose unfinished folder --resume then removes."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule, and how it was kept."""

    what: str
    measured: str
    bar: str
    kept: bool


def judge(results: dict[str, Any]) -> list[Rule]:
    """All rules, for the results of a soak."""
    looks = results["looks"]
    seconds = np.array(looks["seconds"])
    settled = seconds >= results["warm_up"] * 60 * results["minutes"]
    return [
        growth(seconds[settled], np.array(looks["megabytes"]["own"])[settled], results),
        *(
            constancy(name, np.array(looks[column])[settled], stray)
            for column, (name, stray) in COUNTS.items()
        ),
        *map(nothing_left, results["endings"]),
    ]  # fmt: skip


def growth(seconds: np.ndarray, megabytes: np.ndarray, results: dict[str, Any]) -> Rule:
    """Memory of all processes: the median slope over all pairs of looks, which single peaks do not move."""
    slope, _, low, high = (60 * float(n) for n in theilslopes(megabytes, seconds))
    bar = results["megabytes_per_minute"]
    return Rule(
        what="memory of all processes, files apart",
        measured=f"{np.median(megabytes):,.0f} MB, {slope:+.2f} MB a minute ({low:+.2f} to {high:+.2f})",
        bar=f"< {bar:g} MB a minute",
        kept=slope < bar,
    )


def constancy(name: str, counts: np.ndarray, stray: float) -> Rule:
    """A count in the first and in the last third of the time: the median must not have risen."""
    third = max(1, len(counts) // 3)
    first, last = np.median(counts[:third]), np.median(counts[-third:])
    return Rule(
        what=name,
        measured=f"{first:g} at first, {last:g} at last (from {counts.min():g} to {counts.max():g})",
        bar=f"at most {stray:.0%} more" if stray else "no more",
        kept=bool(last <= (1 + stray) * first),
    )


def nothing_left(ending: dict[str, Any]) -> Rule:
    """What is still there when a run has ended in one of several ways."""
    left = {kind: things for kind, things in ending["left"].items() if things}
    if ending["how"] in CUT_OFF:
        left.pop("unfinished_files", None)
    return Rule(
        what=f"left after {ending['how']}",
        measured=_listed(left) or f"nothing ({ending['seconds']:g} s later)",
        bar="nothing",
        kept=not left,
    )


def _listed(left: dict[str, Sequence[str]]) -> str:
    return "; ".join(
        f"{kind.replace('_', ' ')}: {', '.join(things)}" for kind, things in left.items()
    )
