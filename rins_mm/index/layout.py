"""What an index folder holds, and the small files in it; `shards` has the large ones.

    index.json               the model, the sources, the shards with their hashes, what was left out
    vectors/00000.npy        float16 [n, E], unit vectors
    metadata/00000.parquet   a row for each vector: number, name, label, caption, width, height, sha256
    left_out.jsonl           number, name and cause of each picture that could not be used
    removed.json             numbers that are no longer found

A picture has a number for life: its place in its source, counted on from the sources before. Those
left out and removed leave gaps. Nothing in the folder is believed: no path comes from a file in it,
and sizes are compared before anything is read.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json, refuse_links
from data_pipelines.plain_values import from_plain
from data_pipelines.whole_files import write_whole

FORMAT_VERSION = 1
INDEX = "index.json"
REMOVED = "removed.json"
LEFT_OUT = "left_out.jsonl"
UNFINISHED = ".unfinished"
"""The folder of a build that has not come to its end."""
DTYPE = "float16"
MAX_JSON_BYTES = 256 * 2**20
MAX_NUMBER = 2**32
MAX_WIDTH = 65_536
MAX_PICTURES_PER_SHARD = 2**20


@dataclass(frozen=True, kw_only=True)
class IndexedModel:
    """Whose vectors they are."""

    name: str
    fingerprint: str
    path: str
    """Where it lay when the index was built."""
    image_signature: str
    """The variant of the image encoder that all vectors are of."""
    text_signature: str
    """The variant of the text encoder for queries that name none."""


@dataclass(frozen=True, kw_only=True)
class IndexedSource:
    """Pictures that were added together."""

    pictures: str
    """The folder or the shards."""
    first_number: int
    num_numbers: int


@dataclass(frozen=True, kw_only=True)
class IndexShard:
    """The vectors and the metadata of the pictures with numbers in one range."""

    first_number: int
    num_numbers: int
    num_pictures: int
    """Those that could be used."""
    vectors_sha256: str
    metadata_sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """All that index.json says."""

    model: IndexedModel
    width: int
    """E, the length of a vector."""
    pictures_per_shard: int
    sources: tuple[IndexedSource, ...]
    shards: tuple[IndexShard, ...]
    left_out: dict[str, int]
    """Counts by cause."""

    @property
    def end_number(self) -> int:
        """The first number that is free."""
        return self.sources[-1].first_number + self.sources[-1].num_numbers

    @property
    def num_rows(self) -> int:
        """Vectors in all shards, those of removed pictures too."""
        return sum(shard.num_pictures for shard in self.shards)


def vectors_path(folder: Path, shard: int) -> Path:
    """Where the vectors of a shard are."""
    return folder / "vectors" / f"{shard:05d}.npy"


def metadata_path(folder: Path, shard: int) -> Path:
    """Where the metadata of a shard are."""
    return folder / "metadata" / f"{shard:05d}.parquet"


def facts_json(facts: IndexFacts) -> str:
    """The text of index.json."""
    return _json({"format_version": FORMAT_VERSION, "dtype": DTYPE, **asdict(facts)})


def write_facts(folder: Path, facts: IndexFacts) -> None:
    """Write index.json, whole: with it the folder is an index of these shards."""
    write_whole(folder / INDEX, facts_json(facts), overwrite=True)


def read_facts(folder: Path) -> IndexFacts:
    """What index.json says, in a form that can be relied on. Raises UserError."""
    path = folder / INDEX
    if not path.exists():
        if (folder / UNFINISHED).is_dir():
            raise UserError(
                f"the build of {folder} has not come to its end; give the same command to go on"
            )
        raise UserError(
            f"{folder} is no index: it has no {INDEX}; make one with python -m rins_mm.index build"
        )
    data = read_object(path)
    version, dtype = data.pop("format_version", None), data.pop("dtype", None)
    if not _is_read(version) or dtype != DTYPE:
        raise UserError(
            f"{path} has format_version {version!r} and dtype {dtype!r}; this version of rins_mm "
            f"reads {FORMAT_VERSION} and {DTYPE!r}"
        )
    try:
        # A dictionary is checked by hand: from_plain knows tuples and dataclasses.
        left_out = {str(cause): number for cause, number in dict(data.pop("left_out")).items()}
        facts = from_plain(_JsonFacts, data)
        _check(facts, left_out)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(path, str(error) or repr(error)) from error
    return IndexFacts(**vars(facts), left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class _JsonFacts:
    model: IndexedModel
    width: int
    pictures_per_shard: int
    sources: tuple[IndexedSource, ...]
    shards: tuple[IndexShard, ...]


def _check(facts: _JsonFacts, left_out: Mapping[str, Any]) -> None:
    """Raise ValueError where numbers contradict each other."""
    if not 1 <= facts.width <= MAX_WIDTH:
        raise ValueError(f"width is {facts.width}")
    if not 1 <= facts.pictures_per_shard <= MAX_PICTURES_PER_SHARD:
        raise ValueError(f"pictures_per_shard is {facts.pictures_per_shard}")
    if not facts.sources:
        raise ValueError("there are no sources")
    if not all(type(number) is int and number >= 0 for number in left_out.values()):
        raise ValueError("left_out has something other than counts")
    end = 0
    for source in facts.sources:
        if source.first_number != end or source.num_numbers < 1:
            raise ValueError(f"the source at number {source.first_number} is out of place")
        end += source.num_numbers
    if end >= MAX_NUMBER:
        raise ValueError(f"there are {end} numbers, more than {MAX_NUMBER}")
    at = 0
    for place, shard in enumerate(facts.shards):
        if shard.first_number != at or not (
            0 <= shard.num_pictures <= shard.num_numbers <= facts.pictures_per_shard
        ):
            raise ValueError(f"shard {place} has numbers that do not fit")
        at += shard.num_numbers
    if at != end:
        raise ValueError(f"the shards hold {at} numbers and the sources {end}")


def write_removed(folder: Path, numbers: list[int]) -> None:
    """Write the numbers of all removed pictures, in order. Raises UserError where links lie in the folder."""
    refuse_links_of_index(folder)
    text = json.dumps({"format_version": FORMAT_VERSION, "numbers": sorted(set(numbers))})
    write_whole(folder / REMOVED, text + "\n", overwrite=True)


def read_removed(folder: Path) -> list[int]:
    """The numbers of all removed pictures. Raises UserError."""
    path = folder / REMOVED
    if not path.exists():
        return []
    data = read_object(path)
    version, numbers = data.get("format_version", FORMAT_VERSION), data.get("numbers")
    if not _is_read(version):
        raise UserError(
            f"{path} has format_version {version!r}; this version of rins_mm reads {FORMAT_VERSION}"
        )
    if not isinstance(numbers, list) or not all(
        type(number) is int and 0 <= number < MAX_NUMBER for number in numbers
    ):
        raise damaged(path, "numbers is not a list of numbers of pictures")
    return numbers


def _is_read(version: Any) -> bool:
    # True equals 1.
    return type(version) is int and version == FORMAT_VERSION


def refuse_links_of_index(folder: Path) -> None:
    """Raise UserError where links lie in the folder of an index that is to be written to."""
    refuse_links(folder, "an index", "take another folder")


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that anybody may have written. Raises UserError."""
    try:
        data = read_plain_json(path, MAX_JSON_BYTES)
    except (OSError, ValueError) as error:
        raise damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise damaged(path, "it holds no object")
    return data


def require_file(path: Path, *, most: int) -> int:
    """The size of a plain file of at most so many bytes. Raises UserError for anything else."""
    try:
        # Opening a pipe would wait for whoever writes into it.
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise damaged(path, getattr(error, "strerror", None) or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise damaged(path, "it is not a file")
    if status.st_size > most:
        raise damaged(path, f"it has {status.st_size:,} bytes, more than {most:,}")
    return status.st_size


def damaged(path: Path, what: str) -> UserError:
    """The error for a file of an index that is not what was written."""
    line = " ".join(what.split())[:300]
    return UserError(f"{path} is damaged: {line}; use another copy, or build the index anew")


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=True) + "\n"
