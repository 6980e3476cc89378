"""Tar files of pictures, read in place: nothing is unpacked, and nothing is written beside them.

Unlike the shards of training they need no captions; and a damaged or cut one is refused, because an
evaluation on a part of a set would pass for one on the whole.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.grouping import PICTURE_PARTS, key_and_kind, key_as_text
from data_pipelines.reader import MAX_CAPTION_BYTES, read_local
from data_pipelines.tar import DamagedTarError, Member, TarEnd, tar_members


def open_tar(path: Path) -> "TarFile":
    """The regular files in a tar. Raises UserError when it is none, or is damaged or cut."""
    end = TarEnd(Counter())
    # Opening a pipe would wait for a writer without end.
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; name a tar file")
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            members = tuple(
                tar_members(
                    lambda offset, length: os.pread(file.fileno(), length, offset),
                    status.st_size,
                    end,
                )
            )
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except DamagedTarError as damage:
        kind = "is damaged" if damage.offset else "is no tar file (compressed ones are not read)"
        raise UserError(f"{path} {kind}: {damage}; copy or make it again") from damage
    if not end.closed:
        raise UserError(
            f"{path} stops before the mark that ends a tar, after {len(members):,} whole files: it "
            "was cut, or is no tar; copy it again"
        )
    return TarFile(
        path=path,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        members=members,
        passed_over={cause: n for cause, n in end.skipped.items() if cause != "folder"},
    )


def tar_samples(tar: "TarFile") -> Iterator["TarSample"]:
    """The samples by WebDataset's rule: neighbours whose names agree up to the first dot."""
    key, parts = b"", dict[str, Member]()
    for member in tar.members:
        member_key, kind = key_and_kind(member.name)
        if not member_key:
            continue
        if parts and (member_key != key or kind in parts):
            yield TarSample(tar, key_as_text(key), parts)
            parts = {}
        key = member_key
        parts[kind] = member
    if parts:
        yield TarSample(tar, key_as_text(key), parts)


@dataclass(frozen=True, kw_only=True)
class TarFile:
    """A tar as it was when it was opened."""

    path: Path
    size: int
    mtime_ns: int
    members: tuple[Member, ...]
    passed_over: dict[str, int]
    """What else is in it, by cause: links, special files and unusable names."""

    @property
    def notes(self) -> list[str]:
        """What was passed over, as a sentence; nothing where nothing was."""
        causes = ", ".join(f"{cause}: {number:,}" for cause, number in self.passed_over.items())
        return [f"passed over in {self.path}: {causes}"] if causes else []

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the file. Raises UserError when it has changed meanwhile."""
        return read_local(self.path, self.size, self.mtime_ns, start, length)


@dataclass(frozen=True, slots=True)
class TarSample:
    """The parts of one sample by their type: "jpg", "cls", "txt"."""

    tar: TarFile
    key: str
    parts: dict[str, Member]

    @property
    def picture(self) -> Member | None:
        """The member that holds the picture; of several the first by PICTURE_PARTS."""
        return next((self.parts[kind] for kind in PICTURE_PARTS if kind in self.parts), None)

    def text(self, kind: str) -> str:
        """The text of a small part. Raises BadSample: "no KIND", "KIND too large", "bad utf-8"."""
        member = self.parts.get(kind)
        if member is None:
            raise BadSample(f"no {kind}")
        if member.size > MAX_CAPTION_BYTES:
            raise BadSample(f"{kind} too large")
        try:
            return self.tar.read(member.offset, member.size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadSample("bad utf-8") from error
