"""Runs that may be compared: how many steps a budget pays for, known before the first of them.

What a step costs depends on its calls, which are replayed from (seed, step), and on the lengths of its
captions, of which a sample is measured. What was really spent is counted while the run goes on.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from data_pipelines.errors import UserError
from rins_mm.config import BudgetConfig, TrainConfig
from rins_mm.flops import StepCost
from rins_mm.models.draws import draw_calls
from rins_mm.models.signatures import Calls

MAX_STEPS = 10_000_000
"""More steps than any run has: a budget that pays for more was given in another unit."""

UNITS = {"steps": "steps", "samples": "pairs", "layer_steps": "layer-steps", "flops": "FLOPs"}
"""What may be matched, in words."""


class StepCalls(NamedTuple):
    """What runs in one training step, the same on every rank."""

    image_calls: Calls
    text_calls: Calls


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What steps cost, over all ranks; its fields are what budgets may match."""

    steps: int
    samples: int
    layer_steps: float | int
    """Blocks that a pair passes in both towers, summed over the steps."""
    flops: float
    """Operations of training."""

    def of(self, match: str) -> float:
        """The one that is matched."""
        return float(vars(self)[match])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will spend."""

    exact: Spending
    """With the calls that its steps will draw; FLOPs of captions of mean length."""
    expected: Spending
    """As many steps in the mean over the draws."""
    caption_tokens: float
    """Mean length of a caption."""
    num_captions: int
    """How many of them were measured."""


class StepPrices:
    """What steps cost before their captions are known: the mean over a sample of captions."""

    def __init__(
        self,
        cost: StepCost,
        lengths: Float64[np.ndarray, " N"],
        *,
        batch_size: int,
        world_size: int,
    ) -> None:
        self.cost = cost
        self.world_size = world_size
        per_rank = -(-batch_size // world_size)
        # As in a batch: where captions are not packed the longest one of a share decides.
        shares = np.resize(lengths, (max(1, len(lengths) // per_rank), per_rank))
        self.shares = [torch.from_numpy(share) for share in shares]
        self.flops = cache(self._flops)

    def _flops(self, calls: StepCalls) -> float:
        """Operations of a step on all ranks."""
        each = [
            self.cost.flops(share, **calls._asdict(), world_size=self.world_size)
            for share in self.shares
        ]
        return self.world_size * sum(each) / len(each)

    def expected_flops(self) -> float:
        """The same in the mean over the draws."""
        each = [
            self.cost.expected_flops(share, world_size=self.world_size) for share in self.shares
        ]
        return self.world_size * sum(each) / len(each)

    def layer_steps(self, calls: StepCalls) -> int:
        """Blocks that a pair passes in both towers."""
        return self.cost.layer_steps(calls.image_calls, calls.text_calls)


def draw_step(config: TrainConfig, step: int) -> StepCalls:
    """The calls of a step, as training will draw them."""
    return StepCalls(
        draw_calls(config.image.recursion, tower="image", seed=config.seed, step=step),
        draw_calls(config.text.recursion, tower="text", seed=config.seed, step=step),
    )


def make_plan(
    config: TrainConfig, cost: StepCost, lengths: Float64[np.ndarray, " N"], *, world_size: int
) -> Plan:
    """The steps that the budget pays for, and what they cost; a pure function of its arguments.

    The last step is taken if that brings the sum nearer to the budget. Raises UserError for a budget
    of less than a step, or of more than any run has.
    """
    budget, batch_size = config.budget, config.batch_size
    prices = StepPrices(cost, lengths, batch_size=batch_size, world_size=world_size)
    expected_layer_steps, expected_flops = cost.expected_layer_steps(), prices.expected_flops()
    price_and_mean: Mapping[str, tuple[Callable[[StepCalls], float], float]] = {
        "steps": (lambda _: 1.0, 1.0),
        "samples": (lambda _: float(batch_size), float(batch_size)),
        "layer_steps": (prices.layer_steps, expected_layer_steps),
        "flops": (prices.flops, expected_flops),
    }
    price, mean_price = price_and_mean[budget.match]
    amount = float(config.max_steps) if budget.match == "steps" else budget.amount
    if amount > MAX_STEPS * mean_price:
        raise UserError(
            f"budget.amount {amount:g} {UNITS[budget.match]} would pay for {amount / mean_price:.3g} steps, "
            f"each about {mean_price:.3g}; at most {MAX_STEPS:,} steps are planned: lower --budget.amount"
        )
    counts = _counts_within(config, price, amount)
    steps = sum(counts.values())
    if steps == 0:
        raise UserError(
            f"budget.amount {amount:g} {UNITS[budget.match]} is less than half of a step, which costs about "
            f"{mean_price:.3g}; raise --budget.amount"
        )
    samples = steps * batch_size
    return Plan(
        exact=Spending(
            steps=steps,
            samples=samples,
            layer_steps=sum(n * prices.layer_steps(calls) for calls, n in counts.items()),
            flops=sum(n * prices.flops(calls) for calls, n in counts.items()),
        ),
        expected=Spending(
            steps=steps,
            samples=samples,
            layer_steps=steps * expected_layer_steps,
            flops=steps * expected_flops,
        ),
        caption_tokens=float(lengths.mean()),
        num_captions=len(lengths),
    )


def _counts_within(
    config: TrainConfig, price: Callable[[StepCalls], float], amount: float
) -> Counter[StepCalls]:
    """The calls of the first steps, as many as come nearest to the amount."""
    counts: Counter[StepCalls] = Counter()
    price = cache(price)
    left = amount
    for step in range(MAX_STEPS + 1):
        calls = draw_step(config, step)
        cost = price(calls)
        if left <= 0.5 * cost:
            break
        left -= cost
        counts[calls] += 1
    return counts


def describe_plan(plan: Plan, budget: BudgetConfig) -> dict[str, str]:
    """What was planned, as names and values."""
    amount = planned_amount(plan.exact.steps, budget)
    return {
        "budget": f"{amount:.6g} {UNITS[budget.match]}",
        "planned, with the calls drawn": in_words(vars(plan.exact)),
        "in the mean over draws": in_words(vars(plan.expected)),
        "captions": f"{plan.caption_tokens:.2f} tokens in the mean of {plan.num_captions:,}",
    }


def in_words(spending: Mapping[str, Any]) -> str:
    """A Spending for one line."""
    return (
        f"{spending['steps']:,} steps, {spending['samples']:,} pairs, "
        f"{spending['layer_steps']:,.10g} layer-steps, {spending['flops']:.6g} FLOPs"
    )


def planned_amount(max_steps: int, budget: BudgetConfig) -> float:
    """How much of the matched kind the run may spend."""
    return float(max_steps) if budget.match == "steps" else budget.amount


def spent_before(first_step: int, batch_size: int, state: Mapping[str, Any]) -> Spending | None:
    """What a run had spent at the checkpoint with this state; None where an earlier version did not say."""
    if first_step and "flops_spent" not in state:
        return None
    return Spending(
        steps=first_step,
        samples=first_step * batch_size,
        layer_steps=state.get("layer_steps_spent", 0),
        flops=state.get("flops_spent", 0.0),
    )


def spent_state(spent: Spending | None) -> dict[str, float]:
    """The same for a checkpoint, and for a row of metrics.jsonl."""
    if spent is None:
        return {}
    return {"flops_spent": spent.flops, "layer_steps_spent": spent.layer_steps}


def audit(spent: Spending, max_steps: int, budget: BudgetConfig) -> dict[str, Any]:
    """Planned and spent, and the difference in per cent, for the last row of a run."""
    planned = planned_amount(max_steps, budget)
    return {
        "match": budget.match,
        "planned": planned,
        "spent": spent.of(budget.match),
        "difference_percent": 100 * (spent.of(budget.match) / planned - 1),
        **vars(spent),
    }


def audit_line(found: Mapping[str, Any]) -> str:
    """The same in words."""
    return (
        f"budget: {found['planned']:.6g} {UNITS[found['match']]} planned, {found['spent']:.6g} spent "
        f"({found['difference_percent']:+.2f} %): {in_words(found)}"
    )
