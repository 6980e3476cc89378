"""From the parts of a sample to the caption that it has in this epoch."""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from data_pipelines.bad_samples import BadSample
from data_pipelines.templates import filled

MAX_CAPTION_CHARACTERS = 20_000
MAX_JSON_DEPTH = 32

Record = dict[str, Any]
"""The object in a sample's json, and under "txt" the text of its txt."""


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """How the caption of a sample is chosen."""

    kind: Literal["text", "label", "label_keywords", "template"] = "text"
    """Where captions come from: the txt part; the json's label; its label and a few of its
    keywords, drawn anew in every epoch; or one of the templates."""
    num_keywords: int = 4
    """For label_keywords: most keywords that follow the label; how many do is drawn, 0 included."""
    templates: tuple[str, ...] = ("{caption}",)
    """For template: texts with {fields} of the json ({txt}: the txt part). In every epoch one is drawn
    of those whose fields the sample has, and one item of a field that is a list."""
    template_weights: tuple[float, ...] = ()
    """For template: how often each is drawn, beside the others; empty: all alike."""


def read_record(parts: Mapping[str, bytes]) -> Record:
    """What the json and txt parts of a sample say.

    Raises BadSample: "bad utf-8", "bad json" (also NaN, too deep, and anything but an object) or
    "no caption" when there is neither part.
    """
    if "json" not in parts and "txt" not in parts:
        raise BadSample("no caption")
    record = _json_object(parts["json"]) if "json" in parts else {}
    if "txt" in parts:
        record["txt"] = _text(parts["txt"])
    return record


def caption_of(record: Record, config: CaptionConfig, row_seed: int) -> str:
    """The caption of a sample, a pure function of its record and the seed of its row.

    Raises BadSample: "no caption", "empty caption", "caption too long" or "bad utf-8".
    """
    if config.kind == "text":
        caption = _string(record.get("txt"))
    elif config.kind == "template":
        draws = random.Random(row_seed % 2**64)
        caption = _string(filled(config.templates, config.template_weights, record, draws))
    else:
        caption = _string(record.get("label")).strip()
        if config.kind == "label_keywords" and caption:
            keywords = _some_keywords(record, config.num_keywords, random.Random(row_seed % 2**64))
            caption = ", ".join([caption, *keywords])
    caption = caption.strip()
    if not caption:
        raise BadSample("empty caption")
    if len(caption) > MAX_CAPTION_CHARACTERS:
        raise BadSample("caption too long")
    if not caption.isascii():
        _require_encodable(caption)
    return caption


def _some_keywords(record: Record, most: int, draws: random.Random) -> list[str]:
    keywords = record.get("keywords", [])
    if not isinstance(keywords, list):
        raise BadSample("bad json")
    left = [_string(keyword) for keyword in keywords]
    # random() alone is promised to stay the same in every version of Python; sample() is not.
    number = int(draws.random() * (min(most, len(left)) + 1))
    return [left.pop(int(draws.random() * len(left))) for _ in range(number)]


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise BadSample("no caption")
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadSample("bad utf-8") from error


def _require_encodable(caption: str) -> None:
    try:
        # JSON can smuggle in half of a surrogate pair, which no tokenizer takes.
        caption.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadSample("bad utf-8") from error


def _json_object(data: bytes) -> Record:
    text = _text(data)
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(text) > MAX_JSON_DEPTH:
        raise BadSample("bad json")
    try:
        record = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadSample("bad json") from error
    if not isinstance(record, dict):
        raise BadSample("bad json")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _depth(text: str) -> int:
    """The depth of nesting, or more where strings contain brackets that are never closed."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
