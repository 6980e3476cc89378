"""What the time of steps is spent on: the host's clock on a CPU, the device's own on a GPU."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

import torch

Phase = Literal["data_wait", "forward_backward", "exchange", "optimizer", "other"]
PHASES: tuple[Phase, ...] = get_args(Phase)


class _HostMark:
    """A moment of this process."""

    def __init__(self) -> None:
        self.time = time.perf_counter()

    def has_passed(self) -> bool:
        """True: it is now."""
        return True

    def wait(self) -> None:
        """Nothing to wait for."""

    def seconds_since(self, earlier: "_HostMark") -> float:
        """The time between two marks."""
        return self.time - earlier.time


class _DeviceMark:
    """A moment in the work of a GPU, which it comes to later than the host that asks for it."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def has_passed(self) -> bool:
        """Whether the device has come so far."""
        return self.event.query()

    def wait(self) -> None:
        """Until the device has come so far."""
        self.event.synchronize()

    def seconds_since(self, earlier: "_DeviceMark") -> float:
        """The time between two marks that have passed."""
        return earlier.event.elapsed_time(self.event) / 1e3


@dataclass(frozen=True, kw_only=True)
class StepTimes:
    """The steps since the last reading."""

    steps: int
    seconds: float
    fractions: dict[Phase, float]
    """The share of each phase; together they are 1."""


class StepTimer:
    """Seconds by phase. On a GPU the phases are those of its own work, and only a reading waits for it.

    Time in which a GPU has nothing to do belongs to the phase that it waits for.
    """

    def __init__(self, device: torch.device) -> None:
        self._mark = _DeviceMark if device.type == "cuda" else _HostMark
        self.restart()

    def restart(self) -> None:
        """Begin anew: what lies before does not count."""
        self.started = time.perf_counter()
        self.steps = 0
        self.seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._marks: deque = deque([("other", self._mark())])

    def begin_step(self) -> None:
        """A step begins with the wait for its batch."""
        self.steps += 1
        self.enter("data_wait")

    def enter(self, phase: Phase) -> None:
        """From here on time belongs to this phase, until another is entered."""
        self._marks.append((phase, self._mark()))
        self._add_up()

    def _add_up(self) -> None:
        while len(self._marks) > 1 and self._marks[1][1].has_passed():
            phase, begin = self._marks.popleft()
            self.seconds[phase] += self._marks[0][1].seconds_since(begin)

    def read(self) -> StepTimes:
        """What the steps since the last reading took; a GPU is waited for."""
        self.enter("other")
        self._marks[-1][1].wait()
        self._add_up()
        total = sum(self.seconds.values())
        times = StepTimes(
            steps=self.steps,
            seconds=time.perf_counter() - self.started,
            fractions={phase: part / total for phase, part in self.seconds.items()},
        )
        self.restart()
        return times
