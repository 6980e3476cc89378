"""Which sample stands at each place of the endless training stream of a data set."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from data_pipelines.errors import UserError
from data_pipelines.manifest import Dataset
from data_pipelines.mixture import Mixture
from data_pipelines.order import EpochOrder, stream_positions


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """What stands at some neighbouring places of the stream."""

    samples: Int64[np.ndarray, " N"]
    """Numbers in the data set."""
    epochs: Int64[np.ndarray, " N"]
    """The epoch of its source that each sample belongs to."""
    sources: Int64[np.ndarray, " N"]


class Stream:
    """A pure function of (data set, seed, block size); world size and workers do not appear in it.

    Each source goes through its own epochs; the mixture decides whose turn it is.
    """

    def __init__(self, dataset: Dataset, *, seed: int, block_size: int) -> None:
        self._seed = seed
        self._block_size = block_size
        self._sizes = _sizes_by_source(dataset)
        self._first_samples = np.cumsum([0, *(sum(sizes) for sizes in self._sizes)])
        source_sizes = np.diff(self._first_samples).tolist()
        if 0 in source_sizes:
            raise UserError(
                f"source {source_sizes.index(0) + 1} of {len(source_sizes)} has no sample left; "
                "leave it out, or change its deny-lists"
            )
        self._mixture = Mixture(dataset.sources, source_sizes, seed=seed)
        self._orders: dict[tuple[int, int], EpochOrder] = {}
        self.length = self._mixture.length
        """Places until all sources have ended; None where one comes again without end."""

    def __getitem__(self, places: slice) -> Places:
        """What stands at `places`, a slice with both ends."""
        sources, ordinals = self._mixture[places]
        samples, epochs = np.empty_like(ordinals), np.empty_like(ordinals)
        for source in np.unique(sources).tolist():
            mine = np.flatnonzero(sources == source)
            first = int(ordinals[mine[0]])
            size = int(self._first_samples[source + 1] - self._first_samples[source])
            done = 0
            # The samples of a source come one after the other, so its places are one range.
            for epoch, start, stop in stream_positions(size, first, first + len(mine)):
                here = mine[done : done + stop - start]
                samples[here] = self._order(source, epoch)[start:stop] + self._first_samples[source]
                epochs[here] = epoch
                done += stop - start
        return Places(samples=samples, epochs=epochs, sources=sources)

    def _order(self, source: int, epoch: int) -> EpochOrder:
        if (source, epoch) not in self._orders:
            # A batch may straddle two epochs; older ones do not come again. Not all of them came here:
            # between two batches of a worker lie those of the others, and with them whole epochs of few samples.
            for other, old in list(self._orders):
                if other == source and abs(epoch - old) > 1:
                    del self._orders[other, old]
            self._orders[source, epoch] = EpochOrder(
                self._sizes[source],
                seed=self._seed,
                epoch=epoch,
                source=source,
                block_size=self._block_size,
            )
        return self._orders[source, epoch]


def _sizes_by_source(dataset: Dataset) -> list[tuple[int, ...]]:
    left = iter(dataset.shard_sizes)
    return [tuple(next(left) for _ in range(source.num_shards)) for source in dataset.sources]
