import asyncio
import itertools
import json
import threading
import time
from dataclasses import replace

import fsspec
import pytest
from fault_server import serving
from fsspec.asyn import AsyncFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines import http_ranges, remote
from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.reader import read_sample
from data_pipelines.remote import HeaderReads, RemoteShard, read_range, status_of
from data_pipelines.shard_writer import write_shard

TIMEOUT = 1.5


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RINS_MM_REMOTE_TIMEOUT", str(TIMEOUT))
    return tmp_path / "cache"


@pytest.fixture
def server(dataset):
    """Serves the shards of `dataset`, and is asked for nothing else."""
    with serving() as server:
        server.files = {shard.name: shard.path.read_bytes() for shard in dataset.shards}
        yield server
        assert {path for path, *_ in server.requests} <= {*server.files, "none.tar"}


@pytest.fixture
def memory(dataset):
    files = fsspec.filesystem("memory")
    for shard in dataset.shards:
        files.pipe_file(f"/shards/{shard.name}", shard.path.read_bytes())
    yield files
    files.rm("/shards", recursive=True)


def rows_of(config, dataset, tokenizer):
    batches = train_batches(
        config, dataset, tokenizer, image_size=8, batch_size=8, seed=3, start_step=0, num_steps=5,
        rank=0, world_size=1,
    )  # fmt: skip
    return [
        (batch.sample_keys, batch.row_seeds.tolist(), batch.tokens.tolist(), batch.images.tolist())
        for batch in batches
    ]


@pytest.fixture(scope="module")
def expected(config, dataset, tokenizer):
    return rows_of(config, dataset, tokenizer)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_run_through_faults_gives_the_batches_of_the_local_files(
    server, config, tokenizer, expected, num_workers
):
    planned = iter(["reset", "503", "cut", "nonsense", "stall", "429", "drip"])
    later = itertools.cycle(["reset", "503", "cut"])
    places = set()

    def fault(_number, path):
        place = (path, server.requests[-1][1])
        if place in places:
            return ""
        # Every third place fails when it is asked for the first time, however many are at once.
        places.add(place)
        return "" if len(places) % 3 else next(planned, "") or next(later)

    server.fault = fault
    dataset = open_dataset([server.url + "/{0..3}.tar"])
    config = replace(config, num_workers=num_workers)
    assert rows_of(config, dataset, tokenizer) == expected
    assert next(planned, "") == ""
    assert len(places) == 4 * 2 + 25


def test_a_run_from_an_object_store_gives_the_same_batches(memory, config, tokenizer, expected):
    for specs in (["memory://shards/*.tar"], ["memory://shards/{0..2}.tar,memory://shards/3.tar"]):
        dataset = open_dataset(specs)
        assert [str(shard.path) for shard in dataset.shards] == [
            f"memory://shards/{number}.tar" for number in range(4)
        ]
        assert rows_of(config, dataset, tokenizer) == expected


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("503", "the server answers 503 Service Unavailable"),
        ("reset", "Connection reset by peer"),
        ("cut", "the answer broke off after"),
        ("stall", "no whole answer within"),
        ("drip", "no whole answer within"),
        ("nonsense", "cannot be read"),
    ],
)
def test_a_fault_that_stays_ends_the_run_in_one_line_within_the_time(
    server, config, tokenizer, fault, words
):
    dataset = open_dataset([server.url + "/{0..3}.tar"])
    server.fault = lambda *_: fault
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        rows_of(config, dataset, tokenizer)
    assert time.monotonic() - started < TIMEOUT + 2
    line = str(error.value)
    assert words in line and f"{server.url}/" in line and "\n" not in line
    assert "times in" in line and "of the 1.5 s that RINS_MM_REMOTE_TIMEOUT allows" in line


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("404", "the server answers 404 Not Found"),
        ("403", "the server answers 403 Forbidden"),
        ("endless", "it ignores the Range header"),
        ("200", "it ignores the Range header"),
        ("204", "the server answers 204"),
        ("gzip", "it compresses what it sends"),
    ],
)
def test_what_asking_again_does_not_mend_ends_the_run_at_once(
    server, config, tokenizer, fault, words
):
    dataset = open_dataset([server.url + "/{0..3}.tar"])
    server.fault = lambda *_: fault
    asked = len(server.requests)
    with pytest.raises(UserError, match=words):
        rows_of(config, dataset, tokenizer)
    # One for each of the samples that are asked for at once, of which none is asked for again.
    requests = [request[:2] for request in server.requests[asked:]]
    assert len(requests) == len(set(requests)) <= 8
    # What fits between the two ends of a connection, not the file.
    assert server.bytes_sent < 8 * 2**24


def test_a_missing_shard_and_a_server_that_is_off_are_named_when_they_are_opened(server):
    with pytest.raises(UserError, match=r"none.tar cannot be read: the server answers 404"):
        open_dataset([f"{server.url}/0.tar,{server.url}/none.tar"])
    started = time.monotonic()
    with pytest.raises(UserError, match="Connection refused"):
        open_dataset(["http://127.0.0.1:9/{00..63}.tar"])
    assert time.monotonic() - started < TIMEOUT + 2


@pytest.mark.parametrize("change", [lambda data: data[:-512], lambda data: b"x" + data[1:]])
def test_a_shard_that_changed_since_it_was_indexed_is_named(
    server, memory, config, tokenizer, change
):
    for dataset in (open_dataset([f"{server.url}/0.tar"]), open_dataset(["memory://shards/0.tar"])):
        server.files["0.tar"] = change(server.files["0.tar"])
        memory.pipe_file("/shards/0.tar", change(memory.cat_file("/shards/0.tar")))
        # A later time, or a process of its own: within 30 seconds a store is not asked again.
        remote._known_status.cache_clear()
        with pytest.raises(UserError, match=r"0.tar has changed since it was indexed"):
            rows_of(config, dataset, tokenizer)


def test_indexes_are_kept_under_the_address_until_the_shard_changes(
    server, cache, dataset, tmp_path, sample_of, capsys
):
    specs = [server.url + "/{0..3}.tar"]
    first = open_dataset(specs)
    assert len(list((cache / "indexes").iterdir())) == 4
    asked = len(server.requests)
    second = open_dataset(specs)
    assert len(server.requests) == asked + 4
    assert second.fingerprint == first.fingerprint != dataset.fingerprint
    new = write_shard(tmp_path / "new.tar", [sample_of(99)]).path.read_bytes()
    server.files["3.tar"] = new
    changed = open_dataset(specs)
    assert changed.fingerprint != first.fingerprint
    assert (changed.shards[3].num_samples, changed.shards[3].key(0)) == (1, "099")
    assert "3.tar has changed: indexing it again" in capsys.readouterr().err


def test_where_the_server_tells_no_version_nothing_old_is_trusted(server):
    server.tells_versions = False
    specs = [f"{server.url}/0.tar"]
    first = open_dataset(specs)
    # As long as before, with one key changed, which a size alone does not tell.
    server.files["0.tar"] = server.files["1.tar"][: len(server.files["0.tar"])]
    assert open_dataset(specs).shards[0].key(0) != first.shards[0].key(0)


def test_indexing_jumps_over_large_members_and_takes_small_ones_in_few_requests(server, tmp_path):
    for name, size, count in (("large.tar", 2**20, 6), ("small.tar", 2000, 600)):
        samples = [(f"{n:04d}", {"jpg": b"\xff" * size, "txt": b"a"}) for n in range(count)]
        server.files[name] = write_shard(tmp_path / name, samples).path.read_bytes()
        server.requests.clear()
        before = server.bytes_sent
        (shard,) = open_dataset([f"{server.url}/{name}"]).shards
        assert shard.num_samples == count
        assert len(server.requests) <= 9
        if name == "large.tar":
            assert server.bytes_sent - before < len(server.files[name]) / 10


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 300)), max_size=30))
def test_windows_give_what_is_there_in_any_order(places):
    data = bytes(number % 251 for number in range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "LEAST_WINDOW", 16)
        patch.setattr(remote, "MOST_WINDOW", 64)
        patch.setattr(remote, "read_range", lambda _shard, _status, at, size: data[at : at + size])
        status = remote.RemoteStatus(size=len(data), version="")
        read_at = HeaderReads(RemoteShard(url="memory://x.tar"), status)
        for offset, length in places:
            assert read_at(offset, length) == data[offset : offset + length]


def test_a_connection_is_kept_for_one_thread_at_a_time_and_never_for_a_new_process(
    server, monkeypatch
):
    dataset = open_dataset([f"{server.url}/0.tar"])
    server.requests.clear()

    def ports():
        return {port for *_, port in server.requests}

    for index in range(7):
        read_sample(dataset, index)
    assert len(ports()) == 1
    monkeypatch.setattr(http_ranges.os, "getpid", lambda: -1)
    read_sample(dataset, 0)
    assert len(ports()) == 2
    server.seconds_away = 0.2
    threads = [threading.Thread(target=read_sample, args=(dataset, n)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One of the two has taken the idle one.
    assert len(ports()) == 3


def test_redirects_to_web_servers_are_followed_and_to_nothing_else(server, tmp_path):
    secret = tmp_path / "secret.tar"
    secret.write_bytes(server.files["0.tar"])
    shard = RemoteShard(url=f"{server.url}/0.tar", timeout_seconds=TIMEOUT)
    status = status_of(shard)
    server.fault = lambda _, path: "redirect" if path == "0.tar" else ""
    server.files["none.tar"], server.location = server.files["0.tar"], "/none.tar"
    assert read_range(shard, status, 512, 600) == server.files["0.tar"][512:1112]
    for location in (f"file://{secret}", "ftp://host/0.tar", "http://user:word@host/0.tar"):
        server.location = location
        with pytest.raises(UserError, match="it redirects to where this does not follow"):
            read_range(shard, status, 0, 512)
    server.location = "/0.tar"
    with pytest.raises(UserError, match="it redirects more than 5 times"):
        read_range(shard, status, 0, 512)


def test_an_answer_that_comes_after_the_pause_that_was_asked_for(server):
    shard = RemoteShard(url=f"{server.url}/0.tar", timeout_seconds=TIMEOUT)
    server.fault = lambda number, _: "503" if number < 3 else ""
    assert status_of(shard).size == len(server.files["0.tar"])
    assert len(server.requests) == 4


def test_addresses_in_captions_and_records_stay_words(server, tmp_path, sample_of, tokenizer):
    address = f"{server.url}/owned.tar"
    record = json.dumps({"label": address, "url": address, "positive_key": address}).encode()
    samples = [sample_of(n, json=record, txt=address.encode()) for n in range(4)]
    server.files["0.tar"] = write_shard(tmp_path / "0.tar", samples).path.read_bytes()
    config = DataConfig(captions=CaptionConfig(kind="label"))
    assert len(rows_of(config, open_dataset([f"{server.url}/0.tar"]), tokenizer)) == 5


class StalledStore(AsyncFileSystem):
    protocol = "gs"
    cachable = False

    async def _info(self, path, **_):
        if path.endswith("denied.tar"):
            raise PermissionError
        if path.endswith("lost.tar"):
            raise FileNotFoundError
        await asyncio.sleep(20)


def test_an_object_store_that_stalls_or_refuses_is_named(monkeypatch):
    monkeypatch.setattr(fsspec, "filesystem", lambda _scheme, **_: StalledStore())
    started = time.monotonic()
    with pytest.raises(UserError, match=r"gs://bucket/0.tar cannot be read: no answer within"):
        open_dataset(["gs://bucket/0.tar"])
    assert time.monotonic() - started < TIMEOUT + 2
    for name, words in (("denied", "access is denied"), ("lost", "there is no such file")):
        with pytest.raises(UserError, match=rf"{name}.tar cannot be read: {words}"):
            open_dataset([f"gs://bucket/{name}.tar"])


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(_scheme, **_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UserError, match=r"Install s3fs to access S3.*pip install 'rins_mm\[remote"):
        open_dataset(["s3://bucket/0.tar"])


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "1e99"])
def test_the_time_is_a_number_of_seconds(monkeypatch, given):
    monkeypatch.setenv("RINS_MM_REMOTE_TIMEOUT", given)
    with pytest.raises(UserError, match="is no number of seconds"):
        open_dataset(["http://host/0.tar"])
