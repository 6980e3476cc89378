"""What do many shards, many samples and many epochs cost?  python benchmarks/data_scale.py

Four questions: how quickly shards are indexed, beside the SHA-256 of the same file, which is the
limit; how long a run with a thousand indexed shards waits for its first batch; how much memory the
index takes; and whether the memory of trainer and workers grows from epoch to epoch.

Indexing and hashing take turns and are timed by CPU time, which other programs hardly move; the files
are in memory by then, so no disk is measured. The wait is timed by the clock. It and the memory are
measured in fresh processes that have imported everything before.
"""

import hashlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from process_memory import (
    IMAGE_SIZE,
    TOKENIZER,
    in_fresh_process,
    measure_epochs,
    measure_index_memory,
    sample_parts,
)
from rich.console import Console
from rich.table import Table

from data_pipelines.errors import UserError, run_command
from data_pipelines.index import read_or_build_index
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import write_shard
from data_pipelines.whole_files import refuse_existing, write_whole

ROOT = Path(__file__).parents[1]
WIDTH = 120
"""Columns of the table: it is to be read whole, also in a log."""


@dataclass(frozen=True, kw_only=True)
class ScaleBenchmark:
    """Indexing, start, and memory with many shards, samples and epochs."""

    picture_bytes: tuple[int, ...] = (4_096, 32_768)
    """Bytes of a picture in the shards that are indexed; one measurement for each."""
    megabytes: int = 256
    """Size of those shards in MB."""
    rounds: int = 9
    """Times that indexing and hashing take turns; medians are shown."""
    shards: int = 1_000
    """Indexed shards before the first batch."""
    samples: int = 50
    """Samples in each of them."""
    starts: int = 5
    """Fresh processes that wait for a first batch; medians are shown."""
    index_samples: int = 1_000_000
    """Samples of the index whose memory is measured."""
    epoch_shards: tuple[str, ...] = ("emoji:train",)
    """What the epochs are read from."""
    epochs: int = 20
    """Epochs after each of which memory is read; at least 2."""
    workers: int = 2
    """Worker processes in those epochs."""
    batch_size: int = 256
    """Samples in a batch."""
    out: Path = ROOT / "docs" / "results" / "data_scale.json"
    """File to write."""
    overwrite: bool = False
    """Replace that file."""


def measure_indexing(folder: Path, picture_bytes: int, megabytes: int, rounds: int) -> dict:
    """Speed of indexing one shard of such pictures, and of hashing the same file."""
    # The index looks at headers and hashes bytes, whatever they are.
    parts = sample_parts(np.random.default_rng(0).bytes(picture_bytes))
    # Each part has a header and is filled up to 512 bytes.
    sample_bytes = sum(512 + -(-len(content) // 512) * 512 for content in parts.values())
    num_samples = max(1, megabytes * 10**6 // sample_bytes)
    shard = folder / f"{picture_bytes}.tar"
    write_shard(shard, ((f"{number:09d}", parts) for number in range(num_samples)))
    sidecar = shard.with_name(f"{shard.name}.index.npz")
    seconds: dict[str, list[float]] = {"index": [], "sha256": []}
    for turn in range(rounds + 1):
        sidecar.unlink(missing_ok=True)
        begin = time.process_time()
        read_or_build_index(shard)
        between = time.process_time()
        with shard.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        end = time.process_time()
        # The first turn does not count.
        if turn > 0:
            seconds["index"].append(between - begin)
            seconds["sha256"].append(end - between)
    size, middle = shard.stat().st_size, statistics.median(seconds["index"])
    shard.unlink()
    return {
        "picture_bytes": picture_bytes,
        "num_samples": num_samples,
        "megabytes": size / 1e6,
        "megabytes_per_second": size / 1e6 / middle,
        "samples_per_second": num_samples / middle,
        "sha256_megabytes_per_second": size / 1e6 / statistics.median(seconds["sha256"]),
        # The median over rounds, each compared with its own neighbour.
        "share_of_sha256": statistics.median(
            sha256 / index for index, sha256 in zip(*seconds.values(), strict=True)
        ),
        "seconds_of_cpu": seconds,
    }


def measure_first_batch(
    folder: Path, num_shards: int, num_samples: int, starts: int, batch_size: int
) -> dict:
    """Seconds from the call to the first batch of many small shards whose indexes are kept."""
    stream = io.BytesIO()
    Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), "orange").save(stream, "JPEG")
    parts = sample_parts(stream.getvalue())
    folder.mkdir()
    for number in with_progress(range(num_shards), total=num_shards, label="shards written"):
        keys = (f"{number:05d}{row:04d}" for row in range(num_samples))
        write_shard(folder / f"{number:05d}.tar", ((key, parts) for key in keys))
    open_dataset([f"{folder}/*.tar"])
    turns = with_progress(range(starts), total=starts, label="starts")
    waits = [in_fresh_process(wait_for_first_batch, folder, batch_size) for _ in turns]
    return {
        "num_shards": num_shards,
        "samples_per_shard": num_samples,
        "seconds_to_open": statistics.median(opened for opened, _ in waits),
        "seconds_to_batch_after_opening": statistics.median(made for _, made in waits),
        "seconds": statistics.median(map(sum, waits)),
        "all_seconds": waits,
    }


def wait_for_first_batch(folder: Path, batch_size: int) -> tuple[float, float]:
    """Seconds until the data set is open, and from there to the first batch."""
    begin = time.perf_counter()
    dataset = open_dataset([f"{folder}/*.tar"])
    opened = time.perf_counter()
    stream = train_batches(
        DataConfig(), dataset, TOKENIZER, image_size=IMAGE_SIZE, batch_size=batch_size, seed=0,
        start_step=0, num_steps=1, rank=0, world_size=1,
    )  # fmt: skip
    with closing(stream):
        next(stream)
        return opened - begin, time.perf_counter() - opened


def show(results: dict) -> None:
    """The table, for people."""
    table = Table("what", "measured", "promised", title="the data engine at scale (medians)")
    for row in results["indexing"]:
        table.add_row(
            f"indexing, pictures of {row['picture_bytes']:,} bytes",
            f"{row['megabytes_per_second']:,.0f} MB/s, {row['samples_per_second']:,.0f} samples/s "
            f"({row['share_of_sha256']:.2f} of SHA-256: {row['sha256_megabytes_per_second']:,.0f})",
        )
    first, index, epochs = (results[name] for name in ("first_batch", "index_memory", "epochs"))
    table.add_row(
        f"first batch, {first['num_shards']:,} shards",
        f"{first['seconds']:.2f} s ({first['seconds_to_open']:.2f} s to open, "
        f"{first['seconds_to_batch_after_opening']:.2f} s for the batch)",
        "< 2 s",
    )
    table.add_row(
        f"index of {index['num_samples']:,} samples",
        f"{index['megabytes_per_million_samples']:.0f} MB per million "
        f"({index['of_which_arrays']:.0f} MB in arrays)",
        "< 100 MB",
    )
    begin, end = epochs["megabytes"][0], epochs["megabytes"][-1]
    table.add_row(
        f"{len(epochs['megabytes'])} epochs, {epochs['num_workers']} workers",
        f"{begin['all']:.0f} MB after the first, {end['all']:.0f} MB after the last, "
        f"{epochs['megabytes_per_epoch']['all']:+.2f} MB per epoch from epoch "
        f"{epochs['slope_from_epoch']} on (libraries apart {begin['own']:.0f}, {end['own']:.0f}, "
        f"{epochs['megabytes_per_epoch']['own']:+.2f} MB)",
        "flat",
    )
    console = Console(width=WIDTH)
    console.print(table)
    console.print(f"load average {results['load_average']:.1f} on {results['cores']} cores")


def main(argv: list[str]) -> None:
    """Measure, print the table, and write all figures."""
    command = tyro.cli(ScaleBenchmark, args=argv, description=__doc__)
    if command.epochs < 2:
        raise UserError(f"--epochs is {command.epochs}; a slope needs at least 2")
    refuse_existing([command.out], overwrite=command.overwrite)
    torch.set_num_threads(1)
    results: dict = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["indexing"] = [
            measure_indexing(folder, size, command.megabytes, command.rounds)
            for size in command.picture_bytes
        ]
        results["first_batch"] = measure_first_batch(
            folder / "many", command.shards, command.samples, command.starts, command.batch_size
        )
        results["index_memory"] = measure_index_memory(folder / "large", command.index_samples)
        results["epochs"] = measure_epochs(
            command.epoch_shards,
            num_epochs=command.epochs,
            num_workers=command.workers,
            batch_size=command.batch_size,
        )
    write_whole(command.out, json.dumps(results, indent=1) + "\n", overwrite=command.overwrite)
    show(results)


if __name__ == "__main__":
    run_command(main)
