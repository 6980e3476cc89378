import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from data_pipelines.cache import cache_folder
from data_pipelines.errors import UserError
from data_pipelines.index import main as index
from data_pipelines.index import read_or_build_index
from data_pipelines.sources import resolve_shards
from data_pipelines.verify import main, verify


@pytest.fixture
def shards(tmp_path, dataset_in, sample_of, monkeypatch):
    """Three indexed shards, the second of which holds pictures enough to be hurt."""
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    dataset_in(tmp_path, [sample_of(number) for number in range(21)])
    return sorted(tmp_path.glob("*.tar"))


def hurt(shard: Path) -> None:
    """Turn one bit of the file, and leave its size and its time as they were."""
    times = os.stat(shard)
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))


def outcomes(shards):
    return [verdict.outcome for verdict in verify(shards)]


def test_shards_as_they_were_indexed_are_the_same(shards, capsys):
    assert outcomes(shards) == ["same"] * 3
    main([str(shard) for shard in shards])
    assert "all 3 shards are what they were" in capsys.readouterr().out


def test_a_turned_bit_is_found_although_size_and_time_are_the_same(shards, capsys):
    hurt(shards[1])
    assert outcomes(shards) == ["same", "differs", "same"]
    with pytest.raises(UserError, match="1 of 3 shards could not be confirmed; copy these again"):
        main([str(shard) for shard in shards])
    out = capsys.readouterr().out
    assert "differs" in out and "index" in out
    assert outcomes(shards) == ["same", "differs", "same"], "verifying must not renew an index"


def test_a_shard_without_an_index_and_one_that_cannot_be_read_are_no_silence(shards):
    shards[0].with_name("0.tar.index.npz").unlink()
    shards[2].unlink()
    assert outcomes(shards) == ["no index", "same", "unreadable"]
    with pytest.raises(UserError, match=r"1 of 1 shards .*; run data_pipelines.index"):
        main([str(shards[0])])


def test_the_shards_of_a_pack_are_what_its_manifest_says(tmp_path, repository, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    (whole,) = resolve_shards(["emoji:val"])
    assert whole.is_relative_to(cache_folder())
    (verdict,) = verify([whole])
    assert (verdict.outcome, verdict.expected) == ("same", {})
    hurt(whole)
    # An index that was made after the damage finds nothing wrong; the manifest does.
    index(["emoji:val"])
    (verdict,) = verify([whole])
    assert (verdict.outcome, list(verdict.expected)) == ("differs", ["pack"])
    elsewhere = tmp_path / whole.name
    shutil.copy(whole, elsewhere)
    assert outcomes([elsewhere]) == ["no index"]


def test_a_remote_shard_is_compared_by_size_and_version(shards, tmp_path):
    address = "memory://verify/0.tar"
    files = fsspec.filesystem("memory")
    files.pipe("/verify/0.tar", shards[0].read_bytes())
    index([address])
    assert outcomes(resolve_shards([address])) == ["same"]
    files.pipe("/verify/0.tar", shards[1].read_bytes() + bytes(1024))
    assert outcomes(resolve_shards([address])) == ["differs"]
    files.rm("/verify", recursive=True)


def test_the_command_ends_with_exit_code_2_when_something_differs(shards):
    command = [sys.executable, "-m", "data_pipelines.verify", *map(str, shards)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    hurt(shards[0])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 1 of 3 shards")
    assert "0.tar" in done.stdout


def flip(path: Path, bit: int) -> None:
    """Turn one bit of the file, or turn it back; size and time stay."""
    times = os.stat(path)
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_one_flipped_bit_anywhere_in_a_shard_is_found_and_the_shard_is_named(shards):
    draw = random.Random(0)
    for number in range(100):
        shard = shards[number % 3]
        bit = draw.randrange(8 * shard.stat().st_size)
        flip(shard, bit)
        bad = [verdict for verdict in verify(shards) if verdict.outcome != "same"]
        assert [(verdict.shard, verdict.outcome) for verdict in bad] == [(shard, "differs")], bit
        flip(shard, bit)
    assert outcomes(shards) == ["same"] * 3


def read_from(index):
    """All that a run reads from an index."""
    arrays = (index.key_bytes, index.key_ends, index.offsets, index.sizes)
    return [array.tobytes() for array in arrays], index.part_types, index.sha256, index.skipped


def test_no_flipped_bit_in_an_index_reaches_a_run(shards):
    draw, num_renewed = random.Random(0), 0
    good = [read_from(read_or_build_index(shard)) for shard in shards]
    for number in range(100):
        shard = shards[number % 3]
        path = shard.with_name(f"{shard.name}.index.npz")
        whole = path.read_bytes()
        flip(path, draw.randrange(8 * len(whole)))
        flipped = path.read_bytes()
        # Made anew; or the bit was in what nobody reads, such as the date of an entry of the archive.
        assert read_from(read_or_build_index(shard)) == good[number % 3]
        num_renewed += path.read_bytes() != flipped
        path.write_bytes(whole)
    assert num_renewed > 50
