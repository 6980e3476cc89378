"""Shards made to break their reader."""

from collections.abc import Callable, Iterator

import numpy as np
from hostile_cases import Case, bytes_case
from hostile_pictures import png

BLOCK = 512


def header(
    name: bytes, size: bytes | int = 0, kind: bytes = b"0", *, prefix: bytes = b"", broken: int = 0
) -> bytes:
    """A header block of a tar; `size` may be the raw field, `broken` is added to the checksum."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    block[156:157] = kind
    block[157:165] = b"/etc/pwd" if kind in b"12" else bytes(8)
    block[257:265] = b"ustar\x0000"
    block[345 : 345 + len(prefix)] = prefix
    total = sum(block) - sum(block[148:156]) + 8 * 32 + broken
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def member(name: bytes, content: bytes, kind: bytes = b"0", **more: bytes) -> bytes:
    """A header and its content, filled up to whole blocks."""
    return header(name, len(content), kind, **more) + content + bytes(-len(content) % BLOCK)


def sample(key: bytes = b"good", **changes: bytes) -> bytes:
    """A whole sample; `changes` replace parts or add some."""
    parts = {"png": png(), "txt": b"a cat", **changes}
    return b"".join(member(key + b"." + kind.encode(), data) for kind, data in parts.items())


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    """An extended header with these records."""
    return member(b"././@PaxHeader", records, kind)


def record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header, its own length in front."""
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax_bomb(number: int) -> bytes:
    """So many extended headers of 3,500 records each, all under other names, before one member."""
    return b"".join(
        pax(b"".join(record(b"k%07d" % (n + 3500 * m), b"") for n in range(3500)))
        for m in range(number)
    )


def tars() -> Iterator[Case]:
    """Shards; `good` in what is expected tells that the whole sample in front was kept."""
    closing = bytes(2 * BLOCK)
    damaged = "UserError: .* is damaged: "
    one = r"samples 1 "
    whole = sample()
    tails: dict[str, tuple[bytes, str]] = {
        "negative size in octal": (header(b"a.png", b"-0000001000\0") + closing, damaged),
        "negative size in base 256": (header(b"a.png", b"\xff" * 11 + b"\x00"), damaged),
        "size of 2^88 in base 256": (header(b"a.png", b"\x80" + b"\xff" * 11), one + ".*torn end"),
        "base 256 with more bits in front": (header(b"a.png", b"\xc0" + b"\xff" * 11), damaged),
        "8 GiB in a file of 2.5 KB": (header(b"a.png", b"77777777777\0"), one + ".*torn end"),
        "digits that are not octal": (header(b"a.png", b"00000000999\0"), damaged),
        "size with a letter": (header(b"a.png", b"0000000x000\0"), damaged),
        "wrong checksum": (header(b"a.png", broken=1), damaged + "a header whose checksum"),
        "checksum that is no number": (
            header(b"a.png")[:148] + b"zzzzzzzz" + header(b"a.png")[156:], damaged
        ),
        "random bytes behind a sample": (np.random.default_rng(1).bytes(4096), damaged),
        "HTML behind a sample": (b"<html>503</html>" * 64, damaged),
        "symbolic link": (header(b"a.png", 0, b"2") + closing, one + ".*link: 1"),
        "hard link with a size": (header(b"a.png", 10**9, b"1") + closing, one + ".*link: 1"),
        "character device": (header(b"a.png", 0, b"3") + closing, one + ".*special file: 1"),
        "block device": (header(b"a.png", 0, b"4") + closing, one + ".*special file: 1"),
        "pipe in the file system": (header(b"a.png", 0, b"6") + closing, one + ".*special file: 1"),
        "folder with a size": (header(b"a.png/", 10**9, b"5") + closing, one + ".*folder: 1"),
        "unknown kind of member": (member(b"a.png", b"x", b"Z") + closing, one + ".*special file"),
        "old sparse file": (header(b"a.png", 0, b"S") + closing, one + ".*special file: 1"),
        "pax sparse file": (
            pax(record(b"GNU.sparse.size", b"9" * 15)) + member(b"a.png", b"x") + closing,
            one + ".*special file: 1",
        ),
        "pax size of 19 digits": (
            pax(record(b"size", b"9" * 19)) + header(b"a.png"), one + ".*torn end"
        ),
        "pax size of 10,000 digits": (
            pax(record(b"size", b"9" * 10_000)) + header(b"a.png"), damaged
        ),
        "negative pax size": (pax(record(b"size", b"-512")) + header(b"a.png"), damaged),
        "pax record that reaches too far": (pax(b"999 path=a.png\n") + whole, damaged),
        "pax record of length 0": (pax(b"0 path=a.png\n") + whole, damaged),
        "pax record without a length": (pax(b"path=a.png\n") + whole, damaged),
        "pax header of 1 MB": (pax(record(b"comment", b"x" * 10**6)) + closing, damaged),
        "long name that never ends": (
            member(b"././@LongLink", b"n" * 70_000, b"L") + closing, damaged
        ),
        "long name without a member": (member(b"././@LongLink", b"x.png\0", b"L"), one),
        "global header that renames all": (
            pax(record(b"path", b"../../canary"), b"g") + sample(b"b"), "samples 2 "
        ),
        "name that climbs out": (sample(b"../../../../canary"), "samples 2 "),
        "absolute name": (sample(b"/canary"), "samples 2 "),
        "NUL in a pax name": (
            pax(record(b"path", b"a\0b.png")) + member(b"a.png", b"x") + closing,
            one + ".*bad name: 1",
        ),
        "name of NULs": (member(b"", b"x") + closing, one + ".*bad name: 1"),
        "escape sequence in a name": (member(b"\x1b[2J.png", b"x"), one + ".*bad name: 1"),
        "name without UTF-8": (sample(b"\xff\xfe"), "samples 2 "),
        "name with a command": (sample(b"$(touch canary);|touch canary"), "samples 2 "),
        "key met 1,000 times": (
            b"".join(sample(b"b", txt=b"%d" % n) for n in range(1000)), r"samples 1001 .*met twice: 999"
        ),
        "2,000 inventions for part types": (
            b"".join(member(b"b.x%d" % n, b"") for n in range(2000)), one + ".*other part: …: "
        ),
        "20,000 empty members": (
            b"".join(member(b"%d.png" % n, b"") for n in range(20_000)) + closing, "samples 20001 .*no caption: 20000"
        ),
        "pickles as parts": (
            member(b"b.pyd", b"cos\nsystem\n(S'touch canary'\ntR.") + sample(b"c"), "samples 2 .*pyd: 1"
        ),
        "samples behind the end marker": (closing + sample(b"b"), one),
        "cut inside a header": (sample(b"b")[:300], one + ".*torn end"),
        "cut at a header's end": (sample(b"b")[:512], one + ".*torn end"),
        "cut inside a picture": (sample(b"b")[:560], one + ".*torn end"),
        "cut between two parts": (member(b"b.png", png()), one + ".*torn end"),
        "cut one byte before the end": (sample(b"b", txt=b"x" * BLOCK)[:-1], one + ".*torn end"),
    }  # fmt: skip
    for name, (tail, expected) in tails.items():
        yield bytes_case("tar", name, whole + tail, expected)
    large: dict[str, tuple[Callable[[], bytes], str]] = {
        "pax bomb of 350,000 names": (lambda: pax_bomb(100) + sample(b"b"), "samples 2 "),
        "chain of long links": (
            lambda: member(b"././@LongLink", b"n" * 60_000 + b"\0", b"L") * 100 + sample(b"b"),
            one + ".*name too long: 1",
        ),
        "50,000 folders": (lambda: header(b"a/", 0, b"5") * 50_000, one + ".*folder: 50000"),
        "30,000 extended headers": (
            lambda: pax(record(b"path", b"b.png")) * 30_000 + sample(b"b"), "samples "
        ),
        "zero blocks without end": (lambda: bytes(16 * 2**20), one),
        "caption of 10 MB": (
            lambda: sample(b"b", txt=b"x" * 10**7), "samples 2 .*caption file too large: 1"
        ),
        "picture of 65 MB": (
            lambda: sample(b"b", png=bytes(65 * 2**20)), "samples 2 .*picture file too large: 1"
        ),
    }  # fmt: skip
    for name, (make, expected) in large.items():
        yield Case(kind="tar", name=name, make=lambda m=make: whole + m(), expected=expected)
    lone = {
        "nothing": (b"", "UserError: .*has 0 bytes"),
        "half a block": (bytes(256), "UserError: .*not a tar"),
        "nothing but zeros": (bytes(BLOCK * 100), "UserError: .*no samples"),
        "compressed": (b"\x1f\x8b\x08" + bytes(1000), "UserError: .*not a tar"),
        "zip": (b"PK\3\4" + bytes(1000), "UserError: .*not a tar"),
        "links alone": (header(b"a.png", 0, b"2") * 10, "UserError: .*no samples"),
    }
    for name, (content, expected) in lone.items():
        yield bytes_case("tar", name, content, expected)
