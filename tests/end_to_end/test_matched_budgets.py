"""Runs of a study that spend alike: what was planned is what was spent, whatever the signature."""

import shutil
from pathlib import Path

import pytest
from launching import TOY, run_well

from rins_mm import train
from rins_mm.run_log import read_rows

SIZES = [
    "--batch-size", "8", "--image.image-size", "16", "--image.width", "32", "--text.width", "32",
    "--text.mlp-width", "64", "--log-every", "20", "--checkpoint-every", "40",
]  # fmt: skip
ARMS = {
    "plain": ["--text.recursion.signature", "AB", "--text.recursion.skip-probability", "0"],
    "rins": ["--text.recursion.signature", "AAAB", "--text.recursion.skip-probability", "0.5"],
}


def last_step(run_dir: Path) -> dict:
    return [row for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row][-1]


@pytest.mark.slow
@pytest.mark.parametrize(("match", "amount"), [("layer_steps", "480"), ("flops", "1.6e9")])
def test_two_arms_of_a_matched_study_spend_the_same(tmp_path: Path, match: str, amount: str):
    spent, steps = {}, {}
    for arm, flags in ARMS.items():
        argv = [TOY, "--run-dir", str(tmp_path / arm), *SIZES, *flags]
        argv += ["--budget.match", match, "--budget.amount", amount]
        run_well(train.main, argv, tmp_path / f"{arm}-logs")
        audit = last_step(tmp_path / arm)["budget"]
        assert abs(audit["difference_percent"]) < 1
        assert audit["planned"] == float(amount)
        spent[arm], steps[arm] = audit[match], audit["steps"]
        assert last_step(tmp_path / arm)["step"] == audit["steps"] >= 60
        assert last_step(tmp_path / arm)["learning_rate"] < 1e-6
    assert spent["rins"] == pytest.approx(spent["plain"], rel=0.01)
    assert steps["rins"] < 0.95 * steps["plain"]


@pytest.mark.slow
def test_a_matched_run_that_is_resumed_ends_where_it_was_to_end_having_spent_the_same(
    tmp_path: Path,
):
    flags = [*SIZES, "--budget.match", "flops", "--budget.amount", "1.2e9"]
    run_well(train.main, [TOY, "--run-dir", str(tmp_path / "run"), *flags], tmp_path / "a")
    whole = last_step(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{whole['step']:08d}")
    # By the recipe's name and flags, as it was begun: the recipe itself says 20 steps.
    argv = [TOY, "--run-dir", str(tmp_path / "run"), *flags, "--resume"]
    run_well(train.main, argv, tmp_path / "b")
    resumed = last_step(tmp_path / "run")
    assert resumed["budget"] == whole["budget"]
    assert resumed["loss"] == whole["loss"]
    log = (tmp_path / "b" / "rank-0.txt").read_text()
    assert f"resuming after step 40: {whole['step']} steps" in log
