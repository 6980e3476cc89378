"""Runs of from_folder that were cut off, and what the next run makes of them."""

import io
import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import closing

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.prepare import from_folder
from data_pipelines.prepare.folder_items import Item
from data_pipelines.prepare.from_folder import main
from data_pipelines.prepare.judging import looks
from data_pipelines.prepare.unfinished import JOURNAL_NAME, open_journal

NUM_PICTURES = 120
FLAGS = ("--samples-per-shard", "20", "--val-fraction", "0.2")


@pytest.fixture
def given(tmp_path):
    """The arguments but for --out: 150 rows with duplicates, second captions and broken pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(NUM_PICTURES):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), (number, 7, 9)).save(buffer, "PNG")
        (folder / f"{number}.png").write_bytes(
            buffer.getvalue()[: 40 if number % 31 == 5 else None]
        )
    rows = [(number % NUM_PICTURES, f"caption {number % 130}") for number in range(145)]
    rows += [(number, f"caption {number}") for number in range(5)]
    table = tmp_path / "table.jsonl"
    table.write_text(
        "".join(
            json.dumps({"file": f"{number}.png", "caption": caption}) + "\n"
            for number, caption in rows
        )
    )
    return [str(folder), "--captions", str(table), *FLAGS]


@pytest.fixture
def whole(given, tmp_path):
    """What an uninterrupted run writes."""
    main([*given, "--workers", "0", "--out", str(tmp_path / "whole")])
    return content(tmp_path / "whole")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def process(repository, arguments, before="", **options):
    """The command in a process of its own, after some lines of Python."""
    program = (
        "import os, signal, sys, multiprocessing, resource\n"
        # A shell starts what runs in the background with Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from data_pipelines.errors import run_command\n"
        "from data_pipelines.prepare import from_folder\n"
        f"{before}\nrun_command(from_folder.main)\n"
    )
    # It returns when nobody holds the pipes any more: workers that outlived the run would hang here.
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def in_the_middle_of(shard, deed):
    """Lines that do the deed when a shard's first samples are written."""
    return (
        "real = from_folder.write_shard\n"
        "def watched(path, samples):\n"
        "    def some():\n"
        "        for number, sample in enumerate(samples):\n"
        f"            if path.name == {shard!r} and number == 3:\n"
        f"                {deed}\n"
        "            yield sample\n"
        "    return real(path, some())\n"
        "from_folder.write_shard = watched"
    )


class CutError(Exception):
    """What ends a run here."""


def cut_after(num_shards, arguments, monkeypatch):
    """Run until some shards are written and another is due; False if that does not happen."""
    left = iter(range(num_shards))
    real = from_folder.write_shard

    def write(path, samples):
        if next(left, None) is None:
            raise CutError
        return real(path, samples)

    with monkeypatch.context() as patched:
        patched.setattr(from_folder, "write_shard", write)
        try:
            main([*arguments, "--workers", "0"])
        except CutError:
            return True
    return False


@pytest.fixture
def cut(given, tmp_path, monkeypatch):
    """The folder of a run that ended after two shards."""
    assert cut_after(2, [*given, "--out", str(tmp_path / "out")], monkeypatch)
    return tmp_path / "out"


def test_processes_end_with_whoever_asked_them(tmp_path):
    items = [
        Item(path=tmp_path / f"{number}.png", name=f"{number}", caption="words")
        for number in range(5000)
    ]
    with closing(looks(iter(items), 2)) as answers:
        task, found = next(answers)
        assert [item.name for item in task] == [f"{number}" for number in range(32)]
        assert {look.cause for look in found} == {"missing file"}
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_no_byte(given, whole, tmp_path, workers):
    main([*given, "--workers", str(workers), "--out", str(tmp_path / "out")])
    assert content(tmp_path / "out") == whole
    assert {"train-00004.tar", "val-00001.tar", "dataset.json", "rejected.jsonl"} <= set(whole)
    assert JOURNAL_NAME not in whole


@pytest.mark.parametrize(("workers", "workers_then"), [("0", "2"), ("2", "0")])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    given, whole, tmp_path, repository, workers, workers_then
):
    out = tmp_path / "out"
    kill = in_the_middle_of("train-00002.tar", "os.kill(os.getpid(), signal.SIGKILL)")
    arguments = [*given, "--out", str(out)]
    assert process(repository, [*arguments, "--workers", workers], kill).returncode == -9
    # A shard, and the list of what is left out.
    assert len(list(out.glob(".*.tmp"))) == 2
    assert not (out / "dataset.json").exists()
    inode = (out / "train-00001.tar").stat().st_ino
    done = process(repository, [*arguments, "--workers", workers_then])
    assert done.returncode == 0
    assert "reused 2 shards of 40 samples and the checks of 96 items" in done.stderr
    assert "removed 2 unfinished or damaged files" in done.stderr
    assert content(out) == whole
    assert (out / "train-00001.tar").stat().st_ino == inode


def test_a_run_that_is_cut_off_at_every_shard_ends_with_the_same_bytes(
    given, whole, tmp_path, monkeypatch
):
    num_cuts = 0
    while cut_after(1, [*given, "--out", str(tmp_path / "out")], monkeypatch):
        num_cuts += 1
    assert num_cuts == 7
    assert content(tmp_path / "out") == whole


def test_what_was_checked_is_not_decoded_again(given, whole, cut, monkeypatch):
    looked = []
    real = from_folder.looks

    def counted(items, num_workers):
        for task, found in real(items, num_workers):
            looked.extend(task)
            yield task, found

    monkeypatch.setattr(from_folder, "looks", counted)
    main([*given, "--workers", "0", "--out", str(cut)])
    assert [item.row for item in looked] == list(range(97, 151))
    assert content(cut) == whole


def test_a_journal_that_ends_anywhere_after_its_plan_is_gone_on_with(given, whole, cut, capsys):
    journal = (cut / JOURNAL_NAME).read_bytes()
    shards = content(cut)
    first_line = journal.index(b"\n") + 1
    ends = {first_line, len(journal) - 1, len(journal), *range(first_line, len(journal), 2500)}
    for end in ends:
        for path in cut.iterdir():
            path.unlink()
        for name, data in shards.items():
            (cut / name).write_bytes(data)
        (cut / JOURNAL_NAME).write_bytes(journal[:end])
        main([*given, "--workers", "0", "--out", str(cut)])
        assert content(cut) == whole, end
    assert capsys.readouterr().err.count("going on") == len(ends)


def test_a_damaged_shard_is_written_anew(given, whole, cut, capsys):
    data = bytearray((cut / "train-00000.tar").read_bytes())
    data[1000] ^= 1
    (cut / "train-00000.tar").write_bytes(data)
    main([*given, "--workers", "0", "--out", str(cut)])
    assert "reused 1 shards of 20 samples" in capsys.readouterr().err
    assert content(cut) == whole


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--samples-per-shard", "30"], "samples_per_shard"),
        (["--val-fraction", "0.3"], "val_fraction"),
        (["--columns.caption", "caption"], "columns"),
        (["--captions", "OTHER"], "content of the table"),
        (["--captions", "None"], "names of the pictures"),
    ],
)
def test_other_settings_and_another_input_are_refused_by_name(given, cut, tmp_path, flags, named):
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "table.jsonl").read_text() + "\n")
    before = content(cut)
    if flags[1] == "None":
        (tmp_path / "pictures" / "class").mkdir()
        (tmp_path / "pictures" / "0.png").rename(tmp_path / "pictures" / "class" / "0.png")
    flags = [str(other) if flag == "OTHER" else flag for flag in flags]
    with pytest.raises(
        UserError, match=f"unfinished run with other.*{named}.*--overwrite"
    ) as error:
        main([*given, *flags, "--workers", "0", "--out", str(cut)])
    assert "\n" not in str(error.value)
    assert content(cut) == before
    main([*given, *flags, "--workers", "0", "--out", str(cut), "--overwrite"])
    assert (cut / "dataset.json").exists()
    assert not (cut / JOURNAL_NAME).exists()


def test_a_picture_that_changed_after_its_check_is_refused(given, cut, tmp_path):
    picture = tmp_path / "pictures" / "3.png"
    os.utime(picture, ns=(1, 1))
    with pytest.raises(
        UserError, match=r"3\.png has changed since the unfinished run.*--overwrite"
    ):
        main([*given, "--workers", "0", "--out", str(cut)])
    main([*given, "--workers", "0", "--out", str(cut), "--overwrite"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(b"other"), "has changed since it was checked"),
        (lambda path: path.unlink(missing_ok=True), "cannot be read any more"),
    ],
)
def test_a_picture_that_changes_under_a_run_is_never_stored(
    given, tmp_path, monkeypatch, change, words
):
    real = from_folder.write_shard

    def write(path, samples):
        change(tmp_path / "pictures" / "3.png")
        return real(path, samples)

    monkeypatch.setattr(from_folder, "write_shard", write)
    with pytest.raises(UserError, match=rf"3\.png .*{words}.*--overwrite"):
        main([*given, "--workers", "0", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("before", "code", "words"),
    [
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (60_000,) * 2)", 2, "error: no space is left"),
        (
            # With few tasks given out ahead, some are left to be done when the processes are gone.
            "from data_pipelines.prepare import worker_pool\nworker_pool.TASKS_PER_WORKER = 1\n"
            + in_the_middle_of(
                "train-00000.tar", "[child.kill() for child in multiprocessing.active_children()]"
            ),
            2,
            "error: a worker process died at ",
        ),
        (in_the_middle_of("train-00001.tar", "os.killpg(0, signal.SIGINT)"), 130, "interrupted; "),
    ],
    ids=["full disk", "dying worker", "Ctrl-C"],
)
def test_a_run_that_cannot_go_on_says_so_in_one_line_and_the_next_one_finishes(
    given, whole, tmp_path, repository, before, code, words
):
    arguments = [*given, "--out", str(tmp_path / "out"), "--workers", "2"]
    done = process(repository, arguments, before, start_new_session=True)
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1
    assert done.returncode == code
    assert not list((tmp_path / "out").glob(".*.tmp"))
    main([*arguments, "--workers", "0"])
    assert content(tmp_path / "out") == whole


def test_two_runs_do_not_write_into_one_folder(given, tmp_path):
    journal = open_journal(tmp_path / "out", {}, overwrite=False)
    for flags in ([], ["--overwrite"]):
        with pytest.raises(UserError, match="another run is writing to"):
            main([*given, *flags, "--workers", "0", "--out", str(tmp_path / "out")])
    journal.close()


def test_workers_below_zero_are_refused(given, tmp_path):
    with pytest.raises(UserError, match="--workers is -1"):
        main([*given, "--workers", "-1", "--out", str(tmp_path / "out")])
