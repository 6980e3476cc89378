import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_pipelines import reader
from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from data_pipelines.reader import MAX_PICTURE_BYTES, read_picture_file, read_sample
from data_pipelines.shard_writer import write_shard


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    for number in range(3):
        samples = [
            (f"{n:03d}", {"webp": bytes([n]) * (n + 1), "txt": f"{number} {n}".encode()})
            for n in range(10)
        ]
        write_shard(tmp_path / f"{number}.tar", samples)
    return open_dataset([f"{tmp_path}/*.tar"])


def test_samples_are_what_tarfile_finds_in_the_shards(dataset):
    for index in range(dataset.num_samples):
        sample = read_sample(dataset, index)
        with tarfile.open(dataset.shards[index // 10].path) as tar:
            for kind, data in sample.parts.items():
                assert tar.extractfile(f"{sample.key}.{kind}").read() == data
        assert (sample.shard, sample.key) == (f"{index // 10}.tar", f"{index % 10:03d}")
        assert sorted(sample.parts) == ["txt", "webp"]


def test_parts_far_apart_are_read_one_by_one(dataset, monkeypatch):
    expected = [read_sample(dataset, index) for index in range(10)]
    monkeypatch.setattr(reader, "MAX_BYTES_BETWEEN", 0)
    assert [read_sample(dataset, index) for index in range(10)] == expected


def test_a_shard_that_vanished_is_named(dataset):
    dataset.shards[1].path.unlink()
    assert read_sample(dataset, 9).shard == "0.tar"
    with pytest.raises(UserError, match=r"1.tar has vanished since it was indexed \(No such file"):
        read_sample(dataset, 10)


def test_a_shard_that_was_replaced_is_named(dataset):
    path = dataset.shards[1].path
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"1.tar has changed since it was indexed"):
        read_sample(dataset, 10)


def test_a_shard_that_is_cut_while_it_is_open_is_named(dataset):
    read_sample(dataset, 10)
    os.truncate(dataset.shards[1].path, 6000)
    with pytest.raises(
        UserError, match=r"1.tar is shorter than when it was indexed: 0 of [0-9,]+ bytes"
    ):
        read_sample(dataset, 19)


@pytest.mark.parametrize(
    ("limit", "cause"),
    [
        ("MAX_PICTURE_BYTES", "picture file too large"),
        ("MAX_CAPTION_BYTES", "caption file too large"),
    ],
)
def test_a_part_that_is_too_large_is_never_read(dataset, monkeypatch, limit, cause):
    monkeypatch.setattr(reader, limit, 2)
    with pytest.raises(BadSample, match=cause):
        read_sample(dataset, 5)


def test_many_threads_and_few_open_files_read_the_same(dataset, monkeypatch):
    expected = [read_sample(dataset, index) for index in range(30)]
    reader._open_shard.cache_clear()
    small_cache = reader.lru_cache(maxsize=1)(reader._open_shard.__wrapped__)
    monkeypatch.setattr(reader, "_open_shard", small_cache)
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as threads:
        indices = list(range(30)) * 20
        found = list(threads.map(lambda index: read_sample(dataset, index), indices))
    assert found == expected * 20
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_what_is_called_like_a_picture_and_is_none_has_its_cause(tmp_path):
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", MAX_PICTURE_BYTES + 1)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to("missing")
    causes = {
        "large.png": "picture file too large", "pipe.png": "not a file", "zero.png": "not a file",
        "nowhere.png": "unreadable file", "a\0b.png": "unreadable file",
    }  # fmt: skip
    for name, cause in causes.items():
        with pytest.raises(BadSample, match=f"^{cause}$"):
            read_picture_file(tmp_path / name)
