"""Turn a folder of pictures into shards: with a table of captions, or with a directory per class.

    python -m data_pipelines.prepare.from_folder PICTURES --captions TABLE.jsonl --out SHARDS
    python -m data_pipelines.prepare.from_folder PICTURES --out SHARDS

Pictures are stored as they are, never encoded again. Whatever is left out is counted by cause and
listed in `rejected.jsonl`.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    accept,
    class_items,
    pictures_in,
    sample_of,
    table_items,
)
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import WrittenShard, write_shard

FORMAT_VERSION = 1

_OWN_FILES = re.compile(r"(train|val)-\d{5}\.tar(\.index\.npz)?|dataset\.json|rejected\.jsonl")


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
    overwrite: bool = False
    """Replace the shards that an earlier run left in the folder."""


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
        items, total = iter(found), len(found)
    else:
        items, total = table_items(config.pictures, config.captions, config.columns)
    _make_room(config.out, overwrite=config.overwrite)
    outcome = write_shards(config, with_progress(items, total=total, label="checking pictures"))
    num_unnamed = sum(path not in outcome.paths for path in pictures_in(config.pictures))
    description = _description(outcome, num_unnamed)
    with _replacing(config.out / "dataset.json") as file:
        json.dump(description, file, indent=2)
    print(_summary(config.out, description))
    if not outcome.status["success"]:
        raise UserError(
            f"not one picture of {config.pictures} could be used; "
            f"{config.out / 'rejected.jsonl'} says why"
        )


def write_shards(config: FromFolderConfig, items: Iterable[Item]) -> Outcome:
    """Write the usable items as shards, and the others with their causes into rejected.jsonl."""
    outcome = Outcome(status=Counter(), shards={"train": [], "val": []}, paths=set())
    waiting: dict[str, list[Accepted]] = {"train": [], "val": []}
    seen: set[int] = set()
    num_captions: Counter[str] = Counter()
    with _replacing(config.out / "rejected.jsonl") as rejected:
        for item in items:
            outcome.paths.add(item.path)
            try:
                accepted = accept(item, seen, num_captions)
            except BadSample as finding:
                outcome.status[finding.cause] += 1
                rejected.write(_rejection(item, finding.cause))
                continue
            outcome.status["success"] += 1
            split = split_of_picture(accepted.sha256, config.val_fraction)
            waiting[split].append(accepted)
            if len(waiting[split]) == config.samples_per_shard:
                _flush(config.out, split, waiting[split], outcome.shards[split])
        for split, left in waiting.items():
            if left:
                _flush(config.out, split, left, outcome.shards[split])
    return outcome


def split_of_picture(sha256: str, val_fraction: float) -> str:
    """ "val" or "train": a fixed function of the picture's bytes."""
    share = (stable_hash("val split", sha256) % 2**32) / 2**32
    return "val" if share < val_fraction else "train"


def _flush(out: Path, split: str, waiting: list[Accepted], written: list[WrittenShard]) -> None:
    path = out / f"{split}-{len(written):05d}.tar"
    written.append(write_shard(path, (sample_of(accepted) for accepted in waiting)))
    waiting.clear()


def _check(config: FromFolderConfig) -> None:
    if not 0 <= config.val_fraction < 1:
        raise UserError(f"--val-fraction is {config.val_fraction:g}; it must be from 0 to below 1")
    if config.samples_per_shard < 1:
        raise UserError(f"--samples-per-shard is {config.samples_per_shard}; it must be at least 1")


def _make_room(out: Path, *, overwrite: bool) -> None:
    """An output folder without files of an earlier run; files that are not ours stay."""
    out.mkdir(parents=True, exist_ok=True)
    ours = [path for path in out.iterdir() if _OWN_FILES.fullmatch(path.name)]
    if ours and not overwrite:
        raise UserError(f"{out} holds shards already; choose another folder or add --overwrite")
    # The description first: without it, what is left is no data set.
    for path in sorted(ours, key=lambda path: path.name != "dataset.json"):
        path.unlink()


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
