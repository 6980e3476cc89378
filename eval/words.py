"""Words from outside (captions, names of classes and files), made fit to be shown to people."""

import re

# Control characters, line and paragraph ends, changes of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without what a terminal obeys or a page cannot show.

    Captions and file names may hold nearly anything: line breaks, a terminal's own commands, broken
    UTF-8.
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def short(text: object, limit: int) -> str:
    """The printable text in one line of at most `limit` characters; "…" stands for what is cut off."""
    # Twice the limit is enough to fill it: a caption of a million characters is not worth splitting.
    line = printable(" ".join(str(text)[: 2 * limit + 1].split()))
    cut = len(line) > limit or len(str(text)) > 2 * limit + 1
    return line[: limit - 1].rstrip() + "…" if cut else line
