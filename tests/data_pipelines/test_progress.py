import io
import sys

from data_pipelines import progress
from data_pipelines.progress import with_progress


def test_items_pass_through_silently_when_nobody_watches(capsys):
    assert list(with_progress(range(5), total=5, label="counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_slow_work_writes_a_plain_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(with_progress(range(4), total=4, label="counting"))
    assert capsys.readouterr().err == "counting: 1 of 4\ncounting: 3 of 4\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(with_progress(iter("abc"), total=3, label="counting")) == ["a", "b", "c"]
    assert "counting" in sys.stderr.getvalue()
