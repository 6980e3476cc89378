"""Words from outside (captions, names of classes, shards and files), made fit to be shown to people."""

import re
import sys
from typing import Any

from rich.console import OverflowMethod
from rich.text import Text

# Control characters, line and paragraph ends, changes of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

REPLACED = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text without what a terminal obeys or a page cannot show.

    Captions and file names may hold nearly anything: line breaks, a terminal's own commands, broken
    UTF-8.
    """
    return _UNPRINTABLE.sub(REPLACED, text)


def shown(value: Any) -> Any:
    """What a page shows of a value: its words printable but for line breaks and tabs; markup as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in "\n\t" else REPLACED, value)


def cell(text: str, *, style: str = "", overflow: OverflowMethod | None = None) -> Text:
    """Words for a table or a line of rich's: neither markup nor what a terminal obeys, which rich lets through."""
    return Text(printable(text), style=style, overflow=overflow)


def say(line: str) -> None:
    """One line on standard output, as `tell`."""
    print(printable(line))


def tell(line: str) -> None:
    """One line on standard error. Names of files and folders may stand in it: a terminal obeys none of them."""
    print(printable(line), file=sys.stderr, flush=True)
