"""Which sample comes next: the order of an epoch as a pure function of (shard sizes, seed, epoch).

World size, worker processes and the state of any iterator do not appear here, so a run may be
stopped anywhere and continued on another number of machines with the same global batches.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from data_pipelines.hashing import stable_hash


def stream_positions(num_samples: int, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Positions [start, stop) of the endless training stream, as pieces (epoch, first, last).

    The stream is one epoch after the other without a gap, so a batch may straddle two epochs, no
    batch is short, and every sample comes exactly once per epoch.
    """
    pieces = []
    while start < stop:
        epoch, first = divmod(start, num_samples)
        last = min(num_samples, first + stop - start)
        pieces.append((epoch, first, last))
        start += last - first
    return pieces


def permutation(length: int, *purpose: object) -> Int64[np.ndarray, " length"]:
    """The numbers below `length` in an order that depends on the purpose alone."""
    # numpy promises that the raw stream of a bit generator stays, but not what shuffle makes of it.
    bits = np.random.Philox(key=stable_hash(*purpose) % 2**64)
    return np.argsort(bits.random_raw(length), kind="stable").astype(np.int64)


class EpochOrder:
    """The global sample numbers of one epoch; `order[start:stop]` gives any part of them.

    Shards are shuffled, their samples laid in a row, cut into blocks of `block_size`, and each
    block is shuffled. Neighbours in the stream so come from few shards, and memory grows with the
    block and the number of shards only.
    """

    def __init__(
        self,
        shard_sizes: Sequence[int],
        *,
        seed: int,
        epoch: int,
        source: int = 0,
        block_size: int = 65_536,
    ) -> None:
        sizes = np.asarray(shard_sizes, dtype=np.int64)
        self.num_samples = int(sizes.sum())
        # Sources of equal sizes must not go in step: their samples may be the same pictures.
        self._purpose = (seed, epoch, source) if source else (seed, epoch)
        self._block_size = block_size
        shuffled = permutation(len(sizes), "shards", *self._purpose)
        # Of each shard in shuffled order: where it ends in the row, and what takes a place in the
        # row to a global sample number.
        self._ends = np.cumsum(sizes[shuffled])
        first_numbers = np.cumsum(sizes) - sizes
        self._shifts = first_numbers[shuffled] - (self._ends - sizes[shuffled])
        self._latest_block = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, positions: slice) -> Int64[np.ndarray, " positions"]:
        """Global sample numbers at `positions`, a slice without a step."""
        start, stop, step = positions.indices(self.num_samples)
        assert step == 1, "an epoch is read forwards, position by position"
        pieces = []
        while start < stop:
            number, first = divmod(start, self._block_size)
            block = self._block(number)
            pieces.append(block[first : first + stop - start])
            start += len(pieces[-1])
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def _block(self, number: int) -> Int64[np.ndarray, " block"]:
        latest_number, latest_block = self._latest_block
        if latest_number == number:
            return latest_block
        start = number * self._block_size
        length = min(self._block_size, self.num_samples - start)
        places = start + permutation(length, "block", *self._purpose, number)
        shards = np.searchsorted(self._ends, places, side="right")
        block = places + self._shifts[shards]
        self._latest_block = (number, block)
        return block
