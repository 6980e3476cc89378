"""A bar for people who watch, a line now and then for those who keep a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_pipelines.words import printable

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 30.0


def with_progress(items: Iterable[T], *, total: int, label: str) -> Iterator[T]:
    """The items, while standard error tells how many of `total` are done; a log stays quiet."""
    label = printable(label)
    if sys.stderr.isatty():
        yield from _with_bar(items, total, label)
    else:
        yield from _with_lines(items, total, label)


def _with_bar(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _with_lines(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            print(f"{label}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            last = now
        yield item
