"""Every command of the README, as it stands there but at toy size, one after the other."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launching import run_well

import data_pipelines.__main__
import rins_mm.index.__main__
from data_pipelines import index, keys, stats
from data_pipelines.manifest import open_dataset
from data_pipelines.prepare import from_folder, train_tokenizer
from data_pipelines.reader import read_sample
from rins_mm import evaluate, report, search, train
from rins_mm.export import __main__ as export
from rins_mm.models import recursion
from rins_mm.selfcheck import __main__ as selfcheck
from rins_mm.study import __main__ as study


def serve_a_moment(argv: list[str]) -> None:
    """Start the search page, and end it once it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rins_mm.serve", *argv, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert "http://127.0.0.1:" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


COMMANDS = {
    "data_pipelines": data_pipelines.__main__.main,
    "data_pipelines.keys": keys.main,
    "data_pipelines.stats": stats.main,
    "rins_mm.train": train.main,
    "rins_mm.evaluate": evaluate.main,
    "rins_mm.export": export.main,
    "rins_mm.report": report.main,
    "rins_mm.search": search.main,
    "rins_mm.index": rins_mm.index.__main__.main,
    "rins_mm.serve": serve_a_moment,
    "rins_mm.selfcheck": selfcheck.main,
    "rins_mm.study": study.main,
    "rins_mm.models.recursion": recursion.main,
    "data_pipelines.index": index.main,
    "data_pipelines.prepare.from_folder": from_folder.main,
    "data_pipelines.prepare.train_tokenizer": train_tokenizer.main,
}
TOY_SIZE = {
    "--max-steps": ["2"],
    "--batch-size": ["8"],
    "--schedule.warmup-samples": ["0"],
    "--evaluation.tasks": [],
}


def with_toy_size(argv: list[str]) -> list[str]:
    for flag, values in TOY_SIZE.items():
        if flag in argv and values:
            argv[argv.index(flag) + 1] = values[0]
        elif flag not in argv:
            argv += [flag, *values]
    return argv if "--data.shards" in argv else [*argv, "--data.shards", "emoji:val"]


def commands(readme: str) -> list[list[str]]:
    found = re.findall(r"^(?:torchrun|python) .*$|(?<=`)python -m [^`]+(?=`)", readme, re.MULTILINE)
    return [shlex.split(line) for line in found]


@pytest.mark.slow
def test_the_commands_of_the_readme_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_own_pictures(tmp_path)
    run = commands((repository / "README.md").read_text())
    assert len(run) >= 9
    for number, words in enumerate(run):
        module = words[words.index("-m") + 1]
        argv = words[words.index("-m") + 2 :]
        if module == "rins_mm.train" and argv[0] == "emoji":
            argv = with_toy_size(argv)
        world_size = 2 if words[0] == "torchrun" else 1
        logs = tmp_path / f"logs-{number}"
        run_well(COMMANDS[module], argv, logs, world_size=world_size)
        print(shlex.join(words), (logs / "rank-0.txt").read_text()[-300:])


def write_own_pictures(folder: Path) -> None:
    (folder / "PICTURES").mkdir()
    dataset = open_dataset(["emoji:val"])
    with Path("captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption"])
        for number in range(60):
            sample = read_sample(dataset, number)
            name = f"{sample.key}.webp"
            (folder / "PICTURES" / name).write_bytes(sample.parts["webp"])
            table.writerow([name, sample.parts["txt"].decode()])
    assert len(os.listdir(folder / "PICTURES")) == 60
