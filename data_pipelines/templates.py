"""Captions put together from the fields of a sample: "a photo of a {label}"."""

import math
import random
import string
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Any

from data_pipelines.errors import UserError


@lru_cache
def pieces_of(template: str) -> tuple[tuple[str, str | None], ...]:
    """(Text, name of the field that follows it, or None) in order; {{ and }} stand for braces.

    Raises UserError for anything but plain {names}.
    """
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(
            f"the template {template!r} has braces that do not match ({error}); write fields as {{name}}"
        ) from error
    for _, name, form, conversion in pieces:
        # No attributes, indices or formats: a template is text with holes, and no language.
        if name is not None and (form or conversion or not name.isidentifier()):
            raise UserError(
                f"the template {template!r} has the field {{{name}}}; a field is a name in the "
                "sample's json, or txt, with nothing else in its braces"
            )
    if not any(name for _, name, _, _ in pieces):
        raise UserError(
            f"the template {template!r} names no field, so all captions would be alike; "
            "write fields as {name}"
        )
    return tuple((text, name) for text, name, _, _ in pieces)


@lru_cache
def check_templates(templates: tuple[str, ...], weights: tuple[float, ...]) -> None:
    """Raise a UserError for templates that cannot be filled, and for weights that do not fit them."""
    for template in templates:
        pieces_of(template)
    if not templates:
        raise UserError("captions.templates is empty; give at least one, such as '{caption}'")
    if weights and len(weights) != len(templates):
        raise UserError(
            f"there are {len(weights)} captions.template_weights for {len(templates)} templates; "
            "give one weight for each"
        )
    if any(not 0 < weight < math.inf for weight in weights):
        raise UserError(f"captions.template_weights are {weights}; each must be a number above 0")


def filled(
    templates: tuple[str, ...],
    weights: tuple[float, ...],
    record: Mapping[str, Any],
    draws: random.Random,
) -> str | None:
    """One of the templates whose fields the record has, drawn by weight and filled.

    Of a list, one item is drawn. None when the record has the fields of no template. Raises what
    check_templates does.
    """
    check_templates(templates, weights)
    known = {
        name: texts
        for template in templates
        for _, name in pieces_of(template)
        if name is not None and (texts := _texts(record.get(name)))
    }
    possible = [
        (weight, template)
        for weight, template in zip(weights or [1.0] * len(templates), templates, strict=True)
        if all(name is None or name in known for _, name in pieces_of(template))
    ]
    if not possible:
        return None
    ends = list(accumulate(weight for weight, _ in possible))
    # random() is below 1, but the product may be rounded up to the last end.
    number = min(bisect_right(ends, draws.random() * ends[-1]), len(possible) - 1)
    template = possible[number][1]
    # A field that stands twice in a template says the same in both places.
    chosen: dict[str, str] = {}
    for _, name in pieces_of(template):
        if name is not None and name not in chosen:
            chosen[name] = known[name][int(draws.random() * len(known[name]))]
    return "".join(text + (chosen[name] if name else "") for text, name in pieces_of(template))


def _texts(value: object) -> list[str]:
    """What a field offers to captions: its text, its number, or those of its items."""
    items = value if isinstance(value, list) else [value]
    texts = [
        str(item) for item in items if isinstance(item, (str, int)) and not isinstance(item, bool)
    ]
    return [text for text in texts if text.strip()]
