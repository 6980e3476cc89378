"""What only a GPU can show, in one command:  python benchmarks/gpu.py

The training step on made-up batches (ViT-B/16 at 224 pixels beside a text tower of size B): samples per
second, MFU and memory for plain and recursive text towers, short captions and full ones, over batch
sizes; open_clip's model, loss and autocast on the same work where it can be imported; and the loss alone
beside the three products of matrices that it cannot do without. Cases that do not fit are said to be out
of memory; those that the time does not suffice for are named. Writes benchmarks/results/DEVICE.json.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from gpu_cases import Sizes, loss_case, our_case, peer_case

from data_pipelines.errors import UserError, run_command
from rins_mm.distributed import local_device
from rins_mm.peak import describe_peak

DEPTHS = (("AB", 0.0), ("A^3B", 0.0), ("A^3B", 0.5))
"""Signature of the text tower, and the chance that a repeated round is skipped."""


@dataclass(frozen=True, kw_only=True)
class GpuBenchmark:
    """Training steps and losses on one device."""

    batch_sizes: tuple[int, ...] = (256, 1024, 2048)
    """Pairs per step."""
    loss_batch_sizes: tuple[int, ...] = (4096, 16_384, 32_768)
    """Pairs for the loss alone."""
    image_size: int = 224
    """Side of the pictures."""
    patch_size: int = 16
    """Side of a patch."""
    width: int = 768
    """Width of both towers; heads are 64 wide."""
    depth: int = 12
    """Blocks of each tower."""
    context_length: int = 64
    """Tokens of the text tower's context."""
    vocab_size: int = 32_000
    """Rows of the token table."""
    steps: int = 8
    """Steps that count, of each case, after three that do not."""
    minutes: float = 7.0
    """No case is begun after so long."""
    out: Path = Path("benchmarks/results")
    """Folder of the figures."""


def main(argv: list[str]) -> None:
    """Measure what the time suffices for, print two tables, write the figures."""
    command = tyro.cli(GpuBenchmark, args=argv)
    if command.width % 64 or command.steps < 1:
        raise UserError(
            f"width is {command.width} and steps {command.steps}; the width must be a multiple of 64, "
            "and a step must count"
        )
    device = local_device()
    peak = describe_peak(device, "bf16")
    names = ("image_size", "patch_size", "width", "depth", "context_length", "vocab_size")
    sizes = Sizes(**{name: getattr(command, name) for name in names})
    cases: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = []
    for batch_size in command.batch_sizes:
        for captions in ("natural", "full"):
            work = {"captions": captions, "batch_size": batch_size}
            for signature, chance in DEPTHS:
                named = {"trainer": "rins_mm", "signature": signature, "skip_probability": chance}
                make = our_case(sizes, device, signature, chance, **work, steps=command.steps)
                cases.append(({**named, **work}, make))
            make = peer_case(sizes, device, **work, steps=command.steps)
            cases.append(({"trainer": "open_clip", "signature": "AB", **work}, make))
    for batch_size in command.loss_batch_sizes:
        cases.append(
            (
                {"loss_batch_size": batch_size},
                loss_case(device, batch_size, command.width, command.steps),
            )
        )
    results = measure(cases, command.minutes)
    for row in results:
        if "flops_per_step" in row:
            row["mfu"] = row["flops_per_step"] / row["seconds"] / peak["flops_per_second"]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    figures = {
        "device": name,
        "peak": peak,
        "torch": torch.__version__,
        "sizes": asdict(sizes),
        "steps": command.steps,
        "load_average": os.getloadavg()[0],
        "cases": results,
    }
    command.out.mkdir(parents=True, exist_ok=True)
    path = command.out / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(table(results))


def measure(
    cases: list[tuple[dict[str, Any], Callable[[], dict[str, Any]]]], minutes: float
) -> list[dict[str, Any]]:
    """Each case with what came of it."""
    begin = time.monotonic()
    results = []
    for named, run in cases:
        if time.monotonic() - begin > 60 * minutes:
            results.append({**named, "left_out": "no time was left"})
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            outcome = run()
        except torch.OutOfMemoryError:
            outcome = {"left_out": "out of memory"}
        if torch.cuda.is_available() and "left_out" not in outcome:
            outcome["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        results.append({**named, **outcome})
    return results


def table(results: list[dict[str, Any]]) -> str:
    """Steps with their ratio to open_clip's, then losses with theirs to three products."""
    work = ("captions", "batch_size")
    peer = {
        tuple(row[name] for name in work): row["seconds"]
        for row in results
        if row.get("trainer") == "open_clip" and "seconds" in row
    }
    lines = [
        "| times open_clip | trainer | text | p_s | captions | batch | samples/s | MFU | GiB |"
    ]
    lines.append("|---" * 9 + "|")
    for row in (row for row in results if "trainer" in row):
        words = [row["trainer"], row["signature"], str(row.get("skip_probability", ""))]
        words += [str(row[name]) for name in work]
        if "left_out" in row:
            lines.append(f"| {row['left_out']} | {' | '.join(words)} | | | |")
            continue
        theirs = peer.get(tuple(row[name] for name in work))
        ratio = f"{theirs / row['seconds']:.2f}" if theirs else "not measured"
        mfu = f"{row['mfu']:.0%}" if "mfu" in row else ""
        memory = f"{row['peak_gib']:.1f}" if "peak_gib" in row else ""
        rate = row["batch_size"] / row["seconds"]
        lines.append(f"| {ratio} | {' | '.join(words)} | {rate:,.0f} | {mfu} | {memory} |")
    lines += ["", "| times three products | loss at batch | ms | GiB |", "|---|---|---|---|"]
    for row in (row for row in results if "loss_batch_size" in row):
        if "left_out" in row:
            lines.append(f"| {row['left_out']} | {row['loss_batch_size']} | | |")
            continue
        memory = f"{row['peak_gib']:.2f}" if "peak_gib" in row else ""
        ratio = row["seconds"] / row["seconds_of_products"]
        lines.append(
            f"| {ratio:.2f} | {row['loss_batch_size']} | {1e3 * row['seconds']:.2f} | {memory} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
