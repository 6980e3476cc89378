"""The plan of a run, from its data: what `train` finds before the first step, and `--dry-run` prints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from data_pipelines.caption_lengths import caption_lengths
from data_pipelines.loader import open_training_data
from data_pipelines.manifest import Dataset
from data_pipelines.tokenizers import Tokenizer
from rins_mm.budget import describe, estimate
from rins_mm.config import TrainConfig, build_tokenizer
from rins_mm.flops import StepCost
from rins_mm.matching import Plan, describe_plan, make_plan
from rins_mm.models.image_tower import ImageTower
from rins_mm.recorded_config import read_config
from rins_mm.validation import check_schedule


def resolve_steps(
    config: TrainConfig, dataset: Dataset, tokenizer: Tokenizer, world_size: int, *, resumes: bool
) -> tuple[TrainConfig, Plan | None]:
    """The configuration with the steps that its budget pays for, and the plan where one was made now.

    A run that goes on keeps the steps that it has recorded. Raises UserError where the schedule does
    not fit into them.
    """
    if config.budget.match == "steps":
        return config, None
    record = Path(config.run_dir) / "config.json"
    if resumes and record.is_file():
        config, plan = replace(config, max_steps=read_config(record).max_steps), None
    else:
        lengths = measured_lengths(config, dataset, tokenizer)
        plan = plan_run(config, lengths, world_size=world_size)
        config = replace(config, max_steps=plan.exact.steps)
    check_schedule(config)
    return config, plan


def measured_lengths(
    config: TrainConfig, dataset: Dataset, tokenizer: Tokenizer
) -> Float64[np.ndarray, " N"]:
    """Lengths in tokens of some captions of the run, the same on every rank; the one that its budget names."""
    if config.budget.caption_tokens:
        return np.array([config.budget.caption_tokens])
    lengths = caption_lengths(config.data, dataset, tokenizer, seed=config.seed)
    return lengths.astype(np.float64)


def plan_run(config: TrainConfig, lengths: Float64[np.ndarray, " N"], *, world_size: int) -> Plan:
    """What the run will spend, if its captions are like these."""
    with torch.device("meta"):
        width = ImageTower(config.image).embedding_width
    cost = StepCost(
        config.image,
        config.text,
        embedding_width=width,
        image_is_locked=config.init.locks_all_of_image,
    )
    return make_plan(config, cost, lengths, world_size=world_size)


def describe_run(
    config: TrainConfig,
    *,
    device: str,
    utilisation: float,
    caption_tokens: float | None,
    world_size: int,
) -> str:
    """What the recipe costs, in words. A budget that is matched needs the data, for the lengths of captions."""
    if caption_tokens is None and config.budget.match != "steps":
        tokenizer = build_tokenizer(config)
        lengths = measured_lengths(config, open_training_data(config.data), tokenizer)
    else:
        lengths = np.array([caption_tokens or float(config.text.context_length)])
    plan = plan_run(config, lengths, world_size=world_size)
    config = replace(config, max_steps=plan.exact.steps)
    check_schedule(config)
    longest = lengths.mean() if config.text.packing else lengths.max()
    budget = estimate(config, caption_tokens=float(longest))
    costs = describe(budget, config, device=device, utilisation=utilisation)
    planned = describe_plan(plan, config.budget).items()
    return "\n".join([costs, *(f"{name:<30} {value}" for name, value in planned)])
