"""Configurations from plain data, such as a recorded JSON file: checked, and never executed."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_plain(kind: type[T], data: Mapping[str, Any]) -> T:
    """A configuration from plain data. Raises ValueError for unknown names and values of a wrong type."""
    hints = get_type_hints(kind)
    if unknown := sorted(data.keys() - hints.keys()):
        raise ValueError(f"{kind.__name__} has no field named {', '.join(unknown)}")
    return kind(**{name: _decode(hints[name], value, name) for name, value in data.items()})


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
    elif origin is Literal and value in arguments:
        return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {value!r}, which is not {getattr(hint, '__name__', hint)}")
