"""What does the sigmoid loss cost, beside its three matrix products?  python benchmarks/loss.py

Forward and backward of the loss alone, from fp32 features of one process: this project's tiled form, open_clip's
SigLipLoss, and the products that no form can do without (the logits, and the gradients of both sides),
which are the limit. The runs take turns, and each round is compared with itself, so that a busy machine
slows all alike. Memory is the growth of a fresh process at its peak (on a GPU: of the allocator), with
the gradients of the features and without the features. A form that would not fit is left out; memory that
was not measured is four times that of half the batch, and marked so.
"""

import json
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress
from rins_mm.losses import sigmoid_loss

ROOT = Path(__file__).parents[1]
PRODUCT_ROWS = 4096
"""Rows of a product: as quick as all at once, without a matrix of all pairs."""
DENSE_COPIES = 7
"""Matrices of all pairs that open_clip is thought to need at most, before it is tried."""


@dataclass(frozen=True, kw_only=True)
class LossBenchmark:
    """Seconds and memory of the sigmoid loss by size of the batch."""

    batches: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384, 32768)
    """Rows of a batch, each twice the one before."""
    widths: tuple[int, ...] = (512, 768)
    """Widths of the features."""
    rounds: int = 5
    """Times that the forms take turns; the table shows medians. 0: memory alone."""
    seconds: float = 60.0
    """After this many seconds no further round of a size begins."""
    tile_size: int = 0
    """Rows and columns of this project's tiles; 0: its default."""
    threads: int = 1
    """CPU threads."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """cpu or cuda."""
    out: Path = ROOT / "docs" / "results" / "loss.json"
    """File to write."""
    overwrite: bool = False
    """Replace that file."""


def make_leaves(batch: int, width: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit vectors, and the two parameters at their start."""
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(batch, width), dim=-1) for _ in range(2))
    starts = (images, texts, torch.tensor([math.log(10.0)]), torch.tensor([-10.0]))
    images, texts, scale, bias = (start.to(device).requires_grad_() for start in starts)
    return images, texts, scale, bias


def tiled_run(batch: int, width: int, device: str, tile_size: int) -> Callable[[], object]:
    """This project's default form; keys in two columns, as the trainer has them."""
    images, texts, scale, bias = make_leaves(batch, width, device)
    keys = torch.randint(2**62, (batch, 2), device=device)
    valid = torch.ones(batch, dtype=torch.bool, device=device)

    def run() -> None:
        loss = sigmoid_loss(
            images, texts, logit_scale=scale, logit_bias=bias, image_keys=keys, text_keys=keys,
            valid=valid, group=None, tile_size=tile_size,
        )  # fmt: skip
        torch.autograd.grad(loss, (images, texts, scale, bias))

    return run


def open_clip_run(batch: int, width: int, device: str, tile_size: int) -> Callable[[], object]:
    """open_clip's loss and autograd."""
    # After torchvision_cpu, which stands above and which isort would not keep in front.
    from open_clip.loss import SigLipLoss

    images, texts, scale, bias = make_leaves(batch, width, device)
    loss_of = SigLipLoss()

    def run() -> None:
        loss = loss_of(images, texts, scale.exp(), bias)
        torch.autograd.grad(loss, (images, texts, scale, bias))

    return run


def products_run(batch: int, width: int, device: str, tile_size: int) -> Callable[[], object]:
    """The three matrix products alone, into memory that is there already."""
    images, texts = (leaf.detach() for leaf in make_leaves(batch, width, device)[:2])
    pairs = torch.empty(min(PRODUCT_ROWS, batch), batch, device=device)
    image_gradient, text_gradient = torch.zeros_like(images), torch.zeros_like(texts)

    def run() -> None:
        parts = zip(images.split(PRODUCT_ROWS), image_gradient.split(PRODUCT_ROWS), strict=True)
        for rows, gradient in parts:
            logits = torch.mm(rows, texts.T, out=pairs[: len(rows)])
            torch.mm(logits, texts, out=gradient)
            text_gradient.addmm_(logits.T, rows)

    return run


FORMS = {"products": products_run, "tiled": tiled_run, "open_clip": open_clip_run}


def seconds_of(run: Callable[[], object], device: str) -> float:
    """What one run takes: on the CPU the time of all threads, which other programs hardly move."""
    if device == "cpu":
        begin = time.process_time()
        run()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_growth(form: str, batch: int, width: int, command: LossBenchmark) -> int:
    """Bytes that one run adds at its peak; to be called in a process of its own."""
    torch.set_num_threads(command.threads)
    # Whatever the libraries set up at first use is no part of the loss.
    FORMS[form](64, width, command.device, command.tile_size)()
    run = FORMS[form](batch, width, command.device, command.tile_size)
    if command.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    before = kilobytes("/proc/self/status", "VmRSS")
    run()
    return 1024 * (kilobytes("/proc/self/status", "VmHWM") - before)


def kilobytes(file: str, name: str) -> int:
    """What Linux says of its memory, or of this process's."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    assert found, f"{file} has no {name}"
    return int(found[1])


def in_fresh_process(form: str, batch: int, width: int, command: LossBenchmark) -> int:
    """The peak growth of this form."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(peak_growth, form, batch, width, command).result()


def room_for_pairs(batch: int, device: str) -> bool:
    """Whether open_clip's form fits into the memory that is free now."""
    on_gpu = device == "cuda"
    free = (
        torch.cuda.mem_get_info()[0]
        if on_gpu
        else kilobytes("/proc/meminfo", "MemAvailable") * 1024
    )
    return DENSE_COPIES * 4 * batch**2 < free


def measure(command: LossBenchmark, batch: int, width: int, half: dict | None) -> dict:
    """All that is measured at one size; `half` is what half the batch gave."""
    names = [n for n in FORMS if n != "open_clip" or room_for_pairs(batch, command.device)]
    memory = {
        name: in_fresh_process(name, batch, width, command) for name in names if name != "products"
    }
    estimated = "open_clip" not in memory and half is not None
    if estimated:
        memory["open_clip"] = 4 * half["memory_bytes"]["open_clip"]
    runs = {n: FORMS[n](batch, width, command.device, command.tile_size) for n in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for _ in range(command.rounds + 1 if command.rounds else 0):
        if seconds["tiled"] and time.perf_counter() - begin > command.seconds:
            break
        for name, run in runs.items():
            seconds[name].append(seconds_of(run, command.device))
    if len(seconds["tiled"]) > 1:
        # The first round warms up; of a large size it may be the only one.
        seconds = {name: taken[1:] for name, taken in seconds.items()}
    ratios = {
        other: statistics.median(a / b for a, b in zip(*pair, strict=True))
        for other, pair in {
            "times_products": (seconds["tiled"], seconds["products"]),
            "open_clip_times_tiled": (seconds.get("open_clip", []), seconds["tiled"]),
        }.items()
        if pair[0] and pair[1]
    }
    if "open_clip" in memory:
        ratios["memory_share_of_open_clip"] = memory["tiled"] / max(memory["open_clip"], 1)
    return {
        "width": width,
        "batch": batch,
        **ratios,
        "open_clip_memory_is_estimated": estimated,
        "memory_bytes": memory,
        "median_seconds": {
            name: statistics.median(taken) for name, taken in seconds.items() if taken
        },
        "seconds": seconds,
    }


def show(results: dict) -> None:
    """The table, for people."""
    table = Table(
        title="sigmoid loss, forward and backward (medians; * not measured but estimated)"
    )
    for column in ("width", "batch", "tiled : products", "open_clip : tiled", "memory : open_clip's",
                   "products s", "tiled s", "open_clip s", "tiled MB", "open_clip MB"):  # fmt: skip
        table.add_column(column, justify="right")

    def cell(value: float | None, form: str, mark: str = "") -> str:
        return "-" if value is None else format(value, form) + mark

    for row in results["sizes"]:
        mark = "*" if row["open_clip_memory_is_estimated"] else ""
        memory, taken = row["memory_bytes"], row["median_seconds"]
        table.add_row(
            str(row["width"]),
            f"{row['batch']:,}",
            cell(row.get("times_products"), ".2f"),
            cell(row.get("open_clip_times_tiled"), ".2f"),
            cell(row.get("memory_share_of_open_clip"), ".4f", mark),
            *(cell(taken.get(name), ".3f") for name in FORMS),
            cell(memory["tiled"] / 2**20, ",.0f"),
            cell(memory["open_clip"] / 2**20 if "open_clip" in memory else None, ",.0f", mark),
        )
    Console(width=140).print(table)


def write(results: dict, out: Path) -> None:
    """All figures as JSON, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(out)


def main(argv: list[str]) -> None:
    """Measure, print the table, and write all figures."""
    command = tyro.cli(LossBenchmark, args=argv, description=__doc__)
    if command.out.exists() and not command.overwrite:
        raise UserError(f"{command.out} is there already; give --overwrite or another --out")
    torch.set_num_threads(command.threads)
    on_gpu = command.device == "cuda"
    results: dict = {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "threads": command.threads,
        "time": "by the clock" if on_gpu else "of CPU",
        "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "open_clip_torch")},
        "tile_size": command.tile_size,
        "sizes": [],
    }
    sizes = [(batch, width) for width in command.widths for batch in command.batches]
    last: dict | None = None
    for batch, width in with_progress(sizes, total=len(sizes), label="sizes"):
        is_half = last is not None and last["width"] == width and 2 * last["batch"] == batch
        half = last if is_half and last and "open_clip" in last["memory_bytes"] else None
        last = measure(command, batch, width, half)
        results["sizes"].append(last)
        # After each size, since the largest take long: an interrupted run keeps what it has measured.
        write(results, command.out)
    show(results)


if __name__ == "__main__":
    run_command(main)
