"""Sharded training: each rank keeps a part of every weight, gradient and moment (torch's FSDP2)."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from rins_mm.distributed import GradientBuffer, own_part, whole
from rins_mm.models.draws import most_rounds
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.siglip import SigLIP


def shard(model: SigLIP, mesh: DeviceMesh, *, bf16: bool) -> None:
    """Divide the weights of a model among the ranks of the mesh, block by block, each brought to its device then.

    What belongs to no block (embeddings, heads) stays fp32 and is gathered for the whole step. Scale and bias
    of the loss are left whole on every rank: the loss uses them outside of the model.
    """
    parameter_type = torch.bfloat16 if bf16 else None
    policy = MixedPrecisionPolicy(param_dtype=parameter_type, reduce_dtype=torch.float32)
    started: set[object] = set()
    model.register_forward_pre_hook(lambda *_: started.clear())
    for tower in (model.image_tower, model.text_tower):
        recursion = tower.config.recursion
        for stack in (part for part in tower.modules() if isinstance(part, RecursiveStack)):
            for letter in stack.groups:
                repeated = letter in most_rounds(recursion)
                for block in stack.group(letter):
                    fully_shard(
                        block, mesh=mesh, mp_policy=policy, reshard_after_forward=not repeated
                    )
                    if repeated:
                        block.register_forward_hook(partial(_exchange_once, started))
    loss_parameters = {model.logit_scale, model.logit_bias}
    for parameter in loss_parameters:
        parameter.data = parameter.data.to(mesh.device_type)
    fully_shard(model, mesh=mesh, ignored_params=loss_parameters)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            # The gradient of a rank is its share of the whole one: shares are summed, not averaged.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def _exchange_once(started: set[object], block: FSDPModule, _: Any, output: Tensor) -> None:
    """After a call of a block that runs several times: let its gradients cross the ranks only once.

    FSDP2 would exchange gradients, and gather the weights anew, for each call. The backward pass ends with
    the call that was first in the forward pass: until it comes, gradients add up on each rank, in fp32.
    (When checkpointing repeats a call during the backward pass, the block has started already.)
    """
    if block in started or not output.requires_grad:
        return

    def exchange(wanted: bool) -> None:
        block.set_requires_gradient_sync(wanted, recurse=False)
        block.set_reshard_after_backward(wanted, recurse=False)

    started.add(block)
    exchange(False)
    output.register_hook(lambda _: exchange(True))


class ShardedGradients:
    """What GradientBuffer is, for a model of which each rank holds a part.

    FSDP2 sums the gradients over the ranks during the backward pass. What is left to exchange after it is
    small and travels together: the votes, the gradients of parameters that every rank holds, and the norm.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], num_votes: int = 0) -> None:
        trained = [p for p in parameters if p.requires_grad]
        self.parameters = [p for p in trained if isinstance(p, DTensor)]
        everywhere = [p for p in trained if not isinstance(p, DTensor)]
        self._replicated = GradientBuffer(everywhere, num_votes + 1)
        self.votes: Float[Tensor, " V"] = self._replicated.votes[:-1]
        """Numbers of this rank before the exchange, their sums over all ranks after it."""
        self._squares: Float[Tensor, ""] = self._replicated.votes[-1]

    def zero(self) -> None:
        """Forget the gradients and the votes of the last step."""
        for parameter in self.parameters:
            parameter.grad = None
        self._replicated.zero()

    def own_norm(self) -> None:
        """None: the share of this rank was summed with the others' during the backward pass."""

    def sum_over_ranks(self, group: dist.ProcessGroup | None) -> None:
        """Exchange what FSDP2 has not; a parameter that no call used gets a gradient of zero."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._squares.copy_(torch.stack(torch._foreach_norm(self._parts())).norm().square())
        self._replicated.sum_over_ranks(group)

    def clip(self, max_norm: float) -> Float[Tensor, ""]:
        """Scale the gradients down to a norm of at most `max_norm` (0: leave them); the norm before.

        Without a finite norm they stay as they are, for whoever asks which of them are not finite.
        """
        norm = torch.hypot(self._squares.sqrt(), self._replicated.own_norm())
        if max_norm > 0:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            factor = torch.where(norm.isfinite(), factor, 1.0)
            torch._foreach_mul_([*self._parts(), self._replicated.flat], factor)
        return norm

    def _parts(self) -> list[Tensor]:
        return [own_part(p.grad) for p in self.parameters if p.grad is not None]


def skeleton_of(model: SigLIP) -> SigLIP:
    """A copy of a model that is not sharded yet, without its weights."""
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()}
    return copy.deepcopy(model, memo=dict(empty))


def gathered(model: SigLIP, skeleton: SigLIP) -> SigLIP:
    """The model as a plain one, with all its weights on every rank: each can then use it by itself."""
    plain = copy.deepcopy(skeleton)
    tensors = {name: whole(tensor.detach()) for name, tensor in model.state_dict().items()}
    plain.load_state_dict(tensors, assign=True)
    # Buffers that are no weights are where the model was built.
    return plain.to(model.logit_scale.device)


Tensors = list[Tensor] | tuple[Tensor, ...]
Update = Callable[[Tensors, Tensors, Tensor | int], None]
"""How an AveragedModel moves its parameters towards the current ones."""


def on_parts(update: Update) -> Update:
    """The update of an average, made on the part of each parameter that a rank holds."""

    def update_own(averages: Tensors, currents: Tensors, count: Tensor | int) -> None:
        update([own_part(t) for t in averages], [own_part(t) for t in currents], count)

    return update_own
