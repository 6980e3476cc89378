"""Which emoji must stay on one side of a split: siblings by code, words or picture."""

from collections.abc import Iterable, Mapping, Sequence

from data_pipelines.hashing import stable_hash
from data_pipelines.prepare.emoji_packages import Concept
from data_pipelines.tokenizers import canonical

TEST_FRACTION = 0.10
VAL_FRACTION = 0.05

_NO_FAMILY = "component"
# Joiner, female, male, facing right, variation selector, the five skin tones.
_DROPPED = frozenset(
    {"200D", "2640", "2642", "27A1", "FE0F", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
)
_PERSON = {"1F468": "1F9D1", "1F469": "1F9D1"}


def family_of_hexcode(hexcode: str) -> str:
    """The code without gender, direction and skin tone; "component" where nothing else is left."""
    kept = [_PERSON.get(point, point) for point in hexcode.split("-") if point not in _DROPPED]
    return "-".join(kept).lower() or _NO_FAMILY


def merged_families(
    concepts: Mapping[str, Concept], same_picture: Iterable[Sequence[str]]
) -> dict[str, str]:
    """The family of each hexcode, after families that share anything became one.

    Two families become one when a base emoji and its skin tones fall into both, when any caption of
    the one, in any language, is a caption of the other (case, punctuation and spacing aside), or
    when an identical picture shows both (`same_picture`: groups of hexcodes). A merged family is
    called by the first name in order.
    """
    parents = {family_of_hexcode(hexcode): family_of_hexcode(hexcode) for hexcode in concepts}
    first_with: dict[str, str] = {}
    for concept in concepts.values():
        family = family_of_hexcode(concept.hexcode)
        _merge(parents, family, family_of_hexcode(concept.base))
        for caption in (concept.label, concept.positive_key, *concept.locales.values()):
            words = canonical(caption, "lower_no_punctuation")
            if words:
                _merge(parents, family, first_with.setdefault(words, family))
    for hexcodes in same_picture:
        for hexcode in hexcodes[1:]:
            _merge(parents, family_of_hexcode(hexcodes[0]), family_of_hexcode(hexcode))
    return {hexcode: _root(parents, family_of_hexcode(hexcode)) for hexcode in concepts}


def split_of_family(family: str) -> str:
    """ "test", "val" or "train": a fixed function of the family's name."""
    share = (stable_hash("emoji split", family) % 2**32) / 2**32
    if share < TEST_FRACTION:
        return "test"
    return "val" if share < TEST_FRACTION + VAL_FRACTION else "train"


def _merge(parents: dict[str, str], one: str, other: str) -> None:
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first


def _root(parents: dict[str, str], family: str) -> str:
    while parents[family] != family:
        parents[family] = parents[parents[family]]
        family = parents[family]
    return family
