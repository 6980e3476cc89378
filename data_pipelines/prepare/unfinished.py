"""What a run of from_folder or scenes leaves behind when it is cut off, so that the next goes on from it.

The journal `.unfinished.jsonl` lies in the output folder until the run is finished. Its first line is
the plan (settings and input); the others list looks at items, in the items' order, and shards that
are whole. Shards and counts are a pure function of the items and the looks at them, so a run that
takes looks from the journal writes what it would have written without it.
"""

import fcntl
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from data_pipelines.errors import UserError
from data_pipelines.prepare.folder_items import Look
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import WrittenShard, sha256_of_file

JOURNAL_NAME = ".unfinished.jsonl"

_SHARD = r"(train|val|test|combinations|concepts)-\d{5}\.tar"
_OWN_FILES = re.compile(
    rf"{_SHARD}(\.index\.npz)?|dataset\.json|rejected\.jsonl"
    rf"|\.({_SHARD}|dataset\.json|rejected\.jsonl)\.\d+\.tmp"
)

Plan = Mapping[str, Any]
"""What decides the output, by a name that people know it by; values as JSON has them."""


class Journal:
    """What is done already, and the file that remembers what this run adds to it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self.looks: list[Look] = []
        """At the first items, by earlier runs."""
        self.shards: dict[str, WrittenShard] = {}
        """Whole shards by name, of earlier runs and this one."""

    def read(self) -> Plan | None:
        """Take over what the file says, and cut off a last line that was not finished.

        Returns the plan; None where not even that is there.
        """
        self._file.seek(0)
        plan, end = None, 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                if plan is None:
                    plan = dict(entry["plan"])
                elif "looks" in entry:
                    self.looks.extend([_look(values) for values in entry["looks"]])
                else:
                    shard = WrittenShard(**{**entry["shard"], "path": self._folder_path(entry)})
                    self.shards[shard.path.name] = shard
            except (ValueError, TypeError, KeyError):
                break
            end += len(line)
        self._file.truncate(end)
        return plan

    def begin(self, plan: Plan) -> None:
        """Forget everything and write the plan."""
        self._file.truncate(0)
        self._append({"plan": dict(plan)})

    def add_looks(self, looks: Sequence[Look]) -> None:
        """Remember looks at the next items."""
        values = [(look.suffix, look.sha256, look.cause, look.facts) for look in looks]
        self._append({"looks": values})

    def add_shard(self, shard: WrittenShard) -> None:
        """Remember that the shard is whole."""
        self.shards[shard.path.name] = shard
        described = {
            "path": shard.path.name,
            "num_samples": shard.num_samples,
            "num_bytes": shard.num_bytes,
            "sha256": shard.sha256,
        }
        self._append({"shard": described})

    def close(self) -> None:
        """Leave the file to the next run, and the folder to whoever waits for it."""
        self._file.close()

    def finish(self) -> None:
        """Remove the file: the folder is finished."""
        self._path.unlink(missing_ok=True)

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
        # A killed process loses nothing that the operating system has.
        self._file.flush()

    def _folder_path(self, entry: Any) -> Path:
        return self._path.with_name(Path(entry["shard"]["path"]).name)


def open_journal(out: Path, plan: Plan, *, overwrite: bool) -> Journal:
    """The journal of an output folder in which there is nothing else of ours but its whole shards.

    Says on standard error what of an earlier run is reused and removed. Files that are not ours stay.
    Raises UserError where the folder is finished, where what is unfinished had another plan, or while
    another run writes there.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / JOURNAL_NAME
    if not path.exists() and _own_files(out) and not overwrite:
        raise UserError(f"{out} holds shards already; choose another folder or add --overwrite")
    file = path.open("a+b")
    journal = Journal(file, path)
    try:
        _take_the_folder(file, out)
        earlier = None if overwrite else journal.read()
        if earlier is None:
            _begin(out, journal, plan, overwrite=overwrite)
        else:
            _go_on(out, journal, plan, earlier)
    except BaseException:
        journal.close()
        raise
    return journal


def _begin(out: Path, journal: Journal, plan: Plan, *, overwrite: bool) -> None:
    ours = _own_files(out)
    if ours and not overwrite:
        raise UserError(f"{out} holds shards already; choose another folder or add --overwrite")
    # The description first: without it, what is left is no data set.
    for path in sorted(ours, key=lambda path: path.name != "dataset.json"):
        path.unlink()
    journal.begin(plan)


def _go_on(out: Path, journal: Journal, plan: Plan, earlier: Plan) -> None:
    changed = [name for name in {**earlier, **plan} if earlier.get(name) != plan.get(name)]
    if changed:
        raise UserError(
            f"{out} holds an unfinished run with other settings or another input "
            f"({', '.join(changed)}); give what it was given, choose another folder, or add --overwrite"
        )
    recorded = list(journal.shards.values())
    for shard in with_progress(recorded, total=len(recorded), label="checking finished shards"):
        if not shard.path.is_file() or sha256_of_file(shard.path) != shard.sha256:
            del journal.shards[shard.path.name]
    leftovers = [path for path in _own_files(out) if path.name not in journal.shards]
    for path in leftovers:
        path.unlink()
    num_samples = sum(shard.num_samples for shard in journal.shards.values())
    checks = f" and the checks of {len(journal.looks):,} items" if journal.looks else ""
    print(
        f"going on with the unfinished run in {out}: reused {len(journal.shards):,} shards of "
        f"{num_samples:,} samples{checks}; "
        f"removed {len(leftovers):,} unfinished or damaged files",
        file=sys.stderr,
    )


def _own_files(out: Path) -> list[Path]:
    return sorted(path for path in out.iterdir() if _OWN_FILES.fullmatch(path.name))


def _take_the_folder(file: IO[bytes], out: Path) -> None:
    try:
        # Released when the file is closed, also by the death of the process.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another run is writing to {out}; wait for it, or end it") from error
    except OSError:
        # A file system without locks: nobody can be asked.
        pass


def _look(values: Any) -> Look:
    suffix, sha256, cause, facts = values
    return Look(suffix=suffix, sha256=sha256, cause=cause, facts=facts)
