"""Words from outside in as few characters as a table or a page has room for."""

from data_pipelines.words import printable


def short(text: object, limit: int) -> str:
    """The printable text in one line of at most `limit` characters; "…" stands for what is cut off."""
    # Twice the limit is enough to fill it: a caption of a million characters is not worth splitting.
    line = printable(" ".join(str(text)[: 2 * limit + 1].split()))
    cut = len(line) > limit or len(str(text)) > 2 * limit + 1
    return line[: limit - 1].rstrip() + "…" if cut else line
