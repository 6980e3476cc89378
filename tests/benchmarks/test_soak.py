"""The rules of a soak see what leaks and what is left; five minutes of the real thing keep to them."""

import importlib
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

LOOKS = 60


@pytest.fixture
def soak(repository, monkeypatch):
    """The benchmark, whose files import one another by their names as scripts do."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    return importlib.import_module("soak")


def results_of(changes=None):
    """A soak of ten minutes in which all stays as it is, but for the changes, and memory trembles."""
    looks = [
        {
            "seconds": 10.0 * number,
            "megabytes": {"own": 1900 + number % 3, "all": 2000, "resident": 2900, "shared": 0.2},
            "own_megabytes_of": {"torchrun": 150.0, "rank 0 trainer": 330.0},
            "processes": 11,
            "threads": 43 + number % 2,
            "descriptors": 230 + number % 7,
            "sockets": 24,
            "shared_memory_entries": 28,
            "temporary_files": 14,
            "metrics_bytes": 1000 * number,
            "run_folder_bytes": 11_000_000 + 1000 * number,
            **(changes(number) if changes else {}),
        }
        for number in range(LOOKS)
    ]
    nothing = {"processes": [], "shared_memory": [], "temporary_files": [], "unfinished_files": []}
    ending = {"how": "SIGKILL of a rank", "seconds": 3.0, "exit_code": 1, "left": nothing}
    return {
        "minutes": 10.0, "warm_up": 0.2, "megabytes_per_minute": 1.0, "looks": looks, "endings": [ending],
    }  # fmt: skip


def broken_rules(soak, results):
    judged = soak.judge({**results, "looks": soak.in_columns(results["looks"])})
    return [rule.what for rule in judged if not rule.kept]


def test_a_run_that_stays_as_it_is_breaks_no_rule(soak):
    assert broken_rules(soak, results_of()) == []


def test_memory_that_grows_is_seen_and_a_peak_is_not_growth(soak):
    def growing(number):
        return {"megabytes": {"own": 1900 + 0.2 * number + number % 3}}

    def one_peak(number):
        return {"megabytes": {"own": 2400 if number == LOOKS - 2 else 1900}}

    assert broken_rules(soak, results_of(growing)) == ["memory of all processes, files apart"]
    assert broken_rules(soak, results_of(one_peak)) == []


def test_what_settles_in_the_warm_up_is_not_counted(soak):
    assert broken_rules(soak, results_of(lambda n: {"megabytes": {"own": min(n, 10)}})) == []


@pytest.mark.parametrize(
    ("column", "name", "value", "every"),
    [
        ("processes", "processes", 11, 30),
        ("shared_memory_entries", "entries in /dev/shm", 28, 30),
        ("temporary_files", "temporary files", 14, 30),
        ("descriptors", "open file descriptors", 230, 2),
        ("threads", "threads", 43, 10),
        ("sockets", "sockets", 24, 10),
    ],
)
def test_a_count_that_rises_is_seen(soak, column, name, value, every):
    results = results_of(lambda number: {column: value + number // every})
    assert broken_rules(soak, results) == [name]


def test_what_is_left_is_named_but_an_unfinished_save_after_a_kill_is_no_leak(soak):
    results = results_of()
    left = results["endings"][0]["left"]
    left["unfinished_files"] = ["checkpoints/step-00000010.partial"]
    assert broken_rules(soak, results) == []
    left["processes"] = ["rank 0 worker 1"]
    (rule,) = (rule for rule in soak.judge(judged(soak, results)) if not rule.kept)
    assert rule.what == "left after SIGKILL of a rank"
    assert rule.measured == "processes: rank 0 worker 1"
    results["endings"][0]["how"] = "its last step"
    (rule,) = (rule for rule in soak.judge(judged(soak, results)) if not rule.kept)
    assert "step-00000010.partial" in rule.measured


def judged(soak, results):
    return {**results, "looks": soak.in_columns(results["looks"])}


def test_the_drawing_is_sound_and_within_its_frame(soak):
    drawing = ElementTree.fromstring(soak.draw_soak(judged(soak, results_of())))
    width, height = float(drawing.get("width")), float(drawing.get("height"))
    lines = drawing.findall(".//{*}polyline")
    assert len(lines) == 11
    for line in lines:
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_a_census_counts_what_a_marked_command_and_its_orphans_hold(soak, tmp_path):
    census = importlib.import_module("process_census")
    child = "import socket; kept = bytearray(b'x' * 30_000_000); s = socket.socket()"
    child += "; print('ready', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    mark = f"test-{os.getpid()}"
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", parent],
        env=os.environ | {census.MARK: mark},
        stdin=ours,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.wait(30)
        (orphan,) = census.take_census(mark)
        assert 30 < orphan.megabytes["own"] < 80
        assert orphan.threads == 1
        assert len(orphan.sockets) == 1
        assert len(orphan.files) == 4
        os.write(theirs, b"\n")
        assert process.stdout.read() == ""
    assert census.take_census(mark) == []
    os.close(ours)
    os.close(theirs)


@pytest.mark.long
def test_five_minutes_of_two_ranks_and_four_workers_grow_by_nothing_and_leave_nothing(
    repository, tmp_path
):
    out = tmp_path / "soak.json"
    words = ["--minutes", "5", "--megabytes-per-minute", "5", "--every", "3", "--one-core"]
    words += ["--out", str(out), "--plot", str(tmp_path / "soak.svg")]
    ended = subprocess.run(
        [sys.executable, str(repository / "benchmarks" / "soak.py"), *words],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = json.loads(out.read_text())
    assert {ending["how"] for ending in results["endings"]} == {
        "its last step", "SIGTERM to torchrun", "SIGKILL of torchrun", "SIGKILL of a rank",
    }  # fmt: skip
    assert results["evaluations"] >= 4
    assert results["checkpoints"] >= 10
