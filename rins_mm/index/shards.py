"""The large files of an index: vectors as .npy, metadata as Parquet. Axes: N pictures, E the embedding."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Int64

from data_pipelines.errors import UserError
from data_pipelines.plain_tables import count_rows, open_parquet, require_modest_words
from rins_mm.index.layout import MAX_PICTURES_PER_SHARD, damaged, require_file

NUMPY_HEADER_BYTES = 4096
MAX_METADATA_BYTES = 2**30
"""Of the metadata of one shard, packed and unpacked."""


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """What an index knows of a picture beside its vector."""

    number: int
    name: str
    """File, or shard and key."""
    label: str
    caption: str
    width: int
    """Pixels, of the picture as it is seen upright."""
    height: int
    sha256: str
    """Of the encoded picture."""


TYPES = {"number": "int64", "width": "int32", "height": "int32"}
"""Of the columns that are no strings."""
COLUMNS = {field.name: TYPES.get(field.name, "string") for field in fields(PictureRow)}


def write_vectors(path: Path, vectors: Float16[np.ndarray, "N E"]) -> str:
    """Write the file, whole, and return its SHA-256."""
    buffer = BytesIO()
    np.save(buffer, np.ascontiguousarray(vectors), allow_pickle=False)
    return _write(path, buffer.getvalue())


def write_metadata(path: Path, rows: Sequence[PictureRow]) -> str:
    """Write the file, whole, and return its SHA-256."""
    pyarrow = _pyarrow()
    schema = pyarrow.schema(
        [pyarrow.field(name, getattr(pyarrow, kind)(), False) for name, kind in COLUMNS.items()]
    )
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    buffer = BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()


def open_vectors(path: Path, num_pictures: int, width: int) -> Float16[np.ndarray, "N E"]:
    """The vectors of a shard, mapped into memory. Raises UserError where they are not of this shape."""
    size = require_file(path, most=2 * num_pictures * width + NUMPY_HEADER_BYTES)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"it is of version {version} of its format")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        if dtype != np.dtype("<f2") or fortran_order or shape != (num_pictures, width):
            raise ValueError(
                f"it holds {dtype} of the shape {list(shape)}, not float16 of {[num_pictures, width]}"
            )
        if size - start != 2 * num_pictures * width:
            raise ValueError(f"it has {size - start:,} bytes of numbers for that shape")
        if num_pictures == 0:
            return np.empty((0, width), dtype=np.float16)
        return np.memmap(path, dtype="<f2", mode="r", offset=start, shape=shape)
    # numpy's parser of headers meets hostile text with nearly any exception there is.
    except Exception as error:
        raise damaged(path, str(error) or repr(error)) from error


def read_numbers(path: Path, first: int, num_numbers: int, num: int) -> Int64[np.ndarray, " N"]:
    """The numbers of a shard's pictures, which rise within its range. Raises UserError."""
    column = read_metadata(path, num, ["number"])["number"].to_numpy()
    # Compared, not subtracted: the difference of two numbers may be none of int64.
    rise = (column[:-1] < column[1:]).all()
    if len(column) and not (rise and first <= column[0] and column[-1] < first + num_numbers):
        raise damaged(path, "its numbers are not in order, or not those of this shard")
    return column


def read_metadata(path: Path, num_pictures: int, columns: Sequence[str] = tuple(COLUMNS)) -> Any:
    """A pyarrow table of these columns, a row for each of a shard's pictures. Raises UserError."""
    pyarrow = _pyarrow()
    size = require_file(path, most=MAX_METADATA_BYTES)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            facts, rows = file.metadata, count_rows(file.metadata)
            found = {field.name: str(field.type) for field in file.schema_arrow}
            if found != COLUMNS:
                raise ValueError(f"its columns are {found}")
            if rows != num_pictures or num_pictures > MAX_PICTURES_PER_SHARD:
                raise ValueError(f"it has {rows:,} rows for {num_pictures:,} pictures")
            unpacked = sum(
                facts.row_group(place).total_byte_size for place in range(facts.num_row_groups)
            )
            if unpacked > MAX_METADATA_BYTES:
                raise ValueError(f"it would unpack to {unpacked:,} bytes")
        with open_parquet(path) as file:
            table = _written_out(file.read(columns=list(columns), use_threads=False), size)
            table.validate(full=True)
            if table.num_rows != num_pictures or any(c.null_count for c in table.columns):
                raise ValueError("rows or values are missing")
            return table
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise damaged(path, str(error) or repr(error)) from error


def _written_out(table: Any, size: int) -> Any:
    """The table with its words as plain ones. Raises ValueError where they would be too long together."""
    from pyarrow import compute, types

    written = 0
    for place, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if types.is_dictionary(column.type):
            for part in column.chunks:
                lengths = compute.binary_length(part.dictionary).cast("int64").take(part.indices)
                written += compute.sum(lengths).as_py() or 0
            require_modest_words(written, "its metadata", size)
            table = table.set_column(place, name, column.cast(column.type.value_type))
    return table


def _pyarrow() -> Any:
    try:
        # An extra: only those who search indexes need it.
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "an index needs pyarrow; install it (pip install 'rins_mm[index]')"
        ) from error
    return pyarrow
