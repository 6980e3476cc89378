"""The share of one rank in one global batch, made from nothing but its settings and the step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from data_pipelines.bad_samples import BadSample, Finding
from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig, Record, caption_of
from data_pipelines.hashing import stable_hash
from data_pipelines.manifest import Dataset
from data_pipelines.order import EpochOrder, stream_positions
from data_pipelines.resize import resize_into
from data_pipelines.samples import decoded_sample, sample_name
from data_pipelines.tokenizers import Tokenizer


# The two epochs that a batch may straddle.
@lru_cache(maxsize=2)
def _epoch_order(sizes: tuple[int, ...], seed: int, epoch: int, block_size: int) -> EpochOrder:
    return EpochOrder(sizes, seed=seed, epoch=epoch, block_size=block_size)


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
    captions: CaptionConfig
    positives: tuple[str, ...]
    block_size: int
    image_size: int
    scaled_decoding: bool = False
    batch_size: int
    seed: int
    rank: int
    world_size: int

    def make(self, step: int, check: Callable[[], None] = _never_cancelled) -> MadeBatch:
        """This rank's share of global batch `step`; `check` runs before each sample, and may raise.

        Raises UserError when a shard has vanished or changed.
        """
        indices, row_seeds = self._slots(step)
        num_slots = -(-self.batch_size // self.world_size)
        images = np.empty((num_slots, 3, self.image_size, self.image_size), dtype=np.uint8)
        keys = np.zeros((num_slots, 1 + len(self.positives)), dtype=np.int64)
        seeds = np.zeros(num_slots, dtype=np.int64)
        valid = np.zeros(num_slots, dtype=np.bool_)
        names = [""] * num_slots
        captions: dict[int, str] = {}
        findings = []
        for slot, (index, row_seed) in enumerate(zip(indices, row_seeds, strict=True)):
            check()
            shard, key = sample_name(self.dataset, index)
            names[slot] = f"{shard}:{key}"
            seeds[slot] = row_seed
            try:
                captions[slot], keys[slot] = self._row(index, row_seed, images[slot])
                valid[slot] = True
            except BadSample as bad:
                findings.append(Finding(shard=shard, key=key, cause=bad.cause))
        images[~valid] = 0
        tokens, offsets = self._tokens(captions, num_slots)
        all_keys = torch.from_numpy(keys)
        batch = ImageTextBatch(
            images=torch.from_numpy(images),
            tokens=tokens,
            offsets=offsets,
            image_keys=all_keys,
            text_keys=all_keys,
            valid=torch.from_numpy(valid),
            row_seeds=torch.from_numpy(seeds),
            sample_keys=tuple(names),
        )
        return MadeBatch(batch=batch, num_samples=len(indices), findings=tuple(findings))

    def _slots(self, step: int) -> tuple[list[int], list[int]]:
        """Sample numbers of this rank's slots, and the seeds of their rows."""
        indices: list[int] = []
        epochs: list[int] = []
        first = step * self.batch_size
        for epoch, start, stop in stream_positions(
            self.dataset.num_samples, first, first + self.batch_size
        ):
            order = _epoch_order(self.dataset.shard_sizes, self.seed, epoch, self.block_size)
            indices += order[start:stop].tolist()
            epochs += [epoch] * (stop - start)
        mine = slice(self.rank, None, self.world_size)
        indices, epochs = indices[mine], epochs[mine]
        seeds = [
            stable_hash("row", self.seed, epoch, index)
            for epoch, index in zip(epochs, indices, strict=True)
        ]
        return indices, seeds

    def _row(
        self, index: int, row_seed: int, picture: UInt8[np.ndarray, "3 S S"]
    ) -> tuple[str, list[int]]:
        """Caption and keys of a sample; its pixels are written to `picture`."""
        least_size = self.image_size if self.scaled_decoding else None
        pixels, record = decoded_sample(self.dataset, index, least_size)
        caption = caption_of(record, self.captions, row_seed)
        own = stable_hash("sample", index)
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


def _positive_key(kind: str, caption: str, record: Record, own: int) -> int:
    if kind == "caption":
        return stable_hash("caption", " ".join(caption.casefold().split()))
    # Only a text or a number can be meant; anything else must not tie strangers together.
    key = record.get("positive_key")
    return stable_hash("positive_key", key) if isinstance(key, (str, int)) else own
