"""Arithmetic of resuming and of sharing out, and both directions between webdataset and this reader."""

import gc
import io
import json
import tracemalloc

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.index import read_or_build_index
from data_pipelines.manifest import dataset_of, open_dataset
from data_pipelines.order import EpochOrder, stream_positions
from data_pipelines.reader import read_sample
from data_pipelines.samples import decoded_sample
from data_pipelines.shard_writer import write_shard
from data_pipelines.stream import Stream

# webdataset leaves its shards to the collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

shard_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)
keys = st.from_regex(r"[a-z0-9_-]{1,12}(/[a-z0-9_-]{1,12})?", fullmatch=True)
parts = st.fixed_dictionaries(
    {"png": st.binary(max_size=600), "txt": st.binary(max_size=40)},
    optional={"json": st.binary(max_size=40), "webp": st.binary(max_size=600)},
)
shards = st.dictionaries(keys, parts, min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))


def stream(sizes, seed, start, stop):
    """(Epoch, sample) at positions [start, stop) of the endless stream."""
    return [
        (epoch, sample)
        for epoch, first, last in stream_positions(sum(sizes), start, stop)
        for sample in EpochOrder(sizes, seed=seed, epoch=epoch, block_size=16)[first:last].tolist()
    ]


@given(shard_sizes, st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9))
def test_a_stream_that_is_cut_between_batches_goes_on_without_a_gap(
    sizes, seed, batch_size, steps_before, steps_after
):
    cut, stop = steps_before * batch_size, (steps_before + steps_after) * batch_size
    whole = stream(sizes, seed, 0, stop)
    assert stream(sizes, seed, 0, cut) + stream(sizes, seed, cut, stop) == whole
    assert len(whole) == stop
    # Full epochs hold each sample once, wherever the cut was.
    for epoch in range(stop // sum(sizes)):
        assert sorted(n for e, n in whole if e == epoch) == list(range(sum(sizes)))


@given(shard_sizes, st.integers(0, 2**31), st.integers(1, 40), st.integers(0, 40))
def test_shares_of_another_number_of_ranks_are_the_same_batch(sizes, seed, batch_size, step):
    batch = stream(sizes, seed, step * batch_size, (step + 1) * batch_size)
    for world_size in (1, 2, 3, 4):
        shares = [batch[rank::world_size] for rank in range(world_size)]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        together = [row for slots in zip_longest_rows(shares) for row in slots]
        assert together == batch


def zip_longest_rows(shares):
    longest = max(map(len, shares))
    return [[share[slot] for share in shares if slot < len(share)] for slot in range(longest)]


def read_all(shard):
    dataset = dataset_of([read_or_build_index(shard)])
    samples = [read_sample(dataset, n) for n in range(dataset.num_samples)]
    return [(sample.key, sample.parts) for sample in samples]


def read_by_webdataset(shard):
    found = webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False)
    return [
        (sample["__key__"], {k: v for k, v in sample.items() if not k.startswith("__")})
        for sample in found
    ]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards)
def test_webdataset_and_this_reader_find_in_our_shards_what_was_written(tmp_path, samples):
    shard = tmp_path / "ours.tar"
    write_shard(shard, samples.items())
    assert read_all(shard) == read_by_webdataset(shard) == list(samples.items())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards)
def test_webdataset_and_this_reader_find_in_its_shards_what_was_written(tmp_path, samples):
    shard = tmp_path / "theirs.tar"
    with webdataset.TarWriter(str(shard), encoder=False) as writer:
        for key, sample in samples.items():
            writer.write({"__key__": key, **sample})
    assert read_all(shard) == read_by_webdataset(shard) == list(samples.items())


def test_pictures_and_records_that_webdataset_encodes_are_read_as_it_decodes_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 10, 3), dtype=np.uint8)
    with webdataset.ShardWriter(str(tmp_path / "part-%03d.tar"), maxcount=5, verbose=0) as sink:
        for number, picture in enumerate(pixels):
            record = {"label": f"picture {number}", "keywords": ["größe", "🐈"]}
            sink.write({
                "__key__": f"{number:03d}", "png": Image.fromarray(picture),
                "json": record, "txt": f"number {number}",
            })  # fmt: skip
    dataset = open_dataset([f"{tmp_path}/part-{{000..002}}.tar"])
    assert dataset.shard_sizes == (5, 5, 2)
    decoded = webdataset.WebDataset(
        [str(shard.path) for shard in dataset.shards], shardshuffle=False
    ).decode("rgb8")
    for number, theirs in enumerate(decoded):
        ours, record = decoded_sample(dataset, number)
        np.testing.assert_array_equal(ours, theirs["png"])
        np.testing.assert_array_equal(ours, pixels[number])
        assert record == {**theirs["json"], "txt": theirs["txt"]}
    assert number == 11


def test_our_pictures_and_records_are_decoded_by_webdataset(tmp_path):
    picture = Image.fromarray(np.arange(300, dtype=np.uint32).astype(np.uint8).reshape(10, 10, 3))
    data = io.BytesIO()
    picture.save(data, "PNG")
    record = {"label": "größe"}
    parts_of_one = {"png": data.getvalue(), "json": json.dumps(record).encode(), "txt": b"a cat"}
    write_shard(tmp_path / "a.tar", [("one", parts_of_one)])
    (theirs,) = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode("rgb8")
    np.testing.assert_array_equal(theirs["png"], np.asarray(picture))
    assert (theirs["json"], theirs["txt"]) == (record, "a cat")


def test_a_worker_that_passes_over_whole_epochs_keeps_no_order_of_any(dataset):
    size = dataset.num_samples
    places = Stream(dataset, seed=0, block_size=size)

    def bytes_after(batches):
        for number in batches:
            # The second of four workers, with batches that are a little longer than an epoch.
            first = (4 * number + 1) * (size + 1)
            _ = places[first : first + size + 1]
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = bytes_after(range(50))
        assert bytes_after(range(50, 250)) - before < 50_000
    finally:
        tracemalloc.stop()
