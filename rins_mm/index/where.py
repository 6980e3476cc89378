"""Conditions on what is known of pictures, such as "width>=512" or "label=apple". Parsed, never evaluated.

A condition is FIELD OPERATOR VALUE, and a picture must meet all that are given:

    =  !=             text to the letter, or a number
    <  <=  >  >=      numbers
    ~                 text that contains the value, in capitals or not

Axes: N pictures.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from data_pipelines.errors import UserError
from rins_mm.index.opened import Index
from rins_mm.index.shards import COLUMNS, TYPES

_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=|!=|==|=|<|>|~)(.*)", re.DOTALL | re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One comparison."""

    field: str
    operator: str
    """One of = != < <= > >= ~"""
    value: int | str


def parse_condition(text: str) -> Condition:
    """What was written, understood. Raises UserError with what could have been meant."""
    found = _CONDITION.fullmatch(text)
    if not found:
        raise UserError(
            f"the condition {text!r} cannot be read; write FIELD OPERATOR VALUE, "
            "such as width>=512, label=apple or name~holiday"
        )
    field, operator, written = found[1].lower(), found[2].replace("==", "="), found[3].strip()
    if field not in COLUMNS:
        raise UserError(
            f"the condition {text!r} names {field!r}; pictures have {', '.join(COLUMNS)}"
        )
    if field in TYPES:
        if not _WHOLE_NUMBER.fullmatch(written) or operator == "~":
            raise UserError(
                f"the condition {text!r} cannot be met: {field} is a number; compare it with a whole "
                f"number by = != < <= > or >=, such as {field}>=512"
            )
        return Condition(field=field, operator=operator, value=int(written))
    if operator not in ("=", "!=", "~"):
        raise UserError(
            f"the condition {text!r} cannot be met: {field} is text; compare it by = != or ~ (contains)"
        )
    if len(written) >= 2 and written[0] == written[-1] and written[0] in "\"'":
        written = written[1:-1]
    return Condition(field=field, operator=operator, value=written)


def rows_where(index: Index, conditions: Sequence[str]) -> Bool[np.ndarray, " N"]:
    """True for the pictures that are there and meet all conditions, in the order of their vectors."""
    wanted = [parse_condition(text) for text in conditions]
    if not wanted:
        return index.present
    met = [
        _met(index.metadata(shard), wanted)
        for shard, facts in enumerate(index.facts.shards)
        if facts.num_pictures
    ]
    return index.present & np.concatenate([*met, np.zeros(0, dtype=bool)])


def _met(table: Any, conditions: Sequence[Condition]) -> Bool[np.ndarray, " n"]:
    met = np.ones(table.num_rows, dtype=bool)
    for condition in conditions:
        met &= _compared(table[condition.field], condition).to_numpy()
    return met


def _compared(column: Any, condition: Condition) -> Any:
    # Metadata have been read, so pyarrow is there.
    from pyarrow import compute, scalar

    if condition.operator == "~":
        return compute.match_substring(column, condition.value, ignore_case=True)
    comparison = {
        "=": compute.equal,
        "!=": compute.not_equal,
        "<": compute.less,
        "<=": compute.less_equal,
        ">": compute.greater,
        ">=": compute.greater_equal,
    }[condition.operator]
    # A value in the column's own type would not hold every number that people write.
    value = scalar(condition.value)
    return comparison(column if column.type == value.type else column.cast(value.type), value)
