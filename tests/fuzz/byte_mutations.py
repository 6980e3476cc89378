"""Changes to bytes of any kind: flips, cuts, copies, splices, and numbers at the edges of their types."""

import re
from collections.abc import Callable
from random import Random

MAX_BYTES = 1 << 20
"""Of one mutated file; a longer one is cut."""

EDGES = (
    0, 1, 2, 7, 8, 127, 128, 255, 256, 511, 512, 513, 32_767, 32_768, 65_535, 65_536,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip

NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"2", b"00000000001", b"8", b"255", b"256", b"65536", b"2147483647", b"2147483648",
    b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551615", b"1e308", b"1e400", b"-1e400", b"1e-400", b"0.5", b"NaN", b"Infinity", b"0x10",
    b"1_000", b"9" * 19, b"9" * 400, b"9" * 5000, "\N{ARABIC-INDIC DIGIT THREE}".encode(), b"\xc2\xb2",
)  # fmt: skip

WORDS = (
    b"", b"\0", b"\n", b"\r\n", b"\x1b[2J", b"'", b'"', b"\\", b"/", b"../", b"/etc/passwd", b"\xff\xfe",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "\N{RIGHT-TO-LEFT OVERRIDE}".encode(), b"{}", b"[]", b"[" * 2000,
    b"(" * 40, b"null", b"true", b"%s", b"A" * 5000, b"__class__",
)  # fmt: skip

Change = Callable[[bytes, Random, bytes], bytes]


def mutated_bytes(data: bytes, draws: Random, other: bytes = b"") -> bytes:
    """The data after one change or a few; `other` is what pieces are taken from."""
    for _ in range(draws.choice((1, 1, 1, 2, 3, 6))):
        # Copies of copies would fill the memory.
        data = draws.choice(CHANGES)(data, draws, other)[:MAX_BYTES]
    return data


def raw_bytes(draws: Random, most: int = 2000) -> bytes:
    """Bytes without any structure."""
    return draws.randbytes(draws.choice((0, 1, 2, 16, 512, draws.randrange(most))))


def _span(data: bytes, draws: Random) -> tuple[int, int]:
    """A piece of the data, mostly a short one."""
    start = draws.randrange(len(data) + 1)
    return start, start + draws.choice((1, 2, 4, 8, 64, 512, draws.randrange(len(data) + 1)))


def _flip(data: bytes, draws: Random, other: bytes) -> bytes:
    if not data:
        return b"\0"
    place = draws.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << draws.randrange(8))]) + data[place + 1 :]


def _set(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    value = draws.choice((0, 0x20, 0x30, 0x7F, 0x80, 0xFF, draws.randrange(256)))
    return data[:start] + bytes([value]) * len(data[start:end]) + data[end:]


def _cut_short(data: bytes, draws: Random, other: bytes) -> bytes:
    return data[: draws.randrange(len(data) + 1)]


def _remove(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    return data[:start] + data[end:]


def _double(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    return data[:end] + data[start:end] * draws.choice((1, 1, 2, 16)) + data[end:]


def _swap(data: bytes, draws: Random, other: bytes) -> bytes:
    a, b, c, d = sorted(draws.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _splice(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    first, last = _span(other, draws)
    return data[:start] + other[first:last] + data[end if draws.random() < 0.5 else start :]


def _insert_word(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    return data[:start] + draws.choice(WORDS + NUMBERS) + data[draws.choice((start, end)) :]


def _number_in_text(data: bytes, draws: Random, other: bytes) -> bytes:
    found = list(re.finditer(rb"\d+", data[:100_000]))
    if not found:
        return _insert_word(data, draws, other)
    place = draws.choice(found)
    return data[: place.start()] + draws.choice(NUMBERS) + data[place.end() :]


def _number_in_binary(data: bytes, draws: Random, other: bytes) -> bytes:
    width = draws.choice((1, 2, 4, 8))
    place = draws.randrange(len(data) + 1)
    value = (draws.choice(EDGES) * draws.choice((1, 1, 1, -1))) % (1 << (8 * width))
    return (
        data[:place]
        + value.to_bytes(width, draws.choice(("little", "big")))
        + data[place + width :]
    )


def _raw(data: bytes, draws: Random, other: bytes) -> bytes:
    start, end = _span(data, draws)
    return data[:start] + draws.randbytes(end - start) + data[end:]


CHANGES: tuple[Change, ...] = (
    _flip, _flip, _set, _cut_short, _remove, _double, _swap, _splice, _insert_word, _number_in_text,
    _number_in_binary, _raw,
)  # fmt: skip
