"""Batches for one rank, at any step of the training stream, made ahead of time.

A batch is a pure function of (data set, settings, seed, step, rank, world size): nothing is carried
from one batch to the next, so a run continues from any step by asking for that step.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig
from data_pipelines.manifest import Dataset
from data_pipelines.prefetch import made_in_a_thread, made_in_processes
from data_pipelines.rows import BatchMaker, MadeBatch
from data_pipelines.tokenizers import Tokenizer
from data_pipelines.watchdog import telling_when_stuck


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are trained on, and how batches of them are made."""

    shards: tuple[str, ...] = ("emoji:train",)
    """Paths, globs, ranges such as x-{000..013}.tar, or a split of a pack."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out, as data_pipelines.lint writes them."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    positives: tuple[Literal["caption", "positive_key"], ...] = ()
    """Pairs that share these belong together, beside each picture and its own caption."""
    num_workers: int = 0
    """Worker processes per rank; 0 prepares batches in a thread of the trainer."""
    prefetch_batches: int = 4
    """Batches per rank that are prepared ahead; with workers, at least one for each of them."""
    max_bad_fraction: float = 0.01
    """Stop when more of the last 10,000 samples were bad; judged from 1,000 samples on."""
    block_size: int = 65_536
    """Samples that are shuffled together, after the shards were shuffled."""
    scaled_decoding: bool = False
    """Decode large JPEGs 2, 4 or 8 times smaller, never below the image size: quicker, and slightly
    other pixels."""
    watchdog_seconds: float = 60.0
    """After so long a wait for a batch, print the stacks of all threads and the last samples' keys; 0: never."""


def train_batches(
    config: DataConfig,
    dataset: Dataset,
    tokenizer: Tokenizer,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    start_step: int,
    num_steps: int,
    rank: int,
    world_size: int,
    bad_samples: BadSampleCounts | None = None,
) -> Generator[ImageTextBatch, None, None]:
    """This rank's share of the global batches `start_step` … `start_step + num_steps - 1`.

    Global batch b holds places b * batch_size … (b + 1) * batch_size - 1 of the endless stream of
    epochs, whatever the world size and the number of workers. A bad sample keeps its slot with
    `valid = False`; it is counted in `bad_samples` when its batch is handed out. Raises UserError
    when a shard vanishes or too many samples are bad. Closing the iterator ends what runs behind.
    """
    counts = BadSampleCounts() if bad_samples is None else bad_samples
    maker = BatchMaker(
        dataset=dataset,
        tokenizer=tokenizer,
        captions=config.captions,
        positives=config.positives,
        block_size=config.block_size,
        image_size=image_size,
        scaled_decoding=config.scaled_decoding,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    steps = range(start_step, start_step + num_steps)
    if config.num_workers == 0:
        made_batches = made_in_a_thread(maker, steps, config.prefetch_batches)
    else:
        made_batches = made_in_processes(maker, steps, config.prefetch_batches, config.num_workers)
    return _handed_out(made_batches, counts, config)


def _handed_out(
    made_batches: Generator[MadeBatch, None, None], counts: BadSampleCounts, config: DataConfig
) -> Generator[ImageTextBatch, None, None]:
    last_keys: tuple[str, ...] = ()
    with closing(made_batches):
        while True:
            with telling_when_stuck(config.watchdog_seconds, last_keys):
                made = next(made_batches, None)
            if made is None:
                return
            counts.add(made.num_samples, made.findings)
            counts.stop_when_too_many(config.max_bad_fraction)
            last_keys = made.batch.sample_keys
            yield made.batch
