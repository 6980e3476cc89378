"""Lists of samples that are not to be used: they are taken out before anything counts or shuffles.

A deny-list is a file of JSON lines, such as `python -m data_pipelines.lint` writes:

    {"shard": "00007.tar", "key": "000070013", "cause": "broken picture", "contents": "…"}

`shard` is a file name, `key` the key of the sample (of all samples of the shard that have it);
`contents`, where it is given, tells the shard from others of its name. Other fields are for people.
"""

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.grouping import key_as_text
from data_pipelines.index import ShardIndex
from data_pipelines.plain_files import parse_plain_json, require_plain

MAX_LINE = 2**16
"""Characters of a line of a deny-list."""

Denied = dict[str, set[tuple[str, str]]]
"""By the file name of the shard: its contents (empty: any) and a key."""


def without_denied(
    shards: Sequence[ShardIndex], deny_lists: Sequence[str]
) -> tuple[list[ShardIndex], list[list[int]]]:
    """The shards without the denied samples, and the rows that each of them lost.

    Lines about other shards change nothing. Raises UserError for a list that cannot be read, and for
    a line about a shard of that name with other contents or without that key: the list is old then.
    """
    denied = read_deny_lists(deny_lists, {shard.name for shard in shards})
    kept, lost = [], []
    found: set[tuple[str, str, str]] = set()
    for shard in shards:
        lines = denied.get(shard.name, set())
        contents = contents_of(shard)
        wanted = {key for content, key in lines if content in ("", contents)}
        names = _keys(shard) if wanted else []
        rows = [row for row, key in enumerate(names) if key in wanted]
        present = {names[row] for row in rows}
        for content, key in lines:
            if key in present and content in ("", contents):
                found.add((shard.name, content, key))
        kept.append(_without_rows(shard, rows) if rows else shard)
        lost.append(rows)
    _refuse_old_lines(denied, found)
    return kept, lost


def contents_of(shard: ShardIndex) -> str:
    """What tells the shard from others of its name, whatever was taken out of it already."""
    return shard.sha256 or f"{shard.size}:{shard.version}"


def read_deny_lists(paths: Sequence[str], names: Set[str]) -> Denied:
    """What the deny-lists say of shards with these names, together."""
    denied: Denied = {}
    for path in map(Path, paths):
        try:
            require_plain(path)
            with path.open(encoding="utf-8") as file:
                # Of a line without end no more is read than what shows that it is none.
                for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), ""), start=1):
                    if line.strip():
                        shard, content, key = _parsed(
                            line, f"line {number} of the deny-list {path}"
                        )
                        if shard in names:
                            denied.setdefault(shard, set()).add((content, key))
        except OSError as error:
            raise UserError(
                f"the deny-list {path} cannot be read ({error.strerror}); check the path"
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"the deny-list {path} is not UTF-8; it must be JSON lines") from error
    return denied


def _parsed(line: str, where: str) -> tuple[str, str, str]:
    try:
        record = parse_plain_json(line, nan=True)
    except ValueError as error:
        raise UserError(f"{where} is not JSON as it should be ({error}): {line[:80]!r}") from error
    fields = record if isinstance(record, dict) else {}
    named = fields.get("shard"), fields.get("contents", ""), fields.get("key")
    shard, content, key = (value if isinstance(value, str) else None for value in named)
    if shard is None or content is None or key is None:
        raise UserError(f'{where} must be like {{"shard": "0.tar", "key": "7"}}: {line[:80]!r}')
    return shard, content, key


def _keys(shard: ShardIndex) -> list[str]:
    data = shard.key_bytes.tobytes()
    ends = shard.key_ends.tolist()
    return [key_as_text(data[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _without_rows(shard: ShardIndex, rows: Sequence[int]) -> ShardIndex:
    stays = np.ones(shard.num_samples, dtype=np.bool_)
    stays[list(rows)] = False
    lengths = np.diff(shard.key_ends, prepend=0)
    return replace(
        shard,
        key_bytes=shard.key_bytes[np.repeat(stays, lengths)],
        key_ends=np.cumsum(lengths[stays], dtype=np.int64),
        offsets=shard.offsets[:, stays],
        sizes=shard.sizes[:, stays],
    )


def _refuse_old_lines(denied: Denied, found: set[tuple[str, str, str]]) -> None:
    unmet = [
        (name, key)
        for name in sorted(denied)
        for content, key in sorted(denied[name])
        if (name, content, key) not in found
    ]
    if unmet:
        name, key = unmet[0]
        raise UserError(
            f"{len(unmet):,} lines of the deny-lists fit no sample, the first shard {name!r}, key "
            f"{key!r}: the shard is not the one that was checked; run data_pipelines.lint again"
        )
