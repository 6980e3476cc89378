"""The share of one rank in one global batch, made from nothing but its settings and the step."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from data_pipelines.bad_samples import BadSample, Finding
from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig, Record, caption_of
from data_pipelines.hashing import stable_hash
from data_pipelines.manifest import Dataset
from data_pipelines.read_ahead import samples_read_ahead
from data_pipelines.reader import RawSample
from data_pipelines.resize import resize_into
from data_pipelines.samples import decoded_parts, sample_name
from data_pipelines.stream import Stream
from data_pipelines.tokenizers import Tokenizer


def _never_cancelled() -> None:
    pass


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeBatch:
    """A batch, and what was found while it was made."""

    batch: ImageTextBatch
    num_samples: int
    """Samples that were read, good and bad; slots that only fill an uneven share do not count."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchMaker:
    """All that the batches of a run depend on, beside the step."""

    dataset: Dataset
    tokenizer: Tokenizer
    captions: tuple[CaptionConfig, ...]
    """Of each source of the data set."""
    positives: tuple[str, ...]
    block_size: int
    image_size: int
    scaled_decoding: bool = False
    batch_size: int
    seed: int
    rank: int
    world_size: int

    @cached_property
    def stream(self) -> Stream:
        """Which sample stands at each place."""
        return Stream(self.dataset, seed=self.seed, block_size=self.block_size)

    def make(self, step: int, check: Callable[[], None] = _never_cancelled) -> MadeBatch:
        """This rank's share of global batch `step`; `check` runs before each sample and in waits, and may raise.

        Raises UserError when a shard has vanished or changed.
        """
        rows = self._rows(step)
        num_slots = -(-self.batch_size // self.world_size)
        # Channels last, as decoders give them and convolutions like them.
        images = np.empty((num_slots, self.image_size, self.image_size, 3), dtype=np.uint8)
        keys = np.zeros((num_slots, 1 + len(self.positives)), dtype=np.int64)
        seeds = np.zeros(num_slots, dtype=np.int64)
        valid = np.zeros(num_slots, dtype=np.bool_)
        names = [""] * num_slots
        captions: dict[int, str] = {}
        findings = []
        samples = [row.sample for row in rows]
        with closing(samples_read_ahead(self.dataset, samples, check)) as reads:
            for slot, (row, read) in enumerate(zip(rows, reads, strict=True)):
                check()
                shard, key = sample_name(self.dataset, row.sample)
                names[slot] = f"{shard}:{key}"
                seeds[slot] = row.seed
                try:
                    picture = images[slot].transpose(2, 0, 1)
                    captions[slot], keys[slot] = self._fill(row, read, picture)
                    valid[slot] = True
                except BadSample as bad:
                    findings.append(Finding(shard=shard, key=key, cause=bad.cause))
        images[~valid] = 0
        tokens, offsets = self._tokens(captions, num_slots)
        all_keys = torch.from_numpy(keys)
        batch = ImageTextBatch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2),
            tokens=tokens,
            offsets=offsets,
            image_keys=all_keys,
            text_keys=all_keys,
            valid=torch.from_numpy(valid),
            row_seeds=torch.from_numpy(seeds),
            sample_keys=tuple(names),
        )
        return MadeBatch(batch=batch, num_samples=len(rows), findings=tuple(findings))

    def _rows(self, step: int) -> "list[_Row]":
        """What stands in the slots of this rank."""
        first = step * self.batch_size
        places = self.stream[first : first + self.batch_size]
        mine = zip(
            places.samples[self.rank :: self.world_size].tolist(),
            places.sources[self.rank :: self.world_size].tolist(),
            places.epochs[self.rank :: self.world_size].tolist(),
            strict=True,
        )
        return [
            _Row(sample, self.captions[source], row_seed(self.seed, epoch, sample))
            for sample, source, epoch in mine
        ]

    def _fill(
        self, row: "_Row", read: Callable[[], RawSample], picture: UInt8[np.ndarray, "3 S S"]
    ) -> tuple[str, list[int]]:
        """Caption and keys of a sample; its pixels are written to `picture`."""
        least_size = self.image_size if self.scaled_decoding else None
        pixels, record = decoded_parts(read().parts, least_size)
        caption = caption_of(record, row.captions, row.seed)
        own = stable_hash("sample", row.sample)
        keys = [own, *(_positive_key(kind, caption, record, own) for kind in self.positives)]
        resize_into(pixels, picture)
        return caption, keys

    def _tokens(self, captions: dict[int, str], num_slots: int) -> tuple[Tensor, Tensor]:
        rows = [[self.tokenizer.end_token]] * num_slots
        encoded = self.tokenizer.encode(list(captions.values()))
        for slot, row in zip(captions, encoded, strict=True):
            rows[slot] = row
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
        tokens = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
        return torch.from_numpy(tokens), torch.from_numpy(offsets)


def row_seed(seed: int, epoch: int, sample: int) -> int:
    """What all that is drawn for a sample in an epoch of its source comes from."""
    return stable_hash("row", seed, epoch, sample)


class _Row(NamedTuple):
    sample: int
    captions: CaptionConfig
    """How its caption is chosen."""
    seed: int


def _positive_key(kind: str, caption: str, record: Record, own: int) -> int:
    if kind == "caption":
        return stable_hash("caption", " ".join(caption.casefold().split()))
    # Only a text or a number can be meant; anything else must not tie strangers together.
    key = record.get("positive_key")
    return stable_hash("positive_key", key) if isinstance(key, (str, int)) else own
