"""Hash shards again and tell which are not what their indexes, or the manifest of a pack, say.

    python -m data_pipelines.verify shards/*.tar emoji:train

Remote shards are not fetched: their sizes and versions are compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_pipelines.cache import cache_folder
from data_pipelines.errors import UserError, run_command
from data_pipelines.expand import PACK_SPLITS, PACKS_FOLDER, read_manifest
from data_pipelines.progress import with_progress
from data_pipelines.remote import RemoteShard, Shard, status_of
from data_pipelines.shard_writer import sha256_of_file
from data_pipelines.sidecar import load_sidecars
from data_pipelines.sources import resolve_local_shards
from data_pipelines.words import cell

Outcome = Literal["same", "differs", "no index", "no version", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Hash shards again and compare; exit code 2 when one differs or cannot be compared."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Packs, paths, globs or ranges, such as emoji:train."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came out for one shard."""

    shard: Shard
    outcome: Outcome
    found: str
    """SHA-256 of the file now; of a remote one size and version; empty when it cannot be read."""
    expected: dict[str, str]
    """What it should be instead, by who says so; or why it cannot be read."""


def main(argv: list[str]) -> None:
    """Print what differs, and end with exit code 2 when anything does."""
    command = tyro.cli(VerifyCommand, args=argv, prog="python -m data_pipelines.verify")
    verdicts = verify(resolve_local_shards(command.shards))
    bad = [verdict for verdict in verdicts if verdict.outcome != "same"]
    if not bad:
        print(f"all {len(verdicts):,} shards are what they were")
        return
    table = Table("shard", "outcome", "found", "expected", box=SIMPLE)
    for verdict in bad:
        expected = ", ".join(f"{who} {_short(said)}" for who, said in verdict.expected.items())
        row = (str(verdict.shard), verdict.outcome, _short(verdict.found), expected)
        table.add_row(*(cell(words, overflow="fold") for words in row))
    Console().print(table)
    mend = "copy these again"
    if all(verdict.outcome == "no index" for verdict in bad):
        mend = "run data_pipelines.index on them while they are known to be whole"
    raise UserError(f"{len(bad):,} of {len(verdicts):,} shards could not be confirmed; {mend}")


def _short(contents: str) -> str:
    return contents[:12] if len(contents) == 64 else contents


def verify(shards: Sequence[Shard]) -> list[Verdict]:
    """The verdict on each shard, in order. Kept indexes are compared with and never renewed."""
    by_pack = _pack_hashes()
    named = with_progress(shards, total=len(shards), label="hashing shards")
    return [_verdict(shard, by_pack.get(shard, "")) for shard in named]


def _verdict(shard: Shard, by_pack: str) -> Verdict:
    try:
        if isinstance(shard, RemoteShard):
            status = status_of(shard)
            size, found = status.size, f"{status.size}:{status.version}"
        else:
            size, found = shard.stat().st_size, sha256_of_file(shard)
    except (OSError, UserError) as error:
        return Verdict(shard=shard, outcome="unreadable", found="", expected={"": str(error)})
    # The index beside the shard, else the one in the cache, which may be of an older file.
    kept = [_kept_contents(shard, arrays) for arrays in load_sidecars(shard, size)]
    expected = {"index": kept[0]} if kept else {}
    if by_pack:
        expected["pack"] = by_pack
    differing = {who: contents for who, contents in expected.items() if contents != found}
    outcome: Outcome = "differs" if differing else "same"
    if not expected:
        outcome = "no index"
    elif found.endswith(":"):
        outcome = "no version"
    return Verdict(shard=shard, outcome=outcome, found=found, expected=differing)


def _kept_contents(shard: Shard, arrays: Mapping[str, np.ndarray]) -> str:
    """What the kept index says of the contents; empty where it says nothing."""
    if isinstance(shard, Path):
        return str(arrays.get("sha256", ""))
    sizes = arrays.get("shard_bytes_and_mtime_ns", np.empty(0)).ravel().tolist()
    return f"{sizes[0] if sizes else ''}:{arrays.get('version', '')}"


def _pack_hashes() -> dict[Shard, str]:
    """What the manifests of the packs say of the shards that were expanded into the cache."""
    hashes: dict[Shard, str] = {}
    for pack in PACK_SPLITS:
        manifest = read_manifest(PACKS_FOLDER / pack)
        folder = cache_folder() / f"{pack}-{manifest['pack_sha256'][:12]}"
        for shards in manifest["shards"].values():
            hashes.update({folder / shard["name"]: shard["sha256"] for shard in shards})
    return hashes


if __name__ == "__main__":
    run_command(main)
