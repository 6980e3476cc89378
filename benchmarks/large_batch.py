"""Peak memory and time of steps whose batch does not fit at once:  python benchmarks/large_batch.py

Each row is a run of the trainer in a process of its own: two towers of width 32 and depth 2 on the emoji pack.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

ROOT = Path(__file__).parents[1]
TOWERS = (
    "--image.width 32 --image.num-heads 2 --image.patch-size 16 --image.stem-channels "
    "--text.width 32 --text.mlp-width 64 --precision fp32"
)
STEPS = "--checkpoint-every 1000 --log-every 1 --schedule.warmup-samples 0 --evaluation.tasks"


@dataclass(frozen=True, kw_only=True)
class LargeBatchCommand:
    """Train a few steps at each batch size, and write down memory and time."""

    batch_sizes: tuple[int, ...] = (32_768,)
    """Pairs of a step."""
    micro_batch_sizes: tuple[int, ...] = (512,)
    """Pairs at once, one number for each batch size; 0: all."""
    steps: int = 2
    """Steps of each run; the time is that of the last."""
    out: Path = ROOT / "docs" / "results" / "large_batch.json"
    """JSON file to write."""


def measure(batch_size: int, micro_batch_size: int, steps: int) -> dict[str, float]:
    """Peak memory and processor time of a whole run, and the seconds of its last step."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        words = [
            *("-m", "rins_mm.train", "emoji", "--run-dir", str(run_dir)),
            *("--max-steps", str(steps), "--batch-size", str(batch_size)),
            *("--micro-batch-size", str(micro_batch_size), "--data.prefetch-batches", "1"),
            *TOWERS.split(),
            *STEPS.split(),
        ]
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"the run of {batch_size} in parts of {micro_batch_size} has failed")
        rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "loss" in row][-1]
    seconds = batch_size / last["samples_per_second"]
    return {
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "loss": last["loss"],
        "seconds_per_step": seconds * (1 - last["data_wait_fraction"]),
        "seconds_waiting_for_data": seconds * last["data_wait_fraction"],
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_gib": usage.ru_maxrss / 2**20,
    }


def main(argv: list[str]) -> None:
    """Measure all rows and write them."""
    command = tyro.cli(LargeBatchCommand, args=argv)
    sizes = zip(command.batch_sizes, command.micro_batch_sizes, strict=True)
    rows = []
    for batch_size, micro_batch_size in sizes:
        rows.append(measure(batch_size, micro_batch_size, command.steps))
        print(json.dumps(rows[-1]))
    facts = {"torch": torch.__version__, "processor": platform.machine(), "cpus": os.cpu_count()}
    command.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
