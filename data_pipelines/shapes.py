"""What the values of a JSON file must look like, declared once; whoever reads it may then rely on that."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Shape = Mapping[str, Any] | list[Any] | Callable[[Any], bool]


def misfit(value: Any, shape: Shape, where: str = "") -> str:
    """The first place in which a value differs from its shape, such as `held_out.losses`; empty for none.

    A shape is a table of shapes by name (other names may stand beside them; a name that ends in `?` may be
    missing; `*` stands for every name), a list with the shape of each item, or what says of a value whether
    it is right.
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return where or "all of it"
        parts = _members(value, shape)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return where or "all of it"
        parts = ((str(number), item, shape[0]) for number, item in enumerate(value))
    else:
        return "" if shape(value) else where
    for name, item, inner in parts:
        if found := misfit(item, inner, f"{where}.{name}" if where else name):
            return found
    return ""


def _members(
    table: Mapping[str, Any], shape: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Shape]]:
    if "*" in shape:
        yield from ((name, item, shape.get(name, shape["*"])) for name, item in table.items())
        return
    for called, inner in shape.items():
        name = called.removesuffix("?")
        if name == called or name in table:
            yield name, table.get(name), inner


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
