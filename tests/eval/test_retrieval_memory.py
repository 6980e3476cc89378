"""The largest retrieval that is promised, in the memory that is promised."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, time, torch
from pathlib import Path
from eval.picture_sets import PictureSet
from eval.ranks import Ranks
from eval.retrieval import measure
from eval.task_kinds import RetrievalTask

NUM_PICTURES, NUM_TEXTS, WIDTH, PARTS = 100_000, 500_000, 512, 1000


class OneOfMany(Ranks):
    '''A process that does its share of the tiles and hears nothing from the others.'''

    def all_gather(self, share):
        return share[None]

    def sum_counts(self, counts):
        return counts


def unit_rows(number):
    rows = torch.empty(number, WIDTH).normal_()
    for part in rows.split(4096):
        part /= part.norm(dim=1, keepdim=True)
    return rows


def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


torch.manual_seed(0)
before = peak()
images, texts = unit_rows(NUM_PICTURES), unit_rows(NUM_TEXTS)
numbers = torch.arange(NUM_TEXTS)
task = RetrievalTask(
    name="large", dataset="large", rule="five captions to a picture",
    pictures=PictureSet(fingerprint="0", num_pictures=NUM_PICTURES, read=lambda number: None),
    texts=[f"caption {number}" for number in range(NUM_TEXTS)],
    right_pairs=torch.stack([numbers // 5, numbers], dim=1),
)
usable = torch.ones(NUM_PICTURES, dtype=torch.bool)
with_features = peak()
start = time.perf_counter()
measured = measure(task, images, texts, usable=usable, ranks=OneOfMany(rank=7, world_size=PARTS))
print(json.dumps({
    "before": before, "with_features": with_features, "peak": peak(),
    "seconds": time.perf_counter() - start, "metrics": measured.metrics,
}))
"""


@pytest.mark.long
def test_a_hundred_thousand_pictures_and_half_a_million_texts_fit_in_two_gigabytes(repository):
    """A thousandth of the tiles, all of the memory: the process, its features and all counts."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    told = json.loads(finished.stdout)
    print(told)
    assert told["with_features"] - told["before"] > 600_000 * 512 * 4
    assert told["peak"] < 2_000_000_000
