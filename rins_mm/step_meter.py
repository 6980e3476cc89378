"""What steps did and how long it took them: the numbers of a row of metrics.jsonl that are about speed."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int

from eval.ranks import Ranks
from rins_mm.flops import StepCost
from rins_mm.step_timer import StepTimer


class StepMeter:
    """Work and time of the steps since the last reading."""

    def __init__(self, cost: StepCost, timer: StepTimer, ranks: Ranks, *, peak: float) -> None:
        self.cost = cost
        self.timer = timer
        self.ranks = ranks
        self.peak = peak
        """Operations per second that one rank's device can do at most."""
        self.restart()

    def restart(self) -> None:
        """Begin anew: what lies before does not count."""
        self.flops = self.layer_steps = 0.0
        self.timer.restart()

    def count(
        self, caption_lengths: Int[torch.Tensor, " B"], image_calls: str, text_calls: str
    ) -> None:
        """A step of this rank has been taken, under these calls."""
        calls = tuple(image_calls), tuple(text_calls)
        self.flops += self.cost.flops(caption_lengths, *calls, world_size=self.ranks.world_size)
        self.layer_steps += self.cost.layer_steps(*calls)

    def read(self, batch_size: int) -> dict[str, Any]:
        """The numbers of a row, for all ranks together; each rank must ask for them."""
        every_rank = self.ranks.all_gather(torch.tensor(self.flops, dtype=torch.float64))
        flops, layer_steps = float(every_rank.sum()), self.layer_steps
        times = self.timer.read()
        self.flops = self.layer_steps = 0.0
        return {
            "samples_per_second": times.steps * batch_size / times.seconds,
            "flops": flops,
            "flops_per_second": flops / times.seconds,
            "mfu": flops / times.seconds / (self.peak * self.ranks.world_size),
            "layer_steps": layer_steps / times.steps,
            **{f"{phase}_fraction": share for phase, share in times.fractions.items()},
        }


def recorded_peak(run_dir: Path, ranks: Ranks) -> float:
    """The peak that the run's environment.json names, on the rank that writes rows; elsewhere none is needed."""
    if not ranks.is_first:
        return math.nan
    environment = json.loads((run_dir / "environment.json").read_text())
    return float(environment["peak"]["flops_per_second"])
