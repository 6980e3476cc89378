"""eval.json from a run, a checkpoint and an export: the same numbers everywhere, and nothing overwritten."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import launching
import pytest
import torch
from launching import TOY, Launch, run_well

from data_pipelines.errors import UserError
from eval.encoder import DualEncoder, as_dual_encoder
from eval.mistakes import NUM_SHOWN
from eval.task_kinds import ZeroShotTask
from eval.tasks import TASKS, open_task
from rins_mm import evaluate, evaluated_model, train
from rins_mm.encoder import SignatureEncoder, load_encoder
from rins_mm.export.native import write_native
from rins_mm.run_log import read_rows
from rins_mm.stopping import EXIT_CODE

TASK = "retrieval:emoji-val"
BOTH_KINDS = (
    "--tasks", TASK, "zero_shot:small", "--text-signatures", "AB", "AAAB",
    "--image-signatures", "AB", "AAB", "--no-class-cache",
)  # fmt: skip


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


def numbers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The results without the time that they took."""
    return [
        {key: value for key, value in result.items() if key != "seconds"}
        for result in document["results"]
    ]


def test_a_run_is_enough_and_scores_as_it_did_when_it_was_trained(run, evaluated):
    (recorded,) = (
        row["evaluation"] for row in read_rows(run / "metrics.jsonl") if "evaluation" in row
    )
    assert metrics(evaluated) == recorded
    assert [result["variant"] for result in evaluated["results"]] == ["AB", "AAB", "AAAB"]
    assert evaluated["results"][0]["num_pictures"] == 646


def test_depths_that_were_not_trained_are_measured_beside_those_that_were(run, evaluated, tmp_path):
    out = tmp_path / "deeper.json"
    evaluate.main([str(run), "--out", str(out), "--text-signatures", "AAAB", "AAAAB"])
    trained, deeper = read(out)["results"]
    assert (trained["variant"], deeper["variant"]) == ("AAAB", "AAAAB")
    assert trained["metrics"] == evaluated["results"][2]["metrics"]
    assert deeper["metrics"].keys() == trained["metrics"].keys()
    assert deeper["metrics"] != trained["metrics"]


def test_the_file_says_what_was_measured_and_with_what(run, evaluated):
    encoder = load_encoder(run)
    provenance = evaluated["provenance"]
    assert provenance["command"] == f"python -m rins_mm.evaluate {run}"
    assert provenance["model"] == "toy@2"
    assert provenance["model_fingerprint"] == encoder.fingerprint
    assert provenance["trained_signature"] == "A^3B"
    assert provenance["trained_image_signature"] == "AB"
    assert {result["image_variant"] for result in evaluated["results"]} == {"AB"}
    assert (provenance["world_size"], provenance["threads"]) == (1, 1)
    assert evaluated["format_version"] == 2
    assert not (run / "eval.json.work").exists()
    assert set(provenance["packages"]) >= {"torch", "timm", "numpy"}
    assert {result["encoder_fingerprint"] for result in evaluated["results"]} == {
        encoder.fingerprint
    }


def test_an_existing_file_is_refused_before_anything_is_computed(
    run, evaluated, tmp_path, monkeypatch
):
    page = tmp_path / "page.html"
    page.write_text("precious")
    monkeypatch.setattr(evaluate, "open_model", pytest.fail)
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
        for result in numbers(document):
            assert result in numbers(evaluated)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert TASK in page
    assert load_encoder(run).fingerprint in page
    assert page.count('<img src="data:image/webp;base64,') == NUM_SHOWN
    assert "data:image" not in (tmp_path / "eval.json").read_text()
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
        (["--image-signatures", "ABC"], "calls C"),
        (["--num-threads", "0"], "num_threads is 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (
            ["--data-folders", "zero_shot:imagenet"],
            "data_folders has 'zero_shot:imagenet'; write NAME",
        ),
        (
            ["--tasks", "zero_shot:imagenet", "--data-folders", "zero_shot:imagenet=/no/such"],
            "/no/such",
        ),
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


def test_a_recorded_address_is_fetched_only_where_the_command_names_it(run, tmp_path):
    record = read(run / "config.json")
    record["evaluation"]["tasks"] = [TASK, "retrieval:https://elsewhere.example/val.tar"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(record))
    for name in ("checkpoints", "tokenizer"):
        (tmp_path / "run" / name).symlink_to(run / name)
    with pytest.raises(UserError, match=r"records the task retrieval:https://.*--tasks"):
        evaluate.main([str(tmp_path / "run")])


def test_a_folder_that_is_nothing_of_ours_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="neither a run nor an export"):
        evaluate.main([str(tmp_path), "--tasks", TASK])


@pytest.mark.parametrize("name", ["eval.json.work", f"eval.json.work/{'a' * 64}"])
def test_nothing_is_kept_or_removed_through_links_in_the_place_of_the_work(tmp_path, name):
    (tmp_path / "elsewhere" / ("b" * 64)).mkdir(parents=True)
    (tmp_path / "run" / name).parent.mkdir(parents=True)
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=rf"{name} is a link.*--out"):
        evaluate.main([str(tmp_path / "run"), "--tasks", TASK])
    assert [entry.name for entry in (tmp_path / "elsewhere").iterdir()] == ["b" * 64]


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


def test_another_models_name_is_scored_at_the_one_depth_that_it_has(
    run, tmp_path, monkeypatch, capsys
):
    ours = load_encoder(run)

    def load_named(name: str, device: str) -> DualEncoder:
        assert (name, device) == ("hf:folder", "cpu")
        return as_dual_encoder(ours, name="theirs", fingerprint="sha256")

    monkeypatch.setattr(evaluated_model, "load_named", load_named)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hf:folder has one depth and cannot run 'AB'"):
        evaluate.main(["hf:folder", "--tasks", TASK, "--text-signatures", "AB"])
    evaluate.main(["hf:folder", "--tasks", TASK])
    document = read(tmp_path / "eval.json")
    assert document["provenance"]["library"].keys() == {"transformers"}
    (result,) = document["results"]
    assert (result["model"], result["variant"], result["image_variant"]) == (
        "theirs", "default", "default",
    )  # fmt: skip
    assert "wrote eval.json" in capsys.readouterr().out


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
    expected = json.dumps(numbers(evaluated))
    for ranks, out in outs.items():
        document = read(out)
        assert document["provenance"]["world_size"] == ranks
        assert json.dumps(numbers(document)) == expected


def open_small(name: str, data: Path | None) -> ZeroShotTask:
    """The pictures of the retrieval task, each named by the first of its texts."""
    task = open_task(TASK, None)
    labels = dict(reversed(task.right_pairs.tolist()))
    return ZeroShotTask(
        name=name,
        dataset="small",
        pictures=task.pictures,
        class_names=[text.partition(",")[0] for text in task.texts],
        templates=("{}", "a drawing of {}", "the emoji {}"),
        labels=torch.tensor([labels[number] for number in range(task.pictures.num_pictures)]),
        rule="as drawn",
    )


@pytest.fixture(scope="module", autouse=True)
def _small_task() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "zero_shot:small", open_small)
        yield


def main(argv: list[str]) -> None:
    """Evaluation in a process of its own, which knows the small task too."""
    TASKS["zero_shot:small"] = open_small
    evaluate.main(argv)


@pytest.fixture(scope="module")
def both_kinds(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Zero-shot and retrieval at two depths of each tower, on one rank, undisturbed."""
    out = tmp_path_factory.mktemp("both") / "eval.json"
    evaluate.main([str(run), "--out", str(out), *BOTH_KINDS])
    return read(out)


def test_every_task_is_measured_at_every_pair_of_depths(evaluated, both_kinds):
    assert [
        (result["name"], result["image_variant"], result["variant"])
        for result in both_kinds["results"]
    ] == [
        (name, image, text)
        for name in (TASK, "zero_shot:small")
        for image in ("AB", "AAB")
        for text in ("AB", "AAAB")
    ]
    of_pair = {
        (result["image_variant"], result["variant"]): result
        for result in numbers(both_kinds)
        if result["name"] == TASK
    }
    for result in numbers(evaluated):
        if result["variant"] != "AAB":
            assert of_pair["AB", result["variant"]] == result
    assert of_pair["AAB", "AB"]["metrics"] != of_pair["AB", "AB"]["metrics"]


def slow_main(argv: list[str]) -> None:
    """Evaluation with a model that takes its time."""
    real = SignatureEncoder.encode_images

    def encode_images(self: SignatureEncoder, *arguments: Any) -> Any:
        time.sleep(0.3)
        return real(self, *arguments)

    SignatureEncoder.encode_images = encode_images
    main(argv)


def interrupted(run: Path, folder: Path, world_size: int) -> tuple[Launch, Path]:
    """An evaluation that has finished a few calls, but not all."""
    out = folder / "eval.json"
    launch = Launch(slow_main, [str(run), "--out", str(out), *BOTH_KINDS], folder / "1", world_size)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("eval.json.work/*/*.safetensors"))) < 3:
        assert launch.running() and time.monotonic() < deadline, launch.output()
        time.sleep(0.01)
    return launch, out


def goes_on(run: Path, out: Path, world_size: int, expected: dict[str, Any]) -> None:
    """The same command finds what was done, and ends as if it had never been interrupted."""
    left = len(list(out.parent.glob("eval.json.work/*/*.safetensors")))
    assert left >= 3
    assert not out.exists()
    outcomes = launching.run(
        main, [str(run), "--out", str(out), *BOTH_KINDS], out.parent / "2", world_size=world_size
    )  # fmt: skip
    assert [outcome.code for outcome in outcomes] == [0] * world_size, outcomes
    assert f"going on with what an evaluation has left in {out}.work" in outcomes[0].output
    assert f"{TASK}: {left} calls were done before" in outcomes[0].output
    assert json.dumps(numbers(read(out))) == json.dumps(numbers(expected))
    assert sorted(entry.name for entry in out.parent.iterdir()) == ["1", "2", "eval.json"]


@pytest.mark.slow
def test_an_evaluation_that_is_killed_goes_on_at_another_number_of_ranks_as_if_it_had_not_been(
    run, both_kinds, tmp_path
):
    launch, out = interrupted(run, tmp_path, 2)
    launch.kill()
    goes_on(run, out, 3, both_kinds)


@pytest.mark.slow
def test_an_evaluation_that_is_asked_to_stop_says_how_to_go_on(run, both_kinds, tmp_path):
    launch, out = interrupted(run, tmp_path, 2)
    os.kill(launch.processes[1].pid, signal.SIGTERM)
    outcomes = launch.wait(60.0)
    assert [outcome.code for outcome in outcomes] == [EXIT_CODE] * 2, launch.output()
    assert "Traceback" not in launch.output()
    (line,) = [line for line in launch.output().splitlines() if "stopped by" in line]
    assert "SIGTERM" in line
    assert f"kept in {out}.work, and the same command goes on from there" in line
    goes_on(run, out, 1, both_kinds)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_other_batch_sizes_move_nothing_but_near_ties(run, both_kinds, tmp_path, batch_size):
    out = tmp_path / "eval.json"
    evaluate.main([str(run), "--out", str(out), "--batch-size", str(batch_size), *BOTH_KINDS])
    document = read(out)
    assert document["provenance"]["batch_size"] == batch_size
    for result, expected in zip(document["results"], both_kinds["results"], strict=True):
        num_items = max(result["num_pictures"], result.get("num_texts", 0))
        for name, value in expected["metrics"].items():
            moved = abs(result["metrics"][name] - value) * num_items
            assert moved <= expected["near_ties"].get(name, 0) + 1e-6, name


def test_class_vectors_come_from_the_cache_the_second_time_unless_told_otherwise(
    run, both_kinds, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(evaluate, "cache_folder", lambda: tmp_path / "cache")
    out = tmp_path / "eval.json"
    argv = [str(run), "--tasks", "zero_shot:small", "--out", str(out), "--overwrite"]
    expected = [
        result
        for result in numbers(both_kinds)
        if result["name"] == "zero_shot:small" and result["image_variant"] == "AB"
    ]
    for flags, num_cached in (([], 0), ([], 2), (["--no-class-cache"], 0)):
        evaluate.main([*argv, "--text-signatures", "AB", "AAAB", *flags])
        printed = capsys.readouterr().err
        line = f"class vectors of {num_cached} of 2 variants taken from the cache"
        assert (line in printed) == bool(num_cached), printed
        assert numbers(read(out)) == expected
    assert len(list((tmp_path / "cache" / "class_vectors").iterdir())) == 2
