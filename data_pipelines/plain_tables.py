"""Tables in Parquet that anybody may have made: their words alone, packed as they are read, and bounded."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from data_pipelines.plain_files import require_plain

MAX_VALUES = 2**16
"""Of a column of Parquet, or as many as the file has bytes: equal or missing ones take next to none."""
MAX_COLUMN_BYTES = 2**26
"""Of the words in a column of Parquet, when each is written out, beside so many for each byte of the file:"""
BYTES_PER_BYTE = 32
ROWS_AT_ONCE = 1024


def open_parquet(path: Path) -> Any:
    """A Parquet file whose words stay packed as they are read. Raises ValueError, OSError and pyarrow's errors."""
    import pyarrow.parquet

    size = require_plain(path)
    with pyarrow.parquet.ParquetFile(path) as file:
        leaves = [file.metadata.schema.column(n) for n in range(file.metadata.num_columns)]
        _refuse_many(count_rows(file.metadata), "rows", size)
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        # Each value is unpacked whole before anything can be said of it.
        require_modest_words(sum(group.total_byte_size for group in groups), "it", size)
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
