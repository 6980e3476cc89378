"""What steps did and how long it took them: the numbers of metrics.jsonl about speed, and about all that was spent."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json
from eval.ranks import Ranks
from rins_mm.flops import StepCost
from rins_mm.matching import Spending
from rins_mm.step_timer import StepTimer


class StepMeter:
    """Work and time of the steps since the last reading, and the work of all steps of the run.

    `earlier` is what was spent before this launch; None where that is not known.
    """

    def __init__(
        self,
        cost: StepCost,
        timer: StepTimer,
        ranks: Ranks,
        *,
        peak: float,
        earlier: Spending | None,
    ) -> None:
        self.cost = cost
        self.timer = timer
        self.ranks = ranks
        self.peak = peak
        """Operations per second that one rank's device can do at most."""
        self.earlier = earlier
        self.own_flops, self.own_layer_steps = 0.0, 0
        self.restart()

    def restart(self) -> None:
        """Begin anew: what lies before does not count."""
        self.forget()
        self.timer.restart()

    def forget(self) -> None:
        """What was counted since the last reading counts no more."""
        self.flops = self.layer_steps = 0.0
        self.tokens = self.captions = 0

    def count(
        self, caption_lengths: Int[torch.Tensor, " B"], image_calls: str, text_calls: str
    ) -> None:
        """A step of this rank has been taken, under these calls."""
        calls = tuple(image_calls), tuple(text_calls)
        flops = self.cost.flops(caption_lengths, *calls, world_size=self.ranks.world_size)
        layer_steps = self.cost.layer_steps(*calls)
        self.flops += flops
        self.layer_steps += layer_steps
        self.tokens += int(caption_lengths.sum())
        self.captions += len(caption_lengths)
        self.own_flops += flops
        self.own_layer_steps += layer_steps

    def spent(self, steps: int, batch_size: int) -> Spending | None:
        """What the first `steps` steps of the run, now done, have cost on all ranks, which all must ask.

        None where an earlier version, which did not count, took some of them.
        """
        every_rank = self.ranks.all_gather(torch.tensor(self.own_flops, dtype=torch.float64))
        if self.earlier is None:
            return None
        return Spending(
            steps=steps,
            samples=steps * batch_size,
            # Every rank takes all steps, by the same calls.
            layer_steps=self.earlier.layer_steps + self.own_layer_steps,
            flops=self.earlier.flops + float(every_rank.sum()),
        )

    def read(self, batch_size: int) -> dict[str, Any]:
        """The numbers of a row, for all ranks together; each rank must ask for them."""
        own = torch.tensor([self.flops, self.tokens, self.captions], dtype=torch.float64)
        flops, tokens, captions = self.ranks.all_gather(own).sum(0).tolist()
        layer_steps = self.layer_steps
        times = self.timer.read()
        self.forget()
        return {
            "samples_per_second": times.steps * batch_size / times.seconds,
            "flops": flops,
            "flops_per_second": flops / times.seconds,
            "mfu": flops / times.seconds / (self.peak * self.ranks.world_size),
            "layer_steps": layer_steps / times.steps,
            "caption_tokens": tokens / captions,
            **{f"{phase}_fraction": share for phase, share in times.fractions.items()},
        }


def recorded_peak(run_dir: Path, ranks: Ranks) -> float:
    """The peak that the run's environment.json names, on the rank that writes rows; elsewhere none is needed."""
    if not ranks.is_first:
        return math.nan
    path = run_dir / "environment.json"
    try:
        return float(read_plain_json(path)["peak"]["flops_per_second"])
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} names no peak ({error!r}); remove it, and resume again") from error
