"""Stories: things of several colours change them, all but one leave, and the picture shows the one that stays.

Who wants to know its colour has to follow the story from step to step: nothing else of it is in the picture.
A story may also be of one thing alone, which does what VERBS mean, one after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

Head = tuple[str, str]
"""Kind and colour of a thing."""


class Actor(NamedTuple):
    """One of those that the story begins with; no two are of a kind."""

    kind: str
    colour: str


class Turns(NamedTuple):
    """It gets this colour."""

    kind: str
    said: str


class Takes(NamedTuple):
    """It gets the colour that the other has by now."""

    kind: str
    other: str


class Swaps(NamedTuple):
    """Each gets the colour that the other has by now."""

    kind: str
    other: str


class Does(NamedTuple):
    """It gets the colour that the verb makes of its own."""

    kind: str
    verb: str


VERBS: Mapping[str, Mapping[str, str]] = {
    "ages": {
        "red": "yellow",
        "yellow": "green",
        "green": "blue",
        "blue": "purple",
        "purple": "black",
        "black": "red",
    },
    "flips": {
        "red": "black",
        "yellow": "purple",
        "green": "blue",
        "blue": "green",
        "purple": "yellow",
        "black": "red",
    },
    "blushes": {"red": "yellow", "yellow": "red"},
}
"""What each makes of a colour; of others nothing. Their order matters: together they reach every order of colours."""

Step = Turns | Takes | Swaps | Does


class Story(NamedTuple):
    """What happens, one step after the other, and which of the actors stays."""

    actors: tuple[Actor, ...]
    steps: tuple[Step, ...]
    last: str


def ending(story: Story) -> Head:
    """The one that stays, in the colour that it has then."""
    return story.last, _after_steps(story)[-1][story.last]


def heads_met(story: Story) -> set[Head]:
    """Every kind with every colour that it has at some time."""
    return {head for colours in _after_steps(story) for head in colours.items()}


def edited_stories(kind: str, story: Story, colours: Sequence[str]) -> Iterator[Story]:
    """Every story that differs by one edit of the kind; of counts and relations a story has none."""
    if kind == "swap objects":
        # An actor's own name is met once: exchanging it would be another story, or none.
        names = _names(story)
        for one, other in combinations(range(len(names)), 2):
            if names[one] != names[other]:
                changed = _with_names(story, _exchanged(names, one, other))
                if _is_possible(changed):
                    yield changed
    if kind == "swap attributes":
        verbs = _verbs(story)
        for one, other in combinations(range(len(verbs)), 2):
            if verbs[one] != verbs[other]:
                yield _with_verbs(story, _exchanged(verbs, one, other))
        said = _colours(story)
        for one, other in combinations(range(len(said)), 2):
            if said[one] != said[other]:
                yield _with_colours(story, _exchanged(said, one, other))
    if kind == "attribute":
        verbs = _verbs(story)
        for place, old in enumerate(verbs):
            for verb in VERBS:
                if verb != old:
                    yield _with_verbs(story, [*verbs[:place], verb, *verbs[place + 1 :]])
        said = _colours(story)
        for place, old in enumerate(said):
            for colour in colours:
                if colour != old:
                    yield _with_colours(story, [*said[:place], colour, *said[place + 1 :]])


def _after_steps(story: Story) -> list[Mapping[str, str]]:
    """The colours at the beginning and after each step."""
    states: list[Mapping[str, str]] = [dict(story.actors)]
    for step in story.steps:
        now = states[-1]
        match step:
            case Turns(kind, said):
                states.append({**now, kind: said})
            case Takes(kind, other):
                states.append({**now, kind: now[other]})
            case Swaps(kind, other):
                states.append({**now, kind: now[other], other: now[kind]})
            case Does(kind, verb):
                states.append({**now, kind: VERBS[verb].get(now[kind], now[kind])})
    return states


def _is_possible(story: Story) -> bool:
    """Whether nobody swaps or shares with itself."""
    return all(step.kind != step.other for step in story.steps if isinstance(step, Takes | Swaps))


def _names(story: Story) -> list[str]:
    """Whom the steps and the end speak of, in order."""
    named = [
        name
        for step in story.steps
        for name in ((step.kind, step.other) if isinstance(step, Takes | Swaps) else (step.kind,))
    ]
    return [*named, story.last]


def _with_names(story: Story, names: Sequence[str]) -> Story:
    rest = iter(names)
    steps = tuple(
        step._replace(kind=next(rest), other=next(rest))
        if isinstance(step, Takes | Swaps)
        else step._replace(kind=next(rest))
        for step in story.steps
    )
    return Story(story.actors, steps, next(rest))


def _colours(story: Story) -> list[str]:
    """All colours that are said, in order."""
    turned = [step.said for step in story.steps if isinstance(step, Turns)]
    return [*(actor.colour for actor in story.actors), *turned]


def _with_colours(story: Story, colours: Sequence[str]) -> Story:
    rest = iter(colours)
    actors = tuple(actor._replace(colour=next(rest)) for actor in story.actors)
    steps = tuple(
        step._replace(said=next(rest)) if isinstance(step, Turns) else step for step in story.steps
    )
    return Story(actors, steps, story.last)


def _verbs(story: Story) -> list[str]:
    return [step.verb for step in story.steps if isinstance(step, Does)]


def _with_verbs(story: Story, verbs: Sequence[str]) -> Story:
    rest = iter(verbs)
    steps = tuple(
        step._replace(verb=next(rest)) if isinstance(step, Does) else step for step in story.steps
    )
    return Story(story.actors, steps, story.last)


def _exchanged(values: Sequence[str], one: int, other: int) -> list[str]:
    changed = list(values)
    changed[one], changed[other] = changed[other], changed[one]
    return changed
