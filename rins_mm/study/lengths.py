"""How long each arm of a study trains: until it has spent what its control spends."""

from dataclasses import replace
from functools import lru_cache

import torch

from rins_mm.config import BudgetConfig, TrainConfig
from rins_mm.flops import TowerCost, image_cost, text_cost
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.study.design import Arm, Match, StudyConfig


def matched(study: StudyConfig, arm: Arm) -> TrainConfig:
    """The arm's configuration with the budget that its control spends.

    Its length here is that in the mean over the draws of skipped calls. How many steps the draws of a
    seed leave for the same budget is found when the run begins (rins_mm.matching).
    """
    match = arm.match or study.match
    if not arm.control or match == "samples":
        return arm.config
    control = study.arm(arm.control).config
    theirs, ours = (cost_of_step(c, match, study.caption_tokens) for c in (control, arm.config))
    amount = control.max_steps * theirs
    config = of_length(arm.config, max(1, round(amount / ours)))
    budget = BudgetConfig(match=match, amount=amount, caption_tokens=study.caption_tokens)
    return replace(config, budget=budget)


def cost_of_step(config: TrainConfig, match: Match, caption_tokens: float) -> float:
    """What a step costs in the mean over the draws: operations, layer-steps, or pairs."""
    if match == "samples":
        return float(config.batch_size)
    image, embedding_width = _image_cost(config.image)
    text = text_cost(config.text, embedding_width=embedding_width, length=caption_tokens)
    if match == "layer_steps":
        return sum(cost.expected_layer_steps(cost.recursion) for cost in (image, text))
    return config.batch_size * (image.expected_training() + text.expected_training())


@lru_cache(maxsize=256)
def _image_cost(config: ImageTowerConfig) -> tuple[TowerCost, int]:
    """The cost of a picture and the width of its vector; counted once for each tower of a study."""
    with torch.device("meta"):
        width = ImageTower(config).embedding_width
    return image_cost(config), width


def of_length(config: TrainConfig, max_steps: int) -> TrainConfig:
    """The configuration with another length; budget, warm-up and cooldown keep their shares of the run."""
    share = max_steps / config.max_steps
    schedule = replace(
        config.schedule,
        warmup_samples=int(config.schedule.warmup_samples * share),
        cooldown_samples=int(config.schedule.cooldown_samples * share),
    )
    budget = replace(config.budget, amount=config.budget.amount * share)
    return replace(config, max_steps=max_steps, schedule=schedule, budget=budget)
