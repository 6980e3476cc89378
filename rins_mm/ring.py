"""Ranks on a ring: each sends to the next one and hears from the one before, while it computes."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class Arriving:
    """Tensors on their way, from the rank before and to the next one."""

    def __init__(
        self, works: Sequence[dist.Work], sent: Sequence[Tensor], received: list[Tensor]
    ) -> None:
        self._works = works
        # What is being sent must live until it has left.
        self._sent = sent
        self._received = received

    def wait(self) -> list[Tensor]:
        """What the rank before has sent; what this rank sent may be changed afterwards."""
        for work in self._works:
            work.wait()
        return self._received


class Ring:
    """This rank's place on the ring; without a group it is alone."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.rank = 0 if group is None else dist.get_rank(group)
        self.size = 1 if group is None else dist.get_world_size(group)
        self._posted = 0

    def pass_on(self, *tensors: Tensor) -> Arriving:
        """Begin to send these to the next rank and to receive as many of the same shapes.

        All ranks must call this in the same order.
        """
        sent = [tensor.contiguous() for tensor in tensors]
        received = [torch.empty_like(tensor) for tensor in sent]
        neighbours = [(self.rank + 1) % self.size, (self.rank - 1) % self.size]
        if self._group is not None:
            neighbours = [dist.get_global_rank(self._group, rank) for rank in neighbours]
        operations = []
        for outgoing, incoming in zip(sent, received, strict=True):
            for operation, tensor, rank in (
                (dist.isend, outgoing, neighbours[0]),
                (dist.irecv, incoming, neighbours[1]),
            ):
                # gloo tells messages apart by their tags, NCCL by their order.
                operations.append(dist.P2POp(operation, tensor, rank, self._group, self._posted))
            self._posted += 1
        return Arriving(dist.batch_isend_irecv(operations), sent, received)
