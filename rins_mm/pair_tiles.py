"""The sigmoid loss of all pairs of pictures and texts, and its gradients, in one pass over tiles.

Sigmoid needs no normaliser: what a pair adds to the loss and to every gradient depends on its own logit
alone. So a tile of the pair matrix is computed, used and forgotten, and what stays is as large as the
features. Nearly all pairs do not match; the few that do are found by their keys, tile by tile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

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


Terms = Callable[
    [Tensor, Side, Side, Tensor, Tensor], tuple[Float64[Tensor, " 3"], Float[Tensor, "N M"]]
]
"""From a tile's cosines, its pictures and texts, scale and bias: what it adds to the totals, and its slopes."""


def add_pairs(
    sums: PairSums,
    text_gradient: Float[Tensor, "M E"] | None,
    images: Side,
    texts: Side,
    *,
    scale: Float[Tensor, "1"],
    bias: Float[Tensor, "1"],
    tile_size: int,
    terms_of: Terms,
) -> None:
    """Add all pairs of these pictures and texts to the sums and to the texts' gradient, in its precision.

    The gradients of features still lack the factor `scale`. Without a text gradient only totals are summed.
    """
    dtype = sums.image_gradient.dtype
    tile = images.features.new_empty(
        min(tile_size, len(images)) * min(tile_size, len(texts)), dtype=dtype
    )
    for top in range(0, len(images), tile_size):
        upper = images.rows(top, tile_size, dtype)
        for left in range(0, len(texts), tile_size):
            lower = texts.rows(left, tile_size, dtype)
            cosines = tile[: len(upper) * len(lower)].view(len(upper), len(lower))
            torch.mm(upper.features, lower.features.T, out=cosines)
            terms, slopes = terms_of(cosines, upper, lower, scale, bias)
            sums.totals += terms
            if text_gradient is not None:
                sums.image_gradient[top : top + tile_size].addmm_(slopes, lower.features)
                text_gradient[left : left + tile_size].addmm_(slopes.T, upper.features)


def terms_in_place(
    cosines: Float[Tensor, "N M"],
    images: Side,
    texts: Side,
    scale: Float[Tensor, "1"],
    bias: Float[Tensor, "1"],
) -> tuple[Float64[Tensor, " 3"], Float[Tensor, "N M"]]:
    """A tile's terms, operation by operation; the cosines are used up.

    All pairs are taken for negatives, but those whose logits are turned: these are looked up by their keys.
    """
    scaled = cosines.mul_(scale)
    signed = scaled + _hidden(texts.valid, bias)
    signed += _hidden(images.valid, torch.zeros_like(bias))[:, None]
    matches = matching_places(images, texts)
    _flip(signed, matches)
    losses = F.softplus(signed, threshold=LINEAR_FROM).sum()
    slopes = _flip(signed.sigmoid_(), matches)
    slope = slopes.sum()
    return torch.stack((losses, scaled.mul_(slopes).sum(), slope)).double(), slopes


@cache
def compiled_terms(backend: str) -> Terms:
    """A tile's terms as one function that torch.compile makes with this backend: with Inductor one reading of
    the cosines, and one writing of the slopes."""
    compiled = torch.compile(terms_at_once, backend=backend, dynamic=True)

    def terms_of(
        cosines: Tensor, images: Side, texts: Side, scale: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        return compiled(cosines, images.keys, texts.keys, images.valid, texts.valid, scale, bias)

    return terms_of


def terms_at_once(
    cosines: Float[Tensor, "N M"],
    image_keys: Int64[Tensor, "N K"],
    text_keys: Int64[Tensor, "M K"],
    image_valid: Bool[Tensor, " N"],
    text_valid: Bool[Tensor, " M"],
    scale: Float[Tensor, "1"],
    bias: Float[Tensor, "1"],
) -> tuple[Float64[Tensor, " 3"], Float[Tensor, "N M"]]:
    """A tile's terms as one expression, to be compiled.

    Compiled, to compare the keys of all pairs costs no memory, and on a GPU next to no time; to look them up,
    as is done in place, makes the host wait for the device in every tile.
    """
    matches = torch.zeros_like(cosines, dtype=torch.bool)
    for image_column, text_column in zip(image_keys.unbind(1), text_keys.unbind(1), strict=True):
        matches = matches | (image_column[:, None] == text_column)
    scaled = cosines * scale
    logits = scaled + bias
    counted = image_valid[:, None] & text_valid
    signed = torch.where(counted, torch.where(matches, -logits, logits), -torch.inf)
    slopes = torch.where(matches, -signed.sigmoid(), signed.sigmoid())
    # Row by row: sums of the whole tile would not be made in the loop that writes the slopes.
    losses = F.softplus(signed, threshold=LINEAR_FROM).sum(1)
    terms = torch.stack((losses, (scaled * slopes).sum(1), slopes.sum(1)))
    return terms.sum(1, dtype=torch.float64), slopes


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
