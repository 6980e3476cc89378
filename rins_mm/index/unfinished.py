"""What a build leaves behind when it is cut off, so that the same command goes on from there.

The folder `.unfinished` lies in the index until the build is finished: the plan, and a record of each
shard whose files are whole. A shard is a pure function of the plan, so whoever makes it, and when,
does not change its bytes.
"""

import fcntl
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from data_pipelines.errors import UserError
from data_pipelines.plain_values import from_plain
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import sha256_of_file
from data_pipelines.whole_files import write_whole
from data_pipelines.words import tell
from rins_mm.index.layout import (
    INDEX,
    LEFT_OUT,
    MAX_JSON_BYTES,
    REMOVED,
    UNFINISHED,
    IndexShard,
    damaged,
    metadata_path,
    read_facts,
    read_object,
    refuse_links_of_index,
    require_file,
    vectors_path,
)

Plan = Mapping[str, Any]
"""What decides the shards, by a name that people know it by; values as JSON has them."""
FIRST_SHARD = "first shard"
"""In a plan: how many shards there were before."""
_PLAN = "plan.json"
_OWN_FILES = re.compile(
    r"(vectors/\.?\d{5,}\.npy|metadata/\.?\d{5,}\.parquet)(\.\d+\.tmp)?|accelerators/[\w.-]+"
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A picture that could not be used."""

    number: int
    name: str
    cause: str


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A shard whose files are whole."""

    shard: IndexShard
    left_out: tuple[LeftOut, ...]


def write_record(folder: Path, place: int, record: ShardRecord) -> None:
    """Remember that the files of a shard are whole."""
    write_whole(_record_path(folder, place), json.dumps(asdict(record)), overwrite=True)


def read_record(folder: Path, place: int) -> ShardRecord | None:
    """What is remembered of a shard; None where there is nothing, or nothing whole."""
    path = _record_path(folder, place)
    if not path.is_file():
        return None
    try:
        return from_plain(ShardRecord, read_object(path))
    except (UserError, ValueError, TypeError):
        return None


def begin_or_go_on(
    folder: Path, plan: Plan, places: Sequence[int], *, overwrite: bool
) -> IO[bytes]:
    """Make ready for the shards at these places, and say on standard error what is there already.

    Afterwards a shard is whole if and only if there is a record of it. Returns the lock, to be kept
    open as long as the build goes on. Raises UserError where the folder holds something else or links,
    where what is unfinished had another plan, or while another build goes on there.
    """
    unfinished = folder / UNFINISHED
    _forget_what_was_finished(folder)
    _refuse(folder, plan, overwrite=overwrite)
    refuse_links_of_index(folder)
    unfinished.mkdir(parents=True, exist_ok=True)
    if (path := unfinished / "lock").exists():
        require_file(path, most=MAX_JSON_BYTES)
    lock = path.open("a+b")
    try:
        _take(lock, folder)
        if overwrite:
            _empty(folder, whole=not plan[FIRST_SHARD])
        for path in [*folder.glob("vectors/.*.tmp"), *folder.glob("metadata/.*.tmp")]:
            path.unlink()
        if not (unfinished / _PLAN).is_file():
            write_whole(unfinished / _PLAN, json.dumps(dict(plan)), overwrite=True)
        else:
            _check_records(folder, places)
    except BaseException:
        lock.close()
        raise
    return lock


def finish(folder: Path) -> None:
    """Remove what was kept for going on."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def give_up(folder: Path, places: Sequence[int]) -> None:
    """Remove these shards, of which nothing can come, and what was kept for going on."""
    for place in places:
        vectors_path(folder, place).unlink(missing_ok=True)
        metadata_path(folder, place).unlink(missing_ok=True)
    finish(folder)
    # Only folders that are empty can be removed so.
    for emptied in (folder / "vectors", folder / "metadata", folder):
        with suppress(OSError):
            emptied.rmdir()


def _refuse(folder: Path, plan: Plan, *, overwrite: bool) -> None:
    """Raise UserError where this plan cannot be carried out in this folder."""
    path = folder / UNFINISHED / _PLAN
    begins = not plan[FIRST_SHARD]
    if begins and not (folder / UNFINISHED).is_dir() and not (folder / INDEX).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder} is not empty and no index; choose another --out")
    elif path.is_file() and not overwrite:
        earlier = read_object(path)
        changed = [name for name in {**earlier, **plan} if earlier.get(name) != plan.get(name)]
        if changed:
            raise UserError(
                f"{folder} holds an unfinished build with other settings or other pictures "
                f"({', '.join(changed)}); give what it was given, or --overwrite to forget it"
            )
    elif begins and (folder / INDEX).exists() and not overwrite:
        raise UserError(
            f"{folder} is an index already; add to it with python -m rins_mm.index add, "
            "give --overwrite to replace it, or choose another --out"
        )


def _forget_what_was_finished(folder: Path) -> None:
    """Remove the plan of a build that was killed between its last two steps."""
    path = folder / UNFINISHED / _PLAN
    if path.is_file() and (folder / INDEX).is_file():
        first = read_object(path).get(FIRST_SHARD)
        if not isinstance(first, int) or len(read_facts(folder).shards) > first:
            finish(folder)


def _take(lock: IO[bytes], folder: Path) -> None:
    try:
        # Released when the file is closed, also by the death of the process.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another build is writing to {folder}; wait for it, or end it") from error
    except OSError:
        # A file system without locks: nobody can be asked.
        pass


def _empty(folder: Path, *, whole: bool) -> None:
    """Forget an unfinished build; with `whole`, delete the files of the index too, and no others."""
    # index.json first, so that no index is left that is half there.
    names = (INDEX, REMOVED, LEFT_OUT) if whole else ()
    for path in [*(folder / name for name in names), *(folder / UNFINISHED).glob("*.json")]:
        path.unlink(missing_ok=True)
    for path in folder.glob("*/*") if whole else ():
        if _OWN_FILES.fullmatch(f"{path.parent.name}/{path.name}"):
            path.unlink()


def _check_records(folder: Path, places: Sequence[int]) -> None:
    kept, num_pictures = 0, 0
    for place in with_progress(places, total=len(places), label="checking finished shards"):
        record = read_record(folder, place)
        if record is not None and _is_whole(folder, place, record.shard):
            kept += 1
            num_pictures += record.shard.num_pictures
        else:
            _record_path(folder, place).unlink(missing_ok=True)
    tell(
        f"going on with the unfinished build in {folder}: {kept:,} of {len(places):,} shards "
        f"with {num_pictures:,} pictures are whole",
    )


def _is_whole(folder: Path, place: int, shard: IndexShard) -> bool:
    files = (
        (vectors_path(folder, place), shard.vectors_sha256),
        (metadata_path(folder, place), shard.metadata_sha256),
    )
    return all(path.is_file() and sha256_of_file(path) == sha256 for path, sha256 in files)


def read_left_out(folder: Path) -> list[LeftOut]:
    """The pictures that could not be used, in the order of their numbers. Raises UserError."""
    path = folder / LEFT_OUT
    if not path.exists():
        return []
    require_file(path, most=MAX_JSON_BYTES)
    try:
        with path.open(encoding="utf-8") as file:
            return [from_plain(LeftOut, json.loads(line)) for line in file]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def write_left_out(folder: Path, entries: Sequence[LeftOut]) -> None:
    """Write them all, a line for each."""
    text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
    write_whole(folder / LEFT_OUT, text, overwrite=True)


def _record_path(folder: Path, place: int) -> Path:
    return folder / UNFINISHED / f"{place:05d}.json"
