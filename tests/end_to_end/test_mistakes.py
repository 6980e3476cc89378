"""What a user can get wrong ends in one clear line and exit code 2, quickly, without a traceback."""

import io
import os
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from launching import TOY, Outcome, run, run_well

from rins_mm import search, train

RESNET = ["--image.name", "resnet18", "--image.patch-size", "None", "--image.width", "None"]
RESNET += ["--image.depth", "None", "--image.num-heads", "None"]


def mistake(outcome: Outcome, *words: str) -> None:
    """The outcome is one line that contains these words."""
    assert outcome.code == 2, outcome.output
    assert "Traceback" not in outcome.output
    lines = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.output
    for word in words:
        assert word in lines[0]
    # Five seconds are promised; shared cores get three times that.
    assert outcome.seconds < 15


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["emojy"], ["'emojy'", "emoji"]),
        (["nowhere/recipe.py"], ["nowhere/recipe.py", "recipes are"]),
        (["--max-steps", "3"], ["--max-steps", "recipe"]),
        ([TOY, "--data.shards", "no/such.tar"], ["no/such.tar"]),
        ([TOY, "--data.shards", "*.nothing"], ["'*.nothing'"]),
        ([TOY, "--data.shards", "pipe:cat x.tar"], ["pipe:cat x.tar", "command"]),
        ([TOY, "--data.shards", "emoji:trian"], ["'trian'", "emoji:train"]),
        ([TOY, "--text.depth", "3"], ["depth of 3", "'A^3B'", "2 or 4"]),
        ([TOY, "--text.recursion.signature", "AXB"], ["'AXB'"]),
        ([TOY, "--text.recursion.skip-probability", "1.5"], ["1.5", "[0, 1]"]),
        ([TOY, "--text.num-heads", "3"], ["64", "3 heads"]),
        (
            [TOY, "--image.name", "vit_basse_patch16_siglip_224"],
            ["vit_basse", "vit_base_patch16_siglip_224"],
        ),
        ([TOY, "--image.num-heads", "7"], ["num_heads", "7"]),
        (
            [TOY, *RESNET, "--image.recursion.signature", "AAB"],
            ["resnet18", "AAB", "no list of equal blocks"],
        ),
        ([TOY, "--batch-size", "0"], ["batch_size", "0"]),
        ([TOY, "--optimizer.name", "adamv"], ["'adamv'", "adam"]),
        ([TOY, "--schedule.warmup-samples", "100000"], ["100000", "640 samples"]),
        (
            [TOY, "--evaluation.tasks", "zero_shot:emoji-stile"],
            ["zero_shot:emoji-stile", "zero_shot:emoji-style"],
        ),
        ([TOY, "--evaluation.text-signatures", "A^B"], ["'A^B'"]),
        ([TOY, "--tokenizer.model-file", TOY], ["toy.py", "sentencepiece"]),
        ([TOY, "--tokenizer.model-file", "no.model"], ["no.model"]),
        ([TOY, "--tokenizer.vocab-size", "99"], ["99", "3302"]),
    ],
    ids=lambda value: " ".join(value[-2:]).replace(str(Path(TOY).parent), ""),
)
def test_a_mistake_on_the_command_line(argv: list[str], words: list[str], tmp_path: Path) -> None:
    if argv[0] == TOY:
        argv = [*argv, "--run-dir", str(tmp_path / "run")]
    mistake(run(train.main, argv, tmp_path)[0], *words)
    assert not (tmp_path / "run" / "config.json").exists(), "nothing begins before all is checked"


def test_a_misspelt_flag_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    outcome = run(train.main, [TOY, "--max-stesp", "3"], tmp_path)[0]
    assert outcome.code == 2
    assert "--max-stesp" in outcome.output and "--max-steps" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_value_of_the_wrong_kind(tmp_path: Path) -> None:
    outcome = run(train.main, [TOY, "--max-steps", "many"], tmp_path)[0]
    assert outcome.code == 2
    assert "many" in outcome.output and "Traceback" not in outcome.output


def test_shards_without_captions(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bare.tar", "w") as tar:
        info = tarfile.TarInfo("0.jpg")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    argv = [TOY, "--data.shards", str(tmp_path / "bare.tar"), "--run-dir", str(tmp_path / "run")]
    mistake(run(train.main, argv, tmp_path)[0], "bare.tar", "jpg", "json txt")


def test_more_ranks_than_pairs(tmp_path: Path) -> None:
    argv = [TOY, "--batch-size", "1", "--run-dir", str(tmp_path / "run")]
    for outcome in run(train.main, argv, tmp_path, world_size=2):
        mistake(outcome, "2 ranks", "batch_size of 1")


def test_batch_statistics_on_several_ranks(tmp_path: Path) -> None:
    argv = [TOY, *RESNET, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    for outcome in run(train.main, argv, tmp_path, world_size=2):
        mistake(outcome, "resnet18", "BatchNorm", "one rank")
    run_well(train.main, argv, tmp_path / "alone")


def test_a_run_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [TOY, "--run-dir", str(tmp_path / "file" / "run"), "--max-steps", "1"]
    mistake(run(train.main, argv, tmp_path / "logs")[0], str(tmp_path / "file"), "another path")


def train_from_a_folder_of_its_own(argv: list[str]) -> None:
    """Train as ranks do that share no disk: each with its own run folder."""
    folders, *argv = argv
    train.main([*argv, "--run-dir", folders.split(",")[int(os.environ["RANK"])]])


def test_ranks_that_do_not_share_the_run_folder(tmp_path: Path) -> None:
    folders = f"{tmp_path / 'here'},{tmp_path / 'there'}"
    argv = [TOY, "--max-steps", "2", "--checkpoint-every", "1", "--resume"]
    run_well(train.main, [*argv[:2], "1", "--run-dir", str(tmp_path / "here")], tmp_path / "logs")
    for outcome in run(train_from_a_folder_of_its_own, [folders, *argv], tmp_path, world_size=2):
        mistake(outcome, "do not agree", "step 0", "step 1")


@pytest.mark.slow
def test_a_mistake_under_torchrun_is_said_in_one_line_a_rank(
    tmp_path: Path, repository: Path
) -> None:
    # torchrun adds a summary of its own and ends with 1, whatever its workers end with.
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "-m",
        "rins_mm.train",
    ]
    done = subprocess.run(
        [*command, "emojy"], cwd=repository, capture_output=True, text=True, timeout=120
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert 1 <= len(lines) <= 2 and len(set(lines)) == 1
    assert "'emojy'" in lines[0] and "rins_mm/train.py" not in done.stderr
    assert done.returncode == 1


def train_with_small_files(argv: list[str]) -> None:
    """Train where no file may grow beyond 400 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    train.main(argv)


def test_a_full_disk(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    # Warm: the index and the expanded pack are written before the limit falls.
    run_well(
        train.main, [TOY, "--run-dir", str(tmp_path / "warm"), "--max-steps", "1"], tmp_path / "w"
    )
    mistake(
        run(train_with_small_files, argv, tmp_path)[0],
        "no space is left",
        "safetensors",
        "another disk",
    )
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_a_run_that_is_there_already(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    run_well(train.main, argv, tmp_path / "logs")
    mistake(run(train.main, argv, tmp_path)[0], "already holds a run", "--resume", "--run-dir")


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    run_well(train.main, argv, tmp_path / "logs")
    outcome = run(train.main, [*argv, "--resume", "--text.width", "32"], tmp_path)[0]
    mistake(outcome, "text.width", "recorded 64", "asked for 32")


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    run_well(train.main, argv, tmp_path / "logs")
    weights = tmp_path / "run" / "checkpoints" / "step-00000001" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    mistake(run(train.main, [*argv, "--resume"], tmp_path)[0], str(weights), "damaged")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    argv = [str(tmp_path), "--pictures", "emoji:val", "--query", "x"]
    mistake(
        run(search.main, argv, tmp_path / "logs")[0], str(tmp_path), "neither a run nor an export"
    )


def test_a_picture_folder_with_no_pictures(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    run_well(train.main, argv, tmp_path / "logs")
    (tmp_path / "empty").mkdir()
    argv = [str(tmp_path / "run"), "--pictures", str(tmp_path / "empty"), "--query", "x"]
    mistake(run(search.main, argv, tmp_path)[0], str(tmp_path / "empty"), "jpg")
