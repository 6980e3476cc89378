"""Pictures to score, numbered from 0: files, members of tars, or the samples of training's shards."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.grouping import key_as_text
from data_pipelines.manifest import open_dataset
from data_pipelines.progress import with_progress
from data_pipelines.reader import MAX_PICTURE_BYTES, read_sample
from data_pipelines.samples import decoded_sample
from data_pipelines.tar import Member
from eval.encoder import Picture
from eval.tar_files import TarFile

PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
TAIL_BYTES = 1024
"""Of each picture these last bytes are hashed. In a PNG they hold a checksum over all pixels, in a
JPEG what the compression of all pixels before them has led to; all bytes would be gigabytes."""
MAX_FILES = 2_000_000
"""Below a folder of pictures; ImageNet's training set has 1.3 million, a whole disk more."""
READER_THREADS = 8
PICTURES_AT_ONCE = 256


def shard_pictures(
    specs: Sequence[str],
) -> tuple["PictureSet", dict[int, Record], dict[int, str]]:
    """The pictures of shards; for each sample number what its json and txt say; and for each sample
    whose texts cannot be read the cause.
    """
    dataset = open_dataset(specs)
    records: dict[int, Record] = {}
    causes: dict[int, str] = {}
    for number in range(dataset.num_samples):
        try:
            records[number] = read_record(read_sample(dataset, number).parts)
        except BadSample as error:
            causes[number] = error.cause
    pictures = PictureSet(
        fingerprint=dataset.fingerprint,
        num_pictures=dataset.num_samples,
        read=lambda number: decoded_sample(dataset, number)[0],
    )
    return pictures, records, causes


def file_pictures(folder: Path, files: Sequence[Path]) -> "PictureSet":
    """The pictures in these files below `folder`, in this order."""
    stored = [_stored_file(str(file.relative_to(folder)), file) for file in files]
    return _pictures(stored, f"looking at {folder}")


def tar_pictures(places: Sequence[tuple[TarFile, Member | None]]) -> "PictureSet":
    """The pictures in these members of tars, in this order; None where a sample has no picture."""
    stored = [_stored_member(tar, member) for tar, member in places]
    return _pictures(stored, f"looking at {places[0][0].path.parent}" if places else "pictures")


def without_border(pictures: "PictureSet", border: int) -> "PictureSet":
    """The same pictures without their outermost rows and columns.

    Where that leaves nothing, reading raises BadSample.
    """

    def read(number: int) -> UInt8[np.ndarray, "H W 3"]:
        pixels = pictures.read(number)
        inner = np.asarray(pixels)[border:-border, border:-border]
        if not inner.size:
            raise BadSample("nothing within the border")
        return inner

    described = f"{pictures.fingerprint} without {border} pixels at each edge"
    return PictureSet(
        fingerprint=hashlib.sha256(described.encode()).hexdigest(),
        num_pictures=pictures.num_pictures,
        read=read,
    )


def files_below(folder: Path, most: int = MAX_FILES) -> list[Path]:
    """All files below the folder, sorted; nothing whose name, or whose folder's, begins with a dot.

    Raises UserError where there are more than `most` files and folders.
    """
    found: list[Path] = []
    seen = 0
    for here, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > most:
            raise UserError(
                f"more than {most:,} files and folders lie below {folder}; name a folder of pictures"
            )
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(found)


class _Stored(NamedTuple):
    name: str
    size: int
    read: Callable[[int, int], bytes]
    """The bytes from an offset on, of a length. Raises BadSample."""
    cause: str = ""
    """Why there is nothing to read, if so."""


def _stored_file(name: str, path: Path) -> _Stored:
    def read(offset: int, length: int) -> bytes:
        try:
            with path.open("rb") as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise BadSample("unreadable file") from error

    try:
        status = path.stat()
    except OSError:
        return _Stored(name, 0, read, "unreadable file")
    # Opening a pipe would wait for a writer without end.
    return _Stored(name, status.st_size, read, "" if stat.S_ISREG(status.st_mode) else "no file")


def _stored_member(tar: TarFile, member: Member | None) -> _Stored:
    if member is None:
        return _Stored(tar.path.name, 0, tar.read, "no picture")
    start = member.offset
    return _Stored(
        f"{tar.path.name}/{key_as_text(member.name)}",
        member.size,
        lambda offset, length: tar.read(start + offset, length),
    )


def _pictures(stored: Sequence[_Stored], label: str) -> "PictureSet":
    digest = hashlib.sha256()
    starts = range(0, len(stored), PICTURES_AT_ONCE)
    blocks = [stored[start : start + PICTURES_AT_ONCE] for start in starts]
    with ThreadPoolExecutor(READER_THREADS) as readers:
        described = readers.map(_described, blocks)
        named = f"{label}, blocks of {PICTURES_AT_ONCE} pictures"
        for part in with_progress(described, total=len(blocks), label=named):
            digest.update(part)
    return PictureSet(
        fingerprint=digest.hexdigest(),
        num_pictures=len(stored),
        read=lambda number: _pixels(stored[number]),
    )


def _described(pictures: Sequence[_Stored]) -> bytes:
    """All that the fingerprint depends on."""
    rows = [[picture.name, picture.size, _tail(picture).hex()] for picture in pictures]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _tail(picture: _Stored) -> bytes:
    length = min(picture.size, TAIL_BYTES)
    try:
        return b"" if picture.cause else picture.read(picture.size - length, length)
    except BadSample:
        # It is found, and counted, when it is to be decoded.
        return b""


def _pixels(picture: _Stored) -> UInt8[np.ndarray, "H W 3"]:
    if picture.cause:
        raise BadSample(picture.cause)
    if picture.size > MAX_PICTURE_BYTES:
        raise BadSample("picture file too large")
    return decode_picture(picture.read(0, picture.size))


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures that can be read one by one, in any order and from any thread."""

    fingerprint: str
    """A hash of what is in it: names, and contents or sizes. Sets with one hash are embedded once."""
    num_pictures: int
    read: Callable[[int], Picture]
    """The picture of a number. Raises BadSample where it cannot be decoded."""
