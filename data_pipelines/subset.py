"""Keep a subset of a data set by its uids, such as DataComp publishes: write a deny-list of the rest.

    python -m data_pipelines.subset shards/*.tar --uids SUBSET.npy --out DENIED.jsonl

The uid of a sample is read from the Parquet table that img2dataset leaves beside each shard.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Shaped

from data_pipelines.deny_lists import contents_of
from data_pipelines.errors import UserError, run_command
from data_pipelines.index import ShardIndex
from data_pipelines.manifest import open_dataset
from data_pipelines.plain_files import require_plain
from data_pipelines.plain_tables import read_words
from data_pipelines.progress import with_progress
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import say

Uids = Shaped[np.ndarray, " N"]
"""Sixteen bytes each."""
UID_DIGITS = 32
UID = re.compile(f"[0-9a-fA-F]{{{UID_DIGITS}}}")
MAX_UNCHECKED_BYTES = 2**26
"""A larger list must be on the disk: a file may be a hole that takes no room there."""
MAX_UID_BYTES = 2**38
"""Of a list of uids: ten billion samples."""


@dataclass(frozen=True, kw_only=True)
class SubsetCommand:
    """Write the deny-list that leaves only the samples with given uids."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Paths, globs or ranges of local shards with their Parquet tables beside them."""
    uids: Path
    """The uids to keep: an .npy file of pairs of 64-bit numbers, as DataComp writes it, or a text
    with 32 hexadecimal digits in each line."""
    out: Path
    """The deny-list to write; name it in the recipe's data.deny_lists."""
    overwrite: bool = False
    """Replace a list that is already there."""


def main(argv: list[str]) -> None:
    """Write the list and say how many samples stay."""
    command = tyro.cli(SubsetCommand, args=argv, prog="python -m data_pipelines.subset")
    refuse_existing([command.out], overwrite=command.overwrite)
    kept = read_uids(command.uids)
    shards = open_dataset(command.shards).shards
    lines: list[str] = []
    for shard in with_progress(shards, total=len(shards), label="reading uids"):
        lines += _denials(shard, kept)
    num_samples = sum(shard.num_samples for shard in shards)
    write_whole(command.out, "".join(lines), overwrite=command.overwrite)
    say(
        f"{num_samples - len(lines):,} of {num_samples:,} samples are kept, of {len(kept):,} uids; "
        f"wrote {command.out}"
    )


def read_uids(path: Path) -> Uids:
    """The uids in a file. Raises UserError for a file that holds something else."""
    try:
        size = require_plain(path, MAX_UID_BYTES)
        _refuse_holes(path, size)
        if path.suffix == ".npy":
            # Mapped: a header may claim any size, and the file must have it.
            pairs = np.load(path, allow_pickle=False, mmap_mode="r")
            if pairs.dtype != np.dtype("u8,u8"):
                raise ValueError(f"numbers of the kind {pairs.dtype}")
            # Largest digits first, as the hexadecimal form has them.
            numbers = np.stack([pairs["f0"], pairs["f1"]], axis=-1).astype(">u8")
            return np.unique(np.frombuffer(numbers.tobytes(), dtype="S16"))
        return np.unique(_packed(path.read_text(encoding="ascii").split()))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path") from error
    # numpy's parser of headers meets hostile text with nearly any exception there is.
    except Exception as error:
        raise UserError(
            f"{path} is no list of uids ({error}); give an .npy file of pairs of 64-bit numbers, "
            "or a text with 32 hexadecimal digits in each line"
        ) from error


def _refuse_holes(path: Path, size: int) -> None:
    """Raise ValueError where most of a large file is not there: uids are noise, and no disk packs them."""
    # Some file systems do not tell, which is 0.
    on_disk = 512 * path.stat().st_blocks
    if size > MAX_UNCHECKED_BYTES and 0 < on_disk < size // 4:
        raise ValueError(f"{on_disk:,} of its {size:,} bytes are on the disk")


def _packed(uids: Sequence[str]) -> Uids:
    wrong = next((uid for uid in uids if not UID.fullmatch(uid)), None)
    if wrong is not None:
        raise ValueError(f"{wrong[:40]!r} is no uid of {UID_DIGITS} hexadecimal digits")
    return np.frombuffer(b"".join(map(bytes.fromhex, uids)), dtype="S16")


def _denials(shard: ShardIndex, kept: Uids) -> list[str]:
    """The lines for the samples of the shard that are not kept, also for those without a uid."""
    by_key = _uids_by_key(shard)
    keys = [shard.key(row) for row in range(shard.num_samples)]
    stays = set()
    if by_key:
        is_kept = np.isin(_packed(list(by_key.values())), kept).tolist()
        stays = {key for key, keeps in zip(by_key, is_kept, strict=True) if keeps}
    named = {"shard": shard.name, "cause": "not in the subset", "contents": contents_of(shard)}
    return [json.dumps({**named, "key": key}) + "\n" for key in keys if key not in stays]


def _uids_by_key(shard: ShardIndex) -> dict[str, str]:
    if not isinstance(shard.path, Path):
        raise UserError(f"{shard.path} is remote; subsets are made of local shards only")
    path = shard.path.with_suffix(".parquet")
    if not path.is_file():
        raise UserError(f"there is no {path}; the uids of {shard.name} are read from it")
    # pyarrow is big, and only this and the tables of captions need it.
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(
            "reading Parquet needs pyarrow; install it with: pip install 'rins_mm[prepare]'"
        ) from error
    try:
        rows = read_words(path, ["key", "uid"])
        found = {row["key"]: row["uid"] for row in rows if None not in row.values()}
        _packed(list(found.values()))
        return found
    except (
        pyarrow.ArrowException, KeyError, ValueError, OSError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or ["?"])[0]
        raise UserError(f"{path} has no columns key and uid as DataComp has ({reason})") from error


if __name__ == "__main__":
    run_command(main)
