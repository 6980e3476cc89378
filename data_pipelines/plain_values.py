"""Configurations from plain data, such as a recorded JSON file: checked, and never executed."""

import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from data_pipelines.words import shown

T = TypeVar("T")


def from_plain(kind: type[T], data: Mapping[str, Any]) -> T:
    """A configuration from plain data.

    Raises ValueError for unknown names, values of a wrong type, and missing ones without a default.
    """
    hints = get_type_hints(kind)
    if unknown := sorted(data.keys() - hints.keys()):
        raise ValueError(f"{kind.__name__} has no field named {', '.join(unknown)}")
    needed = {
        field.name
        for field in (fields(kind) if is_dataclass(kind) else ())
        if field.default is MISSING and field.default_factory is MISSING
    }
    if missing := sorted(needed - data.keys()):
        raise ValueError(f"{kind.__name__} lacks {', '.join(missing)}")
    return kind(**{name: _decode(hints[name], value, name) for name, value in data.items()})


def refuse_commands(value: Any) -> None:
    """Raise ValueError where plain data has words that a terminal would obey; line breaks and tabs are none."""
    match value:
        case str() if shown(value) != value:
            raise ValueError(f"{value!r} holds characters that a terminal would obey")
        case Mapping():
            refuse_commands([*value.values()])
        case list() | tuple():
            for part in value:
                refuse_commands(part)


def _decode(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _decode(next(arm for arm in arguments if arm is not type(None)), value, name)
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_plain(hint, value)
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        item_hints = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        if len(item_hints) == len(value):
            return tuple(_decode(h, item, name) for h, item in zip(item_hints, value, strict=True))
    # True is equal to 1, and another value all the same.
    elif origin is Literal and value in arguments and type(value) in map(type, arguments):
        return value
    elif hint is float and type(value) in (int, float):
        # JSON has whole numbers that no float can hold.
        if type(value) is float or abs(value) <= sys.float_info.max:
            return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r}, which is not {getattr(hint, '__name__', hint)}")
