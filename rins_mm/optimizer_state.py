"""The moments and counts of an optimizer, to a checkpoint and back. What comes back may be anybody's."""

from typing import Any

import torch
from torch import Tensor, nn

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_object
from rins_mm.checkpoint import Checkpoint, read_tensors
from rins_mm.distributed import part_like

MOMENTS = ("exp_avg", "exp_avg_sq")
"""As large as their parameters, in every optimizer that has them."""


def optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The moments where they lie, and what some of timm's optimizers count as plain numbers."""
    tensors, numbers = {}, {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value.detach()
            elif value is None or isinstance(value, int | float):
                numbers[f"{name}/{key}"] = value
            else:
                raise TypeError(f"optimizer state {key} of {name} is a {type(value)}, not a tensor")
    return tensors, numbers


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, checkpoint: Checkpoint
) -> None:
    """Put the optimizer's moments and counts back as they were saved.

    Raises UserError where they are not of this model and optimizer.
    """
    parameters = dict(model.named_parameters())
    tensors = read_tensors(checkpoint.folder / "optimizer.safetensors")
    numbers = read_plain_object(checkpoint.folder / "optimizer.json")
    if wrong := _what_does_not_fit(optimizer, parameters, {**tensors, **numbers}):
        raise UserError(
            f"the optimizer's state in {checkpoint.folder} is of another run: {wrong}; "
            "go on from another checkpoint"
        )
    for name, tensor in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters[parameter_name]
        # Moments lie beside their parameters. Step counts do where the update is one kernel; elsewhere
        # they stay on the CPU, where reading them does not wait for the device.
        beside = tensor.dim() > 0 or optimizer.defaults.get("fused") or False
        own = part_like(parameter, tensor) if tensor.shape == parameter.shape else tensor
        optimizer.state[parameter][key] = own.to(parameter.device) if beside else own
    for name, number in numbers.items():
        parameter_name, _, key = name.rpartition("/")
        optimizer.state[parameters[parameter_name]][key] = number


def _what_does_not_fit(
    optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], saved: dict[str, Any]
) -> str | None:
    """What would make the next step fail; of optimizers other than AdamW the keys are not known."""
    is_adamw = isinstance(optimizer, torch.optim.AdamW)
    keys: dict[str, set[str]] = {}
    for name, value in saved.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters.get(parameter_name)
        if parameter is None:
            return f"it has {name!r}, and the model no such parameter"
        keys.setdefault(parameter_name, set()).add(key)
        if not isinstance(value, Tensor):
            if not (value is None or isinstance(value, int | float)):
                return f"{name} is {value!r} and no number"
        # Others of timm's keep some of them in fewer bits.
        elif key in MOMENTS and (
            value.shape != parameter.shape or (is_adamw and value.dtype != parameter.dtype)
        ):
            return f"{name} has the shape {list(value.shape)} and numbers of {value.dtype}"
        elif key == "step" and (value.dim() or value.dtype not in (torch.float32, torch.float64)):
            return f"{name} is no count of steps"
    if is_adamw:
        for parameter_name, found in keys.items():
            if found != {"step", *MOMENTS}:
                return f"of {parameter_name} it holds {', '.join(sorted(found))}"
    return None
