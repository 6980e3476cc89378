"""From a meaning to an English sentence, in one of many wordings."""

from collections.abc import Mapping, Sequence

from data_pipelines.scenes.lots import Lots
from data_pipelines.scenes.meaning import (
    AllBut,
    Becomes,
    Counts,
    Has,
    Lacks,
    Meaning,
    Noun,
    Outnumbers,
    Relates,
    Statement,
)
from data_pipelines.scenes.stories import Does, Step, Story, Swaps, Takes, Turns

LEAST_WORDS, MOST_WORDS = 8, 36
"""Of any sentence about kinds of one word: with a tokenizer that knows them, 8 to 40 tokens."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "higher than", "over"),
    "below": ("below", "lower than", "under"),
    "larger": ("larger than", "bigger than"),
    "smaller": ("smaller than", "tinier than"),
    "before": ("in front of", "partly covering"),
    "behind": ("behind", "partly covered by"),
}
"""Phrase n of a relation says what phrase n of its converse says from the other side."""

_OPENINGS = (
    "",
    "here ",
    "in this picture ",
    "we can see that ",
    "the picture shows that ",
    "it is easy to see that ",
)
_LONG_OPENINGS = _OPENINGS[2:]
_INSTEAD_OF_THERE = ("there", "there", "the picture shows", "we can see", "this is a picture of")
_CAN_LEAD = frozenset(
    {"to the left of", "to the right of", "above", "below", "in front of", "behind"}
)
_COPULAS = ("is", "are")
_NUMBERS = ("no", "one", "two", "three", "four", "five")
_ALL_BUT = (
    "everything but {} is {}",
    "everything except {} is {}",
    "all things other than {} are {}",
    "apart from {} everything is {}",
    "{} is the only thing that is not {}",
)
_LACKS = (" but there is no {}", " and there is no {}", " but no {} can be seen")
_BEGINNINGS = ("{} meet", "there are {}", "{} come together")
_TURNS = ("the {} turns {}", "the {} is painted {}")
_TAKES = ("the {} takes the colour of the {}", "the {} copies the colour of the {}")
_SWAPS = ("the {} and the {} swap colours", "the {} trades its colour with the {}")
_ENDS = ("only the {} stays", "all but the {} leave")
_IRREGULAR: Mapping[str, str] = {
    "child": "children",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "sheep": "sheep",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}


def sentence(meaning: Meaning, wording: int) -> str:
    """The meaning in English; at one wording, alike meanings differ in few words."""
    lots = Lots("wording", wording)
    opening, long_opening = lots.pick(_OPENINGS), lots.pick(_LONG_OPENINGS)
    shown = lots.pick(_INSTEAD_OF_THERE)
    if isinstance(meaning[0], Story):
        return _told(meaning[0], lots)
    counts = [statement for statement in meaning if isinstance(statement, Counts)]
    parts = [_counted(counts)] if counts else []
    clauses = [each for each in meaning if not isinstance(each, Counts | Lacks)]
    parts += [_said(each, lots, alone=len(clauses) == 1) for each in clauses]
    if lots.chance(0.5):
        parts.reverse()
    said = lots.pick((" and ", " while ", " and also ")).join(parts)
    for statement in meaning:
        if isinstance(statement, Lacks):
            said += lots.pick(_LACKS).format(_head(statement.noun))
    there, _, rest = said.partition(" ")
    text = opening + said
    if there == "there" and shown != "there" and len(parts) == 1:
        text = f"{shown} {rest.partition(' ')[2]}"
    if len(text.split()) < LEAST_WORDS:
        text = long_opening + said
    return f"{text[0].upper()}{text[1:]}."


def _told(story: Story, lots: Lots) -> str:
    """ "A red cat and a blue car meet then the cat takes the colour of the car and only the cat stays." """
    if len(story.actors) == 1:
        return _told_of_one(story)
    met = " and ".join(f"a {actor.colour} {actor.kind}" for actor in story.actors)
    parts = [lots.pick(_BEGINNINGS).format(met), *(_step(step, lots) for step in story.steps)]
    text = f"{' then '.join(parts)} and {lots.pick(_ENDS).format(story.last)}."
    return f"{text[0].upper()}{text[1:]}"


def _told_of_one(story: Story) -> str:
    """ "A red cat ages then flips and is shown here." """
    ((kind, colour),) = story.actors
    deeds = " then ".join(step.verb for step in story.steps if isinstance(step, Does))
    return f"A {colour} {kind} {deeds} and is shown here."


def _step(step: Step, lots: Lots) -> str:
    match step:
        case Turns(kind, said):
            return lots.pick(_TURNS).format(kind, said)
        case Takes(kind, other):
            return lots.pick(_TAKES).format(kind, other)
        case Swaps(kind, other):
            return lots.pick(_SWAPS).format(kind, other)
        case Does(kind, verb):
            return f"the {kind} {verb}"


def has_usual_length(text: str) -> bool:
    """Whether a sentence is neither too short nor too long."""
    return LEAST_WORDS <= len(text.split()) <= MOST_WORDS


def plural(kind: str) -> str:
    """Several of a kind: "cats", "boxes", "cherries", "wolves"."""
    first, space, last = kind.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith("y") and last[-2:-1] not in tuple("aeiou"):
        last = last[:-1] + "ies"
    else:
        last += "es" if last.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return first + space + last


def _said(statement: Statement, lots: Lots, *, alone: bool) -> str:
    match statement:
        case Relates(relation, one, other):
            return _related(relation, one, other, lots, alone=alone)
        case Has(noun, said):
            return lots.pick(("{} is {}", "the colour of {} is {}")).format(
                _phrase("the", noun, lots), said
            )
        case Outnumbers(order, one, other):
            return f"there are {order} {_head(one, 2)} than {_head(other, 2)}"
        case AllBut(noun, said):
            return lots.pick(_ALL_BUT).format(_phrase("the", noun, lots), said)
        case Becomes(noun, said, _):
            return f"the signs make {_phrase('the', noun, lots)} {said}"
    raise AssertionError(f"no clause says {statement}")


def _related(relation: str, one: Noun, other: Noun, lots: Lots, *, alone: bool) -> str:
    """The relation as a clause, from the side of the one."""
    form = lots.below(8)
    phrase = lots.pick(RELATIONS[relation])
    plain = one.where is None and other.where is None
    if plain and form <= 1:
        return f"there is {_phrase('a', one, lots)} {phrase} {_phrase('a', other, lots)}"
    if plain and form == 2 and phrase in _CAN_LEAD:
        return f"{phrase} {_phrase('the', other, lots)} there is {_phrase('a', one, lots)}"
    if plain and form == 3:
        return f"{_phrase('the', one, lots)} is {phrase} {_phrase('a', other, lots)}"
    first, second = _phrase("the", one, lots), _phrase("the", other, lots)
    # Beside another clause it would be open how far "of the one and the other" reaches.
    if plain and alone and form == 4:
        return f"of {first} and {second} the former is {phrase} the latter"
    if plain and alone and form == 5:
        return f"of {second} and {first} the latter is {phrase} the former"
    return f"{first} is {phrase} {second}"


def _counted(counts: Sequence[Counts]) -> str:
    """ "There are exactly two red cats and one dog"."""
    listed = [f"{_NUMBERS[count.number]} {_head(count.noun, count.number)}" for count in counts]
    return f"there {_COPULAS[counts[0].number > 1]} exactly {' and '.join(listed)}"


def _phrase(article: str, noun: Noun, lots: Lots, *, full: bool = False) -> str:
    """The noun with its article, colour and clause; `full`: never without "that is"."""
    head = _head(noun)
    if article == "a":
        article = "an" if head[0] in "aeiou" else "a"
    if noun.where is None:
        return f"{article} {head}"
    link = lots.pick((" that is ", " which is ", " "))
    # Without "that is" it would be open which of two things a second clause is about.
    if full or noun.where.noun.where is not None:
        link = " that is "
    relation = lots.pick(RELATIONS[noun.where.relation])
    return f"{article} {head}{link}{relation} {_phrase('the', noun.where.noun, lots, full=True)}"


def _head(noun: Noun, number: int = 1) -> str:
    kind = noun.kind if number == 1 else plural(noun.kind)
    return f"{noun.colour} {kind}" if noun.colour else kind
