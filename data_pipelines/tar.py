"""The members of a tar file, read header by header with bounds on everything; nothing is extracted.

Python's own tarfile trusts the sizes in a header: a crafted negative one makes it read in circles.
Here every step goes forward, so the work is bounded by the length of the file.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
MAX_NAME_BYTES = 1_024
MAX_EXTENDED_BYTES = 64 * 1_024
"""Longest pax or GNU record that is read; webdataset's writer makes records of some 30 bytes."""

SPARSE = b"GNU.sparse."
"""How the records of a file with holes begin: its bytes are not those of the file."""

_WITHOUT_BYTES = frozenset(b"123456")  # links, devices and folders, whatever their size field says
_REGULAR = frozenset(b"0\0007")  # '0', NUL (old tars) and '7' (contiguous), as bytes

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, length)`: the bytes there, fewer only at the end of the file."""


class DamagedTarError(Exception):
    """The tar cannot be followed any further from `offset` on."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} at byte {offset:,}")
        self.offset = offset
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file inside the tar: its name as raw bytes, and where its bytes lie."""

    name: bytes
    offset: int
    size: int


@dataclass(slots=True)
class TarEnd:
    """What was found beside the regular files, complete once `tar_members` has been exhausted."""

    skipped: Counter[str]
    """Members passed over, by cause."""
    torn: bool = False
    """Whether the file stops inside a member or a header."""
    torn_name: bytes = b""
    """The name of the regular file that was cut short, as far as it can be told."""
    closed: bool = False
    """Whether the end marker was seen."""


def tar_members(read_at: ReadAt, file_size: int, end: TarEnd) -> Iterator[Member]:
    """The whole regular files of a tar in order; `end` says afterwards how it ended.

    Raises DamagedTarError where a header does not hold (also at byte 0: then it is no tar at all).
    """
    position = 0
    extended: dict[bytes, bytes] = {}
    while position < file_size:
        header = read_at(position, BLOCK)
        if not header.strip(b"\0"):
            end.closed = len(header) == BLOCK
            return
        if len(header) < BLOCK:
            end.torn = True
            return
        size = _checked_size(header, position)
        kind = header[156]
        if kind == 0 and _name(header).endswith(b"/"):
            # So folders were told before there was a kind for them.
            kind = ord("5")
        if kind in _REGULAR and b"size" in extended:
            size = _pax_size(extended[b"size"], position)
        if kind in _WITHOUT_BYTES:
            size = 0
        start = position + BLOCK
        name = extended.get(b"path") or _name(header)
        if start + size > file_size:
            end.torn = True
            end.torn_name = name if kind in _REGULAR else b""
            return
        position = start + -(-size // BLOCK) * BLOCK
        if kind in b"xL":
            extended |= _extended_records(read_at, kind, start, size)
            continue
        if kind in b"gK":
            continue
        cause = _reason_to_skip(kind, name, extended)
        extended = {}
        if cause:
            end.skipped[cause] += 1
        else:
            yield Member(name, start, size)


def _checked_size(header: bytes, position: int) -> int:
    checksum = _number(header[148:156], position)
    # The checksum counts its own field as eight spaces.
    if checksum != sum(header) - sum(header[148:156]) + 8 * 32:
        raise DamagedTarError(position, "a header whose checksum does not hold")
    return _number(header[124:136], position)


def _number(field: bytes, position: int) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    # An empty field counts as zero; 0xFF in front would be a negative base-256 number, and behind a
    # NUL in front other readers see no digits.
    digits = field.rstrip(b" \0").lstrip(b" ")
    if not digits.isdigit() and digits:
        raise DamagedTarError(position, "a header whose number fields are not numbers")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise DamagedTarError(position, "a header whose number fields are not octal") from None


def _pax_size(digits: bytes, position: int) -> int:
    if not digits.isdigit() or len(digits) > 19:
        raise DamagedTarError(position, "a pax record whose size is not a number")
    return int(digits)


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        return prefix + b"/" + name if prefix else name
    return name


def _extended_records(read_at: ReadAt, kind: int, start: int, size: int) -> dict[bytes, bytes]:
    if size > MAX_EXTENDED_BYTES:
        raise DamagedTarError(start, f"an extended header of {size:,} bytes, too many,")
    data = read_at(start, size)
    if kind == ord("L"):
        return {b"path": data.rstrip(b"\0")}
    records = {}
    position = 0
    while position < len(data) and data[position]:
        digits = data[position : position + 20].partition(b" ")[0]
        stop = position + int(digits) if digits.isdigit() else 0
        if not position + len(digits) + 2 < stop <= len(data):
            raise DamagedTarError(start, "a pax header whose records do not hold")
        key, _, value = data[position + len(digits) + 1 : stop - 1].partition(b"=")
        # Others are not kept: a shard may hold millions of them.
        if key in (b"path", b"size"):
            records[key] = value
        elif key.startswith(SPARSE):
            records[SPARSE] = value
        position = stop
    return records


def _reason_to_skip(kind: int, name: bytes, extended: dict[bytes, bytes]) -> str | None:
    if kind == ord("5"):
        return "folder"
    if kind in b"12":
        return "link"
    if kind not in _REGULAR or SPARSE in extended:
        return "special file"
    if len(name) > MAX_NAME_BYTES:
        return "name too long"
    if not name or any(byte < 32 or byte == 127 for byte in name):
        return "bad name"
    return None
