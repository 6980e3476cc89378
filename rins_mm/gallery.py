"""Pictures to search: the files below a folder, or the samples of shards."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.grouping import PICTURE_PARTS
from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.reader import read_picture_file, read_sample
from data_pipelines.samples import decoded_sample, sample_name
from data_pipelines.words import printable

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def open_gallery(pictures: str) -> "Gallery":
    """The pictures below a folder, or those of shards."""
    # Of a text too long for a name there is no folder either.
    if os.path.isdir(pictures):
        return folder_gallery(Path(pictures))
    if not any(mark in pictures for mark in (":", "*", "?", "{", ",", ".tar")):
        raise UserError(
            f"there is no folder {pictures}; name a folder of pictures, or shards such as emoji:test"
        )
    return shard_gallery(pictures)


def folder_gallery(folder: Path) -> "Gallery":
    """The pictures below a folder, by their suffixes and sorted; hidden files and folders are left out.

    Raises UserError where there is none.
    """
    unreadable: Counter[str] = Counter()

    def count(error: OSError) -> None:
        unreadable["unreadable folder"] += 1

    paths = []
    for place, folders, names in os.walk(folder, onerror=count):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            Path(place, name)
            for name in names
            if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")
        ]
    if not paths:
        raise UserError(
            f"there are no pictures in {folder} or the folders in it "
            f"(looked for {' '.join(PICTURE_SUFFIXES)}); name another folder"
        )
    paths.sort()
    return Gallery(
        num_pictures=len(paths),
        file=lambda number: PictureFile(read_picture_file(paths[number]), "", ""),
        read=lambda number: decode_picture(read_picture_file(paths[number])),
        name=lambda number: printable(str(paths[number].relative_to(folder))),
        label=lambda number: "",
        fingerprint=lambda: _fingerprint_of_files(folder, paths),
        unreadable=dict(unreadable),
    )


def _fingerprint_of_files(folder: Path, paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        # A link may lead nowhere: the place of its own counts.
        status = path.lstat()
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0")
        digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def shard_gallery(spec: str) -> "Gallery":
    """The pictures of shards, with their labels (or captions) beside their keys."""
    dataset = open_dataset([spec])
    return Gallery(
        num_pictures=dataset.num_samples,
        file=lambda number: _file_of_sample(dataset, number),
        read=lambda number: decoded_sample(dataset, number)[0],
        name=lambda number: printable("/".join(sample_name(dataset, number))),
        label=lambda number: printable(_label_of(read_record(read_sample(dataset, number).parts))),
        fingerprint=lambda: dataset.fingerprint,
        unreadable={},
    )


def _file_of_sample(dataset: Dataset, number: int) -> "PictureFile":
    parts = read_sample(dataset, number).parts
    record = read_record(parts)
    caption = record.get("txt")
    for kind in PICTURE_PARTS:
        if kind in parts:
            return PictureFile(
                parts[kind], _label_of(record), caption if isinstance(caption, str) else ""
            )
    raise BadSample("no picture")


def _label_of(record: Record) -> str:
    for name in ("label", "txt"):
        if isinstance(record.get(name), str) and record[name].strip():
            return record[name].strip().splitlines()[0]
    return ""


class PictureFile(NamedTuple):
    """One picture as it lies there, and what its sample says of it."""

    data: bytes
    """As it is encoded."""
    label: str
    """As it stands there; empty where nothing is known, as in a folder."""
    caption: str


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures to search, numbered from 0, readable in any order and from any thread."""

    num_pictures: int
    file: Callable[[int], PictureFile]
    """A picture before it is decoded. Raises BadSample where it cannot be read."""
    read: Callable[[int], UInt8[np.ndarray, "H W 3"]]
    """The pixels of a picture. Raises BadSample where it cannot be decoded."""
    name: Callable[[int], str]
    """File, or shard and key."""
    label: Callable[[int], str]
    """What it is said to show; empty where nothing is known."""
    fingerprint: Callable[[], str]
    """A hash of which pictures these are: contents of shards, or names, sizes and times of files."""
    unreadable: Mapping[str, int]
    """What could not even be listed, counted by cause."""
