"""The optimizer: which parameters decay, and who updates them."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
from timm.optim import create_optimizer_v2, list_optimizers

from data_pipelines.errors import UserError

KERNELS = (nn.Linear, nn.Conv1d, nn.Conv2d)

BLOCK = r"\.blocks\.(\d+)\."
"""Where a parameter's name has the number of its block."""

UNFIT = ("adahessian", "adan", "kron", "lamb")
"""Parts of the names of timm's optimizers that the trainer cannot drive or resume.

They want second derivatives or a third beta, or keep state in lists or outside of the parameters.
"""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer and its constants, in torch's conventions."""

    name: str = "adamw"
    """adamw is torch's fused AdamW; any other name is timm's (adafactorbv is big_vision's Adafactor)."""
    peak_learning_rate: float = 1e-3
    """Learning rate at the top of the schedule."""
    weight_decay: float = 0.1
    """Decay per step divided by the learning rate (torch's AdamW). big_vision's 1e-4 at a rate of 1e-3 is 0.1 here."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients; for adafactorbv the most that this decay grows to."""
    epsilon: float = 1e-8
    """Added to the root of the mean of squares; adamw only, timm's optimizers have their own."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    image_rate_factor: float = 1.0
    """The image tower's learning rate in units of the schedule's."""
    text_rate_factor: float = 1.0
    """The text tower's learning rate in units of the schedule's."""
    layer_decay: float = 1.0
    """Both towers: each block's learning rate in units of that of the next one (what precedes all blocks counts as
    one more, what follows them has the tower's own rate); 1: all alike."""


def kernel_parameters(model: nn.Module) -> set[Tensor]:
    """The parameters that decay: kernels of linear and convolutional layers.

    Embeddings, positions, the probe of attention pooling, norms, biases, scale and bias do not
    (big_vision's mask `.*/kernel$`).
    """
    return {module.weight for module in model.modules() if isinstance(module, KERNELS)}


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a model; its learning rate is set before each step by the trainer."""
    groups = _groups(config, model)
    betas = (config.beta1, config.beta2)
    rate = config.peak_learning_rate
    if config.name == "adamw":
        groups = [part for group in groups for part in _without_mixtures(group)]
        return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=config.epsilon, fused=True)
    check_optimizer_name(config.name)
    # timm drops betas where an optimizer has none: big_vision's Adafactor names them otherwise.
    constants = (
        {"momentum": config.beta1, "beta2_cap": config.beta2}
        if config.name == "adafactorbv"
        else {"betas": betas}
    )
    try:
        return create_optimizer_v2(groups, opt=config.name, lr=rate, weight_decay=0.0, **constants)
    except (AssertionError, ImportError) as error:
        raise UserError(
            f"the optimizer {config.name!r} cannot be used here: {error}; choose adamw or adafactorbv"
        ) from error


def rate_factors(config: OptimizerConfig, names: Iterable[str]) -> dict[str, float]:
    """The learning rate of each parameter of a model of two towers, in units of the schedule's."""
    towers = {"image_tower.": config.image_rate_factor, "text_tower.": config.text_rate_factor}
    names = list(names)
    factors = dict.fromkeys(names, 1.0)
    for prefix, factor in towers.items():
        own = [name for name in names if name.startswith(prefix)]
        blocks = {name: int(found[1]) for name in own if (found := re.search(BLOCK, name))}
        # Modules are listed in the order in which they run; adapters run between blocks.
        outside = [name for name in own if name not in blocks and ".adapters." not in name]
        first = own.index(next(iter(blocks))) if blocks else 0
        before = set(own[:first]) & set(outside)
        for name in own:
            # How many blocks follow, itself included.
            if name in blocks:
                distance = max(blocks.values()) + 1 - blocks[name]
            else:
                distance = max(blocks.values()) + 2 if name in before else 0
            factors[name] = factor * config.layer_decay**distance
    return factors


def _groups(config: OptimizerConfig, model: nn.Module) -> list[dict[str, Any]]:
    """What is trained, by decay and by learning rate."""
    kernels = kernel_parameters(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    factors = rate_factors(config, dict(model.named_parameters()))
    groups: list[dict[str, Any]] = []
    for factor in sorted({factors[name] for name in trained}, reverse=True):
        alike = [p for name, p in trained.items() if factors[name] == factor]
        kinds = (
            {"params": [p for p in alike if p in kernels], "weight_decay": config.weight_decay},
            # Optimizers of matrices (Muon) leave what is no kernel to AdamW.
            {
                "params": [p for p in alike if p not in kernels],
                "weight_decay": 0.0,
                "use_fallback": True,
            },
        )
        groups += [{**kind, "rate_factor": factor} for kind in kinds if kind["params"]]
    return groups


def _without_mixtures(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group, parted where it has both sharded and whole parameters: one kernel takes either."""
    sharded = [p for p in group["params"] if isinstance(p, DTensor)]
    others = [p for p in group["params"] if not isinstance(p, DTensor)]
    if not sharded or not others:
        return [group]
    return [{**group, "params": sharded}, {**group, "params": others}]


def check_optimizer_name(name: str) -> None:
    """Refuse a name that timm (which knows torch's) does not know, or that the trainer cannot drive."""
    known = [name for name in list_optimizers() if not any(part in name for part in UNFIT)]
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=3) or ["adamw"]
        raise UserError(
            f"there is no optimizer named {name!r} that can be used here; "
            f"the nearest names are {', '.join(nearest)}"
        )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of a step: every group's own in units of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
