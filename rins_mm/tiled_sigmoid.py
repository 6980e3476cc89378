"""The sigmoid loss as one autograd function: the gradients come out of its forward pass.

Across ranks either all texts come to every rank (`gather`), or blocks of texts travel from rank to rank
(`ring`): then what a rank holds does not grow with their number. The gradient of a block follows it one
hop later, so that both travel while tiles are computed, and after a round it is back where it belongs.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from rins_mm.distributed import gather, scatter_sum, sum_over_ranks
from rins_mm.pair_tiles import (
    TILE_SIZES,
    PairSums,
    Side,
    add_pairs,
    compiled_terms,
    terms_in_place,
)
from rins_mm.ring import Ring

Exchange = Literal["ring", "gather"]


class TiledSigmoid(torch.autograd.Function):
    """The loss of the global batch, equal on all ranks; the gradients of a rank are its share."""

    @staticmethod
    def forward(
        context: Any,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor,
        sides: tuple[Side, Side],
        group: dist.ProcessGroup | None,
        tile_size: int,
        exchange: Exchange,
        compiler: str,
        with_gradients: bool,
    ) -> Tensor:
        images, texts = sides
        leaves = (image_features, text_features, logit_scale, logit_bias)
        dtype = torch.promote_types(image_features.dtype, text_features.dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        scale = logit_scale.to(dtype).exp()
        one_pass = _around_the_ring if exchange == "ring" else _with_all_texts
        # Autocast would round the logits, and the slopes, to bf16.
        with torch.autocast(image_features.device.type, enabled=False):
            sums, text_gradient, num_valid = one_pass(
                images,
                texts,
                group,
                dtype=dtype,
                with_gradients=with_gradients,
                scale=scale,
                bias=logit_bias.to(dtype),
                tile_size=tile_size or TILE_SIZES.get(image_features.device.type, 4096),
                terms_of=terms_in_place if compiler == "off" else compiled_terms(compiler),
            )
        # fp64, as the totals are.
        per_row = 1.0 / num_valid.clamp(min=1).double()
        if text_gradient is not None:
            factor = (scale * per_row).to(dtype)
            gradients = (
                sums.image_gradient.mul_(factor),
                text_gradient.mul_(factor),
                *(sums.totals[1:, None] * per_row),
            )
            context.save_for_backward(
                *(found.to(leaf.dtype) for found, leaf in zip(gradients, leaves, strict=True))
            )
        return sum_over_ranks(sums.totals[0] * per_row, group).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = gradients
        own = (saved * factor.to(saved.dtype) for saved in context.saved_tensors)
        return (*own, None, None, None, None, None, None)


def _with_all_texts(
    images: Side,
    texts: Side,
    group: dist.ProcessGroup | None,
    *,
    dtype: torch.dtype,
    with_gradients: bool,
    **settings: Any,
) -> tuple[PairSums, Tensor | None, Int64[Tensor, ""]]:
    """Sums of this rank's pictures with all texts, the gradient of its own texts, and how many are valid."""
    everyone = _unpacked(gather(texts.features, group), gather(_packed(texts), group))
    sums = PairSums(images.features, dtype)
    gradient = torch.zeros_like(everyone.features, dtype=dtype) if with_gradients else None
    add_pairs(sums, gradient, images, everyone, **settings)
    if gradient is not None:
        gradient = scatter_sum(gradient, group)
    return sums, gradient, everyone.valid.sum()


def _around_the_ring(
    images: Side,
    texts: Side,
    group: dist.ProcessGroup | None,
    *,
    dtype: torch.dtype,
    with_gradients: bool,
    **settings: Any,
) -> tuple[PairSums, Tensor | None, Int64[Tensor, ""]]:
    """The same from one block of texts after another: that of rank r, r-1, …"""
    ring = Ring(group)
    sums = PairSums(images.features, dtype)
    num_valid = texts.valid.sum()
    gradient: Float[Tensor, "B E"] | None = None
    for hop in range(ring.size):
        last = hop == ring.size - 1
        next_texts = None if last else ring.pass_on(texts.features, _packed(texts))
        # What the ranks before have added up for the texts that are here now.
        so_far = None if gradient is None else ring.pass_on(gradient)
        gradient = torch.zeros_like(texts.features, dtype=dtype) if with_gradients else None
        add_pairs(sums, gradient, images, texts, **settings)
        if gradient is not None and so_far is not None:
            gradient += so_far.wait()[0]
        if next_texts is not None:
            texts = _unpacked(*next_texts.wait())
            num_valid = num_valid + texts.valid.sum()
    if gradient is not None and ring.size > 1:
        (gradient,) = ring.pass_on(gradient).wait()
    return sums, gradient, num_valid


def _packed(texts: Side) -> Int64[Tensor, "N L"]:
    """Keys and validity as one tensor (gloo sends no booleans)."""
    return torch.cat((texts.keys, texts.valid[:, None].long()), dim=1)


def _unpacked(features: Tensor, packed: Int64[Tensor, "N L"]) -> Side:
    return Side(features=features, keys=packed[:, :-1], valid=packed[:, -1].bool())
