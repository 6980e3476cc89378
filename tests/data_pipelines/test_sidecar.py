import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipelines import index as index_module
from data_pipelines.index import read_or_build_index
from data_pipelines.shard_writer import write_shard

SAMPLES = {
    f"{number:03d}": {"jpg": b"\xff" * (300 + number), "txt": b"a cat"} for number in range(3)
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shard(tmp_path):
    return write_shard(tmp_path / "a.tar", SAMPLES.items()).path


def contents(shard, index):
    """What the index says is in the shard: pairs of a key and its parts."""
    data = shard.read_bytes()
    return [
        (
            index.key(row),
            {kind: data[at : at + size] for kind, (at, size) in index.parts(row).items()},
        )
        for row in range(index.num_samples)
    ]


def test_the_second_reading_takes_the_kept_index(tmp_path, shard, monkeypatch):
    first = read_or_build_index(shard)
    assert (tmp_path / "a.tar.index.npz").exists()
    monkeypatch.delattr(index_module, "_build")
    second = read_or_build_index(shard)
    assert contents(shard, second) == contents(shard, first)
    assert {**vars(first), "key_bytes": 0, "key_ends": 0, "offsets": 0, "sizes": 0} == {
        **vars(second), "key_bytes": 0, "key_ends": 0, "offsets": 0, "sizes": 0
    }  # fmt: skip


def test_a_shard_that_was_only_touched_keeps_its_index(shard, monkeypatch, capsys):
    read_or_build_index(shard)
    os.utime(shard, ns=(1, 1))
    monkeypatch.delattr(index_module, "_build")
    assert read_or_build_index(shard).mtime_ns == 1
    monkeypatch.delattr(index_module, "hashlib")
    assert read_or_build_index(shard).num_samples == 3
    assert capsys.readouterr().err == ""


def test_a_shard_that_changed_is_indexed_again_with_a_notice(shard, capsys):
    old = read_or_build_index(shard)
    write_shard(shard, [("new", SAMPLES["000"])])
    new = read_or_build_index(shard)
    assert (old.num_samples, new.num_samples, new.key(0)) == (3, 1, "new")
    assert "a.tar has changed: indexing it again" in capsys.readouterr().err


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=1000
)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=30), st.booleans())
def test_a_damaged_index_is_never_a_crash_and_never_leaves_the_shard(shard, at, content, cut):
    read_or_build_index(shard)
    sidecar = shard.with_name("a.tar.index.npz")
    data = sidecar.read_bytes()
    sidecar.write_bytes(data[:at] if cut else data[:at] + content + data[at + len(content) :])
    index = read_or_build_index(shard)
    size = shard.stat().st_size
    for row in range(index.num_samples):
        assert all(0 <= at <= at + length <= size for at, length in index.parts(row).values())


def craft(shard, **changes):
    """Overwrite some arrays of the kept index."""
    read_or_build_index(shard)
    sidecar = shard.with_name("a.tar.index.npz")
    with np.load(sidecar) as kept:
        arrays = {name: kept[name] for name in kept.files}
    np.savez(sidecar, **{**arrays, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.full((2, 3), 2**62)},
        {"offsets": np.full((2, 3), -1)},
        {"sizes": np.full((2, 3), 2**63 - 1)},
        {"key_ends": np.array([2, 1, 9])},
        {"key_ends": np.array([[3, 6, 9]])},
        {"part_types": np.array(["jpg", "pkl"])},
        {"offsets": np.zeros((2, 3), dtype=np.float64)},
        {"format_version": np.array(99)},
        {"skipped_causes": np.zeros(1 << 18)},
        {"part_types": np.full(2, 0x110000, dtype="<u4").view("<U1")},
        {
            "skipped_causes": np.full(1, 0x110000, dtype=">u4").view(">U1"),
            "skipped_counts": np.ones(1, int),
        },
        {
            "skipped_causes": np.full(1, 0xD800, dtype="<u4").view("<U1"),
            "skipped_counts": np.ones(1, int),
        },
    ],
)
def test_an_index_that_lies_is_as_good_as_none(shard, changes):
    craft(shard, **changes)
    assert contents(shard, read_or_build_index(shard)) == list(SAMPLES.items())


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_an_index_is_never_opened(tmp_path, shard):
    canary = tmp_path / "canary"
    craft(shard, sha256=np.array([Canary(canary)], dtype=object))
    assert read_or_build_index(shard).num_samples == 3
    assert not canary.exists()


def test_where_the_folder_cannot_be_written_the_index_goes_to_the_cache(
    tmp_path, shard, cache, monkeypatch, capsys
):
    # Stands in for a read-only folder: the administrator, as whom tests may run, can write to those.
    (tmp_path / "a.tar.index.npz").mkdir()
    read_or_build_index(shard)
    assert [path.name[16:] for path in (cache / "indexes").iterdir()] == ["-a.tar.index.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.tar.index.npz", "cache"]
    monkeypatch.delattr(index_module, "_build")
    assert read_or_build_index(shard).num_samples == 3
    assert "cannot be kept" not in capsys.readouterr().err


def test_where_no_place_can_be_written_a_line_says_so_and_work_goes_on(
    tmp_path, shard, cache, capsys
):
    (tmp_path / "a.tar.index.npz").mkdir()
    cache.write_bytes(b"a file where the folder should be")
    assert read_or_build_index(shard).num_samples == 3
    assert "cannot be kept" in capsys.readouterr().err
