"""What a data set is: shards in order, samples numbered from 0, and a fingerprint of the whole."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from data_pipelines.captions import CaptionConfig
from data_pipelines.deny_lists import without_denied
from data_pipelines.errors import UserError
from data_pipelines.index import ShardIndex, read_or_build_indexes
from data_pipelines.mixture import Source
from data_pipelines.remote import RemoteShard
from data_pipelines.sources import refuse_twice, resolve_shards


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One of the sources of a mixture."""

    shards: tuple[str, ...]
    """Paths, globs, ranges such as x-{000..013}.tar, or a split of a pack."""
    weight: float = 1.0
    """Its share of the samples, beside the weights of the other sources."""
    epochs: int = 0
    """How often its samples come; then the other sources share its places. 0: without end."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)


def open_dataset(specs: Sequence[str], deny_lists: Sequence[str] = ()) -> "Dataset":
    """The data set that the specs name, for instance ["emoji:train"] or ["shards/*.tar"].

    Shards without an index get one. Samples that the files in `deny_lists` name do not exist: they
    are not counted, shuffled or read. Raises UserError for what cannot be found or read.
    """
    return open_sources([SourceConfig(shards=tuple(specs))], deny_lists)


def open_sources(configs: Sequence[SourceConfig], deny_lists: Sequence[str] = ()) -> "Dataset":
    """The data set of the shards of all sources, one source after the other."""
    named = [resolve_shards(config.shards) for config in configs]
    refuse_twice([shard for shards in named for shard in shards])
    sources = [
        Source(num_shards=len(shards), weight=config.weight, epochs=config.epochs)
        for config, shards in zip(configs, named, strict=True)
    ]
    indexes = read_or_build_indexes([shard for shards in named for shard in shards])
    if not deny_lists:
        return dataset_of(indexes, sources=sources)
    kept, lost_rows = without_denied(indexes, deny_lists)
    if not any(shard.num_samples for shard in kept):
        raise UserError(f"the deny-lists {', '.join(deny_lists)} leave no sample; give others")
    return dataset_of(kept, lost_rows, sources)


def dataset_of(
    shards: Sequence[ShardIndex],
    lost_rows: Sequence[Sequence[int]] = (),
    sources: Sequence[Source] = (),
) -> "Dataset":
    """The data set made of these shards, in this order; `lost_rows` are what was taken out of each.

    Without `sources` all shards are one.
    """
    sources = sources or [Source(num_shards=len(shards))]
    described: list[object] = [
        [shard.name, _contents(shard), shard.num_samples] for shard in shards
    ]
    if any(lost_rows):
        described.append([list(rows) for rows in lost_rows])
    if len(sources) > 1 or sources[0].epochs:
        described.append([list(vars(source).values()) for source in sources])
    return Dataset(
        shards=tuple(shards),
        sources=tuple(sources),
        ends=tuple(accumulate(shard.num_samples for shard in shards)),
        fingerprint=hashlib.sha256(json.dumps(described).encode()).hexdigest(),
    )


def _contents(shard: ShardIndex) -> str:
    """What tells the contents of a shard from others: its SHA-256, or what is known of a remote one."""
    if not isinstance(shard.path, RemoteShard):
        return shard.sha256
    digest = hashlib.sha256(json.dumps([shard.size, shard.version, shard.part_types]).encode())
    for array in (shard.key_bytes, shard.key_ends, shard.offsets, shard.sizes):
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Shards in order; sample numbers run through them from 0 to `num_samples - 1`."""

    shards: tuple[ShardIndex, ...]
    sources: tuple[Source, ...]
    """Neighbouring shards that are mixed with others by weight; mostly one, of all shards."""
    ends: tuple[int, ...]
    """For each shard, the number of samples in it and all before it."""
    fingerprint: str
    """A hash of names, contents and order of the shards, of what deny-lists take out of them, and of
    weights and epochs of several sources; folders and times do not count."""

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
