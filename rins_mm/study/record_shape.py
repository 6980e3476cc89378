"""What the record of a run holds, so that one that was cut or changed is known before it is judged by."""

import math
from collections.abc import Callable, Mapping
from typing import Any

Shape = Mapping[str, Any] | list[Any] | Callable[[Any], bool]


def misfit(value: Any, shape: Shape, where: str = "") -> str:
    """The first place in which a value differs from its shape, such as `held_out.losses`; empty for none.

    A shape is a table of shapes by name (other names may stand beside them; `*` stands for every name), a
    list with the shape of each item, or what says of a value whether it is right.
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return where or "all of it"
        names = value if "*" in shape else shape
        parts = [(name, value.get(name), shape.get(name, shape.get("*"))) for name in names]
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return where or "all of it"
        parts = [(str(number), item, shape[0]) for number, item in enumerate(value)]
    else:
        return "" if shape(value) else where
    found = (
        misfit(item, inner, f"{where}.{name}" if where else name) for name, item, inner in parts
    )
    return next(filter(None, found), "")


def is_text(value: Any) -> bool:
    """A string."""
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """A number with which one can reckon."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """A whole number from 0 on."""
    return is_number(value) and isinstance(value, int) and value >= 0


def is_positive(value: Any) -> bool:
    """A number above 0, by which others are divided."""
    return is_number(value) and value > 0


def is_point(value: Any) -> bool:
    """Samples, FLOPs and a loss."""
    return isinstance(value, list) and len(value) == 3 and all(map(is_number, value))


def is_table_of_intervals(value: Any) -> bool:
    """Two ends by the name of a metric, or nothing at all; a metric may have no interval."""
    return value is None or not misfit(value, {"*": _is_interval})


def _is_interval(value: Any) -> bool:
    return not value or (isinstance(value, list) and len(value) == 2 and all(map(is_number, value)))


_SPENT: dict[str, Shape] = {
    "samples": is_positive,
    "flops": is_positive,
    "layer_steps": is_positive,
}

RECORD: Shape = {
    "arm": is_text,
    "seed": is_whole,
    "trained_depth": is_text,
    "results": [
        {
            "name": is_text,
            "dataset": is_text,
            "variant": is_text,
            "metrics": {"*": is_number},
            "intervals": is_table_of_intervals,
        }
    ],
    "held_out": {"fingerprint": is_text, "losses": {"*": is_number}},
    "config": {"optimizer": {"peak_learning_rate": is_positive}},
    "steps": is_whole,
    "spent": _SPENT,
    "curve": [{**_SPENT, "metrics": {"*": is_number}}],
    "losses": [is_point],
    "training_seconds": is_number,
    "parameters": is_whole,
    "versions": {},
}
"""What a study reads of a record."""
