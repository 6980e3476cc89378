"""How many steps a budget pays for: by replaying the draws, and by adding up by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.manifest import open_dataset
from rins_mm import run_plan
from rins_mm.config import BudgetConfig, TrainConfig
from rins_mm.flops import StepCost
from rins_mm.matching import (
    MAX_STEPS,
    Spending,
    StepPrices,
    audit,
    draw_step,
    make_plan,
    spent_before,
    spent_state,
)
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.recorded_config import write_config
from rins_mm.run_plan import describe_run, resolve_steps
from rins_mm.schedules import ScheduleConfig
from rins_mm.validation import validate

LENGTHS = np.array([3.0, 5.0, 8.0, 9.0, 2.0, 6.0, 7.0, 4.0, 1.0])


def config_of(recursion=None, *, batch_size=8, packing=True, **budget):
    return TrainConfig(
        batch_size=batch_size,
        max_steps=40,
        image=ImageTowerConfig(image_size=16, patch_size=8, width=24, depth=2, num_heads=2),
        text=TextTowerConfig(
            width=24, depth=4, num_heads=3, mlp_width=40, context_length=9, packing=packing,
            recursion=recursion or RecursionConfig(signature="A^3B", skip_probability=0.5),
        ),
        budget=BudgetConfig(**budget),
    )  # fmt: skip


def cost_of(config):
    return StepCost(config.image, config.text, embedding_width=24)


def plan_of(config, lengths=LENGTHS, world_size=1):
    return make_plan(config, cost_of(config), lengths, world_size=world_size)


@settings(max_examples=8)
@given(
    st.sampled_from(["layer_steps", "flops"]),
    st.floats(1, 30),
    st.sampled_from(
        [
            RecursionConfig(signature="AB"),
            RecursionConfig(signature="A^3B", skip_probability=0.5),
            RecursionConfig(signature="(A^2B)_2", skip_probability=0.3),
            RecursionConfig(patterns=("AB", "AAB"), pattern_probabilities=(0.25, 0.75)),
        ]
    ),
)
def test_no_other_number_of_steps_comes_nearer_to_the_budget(match, steps, recursion):
    config = config_of(recursion)
    prices = StepPrices(cost_of(config), LENGTHS, batch_size=8, world_size=1)
    price = {"layer_steps": prices.layer_steps, "flops": prices.flops}[match]
    amount = steps * price(draw_step(config, 0))
    plan = plan_of(config_of(recursion, match=match, amount=amount))
    sums = np.cumsum([0.0, *(price(draw_step(config, step)) for step in range(100))])
    nearest = np.abs(sums - amount).min()
    assert abs(sums[plan.exact.steps] - amount) <= nearest * (1 + 1e-9) + 1e-6
    assert plan.exact.of(match) == pytest.approx(sums[plan.exact.steps])
    assert plan.exact.samples == 8 * plan.exact.steps


def test_a_plan_costs_what_its_steps_cost_one_by_one():
    config = config_of()
    plan, cost = plan_of(config), cost_of(config)
    # Eight captions of a batch, from nine: one whole batch of them.
    lengths = torch.from_numpy(LENGTHS[:8])
    draws = [draw_step(config, step) for step in range(config.max_steps)]
    flops = sum(cost.flops(lengths, d.image_calls, d.text_calls, world_size=1) for d in draws)
    assert plan.exact.steps == config.max_steps == len(draws)
    assert plan.exact.flops == pytest.approx(flops)
    assert plan.exact.layer_steps == sum(2 + 2 * len(draw.text_calls) for draw in draws)


def test_without_draws_the_mean_over_draws_is_what_is_planned():
    plan = plan_of(config_of(RecursionConfig(signature="A^3B")))
    assert plan.expected.layer_steps == plan.exact.layer_steps == 40 * (2 + 8)
    assert plan.expected.flops == pytest.approx(plan.exact.flops)


def test_samples_are_counted_in_whole_batches():
    assert plan_of(config_of(match="samples", amount=83.0)).exact.steps == 10
    assert plan_of(config_of(match="samples", amount=85.0)).exact.steps == 11


def test_where_rows_are_filled_up_the_longest_caption_of_a_rank_is_what_counts():
    padded, packed = config_of(packing=False), config_of(packing=True)
    assert plan_of(padded, np.full(9, 5.0)).exact == plan_of(packed, np.full(9, 5.0)).exact
    longest = plan_of(packed, np.array([9.0]))
    assert plan_of(padded, np.array([1.0] * 7 + [9.0])).exact.flops == longest.exact.flops
    # With two ranks the short captions of one share need no filling.
    shared = plan_of(padded, np.array([1.0] * 7 + [9.0]), world_size=2)
    assert shared.exact.flops < longest.exact.flops


def test_the_calls_drawn_cost_about_what_the_mean_over_draws_says():
    plan = plan_of(replace(config_of(), max_steps=1000))
    # Of two rounds of two blocks each half is skipped: five standard errors of the sum are 224.
    assert plan.expected.layer_steps == 8000
    assert 0 < abs(plan.exact.layer_steps - 8000) < 224


@pytest.mark.parametrize(
    "recursion",
    [
        RecursionConfig(signature="A^3B", skip_probability=0.5, adapter="lora"),
        RecursionConfig(
            kind="latent", signature="AB^4C", split=(1, 2, 1), latent_gradient_rounds=2
        ),
    ],
)
def test_adapters_and_rounds_without_gradient_are_in_the_mean_over_draws(recursion):
    plan = plan_of(replace(config_of(recursion), max_steps=2000))
    assert plan.expected.flops == pytest.approx(plan.exact.flops, rel=0.02)
    assert plan.expected.flops != plan.exact.flops
    assert plan.expected.layer_steps == pytest.approx(plan.exact.layer_steps, rel=0.03)


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"match": "flops", "amount": 1.0}, "less than half of a step"),
        ({"match": "layer_steps", "amount": 9.0 * MAX_STEPS}, "would pay for"),
    ],
)
def test_a_budget_that_no_run_has_is_refused(budget, told):
    with pytest.raises(UserError, match=told):
        plan_of(config_of(**budget))


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ({"match": "steps", "amount": 5.0}, "budget.amount is 5, but budget.match is steps"),
        ({"match": "flops"}, "how many flops"),
        ({"match": "samples", "amount": float("inf")}, "how many samples"),
        ({"caption_tokens": 9.0}, "caption_tokens is 9 with budget.match steps"),
        ({"match": "flops", "amount": 1e9, "caption_tokens": -1.0}, "caption_tokens is -1"),
    ],
)
def test_a_budget_without_its_amount_is_a_mistake(budget, told):
    with pytest.raises(UserError, match=told):
        validate(config_of(**budget), world_size=1)


def test_a_schedule_is_judged_by_the_steps_that_the_budget_pays_for():
    config = replace(
        config_of(match="samples", amount=80.0), schedule=ScheduleConfig(warmup_samples=100)
    )
    validate(config, world_size=1)
    with pytest.raises(UserError, match=r"80 samples of the run"):
        describe_run(config, device="h100", utilisation=0.4, caption_tokens=5.0, world_size=1)


def test_a_run_that_goes_on_keeps_its_steps(tmp_path: Path, monkeypatch):
    config = replace(config_of(match="flops", amount=1e12), run_dir=str(tmp_path))
    write_config(replace(config, max_steps=77), tmp_path / "config.json")
    monkeypatch.setattr(run_plan, "measured_lengths", pytest.fail)
    dataset = open_dataset(["emoji:val"])
    resumed, plan = resolve_steps(config, dataset, tiny.tokenizer(), world_size=3, resumes=True)
    assert (resumed.max_steps, plan) == (77, None)


def test_what_was_spent_is_carried_by_checkpoints_and_unknown_in_those_of_earlier_versions():
    spent = Spending(steps=5, samples=40, layer_steps=33, flops=1e9)
    assert spent_before(5, 8, spent_state(spent)) == spent
    assert spent_before(5, 8, {"step": 5}) is None
    assert spent_before(0, 8, {}) == Spending(steps=0, samples=0, layer_steps=0, flops=0.0)


def test_an_audit_says_the_difference_in_per_cent():
    spent = Spending(steps=5, samples=40, layer_steps=33, flops=1.02e9)
    found = audit(spent, 5, BudgetConfig(match="flops", amount=1e9))
    assert found["difference_percent"] == pytest.approx(2.0)
    assert audit(spent, 5, BudgetConfig())["difference_percent"] == 0.0
