"""Records in the JSON of other people's data sets, and one clear line for what is wrong in them."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from data_pipelines.errors import UserError
from eval.outside_files import parsed_json, read_json, read_text

T = TypeVar("T")

MAX_BYTES = 512 * 2**20
"""Of a file with captions; Karpathy's file of COCO has 145 MB."""
MAX_LINE_CHARACTERS = 2**20
SHOWN_CHARACTERS = 60
NAMES = {str: "a string", int: "an integer", list: "a list", dict: "an object"}


def read_captions(path: Path, without: frozenset[str] = frozenset()) -> Any:
    """The value in a file with captions; fields called as in `without` are dropped."""
    return read_json(path, "the captions", MAX_BYTES, without)


def read_caption_lines(
    path: Path, without: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each line that is not empty where it stands, for messages, and the object on it."""
    lines = read_text(path, "the captions", MAX_BYTES).split("\n")
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number:,}"
        if len(line) > MAX_LINE_CHARACTERS:
            raise UserError(
                f"{where} has {len(line):,} characters; {MAX_LINE_CHARACTERS:,} is the limit"
            )
        if line.strip():
            record = parsed_json(line, where, without)
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
    # Piece by piece: the value may be a whole file that is the wrong one.
    pieces = itertools.islice(json.JSONEncoder().iterencode(value), SHOWN_CHARACTERS + 1)
    text = "".join(pieces)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
