"""The few exchanges between processes that evaluation needs; with one process nothing travels.

Axes: W processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from data_pipelines.errors import UserError


def current_ranks() -> "Ranks":
    """This process's place among all of them, from torch.distributed where it has been set up."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(rank=dist.get_rank(), world_size=dist.get_world_size())
    return Ranks()


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """One process among `world_size`. Every process calls each method, in the same order."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    def all_gather(self, share: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "W *shape"]:
        """The shares of all processes, in the order of ranks, on the CPU. All have one shape."""
        if self.world_size == 1:
            return share[None].cpu()
        sent = share.to(_exchange_device()).contiguous()
        received = [torch.empty_like(sent) for _ in range(self.world_size)]
        dist.all_gather(received, sent)
        return torch.stack(received).cpu()

    def sum_counts(self, counts: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """The sum over all processes. Integers, because a sum of floats depends on its order."""
        if self.world_size == 1:
            return counts
        total = counts.to(_exchange_device(), copy=True)
        dist.all_reduce(total)
        return total.cpu()

    def largest(self, number: int) -> int:
        """The largest number that any process named."""
        return int(self.all_gather(torch.tensor(number)).max())

    def all_gather_text(self, text: str) -> list[str]:
        """The texts of all processes, in the order of ranks. They travel as bytes, not pickled."""
        encoded = text.encode("utf-8")
        longest = self.largest(len(encoded))
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        lengths = self.all_gather(torch.tensor(len(encoded))).tolist()
        rows = self.all_gather(padded)
        return [
            bytes(row[:length].tolist()).decode("utf-8")
            for row, length in zip(rows, lengths, strict=True)
        ]


def require_same(what: str, fingerprints: Sequence[str], ranks: Ranks) -> None:
    """Raise UserError, in every process, where the processes do not see the same thing."""
    seen = ranks.all_gather_text(" ".join(fingerprints))
    if len(set(seen)) > 1:
        raise UserError(
            f"the processes do not agree on {what}: {sorted(set(seen))}; "
            "give all of them the same weights and the same files"
        )


def _exchange_device() -> torch.device:
    """Where the backend exchanges tensors: NCCL only between GPUs, gloo in main memory."""
    if "nccl" in dist.get_backend():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
