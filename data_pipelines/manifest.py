"""What a data set is: shards in order, samples numbered from 0, and a fingerprint of the whole."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from data_pipelines.index import ShardIndex, read_or_build_indexes
from data_pipelines.sources import resolve_shards


def open_dataset(specs: Sequence[str]) -> "Dataset":
    """The data set that the specs name, for instance ["emoji:train"] or ["shards/*.tar"].

    Shards without an index get one. Raises UserError for what cannot be found or read.
    """
    return dataset_of(read_or_build_indexes(resolve_shards(specs)))


def dataset_of(shards: Sequence[ShardIndex]) -> "Dataset":
    """The data set made of these shards, in this order."""
    described = [[shard.name, shard.sha256, shard.num_samples] for shard in shards]
    return Dataset(
        shards=tuple(shards),
        ends=tuple(accumulate(shard.num_samples for shard in shards)),
        fingerprint=hashlib.sha256(json.dumps(described).encode()).hexdigest(),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Shards in order; sample numbers run through them from 0 to `num_samples - 1`."""

    shards: tuple[ShardIndex, ...]
    ends: tuple[int, ...]
    """For each shard, the number of samples in it and all before it."""
    fingerprint: str
    """A hash of names, contents and order of the shards; folders and times do not count."""

    @property
    def num_samples(self) -> int:
        """Samples in all shards together."""
        return self.ends[-1]

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """The number of samples in each shard."""
        return tuple(shard.num_samples for shard in self.shards)

    def locate(self, index: int) -> tuple[int, int]:
        """(Number of the shard, row in it) of a sample."""
        if not 0 <= index < self.num_samples:
            raise IndexError(f"sample {index} of a data set with {self.num_samples}")
        shard = bisect_right(self.ends, index)
        return shard, index - (self.ends[shard - 1] if shard else 0)
