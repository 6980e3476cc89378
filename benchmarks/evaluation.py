"""What does evaluation cost, beside CLIP_benchmark's?  python benchmarks/evaluation.py

Two pieces of the same work. The class vectors of 100 classes in 80 sentences each: with one and the same
open_clip model on both sides, and with a packed text tower of this project of the same size; and recall
both ways over random features. Each measurement is a fresh process on one CPU thread in float32 (their
default, bfloat16, stands beside it), timed by CPU time, which other programs hardly move. The sides take
turns; printed are medians over rounds of ratios. Memory is the peak beyond the process that holds the
features already.
"""

import contextlib
import json
import os
import platform
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import tyro
from evaluation_sides import (
    CLASSIFIERS,
    RETRIEVALS,
    Retrieval,
    Towers,
    classifier_seconds,
    retrieval_cost,
)
from evaluation_table import evaluation_table
from process_memory import in_fresh_process

from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress
from data_pipelines.whole_files import refuse_existing, write_whole

ROOT = Path(__file__).parents[1]
RATIOS = {
    "CLIP, the same model": ("CLIP, theirs", "CLIP, ours"),
    "SigLIP, the same model": ("SigLIP, theirs", "SigLIP, ours"),
    "SigLIP, theirs in bfloat16": ("SigLIP, theirs in bfloat16", "SigLIP, ours"),
    "packed, of SigLIP's size": ("SigLIP, theirs", "packed, ours"),
}
"""How many times as long the first takes."""
BYTES_OF_A_PAIR = 7
"""What CLIP_benchmark holds for each picture and text: a score, whether they belong together, and more."""
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Memory that is freed goes back to the system, so that peaks are what is needed and not what is left of
blocks that were freed: without it CLIP_benchmark's peak is several times as high at some sizes."""


@dataclass(frozen=True, kw_only=True)
class EvaluationBenchmark:
    """Class vectors and retrieval, beside CLIP_benchmark."""

    num_classes: int = 100
    """Classes, at most 1,000."""
    num_templates: int = 80
    """Sentences for each, at most 80."""
    widths: tuple[int, ...] = (64, 192)
    """Widths of the text tower, each a multiple of 64."""
    depth: int = 2
    """Its blocks."""
    rounds: int = 5
    """Times that the classifiers take turns. 0: retrieval alone."""
    num_pictures: int = 20_000
    """Pictures to rank. 0: classifiers alone."""
    texts_per_picture: int = 5
    """Texts of each."""
    feature_width: int = 512
    """Width of the features that are ranked."""
    retrieval_rounds: int = 1
    """Times that retrieval takes turns; it takes minutes."""
    out: Path = ROOT / "docs" / "results" / "evaluation.json"
    """Where the figures go."""
    overwrite: bool = False
    """Replace the figures that are there."""


def main(argv: list[str]) -> None:
    """Measure, print the ratios, and write the figures."""
    command = tyro.cli(EvaluationBenchmark, args=argv)
    refuse_existing([command.out], overwrite=command.overwrite)
    if command.num_pictures:
        refuse_too_little_memory(command)
    load_before = os.getloadavg()[0]
    results = {
        "command": shlex.join(["python", "benchmarks/evaluation.py", *argv]),
        "versions": {
            name: version(name) for name in ("torch", "open_clip_torch", "clip-benchmark")
        },
        "machine": platform.machine(),
        "settings": {k: v for k, v in asdict(command).items() if k not in ("out", "overwrite")},
        "classifiers": [measure_classifiers(command, width) for width in command.widths]
        if command.rounds
        else [],
        "retrieval": measure_retrieval(command) if command.num_pictures else None,
        "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
    }
    write_whole(command.out, json.dumps(results, indent=1) + "\n", overwrite=command.overwrite)
    print(evaluation_table(results))


def refuse_too_little_memory(command: EvaluationBenchmark) -> None:
    """Before CLIP_benchmark's matrices of all pairs fill the machine."""
    pairs = command.num_pictures**2 * command.texts_per_picture
    meminfo = Path("/proc/meminfo").read_text()
    free = int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024
    if pairs * BYTES_OF_A_PAIR > free:
        raise UserError(
            f"CLIP_benchmark needs about {pairs * BYTES_OF_A_PAIR / 1e9:.0f} GB for "
            f"--num-pictures {command.num_pictures}, and {free / 1e9:.0f} GB are free; take fewer"
        )


def measure_classifiers(command: EvaluationBenchmark, width: int) -> dict[str, object]:
    """The seconds of each side in each round, and the ratios."""
    towers = Towers(
        width=width,
        depth=command.depth,
        num_classes=command.num_classes,
        num_templates=command.num_templates,
    )
    seconds: dict[str, list[float]] = {side: [] for side in CLASSIFIERS}
    sides = list(CLASSIFIERS)
    turns = [
        # Who comes first changes from round to round.
        side
        for turn in range(command.rounds)
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]
    ]
    for side in with_progress(turns, total=len(turns), label=f"classifiers of width {width}"):
        seconds[side].append(in_fresh_process(classifier_seconds, side, towers))
    return {
        "width": width,
        "times_as_fast": {
            name: statistics.median(a / b for a, b in zip(*map(seconds.get, pair), strict=True))
            for name, pair in RATIOS.items()
        },
        "median_seconds": {side: statistics.median(taken) for side, taken in seconds.items()},
        "seconds": seconds,
    }


def measure_retrieval(command: EvaluationBenchmark) -> dict[str, object]:
    """Seconds and megabytes of both sides, and the ratios."""
    sizes = Retrieval(
        num_pictures=command.num_pictures,
        texts_per_picture=command.texts_per_picture,
        width=command.feature_width,
    )
    turns = list(RETRIEVALS) * command.retrieval_rounds
    costs: dict[str, list[dict]] = {side: [] for side in RETRIEVALS}
    with environment(MALLOC):
        for side in with_progress(turns, total=len(turns), label="retrieval"):
            costs[side].append(in_fresh_process(retrieval_cost, side, sizes))
    ratios = {
        what: statistics.median(
            theirs[what] / max(ours[what], 1e-9)
            for theirs, ours in zip(costs["theirs"], costs["ours"], strict=True)
        )
        for what in ("seconds", "megabytes")
    }
    return {
        "num_texts": command.num_pictures * command.texts_per_picture,
        "times_as_fast": ratios["seconds"],
        "times_less_memory": ratios["megabytes"],
        "largest_difference_of_recalls": max(
            abs(value - costs["ours"][0]["recalls"][name])
            for name, value in costs["theirs"][0]["recalls"].items()
        ),
        "costs": costs,
    }


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """With these variables for the processes that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    run_command(main)
