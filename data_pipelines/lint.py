"""Read and decode every sample; write a report, and a list of the bad ones that can be denied.

    python -m data_pipelines.lint shards/*.tar --out CHECKED

CHECKED/_stats.json has the form of img2dataset's reports. CHECKED/bad_samples.jsonl has a line for
each bad sample (shard, key, cause) and is a deny-list: name it in the recipe's `data.deny_lists`.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tyro

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of
from data_pipelines.deny_lists import contents_of
from data_pipelines.errors import UserError, run_command
from data_pipelines.index import ShardIndex
from data_pipelines.manifest import Dataset, dataset_of, open_dataset
from data_pipelines.progress import with_progress
from data_pipelines.samples import decoded_sample
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import say

REPORT_NAME = "_stats.json"
LIST_NAME = "bad_samples.jsonl"
SAMPLES_PER_TASK = 500


@dataclass(frozen=True, kw_only=True)
class LintCommand:
    """Read and decode every sample and list those that cannot be used."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Packs, paths, globs or ranges, such as emoji:train."""
    out: Path
    """Folder for _stats.json and bad_samples.jsonl."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    """How captions are chosen, as in the recipe; of captions that are drawn, one draw is checked."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out already; the new list does not repeat them."""
    workers: int = 0
    """Worker processes; 0 reads in this one."""
    overwrite: bool = False
    """Replace the files of an earlier run."""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A bad sample."""

    shard: int
    """Number of its shard."""
    key: str
    stage: str
    """"decode" or "caption": what it failed at."""
    cause: str


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Some samples of one shard; what a worker process is sent."""

    number: int
    shard: ShardIndex
    rows: range
    captions: CaptionConfig


def main(argv: list[str]) -> None:
    """Check all samples, write both files, print the counts."""
    command = tyro.cli(LintCommand, args=argv, prog="python -m data_pipelines.lint")
    if command.workers < 0:
        raise UserError(f"--workers is {command.workers}; it must be at least 0")
    files = (command.out / REPORT_NAME, command.out / LIST_NAME)
    refuse_existing(files, overwrite=command.overwrite)
    dataset = open_dataset(command.shards, command.deny_lists)
    begun = time.time()
    bad = list(bad_rows(dataset, command.captions, num_workers=command.workers))
    report = report_of(dataset, bad, begun, time.time())
    lines = [
        json.dumps(
            {
                "shard": dataset.shards[row.shard].name,
                "key": row.key,
                "cause": row.cause,
                "contents": contents_of(dataset.shards[row.shard]),
            }
        )
        for row in bad
    ]
    # The report last: where it is, the list is whole.
    write_whole(files[1], "".join(f"{line}\n" for line in lines), overwrite=command.overwrite)
    write_whole(files[0], json.dumps(report, indent=2) + "\n", overwrite=command.overwrite)
    say(
        f"{report['successes']:,} of {report['count']:,} samples are good "
        f"({report['duration']:.0f} s); wrote {files[0]} and {files[1]}"
    )
    for cause, number in report["status_dict"].items():
        if cause != "success":
            print(f"bad: {number:,} x {cause}")


def bad_rows(
    dataset: Dataset, captions: CaptionConfig, *, num_workers: int = 0
) -> Iterator[BadRow]:
    """The bad samples in their order in the data set, found by the loader's own rules.

    Raises UserError when a shard has vanished or changed, or a worker process died.
    """
    tasks = [
        _Task(
            number=number,
            shard=shard,
            rows=range(start, min(start + SAMPLES_PER_TASK, shard.num_samples)),
            captions=captions,
        )
        for number, shard in enumerate(dataset.shards)
        for start in range(0, shard.num_samples, SAMPLES_PER_TASK)
    ]
    if num_workers == 0:
        results: Iterator[list[BadRow]] = map(_check_rows, tasks)
        yield from _in_order(results, tasks)
        return
    # Not fork, for threads of this process would leave their locks shut.
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from _in_order(pool.map(_check_rows, tasks), tasks)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died, perhaps of a picture that its decoder cannot stand or for "
                "want of memory; try fewer --workers, or one shard at a time to find it"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def report_of(
    dataset: Dataset, bad: list[BadRow], start_time: float, end_time: float
) -> dict[str, Any]:
    """What img2dataset's `_stats.json` says (times in seconds since 1970), and the counts by shard."""
    causes = Counter(row.cause for row in bad)
    by_shard: dict[str, Counter[str]] = {}
    for row in bad:
        by_shard.setdefault(str(dataset.shards[row.shard].path), Counter())[row.cause] += 1
    num_good = dataset.num_samples - len(bad)
    return {
        "count": dataset.num_samples,
        "successes": num_good,
        "failed_to_decode": sum(row.stage == "decode" for row in bad),
        "failed_to_caption": sum(row.stage == "caption" for row in bad),
        "duration": end_time - start_time,
        "start_time": start_time,
        "end_time": end_time,
        "status_dict": {"success": num_good, **dict(causes.most_common())},
        "bad_by_shard": {shard: dict(counts) for shard, counts in by_shard.items()},
        "dataset_fingerprint": dataset.fingerprint,
    }


def _in_order(results: Iterator[list[BadRow]], tasks: list[_Task]) -> Iterator[BadRow]:
    label = f"checking samples, {SAMPLES_PER_TASK} at a time"
    for rows in with_progress(results, total=len(tasks), label=label):
        yield from rows


def _check_rows(task: _Task) -> list[BadRow]:
    alone = dataset_of([task.shard])
    found = []
    for row in task.rows:
        stage = "decode"
        try:
            _, record = decoded_sample(alone, row)
            stage = "caption"
            caption_of(record, task.captions, row_seed=0)
        except BadSample as bad:
            key = task.shard.key(row)
            found.append(BadRow(shard=task.number, key=key, stage=stage, cause=bad.cause))
    return found


if __name__ == "__main__":
    run_command(main)
