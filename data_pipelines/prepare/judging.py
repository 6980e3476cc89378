"""Items looked at by several processes at once; the answers come in the items' order."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

from data_pipelines.errors import UserError
from data_pipelines.prepare.folder_items import Item, Look, look_at
from data_pipelines.prepare.worker_pool import WorkerDiedError, answers

ITEMS_PER_TASK = 32

Answer = tuple[Sequence[Item], Sequence[Look]]
"""Items that stand in a row, and one look for each."""


def looks(items: Iterable[Item], num_workers: int) -> Generator[Answer, None, None]:
    """All items in their order, a few at a time, with the look at each.

    The looks do not depend on `num_workers`; 0 looks in this process. Close the generator to end the
    processes. Raises UserError when one of them died.
    """
    try:
        with closing(answers(_look_at_all, _tasks(iter(items)), num_workers)) as found:
            yield from found
    except WorkerDiedError as error:
        raise UserError(
            f"a worker process died at {error.task[0].name} or one of the pictures after it, "
            "perhaps of a picture that its decoder cannot stand or for want of memory; what is done "
            "is kept: mend it or give fewer --workers, and run again"
        ) from error


def _tasks(items: Iterator[Item]) -> Iterator[Sequence[Item]]:
    while task := list(islice(items, ITEMS_PER_TASK)):
        yield task


def _look_at_all(task: Sequence[Item]) -> list[Look]:
    return [look_at(item) for item in task]
