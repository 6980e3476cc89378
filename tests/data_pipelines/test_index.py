import io
import os
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_pipelines import index as index_module
from data_pipelines.errors import UserError
from data_pipelines.index import main, read_or_build_index

SAMPLES = {
    f"{number:03d}": {"jpg": b"\xff" * (300 + number), "txt": b"a cat"} for number in range(3)
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RINS_MM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tar_bytes(files, kind=tarfile.USTAR_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def files_of(samples):
    return [
        (f"{key}.{kind}", data) for key, parts in samples.items() for kind, data in parts.items()
    ]


def shard_of(tmp_path, files, kind=tarfile.USTAR_FORMAT):
    shard = tmp_path / "a.tar"
    shard.write_bytes(tar_bytes(files, kind))
    return shard


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


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_gives_what_was_written_into_it(tmp_path, kind):
    long_name = "/".join(["folder" * 5] * 4)
    samples = {**SAMPLES, f"{long_name}/x": SAMPLES["000"]}
    if kind != tarfile.USTAR_FORMAT:
        samples |= {"name" * 50: SAMPLES["001"], "größe/ß": SAMPLES["002"]}
    shard = shard_of(tmp_path, files_of(samples), kind)
    assert contents(shard, read_or_build_index(shard)) == list(samples.items())


def test_webdataset_writes_and_reads_the_same_samples(tmp_path):
    shard = tmp_path / "a.tar"
    with webdataset.TarWriter(str(shard)) as writer:
        for key, parts in SAMPLES.items():
            writer.write({"__key__": f"sub.folder/{key}", "seg.png": b"mask", **parts})
    with open(shard, "rb") as file:
        theirs = [
            (sample["__key__"], {kind: sample[kind] for kind in ("jpg", "txt")})
            for sample in group_by_keys(tar_file_expander([{"url": str(shard), "stream": file}]))
        ]
    index = read_or_build_index(shard)
    assert contents(shard, index) == theirs == [(f"sub.folder/{k}", v) for k, v in SAMPLES.items()]
    assert index.skipped == {"other part: seg.png": 3}


def test_folders_links_and_odd_names_are_passed_over_and_counted(tmp_path):
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as tar:
        for name, kind in [
            ("a", tarfile.DIRTYPE),
            ("b.jpg", tarfile.SYMTYPE),
            ("c", tarfile.FIFOTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in ["README", ".hidden.jpg", "x\x1b[2J.jpg", "y" * 1100 + ".jpg"]:
            tar.addfile(tarfile.TarInfo(name))
        for name, content in files_of(SAMPLES):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    index = read_or_build_index(shard)
    assert contents(shard, index) == list(SAMPLES.items())
    assert index.skipped == {
        "folder": 1,
        "link": 1,
        "special file": 1,
        "no key and part type": 2,
        "bad name": 1,
        "name too long": 1,
    }


def test_a_key_that_is_met_twice_gives_two_samples(tmp_path):
    files = [("a.jpg", b"1"), ("a.txt", b"one"), ("a.jpg", b"2"), ("a.txt", b"two")]
    shard = shard_of(tmp_path, files)
    index = read_or_build_index(shard)
    assert [parts["txt"] for _, parts in contents(shard, index)] == [b"one", b"two"]
    assert index.skipped == {"key met twice": 1}


def test_a_shard_cut_anywhere_gives_whole_samples_or_a_clear_error(tmp_path, capsys):
    shard = tmp_path / "a.tar"
    whole = tar_bytes(files_of(SAMPLES))
    found = set()
    for length in range(0, 3 * 2048 + 1024, 128):
        shard.write_bytes(whole[:length])
        try:
            index = read_or_build_index(shard)
        except UserError:
            assert length < 2048
            continue
        found.add(index.num_samples)
        assert contents(shard, index) == list(SAMPLES.items())[: index.num_samples]
        # After five bytes of caption there is only filling.
        between = length % 2048 == 0 or length % 2048 > 1541 or length > 3 * 2048
        assert index.skipped == ({} if between else {"torn end": 1})
    assert found == {1, 2, 3}
    assert "the 2 whole ones before it are used; copy it again" in capsys.readouterr().err


@pytest.mark.parametrize("size", [-512, -1536, 2**62, 8 * 2**30])
def test_a_member_with_a_crafted_size_ends_the_reading_at_once(tmp_path, size):
    data = bytearray(tar_bytes(files_of(SAMPLES)))
    header = data[2048:2560]
    header[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    data[2048:2560] = header
    shard = tmp_path / "a.tar"
    shard.write_bytes(data)
    begin = time.perf_counter()
    if size < 0:
        with pytest.raises(
            UserError, match=r"damaged: a header whose number fields .* at byte 2,048"
        ):
            read_or_build_index(shard)
    else:
        assert read_or_build_index(shard).skipped == {"torn end": 1}
    assert time.perf_counter() - begin < 1


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=1000
)
@given(st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=12)), max_size=6))
def test_damage_anywhere_gives_an_index_inside_the_file_or_a_clear_error(tmp_path, changes):
    data = bytearray(tar_bytes(files_of(SAMPLES), tarfile.PAX_FORMAT))
    for at, content in changes:
        data[at : at + len(content)] = content
    shard = tmp_path / "a.tar"
    shard.write_bytes(data)
    try:
        index = read_or_build_index(shard)
    except UserError:
        return
    for _, parts in contents(shard, index):
        assert parts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a tar file: it has 0 bytes"),
        (b"<html>" * 100, "is not a tar file"),
        (b"\x1f\x8b" + bytes(1000), "is not a tar file"),
        (tar_bytes([]), "holds no samples; found parts: none; expected one of webp jpg jpeg png"),
        (tar_bytes([("a.cls", b"1")]), "holds no samples; found parts: cls; expected"),
        (
            tar_bytes([("a.txt", b"1")]),
            "none has a picture .*'a'.*found parts: txt; expected one of",
        ),
        (
            tar_bytes([("a.input.jpg", b"1"), ("a.png", b"1")]),
            "none has a caption .*found parts: input.jpg, png; .* and one of json txt",
        ),
        (tar_bytes([("a.png", b"1"), ("b.txt", b"1")]), "none has both a picture and a caption"),
    ],
)
def test_a_shard_without_samples_says_what_was_found_and_expected(tmp_path, content, message):
    shard = tmp_path / "a.tar"
    shard.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_or_build_index(shard)


def test_a_missing_shard_is_a_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"a\.tar cannot be read"):
        read_or_build_index(tmp_path / "a.tar")


def test_the_second_reading_takes_the_kept_index(tmp_path, monkeypatch):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    first = read_or_build_index(shard)
    assert (tmp_path / "a.tar.index.npz").exists()
    monkeypatch.delattr(index_module, "_build")
    second = read_or_build_index(shard)
    assert contents(shard, second) == contents(shard, first)
    assert {**vars(first), "key_bytes": 0, "key_ends": 0, "offsets": 0, "sizes": 0} == {
        **vars(second), "key_bytes": 0, "key_ends": 0, "offsets": 0, "sizes": 0
    }  # fmt: skip


def test_a_shard_that_was_only_touched_keeps_its_index(tmp_path, monkeypatch, capsys):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    read_or_build_index(shard)
    os.utime(shard, ns=(1, 1))
    monkeypatch.delattr(index_module, "_build")
    assert read_or_build_index(shard).mtime_ns == 1
    monkeypatch.delattr(index_module, "hashlib")
    assert read_or_build_index(shard).num_samples == 3
    assert capsys.readouterr().err == ""


def test_a_shard_that_changed_is_indexed_again_with_a_notice(tmp_path, capsys):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    old = read_or_build_index(shard)
    shard.write_bytes(tar_bytes(files_of({"new": SAMPLES["000"]})))
    new = read_or_build_index(shard)
    assert (old.num_samples, new.num_samples, new.key(0)) == (3, 1, "new")
    assert "a.tar has changed: indexing it again" in capsys.readouterr().err


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=1000
)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=30), st.booleans())
def test_a_damaged_index_is_never_a_crash_and_never_leaves_the_shard(tmp_path, at, content, cut):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    read_or_build_index(shard)
    sidecar = tmp_path / "a.tar.index.npz"
    data = sidecar.read_bytes()
    sidecar.write_bytes(data[:at] if cut else data[:at] + content + data[at + len(content) :])
    index = read_or_build_index(shard)
    size = shard.stat().st_size
    for row in range(index.num_samples):
        assert all(0 <= at <= at + length <= size for at, length in index.parts(row).values())


def crafted(tmp_path, **changes):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    read_or_build_index(shard)
    sidecar = tmp_path / "a.tar.index.npz"
    with np.load(sidecar) as kept:
        arrays = {name: kept[name] for name in kept.files}
    np.savez(sidecar, **{**arrays, **changes})
    return shard


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
    ],
)
def test_an_index_that_lies_is_as_good_as_none(tmp_path, changes):
    shard = crafted(tmp_path, **changes)
    assert contents(shard, read_or_build_index(shard)) == list(SAMPLES.items())


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_an_index_is_never_opened(tmp_path):
    canary = tmp_path / "canary"
    shard = crafted(tmp_path, sha256=np.array([Canary(canary)], dtype=object))
    assert read_or_build_index(shard).num_samples == 3
    assert not canary.exists()


def test_where_the_folder_cannot_be_written_the_index_goes_to_the_cache(
    tmp_path, cache, monkeypatch, capsys
):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    # Stands in for a read-only folder: the administrator, as whom tests may run, can write to those.
    (tmp_path / "a.tar.index.npz").mkdir()
    read_or_build_index(shard)
    assert [path.name[16:] for path in (cache / "indexes").iterdir()] == ["-a.tar.index.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.tar.index.npz", "cache"]
    monkeypatch.delattr(index_module, "_build")
    assert read_or_build_index(shard).num_samples == 3
    assert "cannot be kept" not in capsys.readouterr().err


def test_where_no_place_can_be_written_a_line_says_so_and_work_goes_on(tmp_path, cache, capsys):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    (tmp_path / "a.tar.index.npz").mkdir()
    cache.write_bytes(b"a file where the folder should be")
    assert read_or_build_index(shard).num_samples == 3
    assert "cannot be kept" in capsys.readouterr().err


def test_the_index_of_a_sample_takes_less_than_a_hundred_bytes(tmp_path):
    samples = {f"{n:09d}": {"webp": b"1", "json": b"{}", "txt": b"1"} for n in range(200)}
    index = read_or_build_index(shard_of(tmp_path, files_of(samples)))
    arrays = index.key_bytes, index.key_ends, index.offsets, index.sizes
    assert sum(array.nbytes for array in arrays) < 100 * index.num_samples


def test_the_command_prints_a_table_of_shards(tmp_path, capsys):
    shard = shard_of(tmp_path, files_of(SAMPLES))
    main([str(shard)])
    printed = capsys.readouterr().out
    assert "a.tar" in printed
    assert "jpg txt" in printed


def test_the_rooms_that_read_import_no_torch():
    rooms = "index", "manifest", "order", "reader", "decode", "captions", "samples"
    code = f"import sys, {', '.join('data_pipelines.' + room for room in rooms)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
