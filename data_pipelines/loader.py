"""Batches for one rank, at any step of the training stream, made ahead of time.

A batch is a pure function of (data set, settings, seed, step, rank, world size): nothing is carried
from one batch to the next, so a run continues from any step by asking for that step.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.manifest import Dataset, SourceConfig, open_sources
from data_pipelines.prefetch import made_in_a_thread, made_in_processes, new_workers
from data_pipelines.rows import BatchMaker, MadeBatch
from data_pipelines.templates import check_templates
from data_pipelines.tokenizers import Tokenizer
from data_pipelines.watchdog import telling_when_stuck


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which samples are trained on, and how batches of them are made."""

    shards: tuple[str, ...] = ()
    """Paths, globs, ranges such as x-{000..013}.tar, or a split of a pack."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    mixture: tuple[SourceConfig, ...] = ()
    """Several sources, each with its weight and its captions, in place of shards and captions."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out, as data_pipelines.lint writes them."""
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
    """After so long a wait for a batch, print the stacks of this rank and its workers, and the last samples' keys;
    0: never."""


def sources_of(config: DataConfig) -> tuple[SourceConfig, ...]:
    """The sources that the configuration names: its mixture, or the only one."""
    if config.mixture and config.shards:
        raise UserError(
            f"data.shards names {', '.join(config.shards)} beside a data.mixture of "
            f"{len(config.mixture)} sources; keep one of the two"
        )
    sources = config.mixture or (SourceConfig(shards=config.shards, captions=config.captions),)
    for source in sources:
        if source.captions.kind == "template":
            check_templates(source.captions.templates, source.captions.template_weights)
    return sources


def open_training_data(config: DataConfig) -> Dataset:
    """The data set that the configuration names, indexed where it is not yet."""
    return open_sources(sources_of(config), config.deny_lists)


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
    epochs, whatever the world size and the number of workers; sources of a mixture take turns by
    their weights, each through its own epochs. A bad sample keeps its slot with `valid = False`; it
    is counted in `bad_samples` when its batch is handed out. Raises UserError when a shard vanishes,
    too many samples are bad, or all sources end before the last step. Closing the iterator ends what
    runs behind.
    """
    counts = BadSampleCounts() if bad_samples is None else bad_samples
    maker = BatchMaker(
        dataset=dataset,
        tokenizer=tokenizer,
        captions=tuple(source.captions for source in sources_of(config)),
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
    length = maker.stream.length
    if length is not None and steps.stop * batch_size > length:
        raise UserError(
            f"the sources of the mixture end after {length:,} samples, and {steps.stop:,} steps of "
            f"{batch_size:,} need {steps.stop * batch_size:,}; do fewer steps, or let a source come "
            "again without end (epochs 0)"
        )
    if config.num_workers == 0:
        made_batches = made_in_a_thread(maker, steps, config.prefetch_batches)
        return _handed_out(made_batches, counts, config)
    workers = new_workers(config.num_workers)
    made_batches = made_in_processes(maker, steps, config.prefetch_batches, workers)
    return _handed_out(made_batches, counts, config, workers.print_stacks)


def _handed_out(
    made_batches: Generator[MadeBatch, None, None],
    counts: BadSampleCounts,
    config: DataConfig,
    tell_more: Callable[[], None] | None = None,
) -> Generator[ImageTextBatch, None, None]:
    last_keys: tuple[str, ...] = ()
    with closing(made_batches):
        while True:
            with telling_when_stuck(config.watchdog_seconds, last_keys, tell_more):
                made = next(made_batches, None)
            if made is None:
                return
            counts.add(made.num_samples, made.findings)
            counts.stop_when_too_many(config.max_bad_fraction)
            last_keys = made.batch.sample_keys
            yield made.batch
