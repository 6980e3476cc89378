"""Turn a folder of pictures into shards: with a table of captions, or with a directory per class.

    python -m data_pipelines.prepare.from_folder PICTURES --captions TABLE.jsonl --out SHARDS
    python -m data_pipelines.prepare.from_folder PICTURES --out SHARDS

Pictures are stored as they are, never encoded again. Whatever is left out is counted by cause and
listed in `rejected.jsonl`. A run that was cut off goes on when its command is given again, and ends
with the same bytes.
"""

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import tyro

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError, run_command
from data_pipelines.hashing import stable_hash
from data_pipelines.prepare.caption_tables import Columns
from data_pipelines.prepare.folder_items import (
    Accepted,
    Item,
    Look,
    accept,
    class_items,
    facts_of,
    pictures_in,
    sample_of,
    table_items,
)
from data_pipelines.prepare.judging import looks
from data_pipelines.prepare.unfinished import Journal, Plan, open_journal
from data_pipelines.prepare.worker_pool import usable_cores
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import WrittenShard, sha256_of_file, write_shard
from data_pipelines.whole_files import write_whole
from data_pipelines.words import say

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FromFolderConfig:
    """Turn a folder of pictures into shards."""

    pictures: tyro.conf.Positional[Path]
    """Folder of pictures; without captions, its directories are the classes."""
    out: Path
    """Folder to write the shards into."""
    captions: Path | None = None
    """Table of captions: JSON lines, CSV, TSV or Parquet."""
    columns: Columns = field(default_factory=Columns)
    val_fraction: float = 0.0
    """Share of the pictures (0 to 1) that goes to val shards; equal pictures stay together."""
    samples_per_shard: int = 1000
    """Samples in each shard but the last."""
    workers: int = field(default_factory=usable_cores)
    """Processes that check pictures; 0 checks in this one. The shards do not depend on it."""
    overwrite: bool = False
    """Replace the shards that an earlier run left in the folder, finished or not."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the items."""

    status: Counter[str]
    """Items by cause, "success" among them."""
    shards: dict[str, list[WrittenShard]]
    paths: set[Path]
    """Every picture that an item named."""


def main(argv: list[str]) -> None:
    """Find pictures and words, check each, write shards, say what was left out."""
    config = tyro.cli(
        FromFolderConfig, args=argv, prog="python -m data_pipelines.prepare.from_folder"
    )
    _check(config)
    if config.captions is None:
        found = class_items(config.pictures)
        items, total, names = iter(found), len(found), [item.name for item in found]
    else:
        items, total = table_items(config.pictures, config.captions, config.columns)
        names = None
    plan = _plan(config, names)
    try:
        with closing(open_journal(config.out, plan, overwrite=config.overwrite)) as journal:
            description = _write(config, items, total, journal)
    except KeyboardInterrupt:
        print(
            "interrupted; the same command, without --overwrite, goes on from here", file=sys.stderr
        )
        raise
    say(_summary(config.out, description))
    if not description["successes"]:
        raise UserError(
            f"not one picture of {config.pictures} could be used; "
            f"{config.out / 'rejected.jsonl'} says why"
        )


def _write(
    config: FromFolderConfig, items: Iterator[Item], total: int, journal: Journal
) -> dict[str, Any]:
    """Shards, rejected.jsonl, and last what says that they are whole."""
    with closing(_looked_at(items, journal, config.workers)) as found:
        progress = with_progress(found, total=total, label="checking pictures")
        outcome = write_shards(config, progress, journal)
    num_unnamed = sum(path not in outcome.paths for path in pictures_in(config.pictures))
    description = _description(outcome, num_unnamed)
    write_whole(config.out / "dataset.json", json.dumps(description, indent=2), overwrite=True)
    journal.finish()
    return description


def _looked_at(
    items: Iterator[Item], journal: Journal, num_workers: int
) -> Generator[tuple[Item, Look], None, None]:
    """Each item with the look at it: the journal's, and new ones that the journal is told."""
    for item, look in zip(islice(items, len(journal.looks)), journal.looks, strict=True):
        if facts_of(item.path) != look.facts:
            raise UserError(
                f"{item.path} has changed since the unfinished run checked it; "
                "start anew with --overwrite"
            )
        yield item, look
    with closing(looks(items, num_workers)) as answers:
        for task, new in answers:
            journal.add_looks(new)
            yield from zip(task, new, strict=True)


def write_shards(
    config: FromFolderConfig, found: Iterable[tuple[Item, Look]], journal: Journal
) -> Outcome:
    """Write the usable items as shards, and the others with their causes into rejected.jsonl.

    Shards that the journal has already are taken as they are.
    """
    outcome = Outcome(status=Counter(), shards={"train": [], "val": []}, paths=set())
    waiting: dict[str, list[Accepted]] = {"train": [], "val": []}
    seen: set[int] = set()
    num_captions: Counter[str] = Counter()
    with _replacing(config.out / "rejected.jsonl") as rejected:
        for item, look in found:
            outcome.paths.add(item.path)
            try:
                accepted = accept(item, look, seen, num_captions)
            except BadSample as finding:
                outcome.status[finding.cause] += 1
                rejected.write(_rejection(item, finding.cause))
                continue
            outcome.status["success"] += 1
            split = split_of_picture(accepted.sha256, config.val_fraction)
            waiting[split].append(accepted)
            if len(waiting[split]) == config.samples_per_shard:
                _flush(config.out, split, waiting[split], outcome.shards[split], journal)
        for split, left in waiting.items():
            if left:
                _flush(config.out, split, left, outcome.shards[split], journal)
    return outcome


def split_of_picture(sha256: str, val_fraction: float) -> str:
    """ "val" or "train": a fixed function of the picture's bytes."""
    share = (stable_hash("val split", sha256) % 2**32) / 2**32
    return "val" if share < val_fraction else "train"


def _flush(
    out: Path,
    split: str,
    waiting: list[Accepted],
    written: list[WrittenShard],
    journal: Journal,
) -> None:
    path = out / f"{split}-{len(written):05d}.tar"
    if path.name not in journal.shards:
        journal.add_shard(write_shard(path, (sample_of(accepted) for accepted in waiting)))
    written.append(journal.shards[path.name])
    waiting.clear()


def _plan(config: FromFolderConfig, names: list[str] | None) -> Plan:
    """What an unfinished run and the one that goes on with it must share; workers are no part of it.

    Pictures are no part of it either: the journal knows those that were looked at.
    """
    plan: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "val_fraction": config.val_fraction,
        "samples_per_shard": config.samples_per_shard,
    }
    if config.captions is None:
        content = json.dumps(names).encode()
        return {**plan, "names of the pictures": hashlib.sha256(content).hexdigest()}
    return {
        **plan,
        "columns": asdict(config.columns),
        "form of the table": config.captions.suffix,
        "content of the table": sha256_of_file(config.captions),
    }


def _check(config: FromFolderConfig) -> None:
    if not 0 <= config.val_fraction < 1:
        raise UserError(f"--val-fraction is {config.val_fraction:g}; it must be from 0 to below 1")
    if config.samples_per_shard < 1:
        raise UserError(f"--samples-per-shard is {config.samples_per_shard}; it must be at least 1")
    if config.workers < 0:
        raise UserError(f"--workers is {config.workers}; it must be at least 0")


def _rejection(item: Item, cause: str) -> str:
    described: dict[str, Any] = {"file": item.name, "cause": cause}
    if item.row:
        described["row"] = item.row
    return json.dumps(described) + "\n"


def _description(outcome: Outcome, num_unnamed: int) -> dict[str, Any]:
    """Counts in the manner of img2dataset, and what checks the shards."""
    num_success = outcome.status["success"]
    shards = {
        split: [
            {
                "name": shard.path.name,
                "num_samples": shard.num_samples,
                "num_bytes": shard.num_bytes,
                "sha256": shard.sha256,
            }
            for shard in written
        ]
        for split, written in outcome.shards.items()
    }
    return {
        "format_version": FORMAT_VERSION,
        "count": outcome.status.total(),
        "successes": num_success,
        "failures": outcome.status.total() - num_success,
        "status_dict": dict(outcome.status.most_common()),
        "pictures_not_named": num_unnamed,
        "shards": shards,
    }


def _summary(out: Path, description: dict[str, Any]) -> str:
    lines = [f"wrote {description['successes']:,} of {description['count']:,} items to {out}"]
    for split, shards in description["shards"].items():
        if shards:
            num_samples = sum(shard["num_samples"] for shard in shards)
            lines.append(f"{split}: {num_samples:,} samples in {len(shards):,} shards")
    for cause, count in description["status_dict"].items():
        if cause != "success":
            lines.append(f"left out: {count:,} x {cause}")
    if description["pictures_not_named"]:
        lines.append(f"not named by the table: {description['pictures_not_named']:,} pictures")
    return "\n".join(lines)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A text file that takes its name when it is finished."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    run_command(main)
