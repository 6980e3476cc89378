"""ImageTextBatch: the contract between the data engine and everything above it.

Axes: B slots of this rank, T tokens of all its captions, K key columns.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ImageTextBatch:
    """The slots of one rank in one global batch.

    Rank r of W holds slots r, r + W, … of the global batch. All ranks hold equally many; a slot
    without a usable sample (a broken file, or the filling of an uneven share) has `valid = False`,
    zero pixels, and a caption of one end token.
    """

    images: UInt8[Tensor, "B 3 H W"]
    tokens: Int32[Tensor, " T"]
    """Token ids of all captions, one after the other, each closed by its end token."""
    offsets: Int32[Tensor, " B+1"]
    """Caption b is `tokens[offsets[b]:offsets[b + 1]]`; padding is the text tower's business."""
    image_keys: Int64[Tensor, "B K"]
    text_keys: Int64[Tensor, "B K"]
    """Picture i and caption j belong together when `image_keys[i]` and `text_keys[j]` agree in any column."""
    valid: Bool[Tensor, " B"]
    row_seeds: Int64[Tensor, " B"]
    """A hash of (seed, epoch, sample): all randomness of a row, such as augmentation, derives from it."""
    sample_keys: tuple[str, ...]
    """Shard and key of each slot, for messages; empty strings where there is none."""

    @classmethod
    def blank(
        cls, num_slots: int, *, image_size: int, end_token: int, num_keys: int
    ) -> "ImageTextBatch":
        """Slots without a usable sample: what a rank has to show that gets no data any more."""
        keys = torch.zeros(num_slots, num_keys, dtype=torch.int64)
        return cls(
            images=torch.zeros(num_slots, 3, image_size, image_size, dtype=torch.uint8),
            tokens=torch.full((num_slots,), end_token, dtype=torch.int32),
            offsets=torch.arange(num_slots + 1, dtype=torch.int32),
            image_keys=keys,
            text_keys=keys,
            valid=torch.zeros(num_slots, dtype=torch.bool),
            row_seeds=torch.zeros(num_slots, dtype=torch.int64),
            sample_keys=("",) * num_slots,
        )

    def take(self, slots: slice) -> "ImageTextBatch":
        """Some of the slots, with their own tokens; pictures and keys are not copied."""
        lengths = self.offsets.diff()[slots]
        offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0, dtype=torch.int32)))
        moved = (self.offsets[:-1][slots] - offsets[:-1]).repeat_interleave(lengths)
        places = torch.arange(len(moved), device=moved.device) + moved
        return ImageTextBatch(
            images=self.images[slots],
            tokens=self.tokens[places],
            offsets=offsets,
            image_keys=self.image_keys[slots],
            text_keys=self.text_keys[slots],
            valid=self.valid[slots],
            row_seeds=self.row_seeds[slots],
            sample_keys=self.sample_keys[slots],
        )

    def to(self, device: torch.device) -> "ImageTextBatch":
        """The same batch with its tensors on `device`; but the offsets, which decide shapes, stay on the CPU."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            if isinstance(value, Tensor) and name != "offsets"
            else value
            for name, value in vars(self).items()
        }
        return ImageTextBatch(**moved)
