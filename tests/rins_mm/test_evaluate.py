"""eval.json from a run, a checkpoint and an export: the same numbers everywhere, and nothing overwritten."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import TOY, run_well

from data_pipelines.errors import UserError
from rins_mm import evaluate, train
from rins_mm.encoder import load_encoder
from rins_mm.export.native import write_native
from rins_mm.run_log import read_rows

TASK = "retrieval:emoji-val"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of training, whose last one was evaluated."""
    folder = tmp_path_factory.mktemp("runs")
    argv = [TOY, "--run-dir", str(folder / "toy"), "--max-steps", "2", "--checkpoint-every", "1"]
    run_well(train.main, [*argv, "--evaluation.tasks", TASK], folder / "logs")
    return folder / "toy"


@pytest.fixture(scope="module")
def evaluated(run: Path) -> dict[str, Any]:
    """What `evaluate RUN` alone writes."""
    evaluate.main([str(run)])
    return read(run / "eval.json")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def metrics(document: dict[str, Any]) -> dict[str, float]:
    """The metrics under the names that training gives them."""
    return {
        f"{result['dataset']}/{result['variant']}/{name}": value
        for result in document["results"]
        for name, value in result["metrics"].items()
    }


def test_a_run_is_enough_and_scores_as_it_did_when_it_was_trained(run, evaluated):
    (recorded,) = (
        row["evaluation"] for row in read_rows(run / "metrics.jsonl") if "evaluation" in row
    )
    assert metrics(evaluated) == recorded
    assert [result["variant"] for result in evaluated["results"]] == ["AB", "AAB", "AAAB"]
    assert evaluated["results"][0]["num_pictures"] == 646


def test_the_file_says_what_was_measured_and_with_what(run, evaluated):
    encoder = load_encoder(run)
    provenance = evaluated["provenance"]
    assert provenance["command"] == f"python -m rins_mm.evaluate {run}"
    assert provenance["model"] == "toy@2"
    assert provenance["model_fingerprint"] == encoder.fingerprint
    assert provenance["trained_signature"] == "A^3B"
    assert (provenance["world_size"], provenance["threads"]) == (1, 1)
    assert set(provenance["packages"]) >= {"torch", "timm", "numpy"}
    assert {result["encoder_fingerprint"] for result in evaluated["results"]} == {
        encoder.fingerprint
    }


def test_an_existing_file_is_refused_before_anything_is_computed(
    run, evaluated, tmp_path, monkeypatch
):
    page = tmp_path / "page.html"
    page.write_text("precious")
    monkeypatch.setattr(evaluate, "load_encoder", pytest.fail)
    for flags in ([], ["--out", str(tmp_path / "new.json"), "--html", str(page)]):
        with pytest.raises(UserError, match="--overwrite"):
            evaluate.main([str(run), *flags])
    assert read(run / "eval.json") == evaluated
    assert page.read_text() == "precious"


def test_a_checkpoint_and_an_export_give_the_same_numbers(
    run, evaluated, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    checkpoint = run / "checkpoints" / "step-00000002"
    evaluate.main([str(checkpoint), "--text-signatures", "AAB", "AB"])
    by_step = read(run / "eval-2.json")
    assert [result["variant"] for result in by_step["results"]] == ["AAB", "AB"]
    write_native(load_encoder(run), tmp_path / "export")
    before = {path.name for path in (tmp_path / "export").iterdir()}
    evaluate.main(["export", "--tasks", TASK, "--html", "page.html"])
    assert {path.name for path in (tmp_path / "export").iterdir()} == before
    for document in (by_step, read(tmp_path / "eval.json")):
        for result in document["results"]:
            assert result in evaluated["results"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert TASK in page
    assert load_encoder(run).fingerprint in page
    printed = capsys.readouterr().out
    assert "AAAB" in printed
    assert "wrote eval.json" in printed


def test_an_older_checkpoint_is_scored_as_itself(run, evaluated, tmp_path):
    older = run / "checkpoints" / "step-00000001"
    out = tmp_path / "older.json"
    evaluate.main([str(older), "--out", str(out), "--text-signatures", "AB"])
    assert read(out)["provenance"]["model"] == "toy@1"
    assert read(out)["results"][0]["metrics"] != evaluated["results"][0]["metrics"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tasks", "retrieval:emoji-tset"], "did you mean retrieval:emoji-test"),
        (["--text-signatures", "ABC"], "calls C"),
        (["--text-signatures", "AXB"], "'AXB'"),
        (["--num-threads", "0"], "num_threads is 0"),
        (["--tasks", "zero_shot:imagenet"], "--data"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_and_nothing_is_written(run, tmp_path, flags, words):
    out = tmp_path / "eval.json"
    with pytest.raises(UserError, match=words):
        evaluate.main([str(run), "--out", str(out), *flags])
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_recorded_tasks_asks_for_some(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_native(load_encoder(run), tmp_path / "export")
    with pytest.raises(UserError, match="records no tasks; name some with --tasks"):
        evaluate.main(["export"])


def test_a_folder_that_is_nothing_of_ours_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="neither a run nor an export"):
        evaluate.main([str(tmp_path), "--tasks", TASK])


def test_data_named_on_the_command_line_or_in_the_record_reaches_the_task(run, tmp_path):
    (tmp_path / "cats").mkdir()
    argv = [str(run), "--out", str(tmp_path / "eval.json"), "--tasks", "zero_shot:imagenet"]
    with pytest.raises(UserError, match="cats"):
        evaluate.main([*argv, "--data", str(tmp_path)])
    record = read(run / "config.json")
    record["evaluation"]["data"] = str(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    (tmp_path / "run" / "checkpoints").symlink_to(run / "checkpoints")
    (tmp_path / "run" / "tokenizer").symlink_to(run / "tokenizer")
    with pytest.raises(UserError, match="cats"):
        evaluate.main([str(tmp_path / "run"), *argv[1:]])


@pytest.mark.slow
def test_one_two_and_three_ranks_write_the_same_results_byte_for_byte(run, evaluated, tmp_path):
    outs = {ranks: tmp_path / f"eval-{ranks}.json" for ranks in (1, 2, 3)}
    for ranks in (1, 3):
        logs = tmp_path / f"logs-{ranks}"
        run_well(evaluate.main, [str(run), "--out", str(outs[ranks])], logs, world_size=ranks)
        printed = [bool(re.search("wrote", path.read_text())) for path in sorted(logs.iterdir())]
        assert printed == [True] + [False] * (ranks - 1)
    # And once as people start it.
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "rins_mm.evaluate", str(run), "--out", str(outs[2])],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    expected = json.dumps(evaluated["results"])
    for ranks, out in outs.items():
        document = read(out)
        assert document["provenance"]["world_size"] == ranks
        assert json.dumps(document["results"]) == expected
