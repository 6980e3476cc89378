"""Small text files that come with other people's data: bounded, in UTF-8, and strict."""

import stat
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.plain_files import parse_plain_json

MAX_BYTES = 64 * 2**20
"""Lists of names, labels and sentences; the largest that is known has 10 MB."""


def named_path(spec: str, data: Path | None) -> Path:
    """The path that a task's name holds: below `data` where one is given and has it."""
    path = Path(spec).expanduser()
    if data is None or path.is_absolute() or not (data / path).exists():
        return path
    return data / path


def read_text(path: Path, what: str, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file. `what` tells people what it is: "the class names"."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{what}: {path} is no regular file; put a text file there")
        if status.st_size > max_bytes:
            raise UserError(
                f"{what}: {path} has {status.st_size:,} bytes, and {max_bytes:,} is the limit; "
                "is it the right file?"
            )
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{what}: cannot read {path} ({error.strerror}); check it") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what}: {path} is not UTF-8 (byte {error.start:,}); convert it, then run again"
        ) from error


def read_lines(path: Path, what: str) -> list[str]:
    """The lines of a file without the space around them, and without empty ones at the end.

    Raises UserError for an empty file, and for an empty line between others: a line's number often
    means something.
    """
    lines = [line.strip() for line in read_text(path, what).rstrip().split("\n")]
    if lines == [""]:
        raise UserError(f"{what}: {path} is empty; write one a line")
    if "" in lines:
        raise UserError(
            f"{what}: line {lines.index('') + 1:,} of {path} is empty; fill or remove it"
        )
    return lines


def read_json(
    path: Path, what: str, max_bytes: int = MAX_BYTES, without: frozenset[str] = frozenset()
) -> Any:
    """The value in a JSON file, as `parsed_json` takes it."""
    text = read_text(path, what, max_bytes)
    return parsed_json(text, f"{what}: {path}", without, large=max_bytes > MAX_BYTES)


def parsed_json(
    text: str, where: str, without: frozenset[str] = frozenset(), *, large: bool = False
) -> Any:
    """The value that a JSON text stands for; `where` says where it stands.

    Fields called as in `without` are dropped as they are read, which saves memory. Raises UserError
    for what is not JSON, NaN and names met twice.
    """
    try:
        return parse_plain_json(text, without, large=large)
    except ValueError as error:
        raise UserError(f"{where} is not JSON as it should be ({error}); mend it") from error


def read_string_table(path: Path, what: str) -> dict[str, str]:
    """A JSON object of strings."""
    table = read_json(path, what)
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise UserError(f'{what}: {path} is no table of texts; write {{"name": "text", …}}')
    return table
