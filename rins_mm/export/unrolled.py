"""A recursive tower as plain layers: what a format without recursion can hold.

Blocks that run several times are repeated. What rounds do not share is laid into the repeated layers where
it can be (changes of low rank); what stands between layers must be the identity at the exported depth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.export.job import ExportJob
from rins_mm.models.adapters import (
    Adapters,
    LinearAdapter,
    LinearOfRounds,
    ScaleAdapter,
    uses,
    uses_between,
)
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.signatures import Calls, expand

Layer = dict[str, Tensor]
"""The tensors of one block by their names in it."""


def plain_layers(stack: RecursiveStack, calls: Calls, *, tower: str) -> list[Layer]:
    """The layers in the order in which these calls run them.

    Raises UserError, with the formats that can, where adapters or injections do something at this depth.
    """
    stack.check(calls)
    _refuse_what_stands_between(stack.adapters, calls, tower)
    layers = []
    for number, letter in enumerate(calls):
        used = uses_between(stack.adapters.recursion, calls[:number], letter)
        of_round = used[0][1] if used and stack.adapters.recursion.adapter == "lora" else 0
        layers += [_plain(block, of_round) for block in stack.group(letter)]
    return layers


def growth(job: ExportJob, towers: Sequence[str]) -> str:
    """One line: how many layers these towers have, and how many when unrolled; empty where nothing is repeated."""
    model = job.encoder.model
    every = {
        "image": (model.image_tower, model.image_tower.stack, job.encoder.image_signature),
        "text": (model.text_tower, model.text_tower.blocks, job.text_signature),
    }
    parts, own, added = [], 0, 0
    for name in towers:
        tower, stack, signature = every[name]
        own += _size(tower)
        if stack is None:
            continue
        calls = expand(signature)
        runs = [block for letter in calls for block in stack.group(letter)]
        added += sum(_size(block) for block in runs) - _size(stack)
        if len(runs) != len(stack):
            parts.append(f"the {name} tower's {len(stack)} blocks are {len(runs)} layers")
    if not parts:
        return ""
    return (
        f"unrolled: {' and '.join(parts)}; {(own + added) / own:.2f} times "
        f"the {own:,} unique parameters"
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _refuse_what_stands_between(adapters: Adapters, calls: Calls, tower: str) -> None:
    acting = []
    if adapters.recursion.adapter in ("linear", "scale"):
        acting = [
            f"{letter}.{number}"
            for letter, number in uses(adapters.recursion, calls)
            if not _is_identity(_adapter(adapters, letter, number))
        ]
    for letter in sorted(set(calls)):
        if adapters.injects(letter) and not _is_identity(adapters[letter]):
            acting.append(f"the injection of {letter}")
    if acting:
        raise UserError(
            f"the {tower} tower at {''.join(calls)} has adapters between its rounds ({', '.join(acting)}), which "
            "a plain stack of layers cannot express; export native, onnx or pt2, or a --text-signature without them"
        )


def _adapter(adapters: Adapters, letter: str, number: int) -> nn.Module:
    rounds = adapters[letter]
    assert isinstance(rounds, nn.ModuleDict)
    return rounds[str(number)]


def _is_identity(module: nn.Module) -> bool:
    if isinstance(module, ScaleAdapter):
        return bool((module.scale == 1).all())
    if isinstance(module, LinearAdapter):
        return not bool(module.linear.weight.any())
    linear = module.linear
    assert isinstance(linear, nn.Linear)
    return not bool(linear.weight.any())


@torch.no_grad()
def _plain(block: nn.Module, of_round: int) -> Layer:
    """The tensors of a block as they act in one round."""
    tensors = {
        name: tensor.detach().cpu()
        for name, tensor in block.state_dict().items()
        if ".changes." not in name
    }
    for name, layer in block.named_modules():
        if isinstance(layer, LinearOfRounds) and of_round:
            change = layer.changes[str(of_round)]
            up, down = change.get_parameter("up.weight"), change.get_parameter("down.weight")
            tensors[f"{name}.weight"] = (layer.weight.double() + up.double() @ down.double()).to(
                layer.weight.dtype
            )
    return tensors
