"""Files that anybody may have made: plain, of a bounded size, and JSON without traps. Nothing here waits or grows.

A pipe that is called like a file would be waited for, and a device read, without end.
"""

import errno
import json
import math
import os
import stat
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError

MAX_BYTES = 64 * 2**20
"""Of a file of settings or of results; the largest that this project writes has a few MB."""

MAX_PARTS = 2**21
"""Of a JSON text, as `count_parts` counts them: what becomes of them takes up to 100 bytes each."""
MAX_SAFE_DIGITS = 300
"""A whole number of fewer can be a float, too."""
BYTES_PER_PART = 8
"""Of files that may be larger: at least so many, beyond the first parts. Lists of numbers come closest."""


def require_plain(path: Path, max_bytes: int | None = None) -> int:
    """The bytes of a file that is one. Raises OSError for what is none, ValueError where it is too large."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        # As if it were a folder: of a pipe, too, nothing can be read as of a file.
        code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(code, "it is not a plain file", str(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise ValueError(f"it has {status.st_size:,} bytes, more than {max_bytes:,}")
    return status.st_size


def read_plain_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8. Raises OSError or ValueError."""
    require_plain(path, max_bytes)
    return path.read_bytes().decode("utf-8")


def read_plain_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """What a JSON file says. Raises OSError or ValueError."""
    return parse_plain_json(read_plain_text(path, max_bytes), large=max_bytes > MAX_BYTES)


def read_plain_object(path: Path, mend: str = "use another copy") -> dict[str, Any]:
    """The object in a JSON file. Raises UserError, with the mend, where it is missing or something else."""
    try:
        found = read_plain_json(path)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__} in place of an object")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; {mend}") from error
    return found


def parse_plain_json(
    text: str, without: frozenset[str] = frozenset(), *, large: bool = False, nan: bool = False
) -> Any:
    """What a JSON text says.

    ValueError also for numbers that no float can hold, for NaN (but where `nan` lets it be), for names
    met twice, and where it is too deep or has too many parts; a large one may have more. Fields called
    as in `without` are dropped as they are read, which saves memory.
    """
    require_modest_parts(count_parts(text), len(text) if large else 0)
    try:
        return _decoder(without, nan).decode(text)
    except RecursionError as error:
        raise ValueError("it is too deep") from error


# Lines by the million are read with one of them.
@lru_cache(maxsize=16)
def _decoder(without: frozenset[str], nan: bool) -> json.JSONDecoder:
    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = _distinct(pairs)
        for name in without & table.keys():
            del table[name]
        return table

    return json.JSONDecoder(
        parse_constant=float if nan else _refuse,
        parse_float=_finite,
        parse_int=_whole,
        object_pairs_hook=checked,
    )


def refuse_links(folder: Path, writer: str, mend: str, *, itself: bool = False) -> None:
    """Raise UserError, with the mend, where a link lies anywhere in a folder that `writer` writes into.

    What somebody else has put there could lead anywhere. With `itself`, the folder may be no link either.
    """

    def refuse(path: str) -> None:
        if os.path.islink(path):
            raise UserError(
                f"{path} is a link, and {writer} writes into its folder; put there what it leads to, or {mend}"
            )

    def unseen(error: OSError) -> None:
        # In a folder that cannot be listed, files can be written all the same.
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UserError(
                f"{error.filename} cannot be searched for links ({error.strerror}); make it readable, or {mend}"
            ) from error

    if itself:
        refuse(str(folder))
    for place, folders, files in os.walk(folder, onerror=unseen):
        for name in [*folders, *files]:
            refuse(os.path.join(place, name))


def count_parts(text: str) -> int:
    """How much a JSON text holds: a list, an object or a name counts twice, any other value once."""
    return 2 * sum(map(text.count, "[{:")) + text.count(",")


def require_modest_parts(parts: int, size: int) -> None:
    """Raise ValueError where a text has too many parts for its size: a few bytes of it would take hundreds."""
    if parts > (most := MAX_PARTS + size // BYTES_PER_PART):
        raise ValueError(f"it has {parts:,} lists, objects, names and values, more than {most:,}")


def require_modest_folder(folder: Path, max_bytes: int) -> None:
    """Raise ValueError where JSON in a folder that a library will read has too many parts for its size.

    What is no plain file of at most so many bytes is the business of whoever reads it.
    """
    for path in folder.rglob("*.json"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_size <= max_bytes:
                text = path.read_bytes().decode("latin-1")
                try:
                    require_modest_parts(count_parts(text), len(text))
                except ValueError as error:
                    raise ValueError(f"{path.name} is not readable ({error})") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits[:40]} is more than a number can be")
    return number


def _whole(digits: str) -> int:
    if len(digits) > MAX_SAFE_DIGITS:
        _finite(digits)
    return int(digits)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"{names.most_common(1)[0][0][:40]!r} stands there twice")
    return table
