"""Pictures to search: the files below a folder, or the samples of shards."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import Record, read_record
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from data_pipelines.reader import read_sample
from data_pipelines.samples import decoded_sample, sample_name
from eval.words import printable

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def open_gallery(pictures: str) -> "Gallery":
    """The pictures below a folder, or those of shards."""
    if Path(pictures).is_dir():
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
        read=lambda number: _file_pixels(paths[number]),
        name=lambda number: printable(str(paths[number].relative_to(folder))),
        label=lambda number: "",
        unreadable=dict(unreadable),
    )


def _file_pixels(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    # A pipe that is called like a picture would be waited for without end.
    if not path.is_file():
        raise BadSample("not a file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadSample("unreadable file") from error
    return decode_picture(data)


def shard_gallery(spec: str) -> "Gallery":
    """The pictures of shards, with their labels (or captions) beside their keys."""
    dataset = open_dataset([spec])
    return Gallery(
        num_pictures=dataset.num_samples,
        read=lambda number: decoded_sample(dataset, number)[0],
        name=lambda number: printable("/".join(sample_name(dataset, number))),
        label=lambda number: printable(_label_of(read_record(read_sample(dataset, number).parts))),
        unreadable={},
    )


def _label_of(record: Record) -> str:
    for name in ("label", "txt"):
        if isinstance(record.get(name), str) and record[name].strip():
            return record[name].strip().splitlines()[0]
    return ""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures to search, numbered from 0, readable in any order and from any thread."""

    num_pictures: int
    read: Callable[[int], UInt8[np.ndarray, "H W 3"]]
    """The pixels of a picture. Raises BadSample where it cannot be decoded."""
    name: Callable[[int], str]
    """File, or shard and key."""
    label: Callable[[int], str]
    """What it is said to show; empty where nothing is known."""
    unreadable: Mapping[str, int]
    """What could not even be listed, counted by cause."""
