"""Tables of captions (JSON lines, CSV, TSV, Parquet) as rows of file, caption and keywords."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_pipelines.errors import UserError
from data_pipelines.plain_files import parse_plain_json
from data_pipelines.plain_tables import open_parquet, read_words

FILE_COLUMNS = ("file", "filepath", "file_name", "filename", "image", "image_path", "path")
CAPTION_COLUMNS = ("caption", "text")
KEYWORD_COLUMNS = ("keywords", "tags")

MAX_LINE_CHARACTERS = 2**24
"""Of a line of JSON."""
MAX_ROW_CHARACTERS = 2**22
"""Of a row of CSV, which may have many lines."""
SHOWN_CHARACTERS = 500
READABLE = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column holds what; None takes the first usual name that the table has."""

    file: str | None = None
    """Column with the picture's path, relative to the folder of pictures (file, filepath, image, …)."""
    caption: str | None = None
    """Column with the caption (caption, text)."""
    keywords: str | None = None
    """Column with keywords: a list, or words separated by commas (keywords, tags). May be missing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table; empty strings where it says nothing."""

    number: int
    """Counted from 1, the header left out."""
    file: str
    caption: str
    keywords: tuple[str, ...]
    broken: str = ""
    """Why the line itself cannot be read, or nothing."""


def count_rows(table: Path) -> int:
    """About how many rows the table has (lines, for text): enough for a progress bar."""
    _require_readable(table)
    if table.suffix == ".parquet":
        return _parquet(table).metadata.num_rows
    with table.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def read_rows(table: Path, columns: Columns) -> Iterator[Row]:
    """The rows of the table, one by one.

    Raises UserError when the table cannot be read, or has no column for pictures or captions.
    """
    _require_readable(table)
    lines = _lines(table, columns)
    chosen: tuple[str, str, str | None] | None = None
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict):
            yield Row(number=number, file="", caption="", keywords=(), broken="bad json line")
            continue
        if chosen is None:
            chosen = _choose(table, [str(name) for name in line], columns)
        file, caption, keywords = chosen
        yield Row(
            number=number,
            file=_string(line.get(file)),
            caption=_string(line.get(caption)),
            keywords=_words(line.get(keywords)) if keywords else (),
        )


def _require_readable(table: Path) -> None:
    if table.suffix not in READABLE:
        raise UserError(f"{table} is no table that can be read; give one of {', '.join(READABLE)}")
    if not table.is_file():
        raise UserError(f"there is no table {table}; check the path")


def _lines(table: Path, columns: Columns) -> Iterator[Any]:
    """One mapping for each row, of the chosen columns at least, or None where a line is not JSON."""
    if table.suffix == ".parquet":
        with _parquet(table) as file:
            chosen = _choose(table, file.schema_arrow.names, columns)
        named = list(dict.fromkeys(name for name in chosen if name))
        try:
            yield from read_words(table, named, lists=[name for name in chosen[2:] if name])
        # Some of its errors are OSError, MemoryError, or another of Python's.
        except (_arrow_error(), OSError, ValueError, OverflowError, MemoryError) as error:
            raise _no_parquet(table, error) from error
        return
    try:
        # utf-8-sig: tables saved by office programs begin with a byte order mark.
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix in (".csv", ".tsv"):
                yield from _csv_rows(file, table, columns)
            else:
                yield from (_json(line) for line in _bounded_lines(file, table) if line.strip())
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{table} cannot be read as {table.suffix[1:].upper()}: {error}") from error


def _csv_rows(file: TextIO, table: Path, columns: Columns) -> Iterator[dict[str, str | None]]:
    """The chosen columns of each row. Only they are kept: a row may be short, and the others many."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in _bounded_lines(file, table):
            taken += len(line)
            if taken > MAX_ROW_CHARACTERS:
                raise UserError(
                    f"{table} has a row of more than {MAX_ROW_CHARACTERS:,} characters; is a quotation mark missing?"
                )
            yield line

    rows = csv.reader(lines(), delimiter="\t" if table.suffix == ".tsv" else ",")
    header = next(rows, None)
    if header is None:
        return
    chosen = [name for name in _choose(table, header, columns) if name]
    for name in chosen:
        if header.count(name) > 1:
            raise UserError(f"{table} has two columns with the name {name!r}; rename one of them")
    places = {name: header.index(name) for name in chosen}
    taken = 0
    for row in rows:
        taken = 0
        if row:
            yield {name: row[at] if at < len(row) else None for name, at in places.items()}


def _bounded_lines(file: TextIO, table: Path) -> Iterator[str]:
    """The lines of a file. Raises UserError for one without end: what follows it would be lost."""
    while line := file.readline(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS and not line.endswith("\n"):
            raise UserError(
                f"{table} has a line of more than {MAX_LINE_CHARACTERS:,} characters; give one row in each line"
            )
        yield line


def _json(line: str) -> Any:
    try:
        return parse_plain_json(line, nan=True)
    except ValueError:
        return None


def _parquet(table: Path) -> Any:
    try:
        # An extra: only those with Parquet tables need it.
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f"reading {table} needs pyarrow; install it (pip install 'rins_mm[prepare]'), "
            "or give the table as CSV or JSON lines"
        ) from error
    try:
        return open_parquet(table)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _no_parquet(table, error) from error


def _arrow_error() -> type[Exception]:
    import pyarrow

    found: type[Exception] = pyarrow.ArrowException
    return found


def _no_parquet(table: Path, error: BaseException) -> UserError:
    return UserError(
        f"{table} is no Parquet file that can be read: {str(error)[:300]}; save it again, or as CSV"
    )


def _choose(table: Path, found: Sequence[str], columns: Columns) -> tuple[str, str, str | None]:
    return (
        _column(table, found, columns.file, FILE_COLUMNS, "pictures", "--columns.file"),
        _column(table, found, columns.caption, CAPTION_COLUMNS, "captions", "--columns.caption"),
        _optional_column(table, found, columns.keywords),
    )


def _column(
    table: Path, found: Sequence[str], named: str | None, usual: Sequence[str], what: str, flag: str
) -> str:
    wanted = [named] if named is not None else usual
    for name in wanted:
        if name in found:
            return name
    raise UserError(
        f"{table} has no column {' or '.join(wanted)} for the {what}; "
        f"its columns are {', '.join(found)[:SHOWN_CHARACTERS]}; name the right one with {flag}"
    )


def _optional_column(table: Path, found: Sequence[str], named: str | None) -> str | None:
    if named is not None:
        return _column(table, found, named, KEYWORD_COLUMNS, "keywords", "--columns.keywords")
    return next((name for name in KEYWORD_COLUMNS if name in found), None)


def _string(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(word for word in map(_string, parts) if word)
