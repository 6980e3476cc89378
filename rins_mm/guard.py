"""Which steps are left out: those without finite numbers and, when asked for, sudden outliers."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from data_pipelines.errors import UserError


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What to do with a step whose loss or gradient cannot be trusted: no rank takes it."""

    max_in_a_row: int = 10
    """So many steps left out one after the other end the run."""
    spike_sigmas: float = 0.0
    """Leave a step out whose loss or gradient norm lies more than so many standard deviations above the
    mean of the last steps taken; 0: never."""
    spike_window: int = 128
    """How many steps taken that mean is of; until there are so many, no step counts as a spike."""


class StepGuard:
    """Judges steps by numbers that are equal on all ranks, so that all ranks judge alike."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.skipped_in_a_row = 0
        self.skipped_steps = 0
        self.taken: deque[tuple[float, float]] = deque(maxlen=config.spike_window)
        """Loss and gradient norm of the last steps taken; kept only where spikes are looked for."""

    @property
    def gives_up(self) -> bool:
        """Whether too many steps in a row have been left out."""
        return self.skipped_in_a_row >= self.config.max_in_a_row

    def judge(self, loss: float, gradient_norm: float) -> str | None:
        """Why the step must not be taken, in words; None where it may. Counts it either way."""
        cause = _not_finite(loss, gradient_norm) or self._spike(loss, gradient_norm)
        if cause is None:
            self.skipped_in_a_row = 0
            if self.config.spike_sigmas:
                self.taken.append((loss, gradient_norm))
        else:
            self.skipped_in_a_row += 1
            self.skipped_steps += 1
        return cause

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to judge as this one would have, as plain values."""
        return {
            "skipped_in_a_row": self.skipped_in_a_row,
            "skipped_steps": self.skipped_steps,
            "steps_taken": [list(numbers) for numbers in self.taken],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; earlier versions saved only how many steps in a row were left out.

        Raises UserError for a state that no run has saved.
        """
        in_a_row = state.get("skipped_in_a_row", 0)
        skipped, taken = state.get("skipped_steps", in_a_row), state.get("steps_taken", [])
        if not (_is_count(in_a_row) and _is_count(skipped) and _are_pairs(taken)):
            raise UserError(
                f"the checkpoint's state counts {in_a_row!r} and {skipped!r} steps left out, and the steps "
                "before as something other than pairs of numbers; go on from another checkpoint"
            )
        self.skipped_in_a_row, self.skipped_steps = in_a_row, skipped
        self.taken.clear()
        self.taken.extend((loss, norm) for loss, norm in taken)

    def _spike(self, loss: float, gradient_norm: float) -> str | None:
        window = self.config.spike_window
        if not self.config.spike_sigmas or len(self.taken) < window:
            return None
        former = zip(*self.taken, strict=True)
        names = ("loss", "gradient norm")
        for name, value, numbers in zip(names, (loss, gradient_norm), former, strict=True):
            mean = math.fsum(numbers) / window
            sigma = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / window)
            if value > mean + self.config.spike_sigmas * sigma:
                return (
                    f"the {name} {value:.4g} is a spike above {mean:.4g} ± {sigma:.2g}, "
                    f"mean and standard deviation of the last {window} steps taken"
                )
        return None


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(number) in (int, float) for number in pair)
        for pair in value
    )


def _not_finite(loss: float, gradient_norm: float) -> str | None:
    """The gradient of a loss that is not finite mostly is not either: the loss is named first."""
    if not math.isfinite(loss):
        return "the loss is not finite"
    return None if math.isfinite(gradient_norm) else "the gradient is not finite"


def running_statistics(model: nn.Module) -> list[Tensor]:
    """The buffers that a forward pass alone changes (of BatchNorm): a step left out must put them back."""
    parts = (part for part in model.modules() if isinstance(part, _NormBase))
    return [buffer for part in parts for buffer in part.buffers(recurse=False)]
