"""Changes to JSON that leave it JSON (mostly): values of other kinds, fields lost, doubled, renamed, nested."""

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from byte_mutations import mutated_bytes

MARK = "@fuzz-raw-{}@"
RAW = (
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "-0", "-0.0", "9" * 400, "9" * 5000, "1E+2",
    '"\\ud800"', '"\\u0000"', '{"a":1,"a":2}', '{"":{}}', "[" * 500 + "]" * 500, "[" * 100_000,
    '{"a":' * 500 + "1" + "}" * 500, "[" * 990 + "]" * 990, '"' + "x" * 100_000 + '"',
)  # fmt: skip
"""Values as text, which Python's writer would not write like that."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 5, -1, 7, 64, 1000, 65_536, 10**9, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30,
    0.0, 0.5, 1.5, -1.0, 1e308, 1e-320, "", "x", "AB", "A^3B", "0", "1", "none", "../../x", "/etc/passwd", "a\nb",
    "\x1b[2J", "\u202egpj", "\U0001f600", "x" * 3000, [], {}, [[]], [None], [1, 2], ["a"], {"a": 1}, {"": None},
    {"__class__": "os.system"},
)  # fmt: skip

MAX_TEXT = 200_000
MAX_PLACES = 5_000
"""Of a tree that is changed further: copies of copies would fill the memory."""

Place = tuple[Any, Any]
"""A list or an object, and the index or name in it."""


def mutated_json(
    text: bytes, draws: Random, other: bytes = b"", *, indent: int | None = 2
) -> bytes:
    """JSON text after one change of its values or a few; now and then one of its bytes."""
    tree = parsed(text) if len(text) <= MAX_TEXT else UNREADABLE
    if tree is UNREADABLE or draws.random() < 0.15:
        return mutated_bytes(text, draws, other)
    root = [tree]
    for _ in range(draws.choice((1, 1, 1, 2, 4))):
        places = list(_places(root))
        if len(places) > MAX_PLACES:
            break
        draws.choice(CHANGES)(*draws.choice(places), draws, places)
    return written(root[0], indent=indent)


UNREADABLE = object()


def parsed(text: bytes) -> Any:
    """What the text says, or UNREADABLE."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return UNREADABLE


def written(tree: Any, *, indent: int | None = 2) -> bytes:
    """The text of a tree, with the raw values in the places of their marks."""
    try:
        text = json.dumps(tree, indent=indent) + "\n"
    # A number of more digits than Python writes, or a tree too deep.
    except (ValueError, RecursionError):
        return b"[" * 5000
    if "@fuzz-raw-" in text:
        for number, raw in enumerate(RAW):
            text = text.replace(json.dumps(MARK.format(number)), raw)
    return text.encode()


def _places(root: list) -> Iterator[Place]:
    left: list[Place] = [(root, 0)]
    while left:
        container, key = left.pop()
        yield container, key
        value = container[key]
        if isinstance(value, dict):
            left += [(value, name) for name in value]
        elif isinstance(value, list):
            left += [(value, number) for number in range(len(value))]


def _other_value(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    # A copy: what is shared would be changed everywhere, and could come to hold itself.
    container[key] = copy.deepcopy(draws.choice(VALUES))


def _raw_value(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    container[key] = MARK.format(draws.randrange(len(RAW)))


def _near_value(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    value = container[key] if key in container or isinstance(container, list) else None
    if isinstance(value, bool) or value is None:
        container[key] = not value
    elif isinstance(value, int):
        container[key] = draws.choice(
            (value + 1, value - 1, -value, value * 2, float(value % 2**60), str(value)[:20])
        )
    elif isinstance(value, float):
        container[key] = draws.choice((-value, value * 1e300, value / 3, str(value)))
    elif isinstance(value, str):
        container[key] = draws.choice(
            (value.upper(), value[:-1], value + "x", value * 2, [value], value + "\n")
        )
    else:
        container[key] = [value]


def _copy_from_elsewhere(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    source, name = draws.choice(places)
    # A copy, since a tree that holds itself has no text.
    copy = parsed(written(source[name]))
    if copy is not UNREADABLE:
        container[key] = copy


def _remove(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    if not (isinstance(container, list) and len(container) == 1):
        del container[key]


def _rename(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    if isinstance(container, dict):
        new = draws.choice(
            (
                f"{key}x",
                str(key)[:-1],
                "",
                "__class__",
                "../" + str(key),
                draws.choice(list(container)),
            )
        )
        container[new] = container.pop(key)


def _add(container: Any, key: Any, draws: Random, places: list[Place]) -> None:
    value = copy.deepcopy(draws.choice(VALUES))
    if isinstance(container, dict):
        container[draws.choice(("new", "", "path", "a/b", "\ud800", "self"))] = value
    elif len(container) > 1:
        container.insert(key, value)
    else:
        container[key] = {"value": container[key], "more": value}


CHANGES: tuple[Callable[[Any, Any, Random, list[Place]], None], ...] = (
    _other_value, _other_value, _raw_value, _near_value, _near_value, _copy_from_elsewhere, _remove, _rename, _add,
)  # fmt: skip
