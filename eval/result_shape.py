"""What pages and tables rely on in a file of results, whoever wrote it."""

from typing import Any

from data_pipelines.shapes import Shape, is_number, is_text, is_whole
from eval.metric_words import HEADLINES

MOST = 1e12
"""Of a number that is shown: beyond all ranks and counts, and short enough for a cell."""


def is_figure(value: Any) -> bool:
    """A number of a few digits."""
    return is_number(value) and abs(value) < MOST


def is_share(value: Any) -> bool:
    """A part of a whole, but for rounding: what is drawn, on a scale that ends there."""
    return is_number(value) and -0.01 <= value <= 1.01


def is_count(value: Any) -> bool:
    """How many there are of something."""
    return is_whole(value) and value < MOST


def is_interval(value: Any) -> bool:
    """Two ends, or None where a metric has no interval."""
    return value is None or _is_pair(value, is_figure)


def is_interval_of_shares(value: Any) -> bool:
    """The same between 0 and 1."""
    return value is None or _is_pair(value, is_share)


def _is_pair(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(kind, value))


NUMBERS: Shape = {"*": is_figure, **dict.fromkeys(HEADLINES, is_share)}

RESULT: Shape = {
    "name": is_text,
    "variant": is_text,
    "model": is_text,
    "metrics": NUMBERS,
    "chance": NUMBERS,
    "num_pictures": is_count,
    "skipped": {"*": is_count},
    "rule": is_text,
    "notes": [is_text],
    "data_fingerprint": is_text,
    "encoder_fingerprint?": is_text,
    "language?": is_text,
    "num_texts?": is_count,
    "num_classes?": is_count,
    "num_questions?": is_count,
    "image_variant?": is_text,
    "intervals?": {"*": is_interval, **dict.fromkeys(HEADLINES, is_interval_of_shares)},
    "near_ties?": {"*": is_count},
    "per_class?": [{"class": is_text, "pictures": is_count, "acc1": is_share, "acc5?": is_share}],
    "confusions?": [{"right": is_text, "given": is_text, "count": is_count}],
    "mistakes?": [
        {
            "picture": is_count,
            "given_picture?": lambda value: value is None or is_count(value),
            "right": is_text,
            "given": is_text,
            "margin": is_figure,
        }
    ],
}
"""Of each result. The first version had nothing that may be missing here."""

DOCUMENT: Shape = {"results": [{}], "provenance": {}}
