"""From what a user names (packs, paths, globs, ranges) to shards. Nothing is ever executed.

A spec is one of

    emoji:train                 a split of a pack that comes with the project, expanded on first use
    shards/a.tar                a path
    shards/*.tar                a glob
    shards/part-{000..013}.tar  a bounded range; {x,y} lists alternatives

and several of them may stand in one string, separated by commas.
"""

import difflib
import glob
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.expand import PACK_SPLITS, expanded_shards

MAX_SHARDS = 100_000
"""Most shards that one spec may name: a slip such as {0..9999999999} must not fill the memory."""

REMOTE_SCHEMES = frozenset(
    {"ais", "az", "ftp", "gcs", "gs", "hdfs", "hf", "http", "https", "s3", "scp", "ssh"}
)

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):(.*)", re.DOTALL)


def resolve_shards(specs: Sequence[str]) -> list[Path]:
    """The shards that the specs name, in the order of the specs (those of a glob by name).

    Raises UserError for commands, web addresses, unknown packs, empty globs, folders, missing files
    and shards that are named twice.
    """
    named = [specs] if isinstance(specs, str) else list(specs)
    shards = [shard for spec in named for shard in _resolve(spec)]
    if not shards:
        raise UserError(
            "no shards were named; give at least one, such as emoji:train or FOLDER/*.tar"
        )
    seen: set[Path] = set()
    for shard in shards:
        place = shard.resolve()
        if place in seen:
            raise UserError(
                f"shard {shard} is named twice; its samples would count double, so name it once"
            )
        seen.add(place)
    return shards


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


def _resolve(spec: str) -> list[Path]:
    spec = spec.strip()
    _refuse_commands(spec)
    if Path(spec).is_file():
        return [_checked(Path(spec))]
    parts = [part.strip() for part in _split_commas(spec)]
    if not all(parts):
        raise UserError(f"an empty shard name in {spec!r}; separate names by single commas")
    return [shard for part in parts for shard in _resolve_one(part)]


def _split_commas(spec: str) -> list[str]:
    """The parts between the commas that stand outside braces."""
    return re.split(r",(?![^{}]*\})", spec)


def _refuse_commands(spec: str) -> None:
    scheme = _SCHEME.match(spec)
    name = scheme[1].lower() if scheme else ""
    if name == "pipe" or spec.startswith("|") or spec.endswith("|"):
        raise UserError(
            f"{spec!r} is a command; shards are files, and commands are never run: name the files"
        )
    if name in REMOTE_SCHEMES or (scheme and scheme[2].startswith("//")):
        raise UserError(
            f"{spec!r} is a remote address, and shards are read from local files only for now; "
            "download them first and give their paths"
        )


def _resolve_one(part: str) -> list[Path]:
    _refuse_commands(part)
    path = Path(part)
    if path.is_file():
        return [_checked(path)]
    if path.is_dir():
        raise UserError(
            f"{part} is a folder; name its shards, for example '{part.rstrip('/')}/*.tar'"
        )
    pack = _SCHEME.fullmatch(part)
    if pack and "/" not in part:
        return _pack_shards(pack[1], pack[2])
    if part in PACK_SPLITS:
        raise UserError(f"the pack {part!r} needs a split: one of {_choices(part)}")
    names = expand_braces(part)
    shards = [shard for name in names for shard in _files(name)]
    missing = [str(shard) for shard in shards if not shard.exists()]
    if missing:
        raise UserError(_missing(part, missing, len(shards)))
    _refuse_too_many(len(shards), part)
    return [_checked(shard) for shard in shards]


def _choices(pack: str) -> str:
    return ", ".join(f"{pack}:{split}" for split in PACK_SPLITS[pack])


def _pack_shards(pack: str, split: str) -> list[Path]:
    if pack not in PACK_SPLITS:
        raise UserError(f"there is no pack {pack!r}; {_nearest(pack, list(PACK_SPLITS))}")
    if split not in PACK_SPLITS[pack]:
        wanted = f"{pack}:{split}"
        named = [f"{pack}:{known}" for known in PACK_SPLITS[pack]]
        raise UserError(f"the pack {pack!r} has no split {split!r}; {_nearest(wanted, named)}")
    return expanded_shards(pack, split)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}? (there are: {', '.join(known)})"
    return f"there are: {', '.join(known)}"


def _files(name: str) -> list[Path]:
    """The file of that name, or the sorted files that it matches as a glob."""
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    found = sorted(Path(match) for match in glob.glob(name, recursive=True))
    files = [path for path in found if path.is_file()]
    if not files:
        raise UserError(f"no file matches {name!r}; {_what_is_in(Path(name).parent)}")
    return files


def _what_is_in(folder: Path) -> str:
    while glob.has_magic(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
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
        return f"there is no shard {part}; {_what_is_in(Path(part).parent)}"
    return (
        f"{len(missing)} of the {num_named} shards of {part!r} are missing: {shown}; "
        "check the range"
    )


def _checked(shard: Path) -> Path:
    if shard.is_dir():
        raise UserError(f"{shard} is a folder, not a shard; name the tar files in it")
    if shard.name.endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2")):
        raise UserError(
            f"{shard} is compressed; shards are plain tar files, so unpack the compression first"
        )
    return shard
