"""A study from its file to its page, with real runs."""

import json
import re
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from rins_mm.study import __main__ as study
from rins_mm.study.runner import StoppedError, run_jobs

TOY_STUDY = str(Path(__file__).parents[1] / "helpers" / "toy_study.py")


def arguments(folder: Path, *more: str) -> list[str]:
    return [TOY_STUDY, "--records", str(folder / "records"), "--runs", str(folder / "runs"), *more]


@pytest.mark.long
def test_a_study_runs_is_not_repeated_and_reports(tmp_path, monkeypatch, repository, capfd):
    monkeypatch.chdir(repository)
    with pytest.raises(SystemExit) as left:
        study.main(arguments(tmp_path, "--minutes", "0"))
    assert left.value.code == 75
    study.main(arguments(tmp_path, "--phase", "runs", "--only", "1/4"))
    (record,) = (tmp_path / "records" / "runs").iterdir()
    assert record.name == "rins-0.json"
    before = record.read_bytes()

    study.main(arguments(tmp_path, "--workers", "2"))
    assert record.read_bytes() == before
    printed = capfd.readouterr()
    assert "1 of 4 runs have their records" in printed.err
    assert "Recursion helps: undecided" in printed.out
    results = json.loads((tmp_path / "records" / "results.json").read_text())
    assert results["num_runs"] == 4
    plain, rins = results["arms"]
    # Two calls in the mean are skipped: the recursive arm has fewer steps for the same FLOPs.
    assert rins["steps"] < plain["steps"] == 20
    assert rins["spent_of_control"]["flops"] == pytest.approx(1, abs=0.05)
    (dial,) = {one["arm"]: one for one in results["dial"] if one["is_loss"]}.values()
    assert [one["depth"] for one in dial["depths"]] == ["AB", "AAB", "AAAB", "AAAAB"]
    page = (tmp_path / "records" / "report.html").read_text()
    assert "<script" not in page and not re.search(r"(src|href)=", page)


def test_a_run_that_fails_is_named_with_its_last_words(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    whole = study.load_study(TOY_STUDY, scale="cpu")
    job = study.jobs_of(whole, "runs", tmp_path / "runs", tmp_path / "records")[0]
    # Any command that fails will do: the real one takes seconds to start.
    monkeypatch.setattr("rins_mm.study.runner.sys.executable", "false")
    with pytest.raises(UserError, match=r"1 of 1 runs failed \(plain-0\)"):
        run_jobs([job], tmp_path / "records", workers=1, deadline=None)
    assert not (tmp_path / "records").exists()


def test_what_runs_at_the_deadline_is_asked_to_leave(tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    whole = study.load_study(TOY_STUDY, scale="cpu")
    jobs = study.jobs_of(whole, "runs", tmp_path / "runs", tmp_path / "records")
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr("rins_mm.study.runner.sys.executable", str(sleeper))
    started = study.time.monotonic()
    with pytest.raises(StoppedError):
        run_jobs(jobs, tmp_path / "records", workers=2, deadline=started + 0.5)
    assert study.time.monotonic() - started < 30
