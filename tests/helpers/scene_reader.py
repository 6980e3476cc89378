"""Reads the English of captions of scenes anew, by a grammar and a sense of its own.

`is_true(sentence, things, strict=...)`: strict is a reader who wants every noun to mean one thing, and
relations to be plain; the other one lets any thing that might be meant do.
"""

import itertools
import re

COLOURS = {"red", "yellow", "green", "blue", "purple", "black"}
NUMBERS = ["no", "one", "two", "three", "four", "five"]
PHRASES = {
    ("left", "of"): "left", ("to", "the", "left", "of"): "left",
    ("right", "of"): "right", ("to", "the", "right", "of"): "right",
    ("above",): "above", ("higher", "than"): "above", ("over",): "above",
    ("below",): "below", ("lower", "than"): "below", ("under",): "below",
    ("larger", "than"): "larger", ("bigger", "than"): "larger",
    ("smaller", "than"): "smaller", ("tinier", "than"): "smaller",
    ("in", "front", "of"): "before", ("partly", "covering"): "before",
    ("behind",): "behind", ("partly", "covered", "by"): "behind",
}  # fmt: skip
OPENINGS = ("here", "in this picture", "we can see that", "the picture shows that",
            "it is easy to see that")  # fmt: skip
INSTEAD = ("the picture shows", "we can see", "this is a picture of")
LINKS = ((), ("that", "is"), ("which", "is"))


def is_true(sentence: str, things: list[dict], *, strict: bool) -> bool:
    """What the reader says. Raises AssertionError for a sentence that is no English that is known here."""
    assert re.fullmatch(r"[A-Z][a-z ]+\.", sentence), sentence
    words = sentence[:-1].lower().split()
    if " and a " in sentence.partition(" then ")[0] and words[-1] in ("stays", "leave"):
        return [(thing["kind"], thing["colour"]) for thing in things] == [_end_of_story(words)]
    if words[-3:] == ["is", "shown", "here"]:
        return [(thing["kind"], thing["colour"]) for thing in things] == [_after_deeds(words)]
    if words[-6:-2] == ["the", "signs", "make", "the"]:
        opening = " ".join(words[:-6])
        assert opening in ("", *OPENINGS), sentence
        return _after_signs(things) == tuple(words[-2:])
    readings = list(_sentences(words))
    assert readings, sentence
    truths = {reading(_World(things, strict)) for reading in readings}
    assert len(truths) == 1, f"may be read in two ways: {sentence}"
    return truths.pop()


class _World:
    def __init__(self, things, strict):
        self.things, self.strict = things, strict

    def stand(self, relation, one, other):
        if one is other:
            return False
        far = 12 if self.strict else 1
        gap_x, gap_y = other["x"] - one["x"], other["y"] - one["y"]
        reach = (one["size"] + other["size"]) / 2
        covers = abs(gap_x) < reach - 2 and abs(gap_y) < reach - 2
        return {
            "left": gap_x >= far,
            "right": -gap_x >= far,
            "above": gap_y >= far,
            "below": -gap_y >= far,
            "larger": one["size"] > other["size"],
            "smaller": one["size"] < other["size"],
            "before": covers and one["depth"] > other["depth"],
            "behind": covers and one["depth"] < other["depth"],
        }[relation]

    def meant(self, noun):
        """The things that a noun can mean: exactly one for the strict reader."""
        kind, colour, clause = noun
        found = [
            thing
            for thing in self.things
            if thing["kind"] == kind
            and colour in (None, thing["colour"])
            and (clause is None or self.related(clause[0], [thing], self.meant(clause[1])))
        ]
        return found if not self.strict or len(found) == 1 else []

    def count(self, noun):
        kind, colour, _ = noun
        return sum(t["kind"] == kind and colour in (None, t["colour"]) for t in self.things)

    def related(self, relation, ones, others):
        return any(self.stand(relation, a, b) for a, b in itertools.product(ones, others))


DEEDS = {
    r"the (\w+) (?:turns|is painted) (\w+)": lambda now, one, colour: {one: colour},
    r"the (\w+) (?:takes|copies) the colour of the (\w+)": lambda now, one, by: {one: now[by]},
    r"the (\w+) and the (\w+) swap colours": lambda now, a, b: {a: now[b], b: now[a]},
    r"the (\w+) trades its colour with the (\w+)": lambda now, a, b: {a: now[b], b: now[a]},
}
ENDS = r"(.*) and (?:only the (\w+) stays|all but the (\w+) leave)"


def _end_of_story(words):
    """Kind and colour of the one thing that is left."""
    told, one, other = re.fullmatch(ENDS, " ".join(words)).groups()
    beginning, *deeds = told.split(" then ")
    list_ = re.fullmatch(r"(?:there are )?(.*?)(?: meet| come together)?", beginning)[1]
    now = {kind: colour for _, colour, kind in (each.split() for each in list_.split(" and "))}
    assert len(now) >= 2 and set(now.values()) <= COLOURS
    for deed in deeds:
        (changes,) = [
            change(now, *match.groups())
            for pattern, change in DEEDS.items()
            if (match := re.fullmatch(pattern, deed))
        ]
        assert changes.keys() <= now.keys() and set(changes.values()) <= COLOURS
        now |= changes
    left = one or other
    return left, now[left]


CIRCLE = ["red", "yellow", "green", "blue", "purple", "black"]


def _after_deeds(words):
    """Kind and colour of the one thing, after all that it has done."""
    colour, kind, told = re.fullmatch(
        r"a (\w+) (\w+) (.+) and is shown here", " ".join(words)
    ).groups()
    return kind, _turned(colour, told.split(" then "))


SIGNS = {"star": "ages", "cat": "flips", "key": "blushes"}


def _after_signs(things):
    """Kind and colour of the thing in the upper left corner, after what the others stand for, row by row."""
    at = {(thing["y"], thing["x"]): thing for thing in things}
    first, *others = (at[place] for place in sorted(at))
    assert len(at) == len(things) and {thing["colour"] for thing in others} == {"black"}
    return first["kind"], _turned(first["colour"], [SIGNS[thing["kind"]] for thing in others])


def _turned(colour, deeds):
    place = CIRCLE.index(colour)
    for deed in deeds:
        if deed == "ages":
            place = (place + 1) % 6
        elif deed == "flips":
            place = 5 - place
        else:
            assert deed == "blushes", deed
            place = {0: 1, 1: 0}.get(place, place)
    return CIRCLE[place]


def _sentences(words):
    for opening in (*OPENINGS, ""):
        rest = _after(words, opening)
        if rest is not None:
            yield from _bodies(rest)
    for instead in INSTEAD:
        rest = _after(words, instead)
        if rest is not None:
            for there in ("there is", "there are"):
                yield from _bodies([*there.split(), *rest])


def _after(words, text):
    beginning = text.split()
    return words[len(beginning) :] if words[: len(beginning)] == beginning else None


def _bodies(words):
    text = " ".join(words)
    for pattern in (
        r"(.*) (?:but|and) there is no ([a-z ]+)",
        r"(.*) but no ([a-z ]+) can be seen",
    ):
        match = re.fullmatch(pattern, text)
        heads = [noun for noun, rest in _heads(match[2].split())] if match else []
        for noun in heads:
            for said in _claims(match[1].split()):
                yield lambda w, said=said, noun=noun: said(w) and w.count(noun) == 0
    yield from _claims(words)


def _claims(words):
    for said, rest in _clauses(words):
        if not rest:
            yield said
        for joint in ("and also", "and", "while"):
            after = _after(rest, joint)
            for other, end in _clauses(after) if after else ():
                if not end:
                    yield lambda w, said=said, other=other: said(w) and other(w)


def _clauses(words):
    yield from _relations(words)
    yield from _properties(words)
    yield from _numbers(words)
    yield from _everything(words)


def _relations(words):
    def said(relation, one, other):
        return lambda w: w.related(relation, w.meant(one), w.meant(other))

    subject = _after(words, "there is")
    for one, rest in [*_nouns(words), *(_plain_nouns(subject) if subject else ())]:
        # "There is a cat above a dog", and "the cat is above the dog".
        rest = rest if subject else _after(rest, "is")
        for relation, object_ in _phrases(rest or []):
            for other, end in _nouns(object_):
                yield said(relation, one, other), end
    for relation, rest in _phrases(words):
        for other, middle in _plain_nouns(rest):
            for one, end in _plain_nouns(_after(middle, "there is") or []):
                yield said(relation, one, other), end
    for first, rest in _plain_nouns(_after(words, "of") or []):
        for second, end in _plain_nouns(_after(rest, "and") or []):
            for name, of, one, other in (
                ("former", "latter", first, second),
                ("latter", "former", second, first),
            ):
                for relation, last in _phrases(_after(end, f"the {name} is") or []):
                    left = _after(last, f"the {of}")
                    if left is not None:
                        yield said(relation, one, other), left


def _properties(words):
    for noun, rest in _nouns(words):
        if rest[:1] == ["is"] and rest[1:2] and rest[1] in COLOURS:
            yield _coloured(noun, rest[1]), rest[2:]
    for noun, rest in _nouns(_after(words, "the colour of") or []):
        if rest[:1] == ["is"] and rest[1] in COLOURS:
            yield _coloured(noun, rest[1]), rest[2:]


def _coloured(noun, colour):
    return lambda w: any(thing["colour"] == colour for thing in w.meant(noun))


def _counts(words):
    """ "two red cats and one dog and …": what is counted, and how often."""
    if words[:1] and words[0] in NUMBERS:
        for one, rest in _heads(words[1:]):
            first = (one, NUMBERS.index(words[0]))
            yield [first], rest
            for others, end in _counts(_after(rest, "and") or []):
                yield [first, *others], end


def _numbers(words):
    for start in ("there is exactly", "there are exactly"):
        rest = _after(words, start)
        for counts, end in _counts(rest or []):
            if len(counts) > 1:
                yield (lambda w, counts=counts: all(w.count(one) == n for one, n in counts)), end
    for order, sign in (("more", 1), ("fewer", -1)):
        for one, rest in _heads(_after(words, f"there are {order}") or []):
            for other, end in _heads(_after(rest, "than") or []):
                yield (
                    (
                        lambda w, one=one, other=other, sign=sign: (
                            sign * (w.count(one) - w.count(other)) > 0
                            and (not w.strict or min(w.count(one), w.count(other)) > 0)
                        )
                    ),
                    end,
                )


def _everything(words):
    def all_but(noun, colour):
        return lambda w: any(
            thing["colour"] != colour
            and all(other["colour"] == colour for other in w.things if other is not thing)
            for thing in w.meant(noun)
        )

    for start, middle in (
        ("everything but", "is"),
        ("everything except", "is"),
        ("all things other than", "are"),
        ("apart from", "everything is"),
        ("", "is the only thing that is not"),
    ):
        rest = _after(words, start)
        for noun, after in _plain_nouns(rest or []):
            end = _after(after, middle)
            if end and end[0] in COLOURS:
                yield all_but(noun, end[0]), end[1:]


def _phrases(words):
    for phrase, relation in PHRASES.items():
        if tuple(words[: len(phrase)]) == phrase:
            yield relation, words[len(phrase) :]


def _nouns(words):
    """Nouns with and without a clause; the clause's own noun may have one."""
    for noun, rest in _plain_nouns(words):
        yield noun, rest
        for link in LINKS:
            if tuple(rest[: len(link)]) == link:
                for relation, after in _phrases(rest[len(link) :]):
                    for other, end in _nouns(after):
                        yield (noun[0], noun[1], (relation, other)), end


def _plain_nouns(words):
    if words and words[0] in ("the", "a", "an"):
        yield from _heads(words[1:])


def _heads(words):
    colour = words[0] if words and words[0] in COLOURS else None
    rest = words[1:] if colour else words
    if rest and rest[0] not in COLOURS:
        yield (_singular(rest[0]), colour, None), rest[1:]


def _singular(word):
    return {"teeth": "tooth"}.get(word, word.removesuffix("s") if word != "boss" else word)
