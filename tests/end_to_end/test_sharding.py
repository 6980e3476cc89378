"""A run whose ranks hold parts of the model does what one does whose ranks hold it whole."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from kills import hashes_of_checkpoints, rows_of
from launching import TOY, run, run_well

from rins_mm import evaluate, train
from rins_mm.distributed import whole
from rins_mm.learner import Learner
from rins_mm.losses import LOSSES
from rins_mm.run_log import read_rows

SAVED, STEPS = 4, 24
SETTINGS = [TOY, "--max-steps", str(STEPS), "--checkpoint-every", str(SAVED)]
SETTINGS += ["--keep-checkpoints", "9", "--ema-decay", "0.9"]


def train_and_keep_first_gradient(argv: list[str]) -> None:
    """Train, and save the whole gradient of the first step of this launch to the file named first."""
    path, *argv = argv

    class Keeper(Learner):
        def __init__(self, *things: object, **others: object) -> None:
            super().__init__(*things, **others)
            original = self.gradients.clip

            def clip(max_norm: float) -> torch.Tensor:
                self.gradients.clip = original
                # Every rank gives its parts.
                gradient = [whole(p.grad).flatten() for p in self.model.parameters()]
                if self.ranks.is_first:
                    torch.save(torch.cat(gradient), path)
                return original(max_norm)

            self.gradients.clip = clip

    train.Learner = Keeper
    train.main(argv)


class Trained:
    """A launch of the toy recipe: the rows of its log, and the first gradient it took."""

    def __init__(self, folder: Path, sharding: str, world_size: int, start: Path | None = None):
        self.run_dir, gradient = folder / "run", folder / "gradient.pt"
        if start is not None:
            shutil.copytree(start, self.run_dir)
            for step in range(SAVED + 1, STEPS + 1):
                shutil.rmtree(self.run_dir / f"checkpoints/step-{step:08d}", ignore_errors=True)
        argv = [str(gradient), *SETTINGS, "--run-dir", str(self.run_dir), "--sharding", sharding]
        argv += ["--resume"] if start else []
        run_well(train_and_keep_first_gradient, argv, folder / "logs", world_size=world_size)
        self.rows = rows_of(self.run_dir)
        self.gradient = torch.load(gradient, weights_only=True).double()

    def losses(self) -> torch.Tensor:
        return torch.tensor([row["loss"] for row in self.rows[SAVED:]], dtype=torch.float64)


def assert_same(one: Trained, other: Trained) -> None:
    assert [row["samples"] for row in one.rows] == [row["samples"] for row in other.rows]
    assert len(one.losses()) == STEPS - SAVED
    torch.testing.assert_close(one.losses(), other.losses(), rtol=1e-4, atol=0)


def assert_close(gradient: torch.Tensor, expected: torch.Tensor) -> None:
    assert (gradient - expected).norm() <= 1e-5 * expected.norm() > 0


FEW = (("none", "fsdp", 4), ("fsdp", "none", 1), ("fsdp", "fsdp", 2))
MORE = (("none", "none", 1), ("none", "none", 4), ("none", "fsdp", 2), ("fsdp", "none", 2))
MORE += (("fsdp", "none", 4), ("fsdp", "fsdp", 3), ("fsdp", "fsdp", 4))


@pytest.mark.parametrize(
    "continuations",
    [pytest.param(FEW, marks=pytest.mark.slow), pytest.param(MORE, marks=pytest.mark.long)],
    ids=["few", "more"],
)
def test_runs_continue_each_other_whole_and_sharded_at_any_number_of_ranks(
    tmp_path: Path, continuations: tuple[tuple[str, str, int], ...]
) -> None:
    begun = {kind: Trained(tmp_path / kind, kind, 2) for kind in ("none", "fsdp")}
    expected = begun["none"]
    assert_same(begun["fsdp"], expected)
    assert_close(begun["fsdp"].gradient, expected.gradient)

    gradients = []
    for before, after, world_size in continuations:
        folder = tmp_path / f"{before}-to-{after}-{world_size}"
        resumed = Trained(folder, after, world_size, begun[before].run_dir)
        assert_same(resumed, expected)
        gradients.append(resumed.gradient)
        if (before, world_size) == (after, 2):
            # As it was: then bit for bit.
            assert resumed.rows == begun[before].rows
            ends = [hashes_of_checkpoints(one.run_dir) for one in (resumed, begun[before])]
            assert ends[0] == ends[1]
    for gradient in gradients[1:]:
        assert_close(gradient, gradients[0])


def train_with_a_broken_loss(argv: list[str]) -> None:
    """Train; in step 2 the second rank's loss is no number."""
    original, calls = LOSSES["sigmoid"], itertools.count(1)

    def loss(*features: torch.Tensor, **others: object) -> torch.Tensor:
        value = original(*features, **others)
        broken = next(calls) == 2 and dist.get_rank() == 1
        return value * torch.nan if broken else value

    LOSSES["sigmoid"] = loss
    train.main(argv)


def test_a_loss_broken_on_one_rank_is_left_out_on_all(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "3", "--sharding", "fsdp"]
    run_well(train_with_a_broken_loss, argv, tmp_path / "logs", world_size=2)
    assert [row["skipped_steps"] for row in rows_of(tmp_path / "run")] == [0, 1, 1]
    described = [json.loads(p.read_text()) for p in (tmp_path / "run/bad_steps").iterdir()]
    assert sorted(facts["rank"] for facts in described) == [0, 1]
    for facts in described:
        lost = facts["parameters_without_finite_gradient"]
        # The gradients of all ranks have been summed, so every parameter is lost on both.
        assert lost["text_tower.head.weight"] == 64 * 64
        assert facts["gradient_norm_by_part"]["text_tower"] == "nan"


@pytest.mark.slow
def test_a_sharded_run_in_bf16_evaluates_the_weights_that_it_saves(tmp_path: Path) -> None:
    run_dir, task = tmp_path / "run", "retrieval:emoji-val"
    argv = [TOY, "--run-dir", str(run_dir), "--max-steps", "3", "--sharding", "fsdp"]
    argv += ["--precision", "bf16", "--ema-decay", "0.5", "--evaluation.tasks", task]
    run_well(train.main, argv, tmp_path / "a", world_size=2)
    (row,) = [row for row in read_rows(run_dir / "metrics.jsonl") if "evaluation" in row]

    out = tmp_path / "eval.json"
    run_well(evaluate.main, [str(run_dir), "--tasks", task, "--out", str(out)], tmp_path / "b")
    results = json.loads(out.read_text())["results"]
    evaluated = {
        f"{result['dataset']}/{result['variant']}/{name}": value
        for result in results
        for name, value in result["metrics"].items()
    }
    assert row["evaluation"] == evaluated
    assert len(evaluated) > 2


def test_optimizers_that_need_whole_matrices_are_refused_for_a_sharded_run(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--sharding", "fsdp"]
    (outcome,) = run(train.main, [*argv, "--optimizer.name", "nmuon"], tmp_path / "logs")
    assert outcome.code == 2
    assert outcome.output.startswith("error: the optimizer 'nmuon'")
    assert "choose --optimizer.name adamw or --sharding none" in outcome.output
