"""Where the time of steps goes."""

import time

import pytest
import torch

from rins_mm.step_timer import PHASES, StepTimer


def spend(timer: StepTimer, phase: str, seconds: float) -> None:
    timer.enter(phase)
    time.sleep(seconds)


def test_each_phase_is_given_the_time_until_the_next() -> None:
    timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        timer.begin_step()
        time.sleep(0.01)
        spend(timer, "forward_backward", 0.04)
        spend(timer, "optimizer", 0.02)
        timer.enter("other")
    times = timer.read()
    assert times.steps == 2 and times.seconds >= 0.14
    assert list(times.fractions) == list(PHASES)
    assert sum(times.fractions.values()) == pytest.approx(1)
    ordered = ["forward_backward", "optimizer", "data_wait", "exchange"]
    shares = [times.fractions[phase] for phase in ordered]
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0


def test_a_reading_begins_anew() -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.begin_step()
    spend(timer, "exchange", 0.01)
    timer.read()
    timer.begin_step()
    assert timer.read().fractions["exchange"] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_is_timed_by_its_own_clock_and_not_waited_for() -> None:
    timer = StepTimer(torch.device("cuda"))
    matrix = torch.rand(4096, 4096, device="cuda")
    matrix @ matrix
    torch.cuda.synchronize()
    timer.restart()
    timer.begin_step()
    timer.enter("forward_backward")
    begin = time.perf_counter()
    for _ in range(50):
        matrix @ matrix
    timer.enter("optimizer")
    started = time.perf_counter() - begin
    times = timer.read()
    assert started < times.seconds / 2
    assert times.fractions["forward_backward"] > 0.5
