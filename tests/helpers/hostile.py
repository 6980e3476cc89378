"""Inputs made to break a reader of shards: each with what must come of it. Made when asked, never kept."""

from hostile_captions import records, specs
from hostile_cases import Case
from hostile_pictures import pictures
from hostile_sidecars import sidecars
from hostile_tars import tars
from hostile_tokenizers import tokenizers


def cases() -> list[Case]:
    """The whole corpus, every name once."""
    makers = (tars, pictures, records, specs, sidecars, tokenizers)
    return [case for maker in makers for case in maker()]
