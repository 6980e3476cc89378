"""Memory of processes: what an index adds, and what trainer and workers hold from epoch to epoch."""

import gc
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
from process_census import megabytes_of

from data_pipelines.captions import CaptionConfig
from data_pipelines.index import read_or_build_index
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.packs import __path__ as packs
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import write_shard
from data_pipelines.tokenizers import SentencePieceTokenizer

IMAGE_SIZE = 32
TOKENIZER = SentencePieceTokenizer(
    (Path(packs[0]) / "emoji" / "tokenizer.model").read_bytes(),
    canonicalize="lower_no_punctuation",
    context_length=32,
)
CAPTION_BYTES = 60
RECORD = json.dumps({"caption": "x" * CAPTION_BYTES, "url": "https://" + "x" * 80, "width": 512})
SAMPLES_PER_SHARD = 10_000
"""In shards as img2dataset writes them."""
SECONDS_TO_FILL = 0.5
"""Time for the workers to finish the batches ahead, so that each reading meets as many of them."""
SETTLING_EPOCHS = 5
"""Epochs in which allocators and caches still fill; the slope counts from there on."""

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def in_fresh_process(
    function: Callable[Given, Returned], *arguments: Given.args, **settings: Given.kwargs
) -> Returned:
    """What the function returns in a new process that has imported this file and done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments, **settings).result()


def sample_parts(picture: bytes) -> dict[str, bytes]:
    """The three parts that img2dataset gives a sample."""
    return {"jpg": picture, "json": RECORD.encode(), "txt": b"x" * CAPTION_BYTES}


def measure_index_memory(folder: Path, num_samples: int) -> dict:
    """Memory that an open data set takes, for shards with img2dataset's keys and parts."""
    folder.mkdir()
    rows = min(SAMPLES_PER_SHARD, num_samples)
    first = folder / "00000.tar"
    write_shard(first, ((f"{row:09d}", sample_parts(b"\xff")) for row in range(rows)))
    read_or_build_index(first)
    for number in range(1, num_samples // rows):
        # More names for the same file and the same index, which every name reads anew.
        for ending in ("", ".index.npz"):
            os.link(f"{first}{ending}", folder / f"{number:05d}.tar{ending}")
    return in_fresh_process(memory_of_index, folder)


def memory_of_index(folder: Path) -> dict:
    """What opening the shards in the folder adds to the memory of this process."""
    # What the first opening of any data set loads belongs to no sample.
    open_dataset([str(folder / "00000.tar")])
    gc.collect()
    before = tree_memory()["own"]
    begin = time.perf_counter()
    dataset = open_dataset([f"{folder}/*.tar"])
    seconds = time.perf_counter() - begin
    gc.collect()
    added = tree_memory()["own"] - before
    arrays = sum(
        getattr(shard, field.name).nbytes
        for shard in dataset.shards
        for field in fields(shard)
        if isinstance(getattr(shard, field.name), np.ndarray)
    )
    return {
        "num_samples": dataset.num_samples,
        "num_shards": len(dataset.shards),
        "megabytes_per_million_samples": added / dataset.num_samples * 1e6,
        "of_which_arrays": arrays / dataset.num_samples,
        "seconds_to_open": seconds,
    }


def measure_epochs(
    shards: Sequence[str], *, num_epochs: int, num_workers: int, batch_size: int
) -> dict:
    """Memory of trainer and workers together at the end of each epoch, and how it grows."""
    readings = in_fresh_process(
        memory_of_epochs,
        shards,
        num_epochs=num_epochs,
        num_workers=num_workers,
        batch_size=batch_size,
    )
    first = min(SETTLING_EPOCHS, num_epochs - 2)
    numbers = range(1, num_epochs + 1)
    return {
        "num_workers": num_workers,
        "batch_size": batch_size,
        "slope_from_epoch": numbers[first],
        "megabytes_per_epoch": {
            kind: statistics.linear_regression(
                numbers[first:], [reading[kind] for reading in readings[first:]]
            ).slope
            for kind in readings[0]
        },
        "megabytes": readings,
    }


def memory_of_epochs(
    shards: Sequence[str], *, num_epochs: int, num_workers: int, batch_size: int
) -> list[dict[str, float]]:
    """The memory of this process and its workers after each epoch."""
    dataset = open_dataset(shards)
    config = DataConfig(num_workers=num_workers, captions=CaptionConfig(kind="label_keywords"))
    last_step = -(-num_epochs * dataset.num_samples // batch_size)
    stream = train_batches(
        config, dataset, TOKENIZER, image_size=IMAGE_SIZE, batch_size=batch_size, seed=0,
        # Some more, so that batches lie ready at the last reading too.
        start_step=0, num_steps=last_step + 2 * (config.prefetch_batches + num_workers),
        rank=0, world_size=1,
    )  # fmt: skip
    readings: list[dict[str, float]] = []
    with closing(stream):
        steps = with_progress(range(1, last_step + 1), total=last_step, label="batches")
        for step, _batch in zip(steps, stream, strict=False):
            if step * batch_size >= (len(readings) + 1) * dataset.num_samples:
                time.sleep(SECONDS_TO_FILL)
                readings.append(tree_memory())
    return readings


def tree_memory() -> dict[str, float]:
    """MB of this process and all below it: in all, and of that what is no file ("own").

    Pages of files, libraries that is, are also shared with other programs, so "all" moves when those
    come and go.
    """
    megabytes = megabytes_of(descendants(os.getpid()))
    return {kind: megabytes[kind] for kind in ("all", "own")}


def descendants(process: int) -> list[int]:
    """The process and all that it and its children have started."""
    children = [
        int(child)
        for task in Path(f"/proc/{process}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [process, *itertools.chain.from_iterable(map(descendants, children))]
