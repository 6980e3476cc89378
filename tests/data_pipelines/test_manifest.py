import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.shard_writer import write_shard


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))


def shards_of(folder, counts):
    folder.mkdir(exist_ok=True)
    for number, count in enumerate(counts):
        samples = [(f"{n:03d}", {"webp": b"x", "txt": str(number).encode()}) for n in range(count)]
        write_shard(folder / f"{number}.tar", samples)
    return folder


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_a_sample_is_located_where_counting_finds_it(counts):
    dataset = Dataset(
        shards=(),
        sources=(),
        ends=tuple(sum(counts[: i + 1]) for i in range(len(counts))),
        fingerprint="",
    )
    counted = [(shard, row) for shard, count in enumerate(counts) for row in range(count)]
    assert dataset.num_samples == len(counted)
    assert [dataset.locate(index) for index in range(dataset.num_samples)] == counted


def test_a_number_outside_the_data_set_is_refused():
    dataset = Dataset(shards=(), sources=(), ends=(3,), fingerprint="")
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"sample {index} of a data set with 3"):
            dataset.locate(index)


def test_a_data_set_is_its_shards_in_the_order_in_which_they_are_named(tmp_path):
    folder = shards_of(tmp_path / "a", [2, 3])
    dataset = open_dataset([str(folder / "1.tar"), str(folder / "0.tar")])
    assert [shard.name for shard in dataset.shards] == ["1.tar", "0.tar"]
    assert (dataset.shard_sizes, dataset.num_samples) == ((3, 2), 5)


def test_the_fingerprint_knows_contents_and_order_but_neither_folders_nor_times(tmp_path):
    folder = shards_of(tmp_path / "a", [2, 3])
    fingerprint = open_dataset([f"{folder}/*.tar"]).fingerprint
    elsewhere = tmp_path / "b"
    shutil.copytree(folder, elsewhere)
    os.utime(elsewhere / "0.tar", ns=(1, 1))
    assert open_dataset([f"{elsewhere}/*.tar"]).fingerprint == fingerprint
    turned = open_dataset([f"{folder}/1.tar", f"{folder}/0.tar"]).fingerprint
    shards_of(folder, [2, 4])
    changed = open_dataset([f"{folder}/*.tar"]).fingerprint
    assert len({fingerprint, turned, changed}) == 3
