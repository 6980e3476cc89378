"""What a request asks for: JSON in, a question out, and one clear line for everything else."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_pipelines.errors import UserError

MAX_PICTURE_BYTES = 16 * 2**20
MAX_BODY_BYTES = MAX_PICTURE_BYTES * 4 // 3 + 2**16
"""A picture in base64, and room for the words beside it."""
MAX_WORDS = 1_000
"""Characters: more than any tower reads, and little enough to tokenize at once."""
MAX_CONDITIONS = 8
MAX_CONDITION = 300
LEAST_THRESHOLD = 0.9
"""Of near duplicates. Below it whole kinds of pictures are alike, and their pairs fill the memory."""
MAX_TOP_K = 500

FIELDS = {"words", "minus", "number", "picture", "depth", "where", "top_k"}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One search. At most one of `words`, `number` and `picture` is given; none: a look through the index."""

    words: str = ""
    minus: str = ""
    """Words whose meaning is taken away from that of `words`."""
    number: int | None = None
    """Pictures like the one of this number."""
    picture: bytes | None = None
    """Pictures like this JPEG, PNG or WebP."""
    depth: str = ""
    """Signature of the text tower; empty: the index's own."""
    where: tuple[str, ...] = ()
    """Conditions on metadata, such as width>=512; a picture must meet all."""
    top_k: int = 24


def read_question(body: bytes) -> Question:
    """The question in a request's body. Raises UserError for anything that is not one."""
    given = read_object(body, FIELDS)
    picture = given.get("picture")
    question = Question(
        words=_text(given, "words", MAX_WORDS).strip(),
        minus=_text(given, "minus", MAX_WORDS).strip(),
        number=None if given.get("number") is None else _count(given, "number", 2**53),
        picture=None if picture is None else _picture(picture),
        depth=_text(given, "depth", 64),
        where=_conditions(given),
        top_k=_count(given, "top_k", MAX_TOP_K, Question.top_k),
    )
    asked = [bool(question.words), question.number is not None, question.picture is not None]
    if sum(asked) > 1:
        raise UserError("words, number and picture are given together; ask for one of them")
    if question.minus and not question.words:
        raise UserError("there is nothing to take words away from; write what to look for as well")
    if question.top_k < 1:
        raise UserError("top_k is 0; it must be at least 1")
    return question


def read_threshold(body: bytes) -> float:
    """The cosine of a request for near duplicates. Raises UserError for anything else."""
    value = read_object(body, {"threshold"}).get("threshold")
    if not isinstance(value, int | float) or not LEAST_THRESHOLD <= value <= 1.0:
        raise UserError(f"threshold is not a number from {LEAST_THRESHOLD} to 1; send one")
    return float(value)


def read_object(body: bytes, names: set[str]) -> Mapping[str, Any]:
    """A JSON object that has no names but these. Raises UserError for anything else."""
    try:
        given = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise UserError("the request is not JSON; send one object in UTF-8") from error
    if not isinstance(given, dict):
        raise UserError('the request is not a JSON object; send one such as {"words": "a cat"}')
    if unknown := sorted(set(given) - names):
        raise UserError(
            f"the request names {unknown[0][:40]!r}; it may name {', '.join(sorted(names))}"
        )
    return given


def _text(given: Mapping[str, Any], name: str, limit: int) -> str:
    value = given.get(name, "")
    if not isinstance(value, str):
        raise UserError(f"{name} is not text; send a string")
    if len(value) > limit:
        raise UserError(f"{name} has {len(value):,} characters; send at most {limit:,}")
    # Halves of surrogate pairs can stand in JSON but not in UTF-8, which tokenizers want.
    return value.encode(errors="replace").decode()


def _conditions(given: Mapping[str, Any]) -> tuple[str, ...]:
    values = given.get("where", [])
    if not isinstance(values, list) or len(values) > MAX_CONDITIONS:
        raise UserError(f"where is not a list of at most {MAX_CONDITIONS} conditions; send one")
    return tuple(_text({"a condition": value}, "a condition", MAX_CONDITION) for value in values)


def _count(given: Mapping[str, Any], name: str, limit: int, default: int = 0) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise UserError(f"{name} is not a whole number from 0 to {limit:,}; send one")
    return value


def _picture(value: object) -> bytes:
    if not isinstance(value, str):
        raise UserError("picture is not text; send the file's bytes in base64")
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UserError("picture is not base64; send the file's bytes in base64") from error
    if len(data) > MAX_PICTURE_BYTES:
        raise UserError(
            f"the picture has {len(data) / 2**20:.1f} MiB; send at most {MAX_PICTURE_BYTES / 2**20:.0f}"
        )
    return data
