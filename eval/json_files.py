"""JSON of other people's data sets: bounded, strict, and one clear line for what is wrong in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from data_pipelines.errors import UserError

T = TypeVar("T")

MAX_BYTES = 512 * 2**20
"""Of one file, or of one line where each line is an object; Karpathy's file of COCO has 145 MB."""
MAX_LINE_BYTES = 2**20
SHOWN_CHARACTERS = 60
NAMES = {str: "a string", int: "an integer", list: "a list", dict: "an object"}


def read_json(path: Path, without: frozenset[str] = frozenset()) -> Any:
    """What a file says; fields called as in `without` are dropped as they are read, to save memory.

    Raises UserError for files that are missing, too large, no UTF-8 or no JSON; NaN, Infinity and a
    name that an object has twice are no JSON either.
    """
    return _parsed(_read(path, MAX_BYTES), str(path), without)


def read_json_lines(
    path: Path, without: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each line that is not empty where it stands, for messages, and the object on it."""
    for number, line in enumerate(_read(path, MAX_BYTES).split(b"\n"), start=1):
        where = f"{path}, line {number:,}"
        if len(line) > MAX_LINE_BYTES:
            raise UserError(f"{where} has {len(line):,} bytes; {MAX_LINE_BYTES:,} is the limit")
        if line.strip():
            record = _parsed(line, where, without)
            if not isinstance(record, dict):
                raise UserError(f"{where} is {shown(record)}, not an object; is it JSON lines?")
            yield where, record


def field_of(record: Any, name: str, kind: type[T], where: str) -> T:
    """The field of an object, which must be there and of that very kind. Raises UserError."""
    if not isinstance(record, dict):
        raise UserError(f"{where} is {shown(record)}, not an object; is it the right file?")
    value = record.get(name)
    # Not isinstance: true is no number.
    if type(value) is not kind:
        found = shown(value) if name in record else "missing"
        raise UserError(f"{where}: {name!r} is {found}, not {NAMES[kind]}; is it the right file?")
    return value


def shown(value: Any) -> str:
    """A value as messages show it: in one line that is not long."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _read(path: Path, limit: int) -> bytes:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}; name the file with the captions")
    size = path.stat().st_size
    if size > limit:
        raise UserError(f"{path} has {size:,} bytes; {limit:,} is the limit for captions")
    return path.read_bytes()


def _parsed(data: bytes, where: str, without: frozenset[str]) -> Any:
    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            raise ValueError("an object has a name twice")
        for name in without & record.keys():
            del record[name]
        return record

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=checked, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        cause = str(error)[: 2 * SHOWN_CHARACTERS]
        raise UserError(f"{where} is no JSON: {cause}; fetch the file again") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
