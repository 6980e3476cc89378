"""Files that anybody may have made: plain, of a bounded size, and JSON without traps. Nothing here waits or grows.

A pipe that is called like a file would be waited for, and a device read, without end.
"""

import errno
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
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

MAX_VALUES = 2**16
"""Of a column of Parquet, or as many as the file has bytes: equal or missing ones take next to none."""
MAX_COLUMN_BYTES = 2**26
"""Of the words in a column of Parquet, when each is written out, beside so many for each byte of the file:"""
BYTES_PER_BYTE = 32
ROWS_AT_ONCE = 1024


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


def count_parts(text: str) -> int:
    """How much a JSON text holds: a list, an object or a name counts twice, any other value once."""
    return 2 * sum(map(text.count, "[{:")) + text.count(",")


def require_modest_parts(parts: int, size: int) -> None:
    """Raise ValueError where a text has too many parts for its size: a few bytes of it would take hundreds."""
    if parts > (most := MAX_PARTS + size // BYTES_PER_PART):
        raise ValueError(f"it has {parts:,} lists, objects, names and values, more than {most:,}")


def open_parquet(path: Path) -> Any:
    """A Parquet file whose words stay packed as they are read. Raises ValueError, OSError and pyarrow's errors."""
    import pyarrow.parquet

    size = require_plain(path)
    with pyarrow.parquet.ParquetFile(path) as file:
        leaves = [file.metadata.schema.column(n) for n in range(file.metadata.num_columns)]
        _refuse_many(count_rows(file.metadata), "rows", size)
    words = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    return pyarrow.parquet.ParquetFile(path, read_dictionary=words)


def count_rows(metadata: Any) -> int:
    """The rows of a Parquet file, by its parts: they are what is read, whatever is said of the whole."""
    return sum(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))


def _count_values(metadata: Any, name: str) -> int:
    """The values of a column, or of all lists in it."""
    columns = range(metadata.num_columns)
    inside = [n for n in columns if metadata.schema.column(n).path.split(".")[0] == name]
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return sum(group.column(n).num_values for group in groups for n in inside)


def read_words(
    path: Path, columns: Sequence[str], lists: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file: a string or None for each of these columns, and no other column is read.

    Columns in `lists` may have lists of strings. Raises as `open_parquet`.
    """
    size = require_plain(path)
    written = dict.fromkeys(columns, 0)
    with open_parquet(path) as file:
        for name in columns:
            _require_words(file.schema_arrow, name, may_be_list=name in lists)
            _refuse_many(_count_values(file.metadata, name), f"values of the column {name}", size)
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*columns], use_threads=False):
            values = []
            for name in columns:
                values.append(_unpacked(batch.column(name), size))
                written[name] += _length(values[-1])
                require_modest_words(written[name], f"the column {name}", size)
            for row in zip(*values, strict=True):
                yield dict(zip(columns, row, strict=True))


def require_modest_words(written: int, what: str, size: int) -> None:
    """Raise ValueError where words in a file of this size are too long, each of them written out."""
    if written > (most := MAX_COLUMN_BYTES + BYTES_PER_BYTE * size):
        raise ValueError(f"{what} would unpack to more than {most:,} bytes")


def _refuse_many(found: int, what: str, size: int) -> None:
    if found > max(MAX_VALUES, size):
        raise ValueError(f"it has {found:,} {what} in {size:,} bytes")


def _require_words(schema: Any, name: str, *, may_be_list: bool) -> None:
    from pyarrow import types

    if (found := len(schema.get_all_field_indices(name))) != 1:
        raise ValueError(f"it has {found or 'no'} columns with the name {name[:40]!r}")
    kind = stated = schema.field(name).type
    if may_be_list and (types.is_list(kind) or types.is_large_list(kind)):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)):
        raise ValueError(f"its column {name[:40]} has values of the type {stated}, not strings")


def _unpacked(column: Any, size: int) -> list[Any]:
    """The values of packed words; equal ones are one string."""
    from pyarrow import types

    if types.is_list(column.type) or types.is_large_list(column.type):
        parts = column.flatten()
        _refuse_many(len(parts), "values in lists", size)
        words = iter(_unpacked(parts, size))
        lengths = column.value_lengths().to_pylist()
        return [None if length is None else list(islice(words, length)) for length in lengths]
    if not types.is_dictionary(column.type):
        found: list[Any] = column.to_pylist()
        return found
    used = column.indices.unique()
    table = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [table[index] for index in column.indices.to_pylist()]


def _length(values: Sequence[Any]) -> int:
    return sum(_length(v) if isinstance(v, list) else len(v) for v in values if v is not None)


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
