"""What does the sigmoid loss cost, beside its three matrix products?  python benchmarks/loss.py

Forward and backward of the loss alone, on the CPU (benchmarks/gpu.py does the same on a GPU), from fp32 features
of one process: this project's tiled form, open_clip's SigLipLoss, and the products that no form can do
without (the logits, and the gradients of both sides), which are the limit. The runs take turns, and each round
is compared with itself, so that a busy machine slows all alike. Memory is the growth of a fresh process
at its peak, with the gradients of the features and without the features. A form that would not fit is
left out; memory that was not measured is four times that of half the batch, and marked so.
"""

import re
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch
import tyro
from loss_forms import loss_forms
from measuring import RESULTS, machine, median_ratio, take_turns, write_figures
from rich.console import Console
from rich.table import Table

from data_pipelines.errors import run_command
from data_pipelines.progress import with_progress
from data_pipelines.whole_files import refuse_existing

CPU = torch.device("cpu")
DENSE_COPIES = 7
"""Matrices of all pairs that open_clip is thought to need at most, before it is tried."""


@dataclass(frozen=True, kw_only=True)
class LossBenchmark:
    """Seconds and memory of the sigmoid loss by size of the batch."""

    batch_sizes: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384, 32768)
    """Rows of a batch, each twice the one before."""
    widths: tuple[int, ...] = (512, 768)
    """Widths of the features."""
    compiler: Literal["off", "inductor", "aot_eager"] = "off"
    """Measure the tiled form compiled as well, with this backend of torch.compile."""
    tile_size: int = 0
    """Rows and columns of this project's tiles; 0: its default."""
    threads: int = 1
    """CPU threads."""
    rounds: int = 5
    """Times that the forms take turns; the table shows medians. 0: memory alone."""
    seconds: float = 60.0
    """After this many seconds no further round of a size begins."""
    out: Path = RESULTS / "loss.json"
    """Where the figures go."""
    overwrite: bool = False
    """Replace the figures that are there."""


def main(argv: list[str]) -> None:
    """Measure, print the table, and write all figures."""
    command = tyro.cli(LossBenchmark, args=argv, description=__doc__)
    refuse_existing([command.out], overwrite=command.overwrite)
    torch.set_num_threads(command.threads)
    results: dict = {
        **machine(CPU), "threads": command.threads, "time": "of CPU", "tile_size": command.tile_size,
        "sizes": [],
    }  # fmt: skip
    sizes = [(batch, width) for width in command.widths for batch in command.batch_sizes]
    last: dict | None = None
    for batch, width in with_progress(sizes, total=len(sizes), label="sizes"):
        is_half = last is not None and last["width"] == width and 2 * last["batch"] == batch
        half = last if is_half and last and "open_clip" in last["memory_bytes"] else None
        last = measure(command, batch, width, half)
        results["sizes"].append(last)
        # After each size, since the largest take long: an interrupted run keeps what it has measured.
        write_figures(command.out, results)
    show(results)


def measure(command: LossBenchmark, batch: int, width: int, half: dict | None) -> dict:
    """All that is measured at one size; `half` is what half the batch gave."""
    forms = loss_forms(command.compiler)
    if not room_for_pairs(batch):
        del forms["open_clip"]
    memory = {
        name: in_fresh_process(name, batch, width, command) for name in forms if name != "products"
    }
    estimated = "open_clip" not in memory and half is not None
    if estimated:
        memory["open_clip"] = 4 * half["memory_bytes"]["open_clip"]
    runs = {name: form(batch, width, CPU, command.tile_size) for name, form in forms.items()}
    seconds = take_turns(runs, CPU, rounds=command.rounds, seconds=command.seconds)
    tiled = seconds["tiled"]
    ratios = {
        "times_products": median_ratio(tiled, seconds["products"]),
        "compiled_times_tiled": median_ratio(seconds.get("compiled", []), tiled),
        "open_clip_times_tiled": median_ratio(seconds.get("open_clip", []), tiled),
    }
    if "open_clip" in memory:
        ratios["memory_share_of_open_clip"] = memory["tiled"] / max(memory["open_clip"], 1)
    return {
        "width": width,
        "batch": batch,
        **{name: ratio for name, ratio in ratios.items() if ratio is not None},
        "open_clip_memory_is_estimated": estimated,
        "memory_bytes": memory,
        "median_seconds": {
            name: statistics.median(taken) for name, taken in seconds.items() if taken
        },
        "seconds": seconds,
    }


def in_fresh_process(form: str, batch: int, width: int, command: LossBenchmark) -> int:
    """The peak growth of this form."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(peak_growth, form, batch, width, command).result()


def peak_growth(name: str, batch: int, width: int, command: LossBenchmark) -> int:
    """Bytes that one run adds at its peak; to be called in a process of its own."""
    torch.set_num_threads(command.threads)
    form = loss_forms(command.compiler)[name]
    # Whatever the libraries set up at first use is no part of the loss.
    form(64, width, CPU, command.tile_size)()
    run = form(batch, width, CPU, command.tile_size)
    # The peak is counted anew: compiling needs memory too.
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("/proc/self/status", "VmRSS")
    run()
    return 1024 * (kilobytes("/proc/self/status", "VmHWM") - before)


def room_for_pairs(batch: int) -> bool:
    """Whether open_clip's form fits into the memory that is free now."""
    return DENSE_COPIES * 4 * batch**2 < 1024 * kilobytes("/proc/meminfo", "MemAvailable")


def kilobytes(file: str, name: str) -> int:
    """What Linux says of its memory, or of this process's."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    assert found, f"{file} has no {name}"
    return int(found[1])


def show(results: dict) -> None:
    """The table, for people."""
    table = Table(
        title="sigmoid loss, forward and backward (medians; * not measured but estimated)"
    )
    columns = ("width", "batch", "tiled : products", "compiled : tiled", "open_clip : tiled",
               "memory : open_clip's", "products s", "tiled s", "open_clip s", "tiled MB",
               "open_clip MB")  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")

    def cell(value: float | None, form: str, mark: str = "") -> str:
        return "-" if value is None else format(value, form) + mark

    for row in results["sizes"]:
        mark = "*" if row["open_clip_memory_is_estimated"] else ""
        memory, taken = row["memory_bytes"], row["median_seconds"]
        ratios = ("times_products", "compiled_times_tiled", "open_clip_times_tiled")
        table.add_row(
            str(row["width"]),
            f"{row['batch']:,}",
            *(cell(row.get(name), ".2f") for name in ratios),
            cell(row.get("memory_share_of_open_clip"), ".4f", mark),
            *(cell(taken.get(name), ".3f") for name in ("products", "tiled", "open_clip")),
            cell(memory["tiled"] / 2**20, ",.0f"),
            cell(memory["open_clip"] / 2**20 if "open_clip" in memory else None, ",.0f", mark),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    run_command(main)
