import io
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_pipelines.cache import one_at_a_time
from data_pipelines.errors import UserError
from data_pipelines.index import main, read_or_build_index, read_or_build_indexes

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


def test_a_size_behind_a_nul_which_other_readers_take_for_none_is_damage(tmp_path):
    data = bytearray(tar_bytes(files_of(SAMPLES)))
    header = data[2048:2560]
    header[124:136] = bytes(6) + b"000001"
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    data[2048:2560] = header
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (changed,) = (member for member in archive if member.offset == 2048)
    assert changed.size == 0
    shard = tmp_path / "a.tar"
    shard.write_bytes(data)
    with pytest.raises(UserError, match="a header whose number fields are not numbers"):
        read_or_build_index(shard)


def test_a_folder_as_old_tars_told_it_is_no_part_of_a_sample(tmp_path):
    member = tarfile.TarInfo("folder/")
    member.type = tarfile.AREGTYPE
    data = member.tobuf(tarfile.USTAR_FORMAT) + tar_bytes(files_of(SAMPLES))
    shard = tmp_path / "a.tar"
    shard.write_bytes(data)
    with tarfile.open(shard) as archive:
        assert archive.getmembers()[0].isdir()
    index = read_or_build_index(shard)
    assert index.skipped == {"folder": 1}
    assert contents(shard, index) == list(SAMPLES.items())


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


def test_the_index_of_a_sample_takes_less_than_a_hundred_bytes(tmp_path):
    samples = {f"{n:09d}": {"webp": b"1", "json": b"{}", "txt": b"1"} for n in range(200)}
    index = read_or_build_index(shard_of(tmp_path, files_of(samples)))
    arrays = index.key_bytes, index.key_ends, index.offsets, index.sizes
    assert sum(array.nbytes for array in arrays) < 100 * index.num_samples


def test_ranks_wait_for_one_another_only_where_an_index_is_missing(tmp_path):
    shards = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for shard in shards:
        shard.write_bytes(tar_bytes(files_of(SAMPLES)))
    read_or_build_index(shards[0])

    def sizes(named):
        return [index.num_samples for index in read_or_build_indexes(named)]

    with ThreadPoolExecutor() as threads:
        with one_at_a_time("indexing"):
            assert threads.submit(sizes, shards[:1]).result(timeout=20) == [3]
            waiting = threads.submit(sizes, shards)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
            # Another rank makes it, and the one that waited need not.
            read_or_build_index(shards[1])
            made = shards[1].with_name("b.tar.index.npz").stat().st_ino
        assert waiting.result(timeout=20) == [3, 3]
    assert shards[1].with_name("b.tar.index.npz").stat().st_ino == made


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
