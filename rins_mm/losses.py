"""Contrastive losses over the global batch.

Every loss here has one signature. Each rank passes its own rows; the value is that of the global batch,
the same on every rank: the sum over valid pairs divided by the number of valid rows. The gradients of a
rank are its share, so that their *sum* over ranks is the gradient of that value. Which pairs match is
said by keys, not by the diagonal: several pictures may share a caption.

Axes: B rows of this rank, M rows of all ranks, E embedding, K key columns.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rins_mm.distributed import gather, sum_over_ranks
from rins_mm.pair_tiles import LINEAR_FROM, Side
from rins_mm.tiled_sigmoid import Exchange, TiledSigmoid


def matching_pairs(
    image_keys: Int64[Tensor, "B K"], text_keys: Int64[Tensor, "M K"]
) -> Bool[Tensor, "B M"]:
    """True where any key column of the picture and of the text agrees."""
    return (image_keys[:, None, :] == text_keys[None, :, :]).any(dim=-1)


def sigmoid_loss(
    image_features: Float[Tensor, "B E"],
    text_features: Float[Tensor, "B E"],
    *,
    logit_scale: Float[Tensor, "1"],
    logit_bias: Float[Tensor, "1"],
    image_keys: Int64[Tensor, "B K"],
    text_keys: Int64[Tensor, "B K"],
    valid: Bool[Tensor, " B"],
    group: dist.ProcessGroup | None,
    tile_size: int = 0,
    exchange: Exchange = "ring",
    compiler: str = "off",
) -> Float[Tensor, ""]:
    """SigLIP's pairwise loss (arXiv 2303.15343, section 3): every pair is a yes-or-no question of its own.

    Computed over tiles of `tile_size` pictures and texts (0: by device), never the whole pair matrix, with
    the gradients at once; all ranks must give it the same weight in what they differentiate. With a `compiler`
    (a backend of torch.compile) what is done to a tile between its matrix products is compiled.
    """
    value: Tensor = TiledSigmoid.apply(
        image_features,
        text_features,
        logit_scale,
        logit_bias,
        (
            Side(features=image_features.detach(), keys=image_keys, valid=valid),
            Side(features=text_features.detach(), keys=text_keys, valid=valid),
        ),
        group,
        tile_size,
        exchange,
        compiler,
        torch.is_grad_enabled(),
    )
    return value


def dense_sigmoid_loss(
    image_features: Float[Tensor, "B E"],
    text_features: Float[Tensor, "B E"],
    *,
    logit_scale: Float[Tensor, "1"],
    logit_bias: Float[Tensor, "1"],
    image_keys: Int64[Tensor, "B K"],
    text_keys: Int64[Tensor, "B K"],
    valid: Bool[Tensor, " B"],
    group: dist.ProcessGroup | None,
) -> Float[Tensor, ""]:
    """The same loss from the whole pair matrix, left to autograd: the reference of the tiled form."""
    texts, all_keys, all_valid = _gather_rows(text_features, text_keys, valid, group)
    logits = _logits(image_features, texts, logit_scale, logit_bias)
    signs = torch.where(matching_pairs(image_keys, all_keys), -1.0, 1.0)
    losses = F.softplus(signs * logits, threshold=LINEAR_FROM)
    counted = valid[:, None] & all_valid[None, :]
    share = torch.where(counted, losses, 0.0).sum() / all_valid.sum().clamp(min=1)
    return _global_value(share, group)


def softmax_loss(
    image_features: Float[Tensor, "B E"],
    text_features: Float[Tensor, "B E"],
    *,
    logit_scale: Float[Tensor, "1"],
    logit_bias: Float[Tensor, "1"],
    image_keys: Int64[Tensor, "B K"],
    text_keys: Int64[Tensor, "B K"],
    valid: Bool[Tensor, " B"],
    group: dist.ProcessGroup | None,
) -> Float[Tensor, ""]:
    """CLIP's loss (arXiv 2103.00020): cross-entropy over texts for each picture and the reverse, halved.

    Where several texts match, the target is spread evenly over them. The bias has no effect and gets a
    gradient of zero.
    """
    texts, all_text_keys, all_valid = _gather_rows(text_features, text_keys, valid, group)
    images, all_image_keys, _ = _gather_rows(image_features, image_keys, valid, group)
    rows = torch.stack(
        (
            _cross_entropy(
                image_features, texts, logit_scale, image_keys, all_text_keys, all_valid
            ),
            _cross_entropy(
                text_features, images, logit_scale, text_keys, all_image_keys, all_valid
            ),
        )
    ).mean(dim=0)
    share = torch.where(valid, rows, 0.0).sum() / all_valid.sum().clamp(min=1)
    return _global_value(share + 0.0 * logit_bias.sum(), group)


LossFunction = Callable[..., Tensor]

LOSSES: dict[str, LossFunction] = {
    "sigmoid": sigmoid_loss,
    "dense_sigmoid": dense_sigmoid_loss,
    "softmax": softmax_loss,
}


def choose_loss(
    kind: Literal["sigmoid", "softmax"],
    *,
    form: Literal["tiled", "dense"],
    tile_size: int,
    exchange: Exchange,
    compiler: str = "off",
) -> LossFunction:
    """The loss of this kind; form, tiles, exchange and compiler are choices of the sigmoid loss alone."""
    if kind == "softmax":
        return LOSSES["softmax"]
    if form == "dense":
        return LOSSES["dense_sigmoid"]
    return partial(LOSSES["sigmoid"], tile_size=tile_size, exchange=exchange, compiler=compiler)


def _cross_entropy(
    queries: Float[Tensor, "B E"],
    candidates: Float[Tensor, "M E"],
    logit_scale: Float[Tensor, "1"],
    query_keys: Int64[Tensor, "B K"],
    candidate_keys: Int64[Tensor, "M K"],
    candidate_valid: Bool[Tensor, " M"],
) -> Float[Tensor, " B"]:
    logits = _logits(queries, candidates, logit_scale, torch.zeros_like(logit_scale))
    log_probabilities = logits.masked_fill(~candidate_valid, -torch.inf).log_softmax(dim=-1)
    matches = matching_pairs(query_keys, candidate_keys) & candidate_valid
    total = torch.where(matches, log_probabilities, 0.0).sum(dim=-1)
    return -total / matches.sum(dim=-1).clamp(min=1)


def _logits(
    images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor
) -> Float[Tensor, "B M"]:
    """Scaled cosines, accumulated in fp32 (or fp64) also under autocast."""
    with torch.autocast(images.device.type, enabled=False):
        return logit_scale.exp() * (images @ texts.T) + logit_bias


def _gather_rows(
    features: Tensor, keys: Tensor, valid: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    # gloo gathers no booleans.
    return gather(features, group), gather(keys, group), gather(valid.byte(), group).bool()


def _global_value(share: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """The sum of all ranks' shares as value, this rank's share as gradient."""
    # The difference is exactly zero: the value keeps the same bits on every rank.
    return sum_over_ranks(share, group) + (share - share.detach())
