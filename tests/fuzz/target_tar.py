"""The tar reader: headers, pax and GNU records, and the grouping of members to samples."""

import io
import tarfile
from collections import Counter
from pathlib import Path
from random import Random

import hostile
import hostile_tars
from byte_mutations import NUMBERS, mutated_bytes, raw_bytes
from target import Files, Target

from data_pipelines import grouping, tar
from data_pipelines.grouping import group_members
from data_pipelines.tar import BLOCK, DamagedTarError, TarEnd, tar_members

FIELDS = {  # name: start, length
    "name": (0, 100), "mode": (100, 8), "size": (124, 12), "checksum": (148, 8), "kind": (156, 1), "link": (157, 100),
    "magic": (257, 8), "prefix": (345, 155),
}  # fmt: skip
KINDS = b"\0" + b"01234567gxLKSDVNMZ\xff"
SIZES = (
    *NUMBERS, b"00000000000\0", b"00000001000\0", b"77777777777\0", b"-0000001000\0", b" 10 \0", b"\x80" + bytes(11),
    b"\x80" + bytes(10) + b"\x10", b"\xff" * 12, b"\xff" * 11 + b"\0", b"\x80" + b"\xff" * 11, b"\xc0" + bytes(11), b"",
)  # fmt: skip
RECORDS = (
    (b"path", b"a/b.txt"), (b"path", b""), (b"path", b"../../canary.txt"), (b"path", b"x" * 3000), (b"path", b"a\0b"),
    (b"size", b"0"), (b"size", b"512"), (b"size", b"1" * 19), (b"size", b"1" * 20), (b"size", b"-1"),
    (b"size", b"\xb2"), (b"GNU.sparse.major", b"1"), (b"mtime", b"1.5"), (b"hdrcharset", b"BINARY"),
    (b"", b""), (b"linkpath", b"/etc"),
)  # fmt: skip


def seeds() -> list[Files]:
    """Shards of every kind that the reader knows, and those of the hostile corpus."""
    whole = hostile_tars.sample() + hostile_tars.sample(b"folder/two.dots") + bytes(2 * BLOCK)
    named = (
        hostile_tars.member(b"././@LongLink", b"long/" * 40 + b"a.txt\0", b"L")
        + hostile_tars.sample()
    )
    paxed = hostile_tars.pax(
        hostile_tars.record(b"path", b"p.txt") + hostile_tars.record(b"size", b"5")
    )
    made = [
        whole,
        named,
        paxed + hostile_tars.member(b"x", b"a cat"),
        _by_tarfile(tarfile.PAX_FORMAT),
        b"",
    ]
    made += [_by_tarfile(tarfile.GNU_FORMAT), _by_tarfile(tarfile.USTAR_FORMAT)]
    made += [case.make() for case in hostile.cases() if case.kind == "tar"]
    return [{"a.tar": data} for data in made if len(data) <= 100_000]


def _by_tarfile(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in ("a.txt", "b/" * 70 + "c.json", "\N{SNOWMAN}.png"):
            info = tarfile.TarInfo(name[:90] if form == tarfile.USTAR_FORMAT else name)
            info.size = 600
            archive.addfile(info, io.BytesIO(bytes(600)))
    return buffer.getvalue()


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Headers, members and records changed, mostly with sums that hold again; now and then any bytes."""
    data = files["a.tar"]
    if draws.random() < 0.01:
        return {"a.tar": raw_bytes(draws)}
    for _ in range(draws.choice((1, 1, 2, 4))):
        change = draws.choice((_field, _field, _members, _member_more, _record_more, None))
        data = (
            change(data, draws, other["a.tar"])
            if change
            else mutated_bytes(data, draws, other["a.tar"])
        )
    return {"a.tar": _summed(data[:60_000]) if draws.random() < 0.9 else data[:60_000]}


def _headers(data: bytes) -> list[int]:
    # What looks like one: its sum is read by the reader, not here.
    return [
        at for at in range(0, len(data), BLOCK) if data[at + 257 : at + 262] == b"ustar" or not at
    ]


def _field(data: bytes, draws: Random, other: bytes) -> bytes:
    at = draws.choice(_headers(data) or [0])
    start, length = FIELDS[draws.choice(list(FIELDS))]
    old = data[at + start : at + start + length]
    if length == 1:
        new = bytes([draws.choice(KINDS)])
    elif length == 12:
        new = draws.choice(SIZES)
    else:
        new = draws.choice(
            (mutated_bytes(old, draws, other), bytes(length), b"\xff" * length, b"a" * length)
        )
    return data[: at + start] + new[:length].ljust(length, b"\0") + data[at + start + length :]


def _members(data: bytes, draws: Random, other: bytes) -> bytes:
    places = [*_headers(data), len(data)]
    a, b, c = sorted(draws.choice(places) for _ in range(3))
    return data[:a] + draws.choice((data[b:c] + data[a:b], data[b:c], data[a:c] * 2)) + data[c:]


def _member_more(data: bytes, draws: Random, other: bytes) -> bytes:
    at = draws.choice(_headers(data) or [0])
    name = draws.choice(
        (
            b"a.txt",
            b"a.png",
            b"b.json",
            b"a",
            b".txt",
            b"a.",
            b"a/.txt",
            b"/",
            b"\xff.txt",
            b"A.TXT",
        )
    )
    content = bytes(draws.choice((0, 1, 511, 512, 513)))
    return data[:at] + hostile_tars.member(name, content, bytes([draws.choice(KINDS)])) + data[at:]


def _record_more(data: bytes, draws: Random, other: bytes) -> bytes:
    at = draws.choice(_headers(data) or [0])
    records = b"".join(
        hostile_tars.record(*draws.choice(RECORDS)) for _ in range(draws.choice((1, 2, 5)))
    )
    if draws.random() < 0.3:
        records = mutated_bytes(records, draws, other)
    return (
        data[:at] + hostile_tars.pax(records[:60_000], draws.choice((b"x", b"x", b"g"))) + data[at:]
    )


def _summed(data: bytes) -> bytes:
    out = bytearray(data)
    for at in _headers(data):
        if at + BLOCK <= len(data):
            total = sum(out[at : at + BLOCK]) - sum(out[at + 148 : at + 156]) + 8 * 32
            out[at + 148 : at + 156] = b"%06o\0 " % total
    return bytes(out)


def attempt(files: Files, folder: Path) -> str:
    """Read all members and group them; where the tar is sound, Python's own reader finds the same."""
    data = files["a.tar"]
    end = TarEnd(Counter())
    members = list(tar_members(lambda at, length: data[at : at + length], len(data), end))
    at = 0
    for member in members:
        assert member.offset >= at + BLOCK and member.offset % BLOCK == 0, (member, at)
        assert member.size >= 0 and member.offset + member.size <= len(data), member
        at = member.offset + member.size
    samples = list(group_members(iter(members), Counter()))
    parts = [part for sample in samples for part in sample.parts.values()]
    assert len(parts) == len(set(parts)) <= len(members)
    if members and end.closed and not end.skipped["special file"] and _is_plain(data):
        _agree(data, members)
        return "closed"
    return "torn" if end.torn else "closed" if end.closed else "open"


def _is_plain(data: bytes) -> bool:
    """Whether Python's reader has the same rules for all that is in the file.

    It renames by global records, reads names up to a NUL, and takes other things for numbers.
    """
    kinds = {data[at + 156 : at + 157] for at in _headers(data)}
    return kinds <= {b"\0", b"0", b"5", b"7"} and b"\x80" not in data and b"\xff" not in data


def _agree(data: bytes, members: list[tar.Member]) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as archive:
            theirs = [info for info in archive if info.isreg()]
    # It refuses more than the reader here does, where other fields hold no numbers; behind the first
    # member it then ends without a word.
    except tarfile.TarError:
        return
    if theirs and theirs[-1].offset_data >= members[-1].offset:
        places = {info.offset_data: info.size for info in theirs}
        assert all(places.get(member.offset) == member.size for member in members), (
            members,
            places,
        )


TARGET = Target(
    name="tar",
    what="tar_members and group_members; places and sizes as Python's tarfile has them where both read it",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(tar, grouping),
    documented=(DamagedTarError,),
)
