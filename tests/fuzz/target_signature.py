"""The language of signatures."""

import re
from pathlib import Path
from random import Random

from byte_mutations import mutated_bytes
from target import Files, Target

from data_pipelines.errors import UserError
from rins_mm.models import signatures
from rins_mm.models.signatures import LETTERS, MAX_CALLS, expand, group_sizes, parse

GOOD = (
    "AB", "A^3B", "A3B", "AAAB", "(AB)^2", "(A^3B)_2", "(AAB)_2", "A", "A^256", "(A^2(BC)^3)2D",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "(AB)_4", "((A)2B)3", "(" * 16 + "A" + ")" * 16, "(A)_16", "AB^8C", "(((AB)2C)2D)2",
)  # fmt: skip
PIECES = (
    "A", "B", "C", "Z", "a", "(", ")", "()", "^", "^2", "^0", "_", "_1", "_2", "_16", "_17", "2", "0", "00002", "256",
    "257", "9" * 30, "9" * 5000, "(" * 17, "\N{ARABIC-INDIC DIGIT TWO}", "\N{SUPERSCRIPT TWO}", " ", "\0", "\n", "-1",
    "(AB)", "\N{CYRILLIC CAPITAL LETTER A}", "\udcff", ")_2",
)  # fmt: skip


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Pieces of the language put in, taken out, doubled and wrapped; now and then any bytes."""
    if draws.random() < 0.15:
        return {"signature": mutated_bytes(files["signature"], draws, other["signature"])[:20_000]}
    text = _text(files)
    for _ in range(draws.choice((1, 1, 2, 3, 6))):
        start = draws.randrange(len(text) + 1)
        end = min(len(text), start + draws.choice((0, 0, 1, 2, draws.randrange(len(text) + 1))))
        piece = draws.choice((*PIECES, text[start:end] * 2, f"({text[start:end]})", _text(other)))
        text = text[:start] + piece + text[end:]
    return {"signature": text[:20_000].encode("utf-8", "surrogateescape")}


def _text(files: Files) -> str:
    return files["signature"].decode("utf-8", "surrogateescape")


def by_substitution(signature: str) -> str | None:
    """The calls by another way: innermost groups and counts are replaced in the text until none is left.

    None where it grows beyond what is allowed.
    """
    body, _, degree = signature.partition("_")
    if degree:
        body = body[1:-1]
    while re.search(r"[(0-9]", body):
        body = re.sub(r"\(([A-Z]+)\)\^?(\d+)", lambda m: m[1] * min(int(m[2][-9:]), 999), body)
        body = re.sub(r"\(([A-Z]+)\)(?![\^\d])", r"\1", body)
        body = re.sub(r"([A-Z])\^?(\d+)", lambda m: m[1] * min(int(m[2][-9:]), 999), body)
        if len(body) > 100_000:
            return None
    letters = sorted(set(body))
    calls = body
    # Each level replaces a letter by the whole signature over letters of its own.
    for _ in range(int(degree or 1) - 1):
        calls = "".join(
            LETTERS[LETTERS.index(outer) * len(letters) + letters.index(inner)]
            for outer in calls
            for inner in body
        )
    return calls


def attempt(files: Files, folder: Path) -> str:
    """Read it; the calls are those of substitution, bounded, and written out they read as themselves."""
    signature = _text(files)
    try:
        parsed = parse(signature)
    except UserError:
        try:
            expand(signature)
        except UserError:
            raise
        raise AssertionError("refused by one and not by the other") from None
    calls = expand(signature)
    assert 1 <= len(calls) <= MAX_CALLS
    letters = sorted(set(calls))
    assert letters == list(LETTERS[: len(letters)]), letters
    assert "".join(calls) == by_substitution(signature), (calls, by_substitution(signature))
    assert expand("".join(calls)) == calls
    assert len(parsed.calls) ** parsed.degree == len(calls)
    assert group_sizes(signature, len(letters)) == dict.fromkeys(letters, 1)
    return "read"


TARGET = Target(
    name="signature",
    what="parse, expand and group_sizes; the calls as textual substitution gives them",
    attempt=attempt,
    seeds=lambda: [{"signature": text.encode()} for text in GOOD],
    mutate=mutate,
    traced=(signatures,),
    documented=(UserError,),
)
