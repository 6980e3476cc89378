"""What do a million samples in 2,000 shards cost, and a run of 5,000 steps?  python benchmarks/large.py

The shards are links to one small shard, so that no disk is filled; each has an index of its own to read.
The run has towers of a few thousand weights, so that what grows with its length is seen beside it. Time is
of the CPU, which other programs hardly move, unless it is said to be by the clock.
"""

import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from measuring import RESULTS, machine, write_figures
from PIL import Image
from process_census import megabytes_of
from process_memory import IMAGE_SIZE, TOKENIZER, in_fresh_process, sample_parts
from rich.console import Console

from data_pipelines.errors import UserError, run_command
from data_pipelines.index import read_or_build_index
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.reader import read_sample
from data_pipelines.shard_writer import write_shard
from rins_mm.run_log import read_rows

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "tests" / "helpers" / "toy.py"
SMALLEST_TOWERS = (
    "--image.width", "16", "--image.depth", "2", "--image.num-heads", "1", "--image.patch-size", "16",
    "--text.width", "16", "--text.depth", "2", "--text.num-heads", "1", "--text.mlp-width", "32",
    "--batch-size", "4",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LargeBenchmark:
    """Many samples, many shards, many steps."""

    shards: int = 2_000
    samples: int = 500
    """In each shard."""
    steps: int = 5_000
    checkpoint_every: int = 500
    """Steps."""
    out: Path = RESULTS / "large.json"
    """File of the figures; replaced."""


def measure_data(folder: Path, num_shards: int, num_samples: int) -> dict[str, Any]:
    """What it takes to open so many indexed shards, to begin, and to read from each of them."""
    folder.mkdir()
    stream = io.BytesIO()
    Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), "orange").save(stream, "JPEG")
    parts = sample_parts(stream.getvalue())
    first = folder / "00000.tar"
    write_shard(first, ((f"{row:09d}", parts) for row in range(num_samples)))
    read_or_build_index(first)
    for number in range(1, num_shards):
        for ending in ("", ".index.npz"):
            os.link(f"{first}{ending}", folder / f"{number:05d}.tar{ending}")
    return in_fresh_process(open_and_read, folder)


def open_and_read(folder: Path) -> dict[str, Any]:
    """In a fresh process: open all shards of the folder, wait for a batch, read a sample of each shard."""
    # What the first opening of any data set loads belongs to no shard.
    open_dataset([str(folder / "00000.tar")])
    before, files_before = megabytes_of([os.getpid()])["own"], open_files()
    dataset, cpu, clock = timed(lambda: open_dataset([f"{folder}/*.tar"]))
    megabytes = megabytes_of([os.getpid()])["own"] - before
    files_open = open_files()
    _, batch_cpu, batch_clock = timed(lambda: first_batch(dataset))
    most = 0
    for end in dataset.ends:
        read_sample(dataset, end - 1)
        most = max(most, open_files())
    return {
        "num_samples": dataset.num_samples,
        "num_shards": len(dataset.shards),
        "cpu_seconds_to_open": cpu,
        "seconds_to_open": clock,
        "megabytes": megabytes,
        "cpu_seconds_to_first_batch": batch_cpu,
        "seconds_to_first_batch": batch_clock,
        "files_opened_by_opening": files_open - files_before,
        "files_opened_by_reading_all": most - files_before,
    }


def first_batch(dataset: Dataset) -> None:
    """Wait for the first batch of a run."""
    stream = train_batches(
        DataConfig(), dataset, TOKENIZER, image_size=IMAGE_SIZE, batch_size=256, seed=0,
        start_step=0, num_steps=1, rank=0, world_size=1,
    )  # fmt: skip
    with closing(stream):
        next(stream)


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the call returns, its CPU time in seconds, and its time by the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    result = run()
    return result, time.process_time() - cpu, time.perf_counter() - clock


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def measure_run(folder: Path, steps: int, checkpoint_every: int) -> dict[str, Any]:
    """A run of so many steps on one rank, what it leaves, and what becomes of that."""
    run_dir = folder / "run"
    words = ["rins_mm.train", str(RECIPE), "--run-dir", str(run_dir), *SMALLEST_TOWERS]
    words += ["--max-steps", str(steps), "--checkpoint-every", str(checkpoint_every)]
    metrics = run_dir / "metrics.jsonl"
    looks: list[tuple[int, float, float]] = []
    with (folder / "log.txt").open("w") as log:
        run = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, stdout=log, stderr=log)
    begin = time.perf_counter()
    while run.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError, IndexError, ValueError):
            if metrics.stat().st_size:
                step = last_step(metrics)
                looks.append((step, megabytes_of([run.pid])["own"], cpu_seconds_of(run.pid)))
        # The first of them are to be met early, the others seldom.
        time.sleep(0.02 if not looks else 1.0)
    seconds = time.perf_counter() - begin
    if run.returncode:
        raise UserError(f"the run has failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
    rows = [row for row in read_rows(metrics) if "loss" in row]
    stalls = [row["checkpoint_stall_seconds"] for row in rows if row["checkpoint_stall_seconds"]]
    settled = [megabytes for step, megabytes, _ in looks if step >= 0.1 * steps]
    page = folder / "report.html"
    report = command_seconds(["rins_mm.report", str(run_dir), "--out", str(page)])
    return {
        "steps": len(rows),
        "cpu_seconds_to_first_step": looks[0][2],
        "cpu_seconds_per_step": (looks[-1][2] - looks[0][2]) / (looks[-1][0] - looks[0][0]),
        "seconds": seconds,
        "megabytes_after_a_tenth": settled[0],
        "megabytes_at_the_end": settled[-1],
        "metrics_bytes": metrics.stat().st_size,
        "bytes_per_row": metrics.stat().st_size / len(rows),
        "checkpoint_stall_seconds": {"median": statistics.median(stalls), "most": max(stalls)},
        "checkpoint_megabytes": sum(
            path.stat().st_size for path in (run_dir / "checkpoints").rglob("step-*/*")
        ) / len(list((run_dir / "checkpoints").iterdir())) / 1e6,
        "report_cpu_seconds": report,
        "import_cpu_seconds": command_seconds(["rins_mm.report", "--help"]),
        "report_bytes": page.stat().st_size,
        "finished_resume_cpu_seconds": command_seconds([*words, "--resume"]),
    }  # fmt: skip


def last_step(metrics: Path) -> int:
    """The step of the last whole row."""
    with metrics.open("rb") as file:
        file.seek(max(0, metrics.stat().st_size - 16_384))
        row: dict[str, int] = json.loads(file.read().rpartition(b"\n")[0].splitlines()[-1])
    return row["step"]


def cpu_seconds_of(process: int) -> float:
    """What a living process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command_seconds(words: Sequence[str]) -> float:
    """CPU time of a command of this project, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(argv: list[str]) -> None:
    """Measure, print, and write the figures."""
    command = tyro.cli(LargeBenchmark, args=argv, description=__doc__)
    figures: dict[str, Any] = machine(torch.device("cpu"))
    with tempfile.TemporaryDirectory(prefix="large-") as name:
        folder = Path(name)
        figures["data"] = measure_data(folder / "data", command.shards, command.samples)
        figures["run"] = measure_run(folder, command.steps, command.checkpoint_every)
    write_figures(command.out, figures)
    Console().print_json(data=figures)


if __name__ == "__main__":
    run_command(main)
