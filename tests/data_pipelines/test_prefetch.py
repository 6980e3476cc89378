import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipelines import rows
from data_pipelines.loader import train_batches


def batches_of(config, dataset, tokenizer, **changes):
    settings = {
        "image_size": 8, "batch_size": 8, "seed": 3,
        "start_step": 0, "num_steps": 5, "rank": 0, "world_size": 1,
    }  # fmt: skip
    return train_batches(config, dataset, tokenizer, **{**settings, **changes})


def test_a_defect_in_the_thread_arrives_at_the_consumer(config, dataset, tokenizer, monkeypatch):
    monkeypatch.setattr(rows, "resize_into", lambda pixels, picture: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(batches_of(config, dataset, tokenizer))


def batch_threads():
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


def test_batches_are_made_ahead_and_closing_ends_the_thread_at_once(
    config, dataset, tokenizer, monkeypatch
):
    made = []
    original = rows.BatchMaker.make
    monkeypatch.setattr(
        rows.BatchMaker,
        "make",
        lambda self, step, check: made.append(step) or original(self, step, check),
    )
    config = replace(config, prefetch_batches=3)
    iterator = batches_of(config, dataset, tokenizer, num_steps=1000)
    assert batch_threads() == []
    next(iterator)
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One handed out, three waiting, one in the hand of the thread.
    assert made == [0, 1, 2, 3, 4]
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 0.5
    assert batch_threads() == []


def test_closing_does_not_wait_for_a_slow_batch(config, dataset, tokenizer, monkeypatch):
    original = rows.decoded_parts
    calls = itertools.count()

    def slow_from_the_second_batch_on(*arguments):
        if next(calls) >= 8:
            time.sleep(0.2)
        return original(*arguments)

    monkeypatch.setattr(rows, "decoded_parts", slow_from_the_second_batch_on)
    iterator = batches_of(config, dataset, tokenizer)
    next(iterator)
    begin = time.monotonic()
    iterator.close()
    assert time.monotonic() - begin < 0.8


@pytest.fixture
def temporary_folder():
    """For sockets, whose paths have at most 108 characters: pytest's own is too long."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def script(dataset, tokenizer, folder, temporary_folder, num_workers, ending):
    """A process that takes one batch of very many and then does `ending`."""
    tokenizer.save(folder)
    code = f"""
import multiprocessing, sys, time
from pathlib import Path
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.captions import CaptionConfig
from data_pipelines.manifest import open_dataset
from data_pipelines.tokenizers import load_tokenizer
batches = train_batches(
    DataConfig(captions=CaptionConfig(kind="label"), num_workers={num_workers}),
    open_dataset([{str(dataset.shards[0].path)!r}]), load_tokenizer(Path({str(folder)!r})),
    image_size=8, batch_size=7, seed=0, start_step=0, num_steps=10**9, rank=0, world_size=1,
)
next(batches)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
{ending}
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary_folder)},
    )


@pytest.mark.parametrize("ending", ["pass", "1 / 0", "sys.exit(0)"])
def test_an_iterator_left_open_does_not_hold_the_interpreter(
    dataset, tokenizer, tmp_path, temporary_folder, ending
):
    with script(dataset, tokenizer, tmp_path, temporary_folder, 0, ending) as process:
        assert process.stdout.readline() == "\n"
        _, errors = process.communicate(timeout=30)
    assert process.returncode == (ending == "1 / 0")
    assert errors.splitlines()[-1:] == (
        ["ZeroDivisionError: division by zero"] * process.returncode
    )


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    # A zombie has ended, and waits for whoever adopted it.
    return state != "Z"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pass", "time.sleep(100)"])
def test_workers_end_with_their_trainer_even_when_it_is_killed_and_leave_no_file(
    dataset, tokenizer, tmp_path, temporary_folder, ending
):
    with script(dataset, tokenizer, tmp_path, temporary_folder, 2, ending) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        if ending != "pass":
            assert all(is_running(pid) for pid in workers)
            process.kill()
        process.communicate(timeout=30)
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)
    assert sockets_left(temporary_folder) == []


def sockets_left(folder):
    """The folders of sockets in the temporary folder; torch makes others, which it keeps."""
    deadline = time.monotonic() + 5
    while (left := list(folder.glob("pymp-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
