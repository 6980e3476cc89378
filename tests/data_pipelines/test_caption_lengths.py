"""Lengths of captions that a plan is made from."""

import numpy as np
import pytest
import tiny

from data_pipelines.caption_lengths import _stretches, caption_lengths
from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig, open_training_data, train_batches
from data_pipelines.shard_writer import write_shard

CONFIG = DataConfig(
    shards=("emoji:val",), captions=CaptionConfig(kind="label_keywords"), block_size=100
)


def test_captions_are_measured_as_training_reads_them():
    dataset, number = open_training_data(CONFIG), 64
    measured = caption_lengths(CONFIG, dataset, tiny.tokenizer(), seed=3)
    assert len(measured) == dataset.num_samples
    batches = train_batches(
        CONFIG, dataset, tiny.tokenizer(), image_size=8, batch_size=number, seed=3, start_step=0,
        num_steps=1, rank=0, world_size=1,
    )  # fmt: skip
    read = next(batches).offsets.diff().tolist()
    batches.close()
    assert measured[:number].tolist() == read


def test_fewer_are_a_fair_sample_and_the_same_each_time():
    dataset = open_training_data(CONFIG)
    every = caption_lengths(CONFIG, dataset, tiny.tokenizer(), seed=3)
    some = caption_lengths(CONFIG, dataset, tiny.tokenizer(), seed=3, number=320)
    assert len(some) == 320
    assert some.tolist() == caption_lengths(
        CONFIG, dataset, tiny.tokenizer(), seed=3, number=320
    ).tolist()  # fmt: skip
    assert abs(some.mean() - every.mean()) < 5 * every.std() / np.sqrt(320)


def test_a_sample_without_a_caption_counts_as_the_end_token(tmp_path):
    write_shard(
        tmp_path / "x.tar",
        [("a", {"png": b"", "txt": b"apple apple apple"}), ("b", {"png": b"", "txt": b" "})],
    )
    config = DataConfig(shards=(str(tmp_path / "x.tar"),))
    lengths = caption_lengths(config, open_training_data(config), tiny.tokenizer(), seed=0)
    assert sorted(lengths.tolist()) == [1, *map(len, tiny.tokenizer().encode(["apple " * 3]))]


@pytest.mark.parametrize(
    ("end", "number", "found"),
    [(10**9, 4096, 4096), (4097, 4096, 4096), (100, 7, 7), (50, 49, 48), (9, 20, 9)],
)
def test_stretches_do_not_overlap_and_reach_over_the_whole_epoch(end, number, found):
    stretches = _stretches(end, number)
    places = [place for start, stop in stretches for place in range(start, stop)]
    assert len(places) == len(set(places)) == found
    assert max(places) < end
    assert max(places) > 0.8 * end
