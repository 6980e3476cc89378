"""The few exchanges between processes that evaluation needs; with one process nothing travels.

Axes: W processes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Int64, Shaped
from torch import Tensor

from data_pipelines.errors import UserError


class Interrupted(Exception):  # noqa: N818
    """Some process was asked to stop: all of them leave the work that they share."""


def never() -> bool:
    """What nobody asks to stop."""
    return False


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
    asked_to_stop: Callable[[], bool] = never
    """Whether this process shall leave shared work as soon as it can."""

    @property
    def is_first(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    def all_gather(self, share: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "W *shape"]:
        """The shares of all processes, in the order of ranks, on the CPU. All have one shape."""
        self._go_on_together()
        if self.world_size == 1:
            return share[None].cpu()
        sent = share.to(_exchange_device()).contiguous()
        received = [torch.empty_like(sent) for _ in range(self.world_size)]
        dist.all_gather(received, sent)
        return torch.stack(received).cpu()

    def sum_counts(self, counts: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
        """The sum over all processes. Integers, because a sum of floats depends on its order."""
        self._go_on_together()
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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around shared work: when one process leaves it by Interrupted, all do.

        Before each exchange, and at the end, the processes tell each other whether they go on; a
        process that has left tells so once and is heard at the others' next exchange.
        """
        try:
            yield
        except _LeftAlone:
            self._is_anyone_leaving(True)
            raise
        self._go_on_together()

    def leave_when_asked(self) -> None:
        """Between exchanges, in work that takes long: raise Interrupted when this process was asked to stop."""
        if self.asked_to_stop():
            raise _LeftAlone

    def _go_on_together(self) -> None:
        if self.asked_to_stop is not never and self._is_anyone_leaving(self.asked_to_stop()):
            raise Interrupted

    def _is_anyone_leaving(self, leaving: bool) -> bool:
        if self.world_size == 1:
            return leaving
        flag = torch.tensor([int(leaving)], device=_exchange_device())
        dist.all_reduce(flag)
        return bool(flag.item())


class _LeftAlone(Interrupted):
    """This process has left between two exchanges, and the others do not know yet."""


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
