"""The distinct texts of a task, numbered as they come; what cannot be used is counted by cause."""

from collections import Counter

from data_pipelines.captions import MAX_CAPTION_CHARACTERS


def cause_against(text: object) -> str | None:
    """Why something cannot be used as a text, in fixed words; None where it can."""
    if not isinstance(text, str):
        return "no string"
    if not text.strip():
        return "empty caption"
    if len(text) > MAX_CAPTION_CHARACTERS:
        return "caption too long"
    try:
        # JSON can smuggle in half of a surrogate pair, which no tokenizer takes.
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "bad utf-8"
    return None


def number_of(text: str, numbers: dict[str, int]) -> int:
    """The number of a text without the space around it; one that is new gets the next."""
    return numbers.setdefault(text.strip(), len(numbers))


def left_out_notes(what: str, causes: Counter[str]) -> list[str]:
    """One line that counts what was left out by cause; no line where nothing was."""
    counts = ", ".join(f"{count:,} x {cause}" for cause, count in causes.most_common())
    return [f"{what} left out: {counts}"] if causes else []
