"""The stream is the same whoever reads it: ranks, workers and restarts leave no trace in it."""

import itertools
import random
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.shard_writer import write_shard

pytestmark = [
    pytest.mark.slow,
    # torch's advice on speed, where the machine has fewer cores than workers are started here.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

SHARD_SIZES = (61, 7, 44, 53)
NUM_SAMPLES = sum(SHARD_SIZES)
NUM_EPOCHS = 3
# Divides neither the epoch nor itself by 3 or 4: batches straddle epochs, and shares are uneven.
BATCH_SIZE = 22
NUM_STEPS = -(-NUM_EPOCHS * NUM_SAMPLES // BATCH_SIZE)
COMBINATIONS = list(itertools.product((1, 2, 3, 4), (0, 1, 3)))
CONFIG = DataConfig(
    captions=CaptionConfig(kind="label_keywords", num_keywords=3),
    positives=("caption", "positive_key"),
    block_size=50,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, sample_of):
    folder = tmp_path_factory.mktemp("shards")
    numbers = iter(range(NUM_SAMPLES))
    for number, size in enumerate(SHARD_SIZES):
        samples = [sample_of(n) for n in itertools.islice(numbers, size)]
        write_shard(folder / f"{number}.tar", samples)
    return open_dataset([f"{folder}/*.tar"])


@pytest.fixture(scope="module")
def global_batches(dataset, tokenizer):
    """`global_batches((ranks, workers), steps)`: the rows of the global batch of each step."""

    def read(combination, steps=range(NUM_STEPS)):
        world_size, num_workers = combination
        with ExitStack() as stack:
            iterators = [
                stack.enter_context(
                    closing(
                        train_batches(
                            replace(CONFIG, num_workers=num_workers),
                            dataset,
                            tokenizer,
                            image_size=8,
                            batch_size=BATCH_SIZE,
                            seed=11,
                            start_step=steps.start,
                            num_steps=len(steps),
                            rank=rank,
                            world_size=world_size,
                        )
                    )
                )
                for rank in range(world_size)
            ]
            return [together(shares) for shares in zip(*iterators, strict=True)]

    return read


@pytest.fixture(scope="module")
def reference(global_batches):
    return global_batches((1, 0))


def rows_of(batch):
    """All that a batch says of each of its slots."""
    offsets = batch.offsets.tolist()
    return [
        (
            batch.sample_keys[slot],
            batch.tokens[offsets[slot] : offsets[slot + 1]].tolist(),
            bool(batch.valid[slot]),
            int(batch.row_seeds[slot]),
            batch.image_keys[slot].tolist(),
            batch.text_keys[slot].tolist(),
            batch.images[slot].numpy().tobytes(),
        )
        for slot in range(len(offsets) - 1)
    ]


def together(shares):
    """The global batch of which the ranks hold these shares, without the slots that only fill up."""
    rows = [row for slots in zip(*map(rows_of, shares), strict=True) for row in slots]
    assert [row[0] for row in rows[:BATCH_SIZE] if not row[2]] == []
    assert [row[0] for row in rows[BATCH_SIZE:]] == [""] * (len(rows) - BATCH_SIZE)
    return rows[:BATCH_SIZE]


def test_every_sample_comes_exactly_once_in_each_of_three_epochs(dataset, reference):
    stream = [row[0] for batch in reference for row in batch]
    everything = sorted(
        f"{shard.name}:{shard.key(row)}"
        for shard in dataset.shards
        for row in range(shard.num_samples)
    )
    epochs = [stream[n * NUM_SAMPLES : (n + 1) * NUM_SAMPLES] for n in range(NUM_EPOCHS)]
    assert [sorted(epoch) for epoch in epochs] == [everything] * NUM_EPOCHS
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: f"{c[0]} ranks {c[1]} workers")
def test_global_batches_are_the_same_for_any_ranks_and_workers(
    combination, global_batches, reference
):
    assert global_batches(combination) == reference


def interruptions():
    """Ten random steps, each with two combinations that differ: before it and from it on."""
    draws = random.Random(20)
    steps = draws.sample(range(1, NUM_STEPS), 10)
    return [(step, *draws.sample(COMBINATIONS, 2)) for step in steps]


@pytest.mark.parametrize(("step", "before", "after"), interruptions())
def test_a_run_goes_on_at_any_step_with_other_ranks_and_workers(
    step, before, after, global_batches, reference
):
    assert before != after
    first = global_batches(before, range(step))
    assert first + global_batches(after, range(step, NUM_STEPS)) == reference
