"""Words from outside (captions, names of classes, shards and files), made fit to be shown to people."""

import re
import sys

# Control characters, line and paragraph ends, changes of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without what a terminal obeys or a page cannot show.

    Captions and file names may hold nearly anything: line breaks, a terminal's own commands, broken
    UTF-8.
    """
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def tell(line: str) -> None:
    """One line on standard error. Names of files and folders may stand in it: a terminal obeys none of them."""
    print(printable(line), file=sys.stderr, flush=True)
