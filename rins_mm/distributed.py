"""What ranks say to each other: the process group, the exchange of features, the sum of gradients."""

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from data_pipelines.errors import UserError
from eval.ranks import Ranks

# torch 2.13 renamed these two; the old names warn.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@contextmanager
def process_group(timeout_seconds: float) -> Iterator[Ranks]:
    """The ranks of this launch: those of torchrun, or one alone."""
    if "WORLD_SIZE" not in os.environ:
        yield Ranks(rank=0, world_size=1)
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(_own_gpu())
    _join(backend, datetime.timedelta(seconds=timeout_seconds))
    try:
        yield Ranks(rank=dist.get_rank(), world_size=dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _join(backend: str, timeout: datetime.timedelta) -> None:
    store, rank, world_size = next(iter(dist.rendezvous("env://", timeout=timeout)))
    # On one machine torchrun keeps its store when it starts the ranks anew: a rank must not find there
    # the addresses of those who have died. (Over several machines the counts of restarts may differ.)
    alone = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    store = dist.PrefixStore(f"attempt {attempt}", store)
    try:
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=world_size, timeout=timeout
        )
    except RuntimeError as error:
        raise UserError(
            f"rank {rank} of {world_size} could not join the others within {timeout.total_seconds():g} s "
            f"({str(error).splitlines()[0]}); see whether all ranks were started, and reach each other"
        ) from error


def local_device() -> torch.device:
    """The GPU of this rank, or the CPU."""
    return torch.device("cuda", _own_gpu()) if torch.cuda.is_available() else torch.device("cpu")


def _own_gpu() -> int:
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise UserError(
            f"there is no GPU for rank {number} of this machine, which has {count}; "
            f"start torchrun with --nproc-per-node {count} or fewer"
        )
    return number


class _Gather(torch.autograd.Function):
    """All ranks' rows, one rank after the other; the gradient of a rank's rows is summed over all ranks."""

    @staticmethod
    def forward(context: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        gathered = rows.new_empty(dist.get_world_size(group) * rows.shape[0], *rows.shape[1:])
        _all_gather(gathered, rows.contiguous(), group=group)
        return gathered

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return scatter_sum(gradient, context.group), None


def gather(rows: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The rows of all ranks, with gradient. Ranks must give equally many; without a group, the rows themselves."""
    return rows if group is None else _Gather.apply(rows, group)


def scatter_sum(rows: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Of rows that stand for all ranks, one rank after the other: this rank's part of their sum over ranks."""
    if group is None:
        return rows
    share = rows.new_empty(rows.shape[0] // dist.get_world_size(group), *rows.shape[1:])
    _reduce_scatter(share, rows.contiguous(), group=group)
    return share


def sum_over_ranks(value: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum over ranks, without gradient."""
    total = value.detach().clone()
    if group is not None:
        dist.all_reduce(total, group=group)
    return total


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each rank may hold a part. Then every rank must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(own: Tensor, tensor: Tensor) -> Tensor:
    """Of a whole tensor what `own` holds of its own: all, or this rank's part."""
    if not isinstance(own, DTensor):
        return tensor
    # Each rank has read the whole tensor and takes its part; nothing is sent.
    return distribute_tensor(
        tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None
    )


def own_part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class GradientBuffer:
    """All gradients of a model in one flat tensor, in the order of its parameters, and a few votes.

    The layout never changes, so that sums over ranks are added in the same order in every step of every
    run (DDP lays its buckets out anew after the first backward pass, which at three ranks changes the
    last bits of a resumed run). A parameter that a step does not use has a gradient of zero, never None,
    so that moments and decay act alike at every world size. Votes of the ranks travel with the
    gradients: what all must agree on after each step costs no exchange of its own.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], num_votes: int = 0) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        size = sum(p.numel() for p in self.parameters)
        self._exchanged = self.parameters[0].new_zeros(size + num_votes)
        self.flat: Float[Tensor, " P"] = self._exchanged[:size]
        self.votes: Float[Tensor, " V"] = self._exchanged[size:]
        """Numbers of this rank before the exchange, their sums over all ranks after it."""
        offset = 0
        for parameter in self.parameters:
            view = self.flat[offset : offset + parameter.numel()]
            parameter.grad = view.view_as(parameter)
            offset += parameter.numel()

    def zero(self) -> None:
        """Forget the gradients and the votes of the last step."""
        self._exchanged.zero_()

    def own_norm(self) -> Float[Tensor, ""]:
        """The norm of what the buffer holds: before the exchange, of this rank's share."""
        return self.flat.norm()

    def sum_over_ranks(self, group: dist.ProcessGroup | None) -> None:
        """Each rank's share becomes the gradient of the global loss."""
        if group is not None:
            dist.all_reduce(self._exchanged, group=group)

    def clip(self, max_norm: float) -> Float[Tensor, ""]:
        """Scale the gradients down to a norm of at most `max_norm` (0: leave them); the norm before.

        Without a finite norm they stay as they are, for whoever asks which of them are not finite.
        """
        norm = self.flat.norm()
        if max_norm > 0:
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            self.flat.mul_(torch.where(norm.isfinite(), factor, 1.0))
        return norm
