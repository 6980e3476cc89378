"""What stands in the name of a task behind its kind: words, and a path."""

import re


def words_and_path(spec: str, word: re.Pattern[str]) -> tuple[list[str], str]:
    """The words at the front of WORD:WORD:PATH, and the path; only what matches `word` is one."""
    words = []
    while ":" in spec and word.fullmatch(spec.partition(":")[0]):
        first, _, spec = spec.partition(":")
        words.append(first)
    return words, spec
