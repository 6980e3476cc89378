"""Steps that must not be taken: no rank takes them, they are written down, and the run goes on or gives up."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from launching import TOY, run, run_well

from rins_mm import train
from rins_mm.learner import Learner
from rins_mm.losses import LOSSES
from rins_mm.run_log import read_rows

AVERAGED = ["--ema-decay", "0.9"]


def fingerprint(learner: Learner) -> str:
    """A hash of all that a step changes: weights, their average, moments and counts."""
    found = hashlib.sha256()
    modules = [learner.model, learner.average] if learner.average else [learner.model]
    tensors = [tensor for module in modules for tensor in module.state_dict().values()]
    for state in learner.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    for tensor in tensors:
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong on one rank or on all, in steps counted as in metrics.jsonl."""

    kind: str
    """loss, gradient: a NaN there; value: a NaN loss with a finite gradient; spike; kill."""
    rank: str
    steps: frozenset[int]

    def strikes(self, step: int, rank: int) -> bool:
        return step in self.steps and self.rank in ("all", str(rank))


def parse_fault(text: str) -> Fault:
    kind, rank, steps = text.split("@")
    return Fault(kind, rank, frozenset(map(int, steps.split(","))))


def train_with_faults(argv: list[str]) -> None:
    """Train with the faults KIND@RANK|all@STEP,STEP,… that the first word names, joined by a plus.

    After every step each rank notes in RUN/changes-RANK.txt whether the step changed anything.
    """
    faults = [parse_fault(text) for text in argv[0].split("+")]
    struck: Callable[[str], bool]
    original_step, original_loss = Learner.train_step, LOSSES["sigmoid"]

    def train_step(learner: Learner, step: int, batch: object, **others: bool) -> dict:
        nonlocal struck
        rank = learner.ranks.rank
        kinds = {fault.kind for fault in faults if fault.strikes(step + 1, rank)}
        struck = kinds.__contains__
        if struck("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        hook = learner.gradients.parameters[2].register_hook(
            lambda gradient: break_one_number(gradient) if struck("gradient") else gradient
        )
        before = fingerprint(learner)
        try:
            return original_step(learner, step, batch, **others)
        finally:
            hook.remove()
            changed = fingerprint(learner) != before
            with (Path(learner.config.run_dir) / f"changes-{rank}.txt").open("a") as file:
                file.write(f"{step + 1} {'changed' if changed else 'same'}\n")

    def loss(*features: torch.Tensor, **others: object) -> torch.Tensor:
        value = original_loss(*features, **others)
        if struck("loss"):
            return value * float("nan")
        if struck("spike"):
            return value * 1000.0
        return value + float("nan") if struck("value") else value

    Learner.train_step, LOSSES["sigmoid"] = train_step, loss
    train.main(argv[1:])


def break_one_number(gradient: torch.Tensor) -> torch.Tensor:
    broken = gradient.clone()
    broken.view(-1)[5] = float("nan")
    return broken


def changes(run_dir: Path, rank: int) -> list[str]:
    return (run_dir / f"changes-{rank}.txt").read_text().split("\n")[:-1]


def rows(run_dir: Path) -> list[dict]:
    """What must repeat itself: the rows without the clock's numbers."""
    names = ("step", "loss", "gradient_norm", "skipped_steps")
    found = [row for row in read_rows(run_dir / "metrics.jsonl") if "loss" in row]
    # Written out, because nan is not equal to itself.
    return [json.dumps({name: row[name] for name in names}) for row in found]


def final_files(run_dir: Path) -> dict[str, bytes]:
    newest = max((run_dir / "checkpoints").iterdir())
    return {
        path.name: path.read_bytes()
        for path in newest.iterdir()
        if path.name in ("model.safetensors", "optimizer.safetensors", "state.json")
    }


@pytest.mark.parametrize(
    ("kind", "where", "world_size", "cause"),
    [
        ("loss", "all", 1, "the loss is not finite"),
        ("gradient", "all", 1, "the gradient is not finite"),
        ("loss", "all", 2, "the loss is not finite"),
        ("loss", "1", 2, "the loss is not finite"),
        ("value", "1", 2, "the loss is not finite"),
        ("gradient", "1", 2, "the gradient is not finite"),
    ],
)
def test_one_broken_step_changes_nothing_on_any_rank_and_the_run_goes_on(
    tmp_path: Path, kind: str, where: str, world_size: int, cause: str
) -> None:
    run_dir = tmp_path / "run"
    argv = [f"{kind}@{where}@2", TOY, "--run-dir", str(run_dir), "--max-steps", "3", *AVERAGED]
    outcomes = run(train_with_faults, argv, tmp_path / "logs", world_size=world_size)
    assert {outcome.code for outcome in outcomes} == {0}, outcomes[0].output
    assert f"step 2: {cause}; the step is left out" in outcomes[0].output
    skipped = [row["skipped_steps"] for row in read_rows(run_dir / "metrics.jsonl")]
    assert skipped == [0, 1, 1]

    keys: list[str] = []
    for rank in range(world_size):
        assert changes(run_dir, rank) == ["1 changed", "2 same", "3 changed"]
        (path,) = (run_dir / "bad_steps").glob(f"*.rank-{rank}.json")
        facts = json.loads(path.read_text())
        assert (facts["step"], facts["rank"], facts["cause"]) == (2, rank, cause)
        assert facts["pixels"]["non_finite"] == facts["image_features"]["non_finite"] == 0
        assert len(facts["caption_lengths"]) == len(facts["sample_keys"]) == 32 // world_size
        assert all(facts["valid"]) and min(facts["caption_lengths"]) >= 2
        assert facts["logit_scale"] == pytest.approx(10.0, rel=0.1)
        lost = facts["parameters_without_finite_gradient"]
        # One number of one parameter, many, or none.
        assert (sum(lost.values()) == 1, bool(lost)) == (kind == "gradient", kind != "value")
        if kind == "gradient":
            (name,) = lost
            assert facts["gradient_norm_by_part"][name.partition(".")[0]] == "nan"
            guilty = where in ("all", str(rank))
            assert (facts["own_gradient_norm"] == "nan") == guilty
        keys += facts["sample_keys"]
    assert len(set(keys)) == 32 and all(key.startswith("val-00000.tar:") for key in keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "where", "world_size"), [("loss", "all", 1), ("gradient", "1", 2)]
)
def test_ten_broken_steps_in_a_row_end_the_run_and_a_resume_repeats_it_exactly(
    tmp_path: Path, kind: str, where: str, world_size: int
) -> None:
    fault = f"{kind}@{where}@{','.join(map(str, range(3, 20)))}"
    settings = ["--checkpoint-every", "5", "--max-steps", "14"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"

    def launch(target: Callable[[list[str]], None], argv: list[str], name: str) -> list:
        return run(target, argv, tmp_path / name, world_size=world_size)

    first = launch(train_with_faults, [fault, TOY, "--run-dir", str(broken), *settings], "first")
    for rank, outcome in enumerate(first):
        assert outcome.code == 2, outcome.output
        (line,) = [line for line in outcome.output.splitlines() if line.startswith("error: ")]
        assert "10 steps in a row up to step 12" in line and "not finite" in line
        assert f"{broken}/bad_steps/step-00000012.rank-{rank}.json" in line
        taken = [f"{step} {'changed' if step < 3 else 'same'}" for step in range(1, 13)]
        assert changes(broken, rank) == taken
        dumps = sorted(path.name for path in (broken / "bad_steps").glob(f"*.rank-{rank}.json"))
        assert dumps == [f"step-{step:08d}.rank-{rank}.json" for step in range(3, 13)]
    before = rows(broken)

    # The same fault: the same numbers, the same end, and nothing written over.
    second = launch(train_with_faults, [fault, str(broken), "--resume"], "second")
    assert "resuming after step 10" in second[0].output
    for outcome in second:
        assert outcome.code == 2 and "10 steps in a row up to step 12" in outcome.output
    assert rows(broken) == before
    again = sorted(path.name for path in (broken / "bad_steps").glob("*.rank-0.2.json"))
    assert again == ["step-00000011.rank-0.2.json", "step-00000012.rank-0.2.json"]

    # The fault gone from step 12 on: as a run that was never ended.
    passing = f"{kind}@{where}@{','.join(map(str, range(3, 12)))}"
    for outcome in launch(train_with_faults, [passing, str(broken), "--resume"], "third"):
        assert outcome.code == 0, outcome.output
    argv = [passing, TOY, "--run-dir", str(whole), *settings]
    launch(train_with_faults, argv, "whole")
    assert rows(broken) == rows(whole)
    assert final_files(broken) == final_files(whole)
    assert json.loads(rows(whole)[-1])["skipped_steps"] == 9


def test_an_average_begins_with_the_first_step_taken_also_after_a_resume(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = ["--max-steps", "2", "--checkpoint-every", "1", *AVERAGED]
    argv = ["loss@all@1", TOY, "--run-dir", str(whole), *settings]
    run_well(train_with_faults, argv, tmp_path / "whole-logs")
    argv = ["loss@all@1+kill@all@2", TOY, "--run-dir", str(broken), *settings]
    (killed,) = run(train_with_faults, argv, tmp_path / "broken-logs")
    assert killed.code == -signal.SIGKILL
    run_well(train_with_faults, ["loss@all@1", str(broken), "--resume"], tmp_path / "resumed-logs")
    name = Path("checkpoints") / "step-00000002" / "average.safetensors"
    assert (whole / name).read_bytes() == (broken / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_spike_is_left_out_and_a_run_killed_in_its_window_repeats_the_uninterrupted_one(
    tmp_path: Path, world_size: int
) -> None:
    settings = ["--guard.spike-sigmas", "6", "--guard.spike-window", "12", "--max-steps", "24"]
    settings += ["--checkpoint-every", "6", "--keep-checkpoints", "9"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    argv = ["spike@all@20", TOY, "--run-dir", str(whole), *settings]
    run_well(train_with_faults, argv, tmp_path / "whole-logs", world_size=world_size)
    for rank in range(world_size):
        left_out = [line for line in changes(whole, rank) if line.endswith("same")]
        assert left_out == ["20 same"]
        path = whole / "bad_steps" / f"step-00000020.rank-{rank}.json"
        facts = json.loads(path.read_text())
        assert "the loss" in facts["cause"] and "last 12 steps taken" in facts["cause"]
        assert facts["parameters_without_finite_gradient"] == {}

    argv = ["spike@all@20+kill@all@15", TOY, "--run-dir", str(broken), *settings]
    killed = run(train_with_faults, argv, tmp_path / "broken-logs", world_size=world_size)
    assert {outcome.code for outcome in killed} == {-signal.SIGKILL}
    argv = ["spike@all@20", str(broken), "--resume"]
    run_well(train_with_faults, argv, tmp_path / "resumed-logs", world_size=world_size)
    assert rows(broken) == rows(whole)
    assert final_files(broken) == final_files(whole)
    assert len(json.loads(final_files(whole)["state.json"])["steps_taken"]) == 12


def test_a_spike_is_taken_where_nobody_asked_for_them_to_be_left_out(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    argv = ["spike@all@4", TOY, "--run-dir", str(run_dir), "--max-steps", "4"]
    run_well(train_with_faults, argv, tmp_path / "logs")
    assert changes(run_dir, 0)[-1] == "4 changed"
    assert not (run_dir / "bad_steps").exists()


@pytest.mark.slow
def test_statistics_of_batches_are_put_back_after_a_broken_step(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    argv = ["loss@all@2", TOY, "--run-dir", str(run_dir), "--max-steps", "2", "--batch-size", "8"]
    for name in ("patch-size", "width", "depth", "num-heads"):
        argv += [f"--image.{name}", "None"]
    run_well(train_with_faults, [*argv, "--image.name", "resnet18"], tmp_path / "logs")
    assert changes(run_dir, 0) == ["1 changed", "2 same"]
