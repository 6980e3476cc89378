"""Far samples are read many at a time, and nothing else changes by it."""

import threading
import time
from dataclasses import replace

import pytest
from fault_server import serving

from data_pipelines import http_ranges, read_ahead, reader
from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.loader import train_batches
from data_pipelines.manifest import dataset_of, open_dataset
from data_pipelines.read_ahead import samples_read_ahead
from data_pipelines.reader import read_sample
from data_pipelines.shard_writer import write_shard


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RINS_MM_REMOTE_TIMEOUT", "30")


@pytest.fixture
def server(dataset):
    with serving() as server:
        server.files = {shard.name: shard.path.read_bytes() for shard in dataset.shards}
        yield server


@pytest.fixture
def far(server):
    """The same samples as `dataset`, from the server."""
    return open_dataset([server.url + "/{0..3}.tar"])


def batches_of(config, dataset, tokenizer, **changes):
    settings = {
        "image_size": 8, "batch_size": 64, "seed": 3,
        "start_step": 0, "num_steps": 1, "rank": 0, "world_size": 1,
    }  # fmt: skip
    return train_batches(config, dataset, tokenizer, **{**settings, **changes})


def never():
    pass


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def all_ended(seconds=10.0):
    deadline = time.monotonic() + seconds
    while reading_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not reading_threads()


def test_a_batch_from_a_far_server_comes_many_times_faster_than_one_by_one(
    config, dataset, tokenizer, server, far
):
    (near,) = batches_of(config, dataset, tokenizer)
    server.seconds_away = 0.05
    begin = time.monotonic()
    (batch,) = batches_of(config, far, tokenizer)
    together = time.monotonic() - begin
    begin = time.monotonic()
    for index in range(16):
        read_sample(far, index)
    one_by_one = (time.monotonic() - begin) * 64 / 16
    print(f"{one_by_one:.2f} s one by one, {together:.2f} s ahead")
    assert one_by_one > 4 * together
    assert batch.images.equal(near.images)
    assert batch.tokens.equal(near.tokens)
    assert batch.sample_keys == near.sample_keys
    assert all_ended()


def test_samples_come_in_the_order_of_their_indices_whichever_is_answered_first(
    dataset, server, far, monkeypatch
):
    original = reader.read_range

    def later_ones_first(shard, status, offset, *rest):
        time.sleep(0.05 if offset < 5000 else 0.0)
        return original(shard, status, offset, *rest)

    monkeypatch.setattr(reader, "read_range", later_ones_first)
    # Near shards between far ones, and samples that come twice.
    mixed = dataset_of([far.shards[0], dataset.shards[1], far.shards[2], dataset.shards[3]])
    indices = [*range(25), 3, 3, *reversed(range(25))]
    found = [read() for read in samples_read_ahead(mixed, indices, never)]
    assert found == [read_sample(dataset, index) for index in indices]


def test_near_samples_are_read_without_threads(dataset):
    # Those of the tests before may take a while to end.
    before = reading_threads()
    reads = samples_read_ahead(dataset, [3, 1], never)
    assert [read().key for read in reads] == ["003", "001"]
    assert set(reading_threads()) <= set(before)


def test_a_mistake_and_a_bad_sample_come_at_their_own_slots(far, server, monkeypatch):
    original = read_ahead.read_sample

    def one_too_large(dataset, index, given_up):
        if index == 1:
            raise BadSample("picture file too large")
        return original(dataset, index, given_up)

    monkeypatch.setattr(read_ahead, "read_sample", one_too_large)
    server.fault = lambda _number, path: "404" if path == "1.tar" else ""
    reads = samples_read_ahead(far, [0, 1, 2, 7, 8, 3], never)
    assert next(reads)().key == "000"
    with pytest.raises(BadSample, match="too large"):
        next(reads)()
    assert next(reads)().key == "002"
    with pytest.raises(UserError, match=r"1.tar cannot be read: the server answers 404"):
        next(reads)()
    reads.close()
    assert all_ended()


def test_no_more_than_the_limits_is_asked_for_ahead(far, server, monkeypatch):
    monkeypatch.setattr(read_ahead, "MAX_AHEAD", 5)
    size = sum(len(data) for data in read_sample(far, 0).parts.values())
    for most_bytes, expected in ((2**20, 5), (3 * size, 3), (1, 1)):
        monkeypatch.setattr(read_ahead, "MAX_BYTES_AHEAD", most_bytes + size // 2)
        asked = len(server.requests)
        reads = samples_read_ahead(far, range(7), never)
        read = next(reads)
        deadline = time.monotonic() + 5
        while len(server.requests) - asked < expected and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(server.requests) - asked == expected
        read()
        assert [read().key for read in reads] == [f"{n:03d}" for n in range(1, 7)]


def test_a_check_that_raises_ends_the_wait_for_a_server_that_hangs(far, server):
    server.fault = lambda *_: "stall"
    server.requests.clear()
    # One that was idle and breaks off is taken for closed, and a new one asks again.
    http_ranges._idle_connections.cache_clear()

    def check():
        if len(server.requests) == read_ahead.MAX_AT_ONCE:
            raise KeyboardInterrupt

    reads = samples_read_ahead(far, range(20), check)
    with pytest.raises(KeyboardInterrupt):
        next(reads)()
    reads.close()
    # What hangs ends with its connection, and is not tried again.
    server.over.set()
    assert all_ended()
    assert len(server.requests) == read_ahead.MAX_AT_ONCE


@pytest.mark.parametrize("num_workers", [0, 2])
def test_closing_does_not_wait_for_a_server_that_hangs(config, tokenizer, server, far, num_workers):
    hangs = threading.Event()
    config = replace(config, num_workers=num_workers)
    iterator = batches_of(config, far, tokenizer, batch_size=8, num_steps=10**6)
    next(iterator)
    # As many batches lie ready as may.
    time.sleep(1.0)
    server.fault = lambda *_: hangs.set() or "stall"
    next(iterator)
    assert hangs.wait(10)
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 2.5


def test_large_samples_far_apart_give_what_is_there(server, tmp_path):
    samples = [(f"{n:03d}", {"jpg": bytes([n]) * 300_000, "txt": b"a"}) for n in range(20)]
    server.files["large.tar"] = write_shard(tmp_path / "large.tar", samples).path.read_bytes()
    far = open_dataset([f"{server.url}/large.tar"])
    found = [read().parts["jpg"] for read in samples_read_ahead(far, range(20), never)]
    assert found == [parts["jpg"] for _, parts in samples]
