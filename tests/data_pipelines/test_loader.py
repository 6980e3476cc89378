import itertools
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipelines.bad_samples import BadSampleCounts
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.samples import decoded_sample, sample_name

NUM_SAMPLES = 25


def batches_of(config, dataset, tokenizer, **changes):
    settings = {
        "image_size": 8, "batch_size": 8, "seed": 3,
        "start_step": 0, "num_steps": 5, "rank": 0, "world_size": 1,
    }  # fmt: skip
    return train_batches(config, dataset, tokenizer, **{**settings, **changes})


def rows_of(batch):
    """All that a batch says of each of its slots."""
    offsets = batch.offsets.tolist()
    return [
        (
            batch.sample_keys[slot],
            bool(batch.valid[slot]),
            int(batch.row_seeds[slot]),
            batch.tokens[offsets[slot] : offsets[slot + 1]].tolist(),
            batch.image_keys[slot].tolist(),
            batch.text_keys[slot].tolist(),
            batch.images[slot].numpy().tobytes(),
        )
        for slot in range(len(offsets) - 1)
    ]


def global_batches(config, dataset, tokenizer, world_size, **changes):
    """The rows of each global batch in their order, put together from all ranks."""
    ranks = [
        [
            rows_of(batch)
            for batch in batches_of(
                config, dataset, tokenizer, rank=rank, world_size=world_size, **changes
            )
        ]
        for rank in range(world_size)
    ]
    together = []
    for shares in zip(*ranks, strict=True):
        assert len({len(share) for share in shares}) == 1
        interleaved = [row for slots in zip(*shares, strict=True) for row in slots]
        together.append([row for row in interleaved if row[0]])
        assert not any(row[1] for row in interleaved if not row[0])
    return together


@pytest.fixture(scope="module")
def reference(config, dataset, tokenizer):
    return global_batches(config, dataset, tokenizer, world_size=1, num_steps=8)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_global_batches_know_neither_world_size_nor_workers_nor_where_a_run_began(
    config, dataset, tokenizer, reference, world_size, num_workers
):
    config = replace(config, num_workers=num_workers)
    found = global_batches(config, dataset, tokenizer, world_size, start_step=2, num_steps=5)
    assert found == reference[2:7]


def test_worker_processes_give_the_same_batches_and_leave_nothing_behind(
    config, dataset, tokenizer, reference
):
    config = replace(config, num_workers=2)
    state = torch.random.get_rng_state()
    iterator = batches_of(config, dataset, tokenizer, num_steps=1000)
    found = [rows_of(batch) for batch in itertools.islice(iterator, 8)]
    assert found == reference
    assert torch.equal(torch.random.get_rng_state(), state)
    iterator.close()
    assert multiprocessing.active_children() == []


def test_every_sample_comes_once_per_epoch_and_no_batch_is_short(reference):
    keys = [row[0] for batch in reference for row in batch]
    assert [len(batch) for batch in reference] == [8] * 8
    for start in (0, NUM_SAMPLES):
        assert len(set(keys[start : start + NUM_SAMPLES])) == NUM_SAMPLES
    assert keys[:NUM_SAMPLES] != keys[NUM_SAMPLES : 2 * NUM_SAMPLES]
    assert len({row[2] for batch in reference for row in batch}) == 64


def test_a_row_is_its_sample(dataset, tokenizer, reference):
    by_name = {
        ":".join(sample_name(dataset, n)): decoded_sample(dataset, n) for n in range(NUM_SAMPLES)
    }
    for name, valid, _, tokens, *_, image in itertools.chain(*reference):
        pixels, record = by_name[name]
        assert valid
        assert image == pixels.transpose(2, 0, 1).tobytes()
        first_word = tokenizer.encode([record["label"]])[0][:-1]
        assert tokens[: len(first_word)] == first_word
        assert tokens[-1] == tokenizer.end_token


def test_pairs_that_share_a_caption_or_a_positive_key_belong_together(dataset, tokenizer):
    config = DataConfig(captions=CaptionConfig(kind="label"), positives=("caption", "positive_key"))
    (batch,) = batches_of(config, dataset, tokenizer, batch_size=2 * NUM_SAMPLES, num_steps=1)
    assert torch.equal(batch.image_keys, batch.text_keys)
    numbers = torch.tensor([int(name.split(":")[1]) for name in batch.sample_keys])
    for column, value in enumerate([numbers, numbers % 3, numbers // 2]):
        keys = batch.image_keys[:, column]
        assert torch.equal(keys[:, None] == keys, value[:, None] == value)


def test_a_sample_without_positive_key_is_only_its_own_positive(
    tmp_path, dataset_in, sample_of, tokenizer
):
    samples = [sample_of(1, json=b"{}", txt=b"cat"), sample_of(2, json=b"{}", txt=b"cat")]
    dataset = dataset_in(tmp_path, samples)
    config = DataConfig(positives=("positive_key",))
    (batch,) = batches_of(config, dataset, tokenizer, batch_size=2, num_steps=1)
    assert batch.image_keys.shape == (2, 2)
    assert len(set(batch.image_keys[:, 1].tolist())) == 2


def test_bad_samples_are_holes_that_are_counted_and_shift_nothing(
    tmp_path, config, dataset, dataset_in, sample_of, tokenizer
):
    broken = {3: {"webp": b"<html>"}, 8: {"json": b"{"}, 9: {"json": b"\xff"}, 20: {"webp": b""}}
    samples = [sample_of(n, **broken.get(n, {})) for n in range(NUM_SAMPLES)]
    damaged = dataset_in(tmp_path, samples)
    expected = {
        "0.tar": {"not a picture"},
        "1.tar": {"bad json", "bad utf-8"},
        "2.tar": {"not a picture"},
    }
    for num_workers in (0, 2):
        counts = BadSampleCounts()
        settings = {"batch_size": NUM_SAMPLES, "num_steps": 2}
        there = replace(config, num_workers=num_workers)
        (batch, _) = batches_of(there, damaged, tokenizer, bad_samples=counts, **settings)
        (whole, _) = batches_of(config, dataset, tokenizer, **settings)
        holes = {int(name.split(":")[1]) for name, *rest in rows_of(batch) if not rest[0]}
        assert holes == set(broken)
        for row, whole_row in zip(rows_of(batch), rows_of(whole), strict=True):
            assert row == whole_row or not row[1]
            assert (row[0], row[2]) == (whole_row[0], whole_row[2])
            assert row[1] or row[3] == [tokenizer.end_token]
            assert row[1] or row[-1] == bytes(3 * 8 * 8)
        assert (counts.num_samples, counts.num_bad) == (2 * NUM_SAMPLES, 2 * len(broken))
        assert counts.by_cause == {"not a picture": 4, "bad json": 2, "bad utf-8": 2}
        assert {
            (shard, cause) for shard, causes in expected.items() for cause in causes
        } == counts.by_shard_and_cause.keys()


def test_too_many_bad_samples_end_the_run_with_the_worst_shards(
    tmp_path, config, dataset_in, sample_of, tokenizer
):
    samples = [sample_of(n, **({"webp": b"x"} if n in (1, 2, 9) else {})) for n in range(14)]
    dataset = dataset_in(tmp_path, samples)
    iterator = batches_of(config, dataset, tokenizer, batch_size=100, num_steps=20)
    assert len(list(itertools.islice(iterator, 9))) == 9
    worst = r"more than max_bad_fraction=0.01; worst: 0.tar: 143 x not a picture; 1.tar: 71 x not"
    with pytest.raises(UserError, match=worst):
        next(iterator)
    tolerant = replace(config, max_bad_fraction=0.3)
    assert len(list(batches_of(tolerant, dataset, tokenizer, batch_size=100, num_steps=12))) == 12


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_vanishes_ends_the_run_with_one_line(
    tmp_path, dataset_in, sample_of, tokenizer, num_workers
):
    dataset = dataset_in(tmp_path, [sample_of(n) for n in range(7)])
    (tmp_path / "0.tar").unlink()
    config = DataConfig(num_workers=num_workers)
    with pytest.raises(UserError, match=r"^shard .*0.tar has vanished since .*$"):
        next(batches_of(config, dataset, tokenizer))


def test_pictures_of_other_sizes_are_squeezed_to_the_square(
    tmp_path, config, dataset_in, sample_of, tokenizer
):
    dataset = dataset_in(tmp_path, [sample_of(n, size=20) for n in range(4)])
    (batch,) = batches_of(config, dataset, tokenizer, batch_size=4, num_steps=1)
    assert batch.images.shape == (4, 3, 8, 8)
    for name, image in zip(batch.sample_keys, batch.images, strict=True):
        number = int(name.split(":")[1])
        expected = np.array([number, 255 - number, 7])[:, None, None]
        assert np.abs(image.numpy().astype(int) - expected).max() <= 1
