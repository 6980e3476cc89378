"""The sigmoid loss of all pairs of pictures and texts, and its gradients, in one pass over tiles.

Sigmoid needs no normaliser: what a pair adds to the loss and to every gradient depends on its own logit
alone. So a tile of the pair matrix is computed, used and forgotten, and what stays is as large as the
features. Nearly all pairs do not match; the few that do are found by their keys, tile by tile.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

TILE_SIZES = {"cpu": 1024, "cuda": 4096}
"""Rows and columns of a tile by device. On the CPU the quickest measured; not measured on GPUs yet."""

LINEAR_FROM = 40.0
"""From here on softplus(x) is x to the last bit, in fp64 too (torch's own threshold of 20 is not)."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """Pictures or texts: their features, the keys by which they match, and which of them count."""

    features: Float[Tensor, "N E"]
    keys: Int64[Tensor, "N K"]
    valid: Bool[Tensor, " N"]

    def __len__(self) -> int:
        return self.features.shape[0]

    def rows(self, begin: int, size: int, dtype: torch.dtype) -> "Side":
        """Some of the rows, with features of this type."""
        part = slice(begin, begin + size)
        return Side(
            features=self.features[part].to(dtype), keys=self.keys[part], valid=self.valid[part]
        )


class PairSums:
    """Sums over pairs, before the division by the number of valid rows."""

    def __init__(self, images: Float[Tensor, "B E"], dtype: torch.dtype) -> None:
        self.totals: Float64[Tensor, " 3"] = images.new_zeros(3, dtype=torch.float64)
        """Of the losses, and of their derivatives by the logarithm of the scale and by the bias."""
        self.image_gradient: Float[Tensor, "B E"] = torch.zeros_like(images, dtype=dtype)


def add_pairs(
    sums: PairSums,
    text_gradient: Float[Tensor, "M E"] | None,
    images: Side,
    texts: Side,
    *,
    scale: Float[Tensor, "1"],
    bias: Float[Tensor, "1"],
    tile_size: int,
) -> None:
    """Add all pairs of these pictures and texts to the sums and to the texts' gradient, in its precision.

    The gradients of features still lack the factor `scale`. Without a text gradient only losses are summed.
    """
    dtype = sums.image_gradient.dtype
    logits, scores = images.features.new_empty(
        2, min(tile_size, len(images)) * min(tile_size, len(texts)), dtype=dtype
    )
    for top in range(0, len(images), tile_size):
        upper = images.rows(top, tile_size, dtype)
        for left in range(0, len(texts), tile_size):
            lower = texts.rows(left, tile_size, dtype)
            shape, pairs = (len(upper), len(lower)), len(upper) * len(lower)
            similarities = torch.mm(
                upper.features, lower.features.T, out=scores[:pairs].view(shape)
            ).mul_(scale)
            signed = torch.add(
                similarities, _hidden(lower.valid, bias), out=logits[:pairs].view(shape)
            )
            signed += _hidden(upper.valid, torch.zeros_like(bias))[:, None]
            matches = matching_places(upper, lower)
            _flip(signed, matches)
            sums.totals[0] += F.softplus(signed, threshold=LINEAR_FROM).sum()
            if text_gradient is None:
                continue
            slopes = _flip(signed.sigmoid_(), matches)
            sums.image_gradient[top : top + tile_size].addmm_(slopes, lower.features)
            text_gradient[left : left + tile_size].addmm_(slopes.T, upper.features)
            sums.totals[2] += slopes.sum()
            sums.totals[1] += similarities.mul_(slopes).sum()


def matching_places(images: Side, texts: Side) -> Int64[Tensor, " P"]:
    """Where in the flattened pair matrix valid rows agree in a key column; some places more than once.

    Each column of texts is sorted and the pictures' keys are looked up in it, which costs next to
    nothing beside comparing all pairs.
    """
    places = []
    for image_keys, text_keys in zip(images.keys.T, texts.keys.T, strict=True):
        ordered, order = text_keys.sort()
        wanted = image_keys.contiguous()
        first = torch.searchsorted(ordered, wanted)
        counts = torch.searchsorted(ordered, wanted, right=True) - first
        rows = torch.arange(len(images), device=counts.device).repeat_interleave(counts)
        # The number of each match among those of its picture.
        numbers = torch.arange(len(rows), device=counts.device) - (counts.cumsum(0) - counts)[rows]
        columns = order[first[rows] + numbers]
        both = images.valid[rows] & texts.valid[columns]
        places.append((rows * len(texts) + columns)[both])
    return torch.cat(places)


def _hidden(valid: Tensor, offset: Tensor) -> Tensor:
    """The offset of each row; pairs of a row that does not count get logits of -inf: no loss, no slope."""
    return torch.where(valid, offset, -torch.inf)


def _flip(values: Tensor, places: Tensor) -> Tensor:
    # Read before it is written: a place that comes twice is still turned once.
    flat = values.view(-1)
    flat[places] = -flat[places]
    return values
