"""What does sharding save and cost?  python benchmarks/sharding.py

A model of some 10 million parameters trains on random pairs: whole on each rank and sharded, at 1, 2 and 4
ranks on this machine's CPU. Printed are the memory per rank (the most that any rank held above what it held
before it had a model) and the median CPU seconds of a step, which other programs hardly move.
"""

import gc
import itertools
import os
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.distributed as dist
import tyro

from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import run_command
from eval.ranks import Ranks
from rins_mm.config import TrainConfig, initial_model
from rins_mm.learner import Learner
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.watch import Watch


@dataclass(frozen=True, kw_only=True)
class ShardingBenchmark:
    """What is measured."""

    forms: tuple[str, ...] = ("none", "fsdp")
    """Values of the setting `sharding`."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Numbers of processes."""


def main(argv: list[str]) -> None:
    """Measure each form at each number of ranks, and print a table."""
    command = tyro.cli(ShardingBenchmark, args=argv)
    print("sharding  ranks  parameters  MB per rank  CPU s per step and rank")
    for sharding, world_size in itertools.product(command.forms, command.ranks):
        if sharding == "fsdp" and world_size == 1:
            continue  # nothing to divide: the same as none
        with tempfile.TemporaryDirectory() as folder:
            context = get_context("spawn")
            results = context.SimpleQueue()
            ranks = [
                context.Process(target=measure, args=(sharding, rank, world_size, folder, results))
                for rank in range(world_size)
            ]
            for process in ranks:
                process.start()
            found = [results.get() for _ in ranks]
            for process in ranks:
                process.join()
        parameters, most = found[0][0], max(memory for _, memory, _ in found)
        seconds = statistics.median(second for *_, second in found)
        print(
            f"{sharding:8}  {world_size:5}  {parameters / 1e6:8.1f} M  {most / 1e6:11.0f}  {seconds:.3f}",
            flush=True,
        )


def measure(sharding: str, rank: int, world_size: int, folder: str, results: object) -> None:
    """Train on one rank, and hand back parameters, bytes and seconds."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    ranks = Ranks(rank=rank, world_size=world_size)
    # What torch loads when it is first used is no memory of the model.
    train(sharding, ranks, folder, width=64)
    gc.collect()
    before = memory("VmRSS")
    parameters, seconds = train(sharding, ranks, folder, width=256)
    results.put((parameters, memory("VmHWM") - before, seconds))
    dist.destroy_process_group()


def train(sharding: str, ranks: Ranks, folder: str, *, width: int) -> tuple[int, float]:
    """Take a few steps; the number of parameters, and the median CPU seconds of a step."""
    text = TextTowerConfig(
        width=width, depth=6, num_heads=4, mlp_width=4 * width, context_length=16,
        recursion=RecursionConfig(signature="A^3B"),
    )  # fmt: skip
    image = ImageTowerConfig(image_size=32, patch_size=8, width=width, depth=6, num_heads=4)
    config = TrainConfig(
        image=image, text=text, sharding=sharding, precision="fp32", run_dir=folder,
        batch_size=8 * ranks.world_size,
    )  # fmt: skip
    batch = ImageTextBatch.blank(8, image_size=32, end_token=1, num_keys=1)
    batch = replace(batch, valid=torch.ones(8, dtype=torch.bool))
    model = initial_model(config, pad_token=0)
    parameters = sum(p.numel() for p in model.parameters())
    learner = Learner(
        config, model, ranks=ranks, device=torch.device("cpu"), watch=Watch(ranks, 60.0), say=print
    )
    del model
    seconds = []
    for step in range(6):
        if step == 2:
            # The peak is counted anew: building the model, which sharding does not change, is over.
            Path("/proc/self/clear_refs").write_text("5")
        started = time.process_time()
        learner.train_step(step, batch)
        seconds.append(time.process_time() - started)
    return parameters, statistics.median(seconds[2:])


def memory(name: str) -> int:
    """A number of bytes from this process's status."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # glibc otherwise keeps much of what is freed, and the peak would count it. The ranks inherit this.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")
    run_command(main)
