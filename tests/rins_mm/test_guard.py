import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rins_mm.guard import GuardConfig, StepGuard, running_statistics

NUMBERS = st.floats(0.0, 1e6)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_step_without_a_finite_loss_or_gradient_is_left_out_and_counted(broken: float) -> None:
    guard = StepGuard(GuardConfig(max_in_a_row=3))
    assert guard.judge(1.0, 1.0) is None
    assert guard.judge(broken, 1.0) == "the loss is not finite"
    assert guard.judge(1.0, broken) == "the gradient is not finite"
    assert (guard.skipped_in_a_row, guard.skipped_steps, guard.gives_up) == (2, 2, False)
    assert guard.judge(1.0, 1.0) is None
    assert (guard.skipped_in_a_row, guard.skipped_steps) == (0, 2)


def test_the_guard_gives_up_after_so_many_in_a_row_not_in_all() -> None:
    guard = StepGuard(GuardConfig(max_in_a_row=2))
    for loss in (math.nan, 1.0, math.nan, 1.0, math.nan):
        guard.judge(loss, 1.0)
        assert not guard.gives_up
    guard.judge(math.nan, 1.0)
    assert guard.gives_up


def test_spikes_are_left_alone_unless_asked_for() -> None:
    guard = StepGuard(GuardConfig(spike_window=2))
    assert all(guard.judge(loss, 1.0) is None for loss in (1.0, 1.0, 1.0, 1e9))
    assert guard.state()["steps_taken"] == []


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=4, max_size=12))
def test_a_spike_lies_above_mean_and_sigmas_of_the_last_steps_taken(rows: list) -> None:
    guard = StepGuard(GuardConfig(spike_sigmas=1.5, spike_window=4, max_in_a_row=100))
    taken: list[tuple[float, float]] = []
    for row in rows:
        limits = [
            statistics.fmean(column) + 1.5 * statistics.pstdev(column)
            for column in zip(*taken[-4:], strict=True)
        ]
        close = any(math.isclose(v, limit) for v, limit in zip(row, limits, strict=False))
        left_out = guard.judge(*row) is not None
        if len(taken) < 4:
            assert not left_out
        elif not close:
            assert left_out == any(v > limit for v, limit in zip(row, limits, strict=True))
        if not left_out:
            taken.append(row)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), st.integers(0, 11))
def test_a_guard_restored_from_json_judges_as_the_one_that_was_saved(rows: list, at: int) -> None:
    config = GuardConfig(spike_sigmas=1.0, spike_window=3)
    whole, broken = StepGuard(config), StepGuard(config)
    for number, row in enumerate(rows):
        if number == at:
            saved = json.loads(json.dumps(broken.state()))
            broken = StepGuard(config)
            broken.restore(saved)
        assert broken.judge(*row) == whole.judge(*row)
    assert broken.state() == whole.state()


def test_checkpoints_from_before_spikes_were_looked_for_begin_an_empty_window() -> None:
    guard = StepGuard(GuardConfig(spike_sigmas=6.0))
    guard.restore({"step": 30, "skipped_in_a_row": 2})
    assert guard.state() == {"skipped_in_a_row": 2, "skipped_steps": 2, "steps_taken": []}


def test_a_window_that_a_resume_shortens_keeps_the_newest_steps() -> None:
    guard = StepGuard(GuardConfig(spike_sigmas=6.0, spike_window=2))
    guard.restore({"steps_taken": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]})
    assert guard.state()["steps_taken"] == [[2.0, 2.0], [3.0, 3.0]]


def test_running_statistics_are_those_of_normalisation_over_batches() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.LayerNorm(2))
    assert [buffer.shape.numel() for buffer in running_statistics(model)] == [2, 2, 1]
