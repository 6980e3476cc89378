"""A stalled loader says where it stands."""

import os
import re
import subprocess
import sys
import time

import pytest
from fault_server import serving

from data_pipelines.prefetch import new_workers
from data_pipelines.watchdog import telling_when_stuck

STALLED = """
import time
from data_pipelines.watchdog import telling_when_stuck

def a_disk_that_does_not_answer():
    time.sleep(1.0)

with telling_when_stuck({seconds}, ["a.tar:one", "a.tar:two"]):
    a_disk_that_does_not_answer()
print("it went on")
"""


@pytest.mark.parametrize("seconds", [0.2, 30, 0])
def test_a_long_wait_prints_stacks_and_last_keys_once_and_goes_on(seconds, repository):
    done = subprocess.run(
        [sys.executable, "-c", STALLED.format(seconds=seconds)],
        cwd=repository, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "it went on\n"
    stuck = seconds == 0.2
    assert ("no batch for 0.2 s" in done.stderr) == stuck
    assert ("a.tar:one, a.tar:two" in done.stderr) == stuck
    assert ("a_disk_that_does_not_answer" in done.stderr) == stuck


STUCK_WORKER = """
import multiprocessing, os, signal, sys
from pathlib import Path
from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.tokenizers import load_tokenizer

config = DataConfig(
    captions=CaptionConfig(kind="label"), num_workers=2, prefetch_batches=2, watchdog_seconds=0.5
)
signal.signal(signal.SIGUSR2, lambda *_: print("the trainer's own", flush=True))
batches = train_batches(
    config, open_dataset([sys.argv[1]]), load_tokenizer(Path(sys.argv[2])),
    image_size=8, batch_size=7, seed=0, start_step=0, num_steps=40, rank=0, world_size=1,
)
next(batches)
print(*sorted(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.readline()
print(1 + len(list(batches)), flush=True)
print(*multiprocessing.active_children(), flush=True)
os.kill(os.getpid(), signal.SIGUSR2)
"""


@pytest.mark.slow
def test_a_stuck_worker_prints_its_stacks_under_its_name_and_goes_on(
    dataset, tokenizer, tmp_path, repository
):
    tokenizer.save(tmp_path / "tokenizer")
    environment = {**os.environ, "RINS_MM_CACHE": str(tmp_path), "RINS_MM_REMOTE_TIMEOUT": "9"}
    with serving() as server:
        server.files = {"0.tar": dataset.shards[0].path.read_bytes()}
        command = [
            sys.executable,
            "-c",
            STUCK_WORKER,
            f"{server.url}/0.tar",
            tmp_path / "tokenizer",
        ]
        with subprocess.Popen(
            command, cwd=repository, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as trainer:  # fmt: skip
            workers = trainer.stdout.readline().split()
            # All that is asked for within a second hangs, for a third of the nine.
            hang_until = time.monotonic() + 1.0
            server.fault = lambda *_: "stall" if time.monotonic() < hang_until else ""
            output, errors = trainer.communicate("go\n", timeout=60)
    assert trainer.returncode == 0, errors
    # All batches came, no worker is left, and what the trainer does with the signal is its own.
    assert output == "40\n\nthe trainer's own\n"
    # The start of the processes may have taken as long as that too.
    told = errors.rpartition("rank 0: no batch for 0.5 s")[2]
    own, *of_workers = re.split(r"rank 0, worker \d \(process \d+\): the stacks of .*\n", told)
    named = re.findall(r"rank 0, worker (\d) \(process (\d+)\)", told)
    assert [number for number, _ in named] == ["0", "1"]
    assert sorted(process for _, process in named) == sorted(workers)
    assert "_next_item" in own or "made_in_processes" in own
    for stacks in of_workers:
        assert "in samples_read_ahead" in stacks or "in result" in stacks
        assert "made_in_processes" not in stacks
    assert any("http_ranges.py" in stacks for stacks in of_workers)


def test_only_living_workers_of_this_process_are_asked_for_stacks(capfd):
    workers = new_workers(3)
    # A number that was never a worker's stands for one that another process has got since.
    with subprocess.Popen(["sleep", "60"]) as stranger:
        workers._process_ids[1] = stranger.pid
        with telling_when_stuck(0.05, [], workers.print_stacks):
            time.sleep(0.5)
        assert stranger.poll() is None
        stranger.kill()
    told = capfd.readouterr().err
    assert "rank 0, worker 0 is still starting\n" in told
    assert f"rank 0, worker 1 (process {stranger.pid}) has ended\n" in told
