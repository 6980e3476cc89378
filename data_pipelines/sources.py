"""From what a user names (packs, paths, globs, ranges) to shards. Nothing is ever executed.

A spec is one of

    emoji:train                 a split of a pack that comes with the project, expanded on first use
    shards/a.tar                a path
    shards/*.tar                a glob
    shards/part-{000..013}.tar  a bounded range; {x,y} lists alternatives
    https://host/{000..013}.tar an address of a web server, or with s3://, gs://, memory://, where
                                globs work too

and several of them may stand in one string, separated by commas (in an address, a comma is %2C).
"""

import difflib
import glob
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.expand import PACK_SPLITS, expanded_shards
from data_pipelines.remote import SCHEMES, Shard, remote_shards

MAX_SHARDS = 100_000
"""Most shards that one spec may name: a slip such as {0..9999999999} must not fill the memory."""
MAX_NAME_CHARACTERS = 4_096
"""Longest name of a shard, as of any file on Linux; braces must not multiply longer ones."""
MAX_CHARACTERS = 40_000_000
"""Of all names of one pattern together."""

OTHER_SCHEMES = frozenset({"ais", "az", "file", "ftp", "gcs", "hdfs", "hf", "scp", "ssh"})

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):(.*)", re.DOTALL)


def resolve_shards(specs: Sequence[str]) -> list[Shard]:
    """The shards that the specs name, in the order of the specs (those of a glob by name).

    Raises UserError for commands, addresses of other kinds, unknown packs, empty globs, folders,
    missing files and shards that are named twice. Whether a remote shard exists is seen when it is read.
    """
    named = [specs] if isinstance(specs, str) else list(specs)
    shards = [shard for spec in named for shard in _resolve(spec)]
    if not shards:
        raise UserError(
            "no shards were named; give at least one, such as emoji:train or FOLDER/*.tar"
        )
    refuse_twice(shards)
    return shards


def refuse_twice(shards: Sequence[Shard]) -> None:
    """Raise a UserError when two of the shards are the same file."""
    seen: set[Shard] = set()
    for shard in shards:
        place = shard.resolve() if isinstance(shard, Path) else shard
        if place in seen:
            raise UserError(
                f"shard {shard} is named twice; its samples would count double, so name it once"
            )
        seen.add(place)


def resolve_local_shards(specs: Sequence[str]) -> list[Path]:
    """The same for work that reads whole files: remote shards are a UserError too."""
    shards = resolve_shards(specs)
    remote = [shard for shard in shards if not isinstance(shard, Path)]
    if remote:
        raise UserError(f"{remote[0]} is remote, and this reads whole files; copy it here first")
    return [shard for shard in shards if isinstance(shard, Path)]


def expand_braces(pattern: str) -> list[str]:
    """The names that {first..last} ranges and {a,b} lists stand for, the leftmost slowest."""
    pieces: list[list[str]] = []
    end = 0
    count = 1
    for match in _BRACES.finditer(pattern):
        pieces.append([pattern[end : match.start()]])
        alternatives = _alternatives(match[1], pattern)
        count *= len(alternatives)
        _refuse_too_many(count, pattern)
        if count * len(pattern) > MAX_CHARACTERS:
            raise UserError(
                f"{pattern[:40]!r}… names {count:,} shards of {len(pattern):,} characters each; "
                f"{MAX_CHARACTERS:,} together is the limit"
            )
        pieces.append(alternatives)
        end = match.end()
    pieces.append([pattern[end:]])
    names = ["".join(parts) for parts in itertools.product(*pieces)]
    if any("{" in name or "}" in name for name in names[:1]):
        raise UserError(
            f"unbalanced or nested braces in {pattern!r}; write a range as {{000..013}}"
        )
    return names


def _alternatives(inside: str, pattern: str) -> list[str]:
    bounds = _RANGE.fullmatch(inside)
    if bounds is None:
        if "," not in inside:
            raise UserError(
                f"{{{inside}}} in {pattern!r} is no range; write {{000..013}} or {{a,b}}"
            )
        return inside.split(",")
    first, last = bounds[1], bounds[2]
    if max(len(first), len(last)) > 18:
        raise UserError(
            f"the range {{{inside}}} in {pattern!r} is too large; "
            f"{MAX_SHARDS:,} shards is the limit"
        )
    if int(last) < int(first):
        raise UserError(
            f"the range {{{inside}}} in {pattern!r} runs backwards; write the smaller number first"
        )
    _refuse_too_many(int(last) - int(first) + 1, pattern)
    padded = any(len(bound) > 1 and bound.startswith("0") for bound in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]


def _refuse_too_many(count: int, pattern: str) -> None:
    if count > MAX_SHARDS:
        raise UserError(
            f"{pattern!r} names {count:,} shards; {MAX_SHARDS:,} is the limit, so check the range"
        )


def _resolve(spec: str) -> list[Shard]:
    spec = spec.strip()
    _refuse_commands(spec)
    # Not Path.is_file, which raises an error where a list is longer than any name can be.
    if not _is_address(spec) and os.path.isfile(spec):
        return [_checked(Path(spec))]
    parts = [part.strip() for part in _split_commas(spec)]
    if not all(parts):
        raise UserError(f"an empty shard name in {spec!r}; separate names by single commas")
    return [shard for part in parts for shard in _resolve_one(part)]


def _split_commas(spec: str) -> list[str]:
    """The parts between the commas that stand outside braces."""
    parts = []
    start = depth = 0
    for mark in re.finditer("[{},]", spec):
        if mark[0] != ",":
            depth = max(0, depth + (1 if mark[0] == "{" else -1))
        elif depth == 0:
            parts.append(spec[start : mark.start()])
            start = mark.end()
    return [*parts, spec[start:]]


def _refuse_commands(spec: str) -> None:
    scheme = _SCHEME.match(spec)
    name = scheme[1].lower() if scheme else ""
    if name == "pipe" or spec.startswith("|") or spec.endswith("|"):
        raise UserError(
            f"{spec!r} is a command; shards are files, and commands are never run: name the files"
        )
    if name in SCHEMES and _is_address(spec):
        return
    if name in OTHER_SCHEMES or name in SCHEMES or (scheme and "://" in spec):
        read = ", ".join(f"{known}://" for known in SCHEMES)
        raise UserError(
            f"{spec!r} is an address of a kind that is not read; use a path or one of {read}"
        )


def _is_address(spec: str) -> bool:
    return spec.partition("://")[0].lower() in SCHEMES


def _resolve_one(part: str) -> list[Shard]:
    _refuse_commands(part)
    if len(part) > MAX_NAME_CHARACTERS:
        raise UserError(
            f"the shard name {part[:40]!r}… has {len(part):,} characters; "
            f"{MAX_NAME_CHARACTERS:,} is the limit"
        )
    if _is_address(part):
        scheme, _, rest = part.partition("://")
        names = expand_braces(f"{scheme.lower()}://{rest}")
        found = [shard for name in names for shard in remote_shards(name)]
        _refuse_too_many(len(found), part)
        return [_checked(shard) for shard in found]
    path = Path(part)
    if os.path.isfile(path):
        return [_checked(path)]
    if os.path.isdir(path):
        raise UserError(
            f"{part} is a folder; name its shards, for example '{part.rstrip('/')}/*.tar'"
        )
    pack = _SCHEME.fullmatch(part)
    if pack and "/" not in part:
        return _pack_shards(pack[1], pack[2])
    if part in PACK_SPLITS:
        raise UserError(f"the pack {part!r} needs a split: one of {_choices(part)}")
    shards = [shard for name in expand_braces(part) for shard in _files(name)]
    missing = [str(shard) for shard in shards if not os.path.exists(shard)]
    if missing:
        raise UserError(_missing(part, missing, len(shards)))
    _refuse_too_many(len(shards), part)
    return [_checked(shard) for shard in shards]


def _choices(pack: str) -> str:
    return ", ".join(f"{pack}:{split}" for split in PACK_SPLITS[pack])


def _pack_shards(pack: str, split: str) -> list[Shard]:
    if pack not in PACK_SPLITS:
        raise UserError(f"there is no pack {pack!r}; {_nearest(pack, list(PACK_SPLITS))}")
    if split not in PACK_SPLITS[pack]:
        wanted = f"{pack}:{split}"
        named = [f"{pack}:{known}" for known in PACK_SPLITS[pack]]
        raise UserError(f"the pack {pack!r} has no split {split!r}; {_nearest(wanted, named)}")
    return [*expanded_shards(pack, split)]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}? (there are: {', '.join(known)})"
    return f"there are: {', '.join(known)}"


def _files(name: str) -> list[Path]:
    """The file of that name, or the sorted files that it matches as a glob."""
    if not glob.has_magic(name) or os.path.exists(name):
        return [Path(name)]
    found = sorted(Path(match) for match in glob.glob(name, recursive=True))
    files = [path for path in found if path.is_file()]
    if not files:
        raise UserError(f"no file matches {name!r}; {_what_is_in(Path(name).parent)}")
    return files


def _what_is_in(folder: Path) -> str:
    while glob.has_magic(str(folder)):
        folder = folder.parent
    if not os.path.isdir(folder):
        return f"the folder {folder} does not exist"
    # A bounded look: the folder may hold millions of files.
    names = sorted(path.name for path in itertools.islice(folder.iterdir(), 1000))
    if not names:
        return f"the folder {folder} is empty"
    more = ", …" if len(names) > 5 else ""
    return f"{folder} holds {', '.join(names[:5])}{more}"


def _missing(part: str, missing: list[str], num_named: int) -> str:
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    if num_named == 1:
        shown = part if part.isprintable() else repr(part)
        return f"there is no shard {shown}; {_what_is_in(Path(part).parent)}"
    return (
        f"{len(missing)} of the {num_named} shards of {part!r} are missing: {shown}; "
        "check the range"
    )


def _checked(shard: Shard) -> Shard:
    if isinstance(shard, Path) and shard.is_dir():
        raise UserError(f"{shard} is a folder, not a shard; name the tar files in it")
    # A device has no end and a pipe no second reading: indexing either would never come back.
    if isinstance(shard, Path) and not shard.is_file():
        raise UserError(f"{shard} is no regular file; shards are plain tar files")
    if shard.name.endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2")):
        raise UserError(
            f"{shard} is compressed; shards are plain tar files, so unpack the compression first"
        )
    return shard
