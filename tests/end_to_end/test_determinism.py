"""A deterministic run repeats itself to the last bit, and says and records that it is one."""

import json
from pathlib import Path

import pytest
from launching import TOY, run

from rins_mm import train
from rins_mm.run_log import read_rows


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_two_deterministic_runs_are_bit_identical(tmp_path: Path, world_size: int) -> None:
    # Random layers and patches, convolutions and bf16: all that a kernel could do in another order.
    settings = ["--deterministic", "--max-steps", "8", "--precision", "bf16"]
    settings += ["--image.drop-path", "0.3", "--image.patch-dropout", "0.5"]
    settings += ["--ema-decay", "0.9", "--num-threads", "2"]
    for name in ("first", "second"):
        argv = [TOY, "--run-dir", str(tmp_path / name), *settings]
        outcomes = run(train.main, argv, tmp_path / f"{name}-logs", world_size=world_size)
        assert {outcome.code for outcome in outcomes} == {0}, outcomes[0].output
        assert ", deterministic" in outcomes[0].output
        environment = json.loads((tmp_path / name / "environment.json").read_text())
        assert environment["deterministic"] is True
        assert (environment["threads"], environment["interop_threads"]) == (2, 1)
        assert environment["cublas_workspace_config"] == ":4096:8"

    def numbers(name: str) -> list[tuple[float, float]]:
        rows = read_rows(tmp_path / name / "metrics.jsonl")
        return [(row["loss"], row["gradient_norm"]) for row in rows]

    assert numbers("first") == numbers("second")
    assert len(numbers("first")) == 8
    for file in ("model", "average", "optimizer"):
        first, second = (
            tmp_path / name / "checkpoints" / "step-00000008" / f"{file}.safetensors"
            for name in ("first", "second")
        )
        assert first.read_bytes() == second.read_bytes()


def test_a_run_that_need_not_be_deterministic_does_not_say_so(tmp_path: Path) -> None:
    argv = [TOY, "--run-dir", str(tmp_path / "run"), "--max-steps", "1"]
    (outcome,) = run(train.main, argv, tmp_path / "logs")
    assert "deterministic" not in outcome.output
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["deterministic"] is False
    assert (environment["threads"], environment["interop_threads"]) == (1, 1)
