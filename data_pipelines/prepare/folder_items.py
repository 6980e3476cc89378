"""Pictures in a folder with the words that belong to them, and which of them can be used."""

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import MAX_CAPTION_CHARACTERS
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.hashing import stable_hash
from data_pipelines.prepare.caption_tables import Columns, Row, count_rows, read_rows
from data_pipelines.reader import MAX_PICTURE_BYTES
from data_pipelines.shard_writer import Sample

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
)
"""What is taken for a picture by its name; what no loader can read is rejected by its content."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture with one caption, as found."""

    path: Path
    name: str
    """The path as the table or the folder gives it."""
    caption: str
    keywords: tuple[str, ...] = ()
    group: str = ""
    positive_key: str = ""
    """Pictures that share it show the same thing; empty where only equal pictures do."""
    row: int = 0
    """The row of the table, from 1; 0 without a table."""
    broken: str = ""
    """Why there is nothing to try, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What an item is by itself, whatever came before it: all that takes long to find out."""

    suffix: str
    sha256: str
    """Of the picture's bytes."""
    cause: str
    """Why it cannot be used, or nothing."""
    facts: str
    """Of the picture's file, as `facts_of` gives them."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One sample that will be written."""

    key: str
    suffix: str
    sha256: str
    """Of the picture's bytes."""
    item: Item


def pictures_in(folder: Path) -> list[Path]:
    """All files below the folder that are pictures by their names, sorted."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the pictures")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES]
    return sorted(path for path in found if path.is_file())


def class_items(folder: Path) -> list[Item]:
    """One item for each picture in a class directory; the directory's name is the caption.

    Underscores become spaces. The order is shuffled, always alike, so that classes mix.
    """
    pictures = pictures_in(folder)
    if not pictures:
        raise UserError(f"{folder} holds no pictures (JPEG, PNG or WebP); check the path")
    items = []
    for path in pictures:
        parts = path.relative_to(folder).parts
        label = " ".join(parts[0].replace("_", " ").split()) if len(parts) > 1 else ""
        items.append(
            Item(
                path=path,
                name=path.relative_to(folder).as_posix(),
                caption=label,
                group=label,
                positive_key=label,
                broken="" if label else "no class directory",
            )
        )
    if all(item.broken for item in items):
        raise UserError(
            f"the pictures in {folder} lie in no class directories; give their words with "
            "--captions TABLE, or sort them into one directory per class"
        )
    return sorted(items, key=lambda item: stable_hash("folder order", item.name))


def table_items(folder: Path, table: Path, columns: Columns) -> tuple[Iterator[Item], int]:
    """One item for each row of the table, in its order; and about how many there will be."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the pictures")
    rows = read_rows(table, columns)
    # Now, before anything is written: it finds out whether the table can be read at all.
    first = next(rows, None)
    if first is None:
        raise UserError(f"{table} has no rows; give a table with one row for each caption")
    return (_item_of(row, folder) for row in chain([first], rows)), count_rows(table)


def _item_of(row: Row, folder: Path) -> Item:
    return Item(
        path=folder / row.file,
        name=row.file,
        caption=row.caption,
        keywords=row.keywords,
        row=row.number,
        broken=row.broken or _fault_of_name(row.file, folder),
    )


def _fault_of_name(file: str, folder: Path) -> str:
    """Why a name in a table names no picture of the folder: tables come from other people."""
    if not file:
        return "no file named"
    below = Path(os.path.abspath(folder / file)).is_relative_to(os.path.abspath(folder))
    return "" if below else "outside the folder"


def look_at(item: Item) -> Look:
    """Whether the item could be used if it stood alone.

    Causes: "no file named", "outside the folder", "missing file", "picture file too large",
    "unsupported format", "unreadable file", "empty caption", "caption too long", what the table or decoding finds.
    """
    facts = facts_of(item.path)
    cause = _fault_of_words(item)
    if cause:
        return Look(suffix="", sha256="", cause=cause, facts=facts)
    suffix, sha256, cause = _checked_picture(item.path, facts)
    return Look(suffix=suffix, sha256=sha256, cause=cause, facts=facts)


def facts_of(path: Path) -> str:
    """Size in bytes and time of change in nanoseconds: they change with the file; "" without one."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{found.st_size}:{found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else ""


def accept(item: Item, look: Look, seen: set[int], num_captions: Counter[str]) -> Accepted:
    """The sample that the item becomes; `seen` and `num_captions` remember the ones before.

    Raises BadSample with the look's cause, or "duplicate".
    """
    if look.cause:
        raise BadSample(look.cause)
    pair = stable_hash(item.name, item.caption)
    if pair in seen:
        raise BadSample("duplicate")
    seen.add(pair)
    num_captions[item.name] += 1
    key = key_of(item.name, num_captions[item.name])
    return Accepted(key=key, suffix=look.suffix, sha256=look.sha256, item=item)


def key_of(name: str, number: int) -> str:
    """A unique key from a path: readable, ASCII, without dots; later captions are numbered from 2."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", name.rpartition(".")[0] or name).strip("-")[-50:]
    # Different paths may read alike after that.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return "-".join(part for part in (stem, digest, str(number) if number > 1 else "") if part)


def sample_of(accepted: Accepted) -> Sample:
    """The parts of a sample: the picture as it lies in its file, its words as JSON and as text.

    Raises UserError when the picture is no longer the one that was accepted.
    """
    item = accepted.item
    caption = item.caption.strip()
    record = {
        "label": caption,
        "keywords": list(item.keywords),
        "locales": {},
        "group": item.group,
        "family": "",
        "style": "",
        "positive_key": item.positive_key or f"picture {accepted.sha256[:16]}",
    }
    parts = {
        "json": json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"),
        "txt": caption.encode("utf-8", "replace"),
        accepted.suffix: _accepted_bytes(accepted),
    }
    return accepted.key, parts


def _accepted_bytes(accepted: Accepted) -> bytes:
    path = accepted.item.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} was there and cannot be read any more ({error.strerror}); bring it back, "
            "or start anew with --overwrite"
        ) from error
    if hashlib.sha256(data).hexdigest() != accepted.sha256:
        raise UserError(f"{path} has changed since it was checked; start anew with --overwrite")
    return data


def _fault_of_words(item: Item) -> str:
    if item.broken:
        return item.broken
    if not item.caption.strip():
        return "empty caption"
    return "caption too long" if len(item.caption) > MAX_CAPTION_CHARACTERS else ""


# Tables list a picture once for each of its captions, mostly in a row. The facts are part of what is
# asked, for a file that changes is another.
@lru_cache(maxsize=4096)
def _checked_picture(path: Path, _facts: str) -> tuple[str, str, str]:
    """Suffix, SHA-256, and why it cannot be used or nothing."""
    try:
        if not path.is_file():
            return "", "", "missing file"
        if path.stat().st_size > MAX_PICTURE_BYTES:
            return "", "", "picture file too large"
        data = path.read_bytes()
        decode_picture(data)
    except BadSample as finding:
        cause = "unsupported format" if finding.cause == "not a picture" else finding.cause
        return "", "", cause
    except (OSError, ValueError):
        # A name with a NUL or too long for the file system, or a file that may not be read.
        return "", "", "unreadable file"
    return _suffix_of(data), hashlib.sha256(data).hexdigest(), ""


def _suffix_of(data: bytes) -> str:
    """By content: names lie."""
    if data[:4] == b"RIFF":
        return "webp"
    return "png" if data[:4] == b"\x89PNG" else "jpg"
