"""Gradients of a batch that does not fit at once, from micro-batches that do.

A contrastive loss is of the whole batch, so that gradients of micro-batches do not simply add up. Instead
(GradCache, arXiv 2101.06983): all features without gradient; the loss of them all, and its gradients with
respect to the features; then every micro-batch once more, from its features' gradients back to the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from data_pipelines.batch import ImageTextBatch

Encode = Callable[[ImageTextBatch], tuple[Tensor, Tensor]]
"""The features of the pictures and of the captions."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a step saw of this rank's share, without gradient."""

    loss: Float[Tensor, ""]
    image_features: Float[Tensor, "B E"]
    text_features: Float[Tensor, "B E"]


def split(batch: ImageTextBatch, micro_batch_size: int) -> list[ImageTextBatch]:
    """The micro-batches of a rank's share, the last one perhaps smaller; 0: the share as it is."""
    num_slots = len(batch.valid)
    if not 0 < micro_batch_size < num_slots:
        return [batch]
    starts = range(0, num_slots, micro_batch_size)
    return [batch.take(slice(start, start + micro_batch_size)) for start in starts]


def find_gradients(
    encode: Encode,
    loss: Callable[[Tensor, Tensor], Tensor],
    parts: Sequence[ImageTextBatch],
    *,
    seed: Callable[[int], None],
    running_statistics: Sequence[Tensor] = (),
) -> Found:
    """Add the gradients of the loss of all parts together to those of the parameters.

    `loss` is called once, with the features of all parts. `seed` is called with the number of the part
    before each run of it: what `encode` draws must come from there, so that both runs agree. Both runs
    of a part change the `running_statistics` (of BatchNorm); only the first one counts.
    """
    if len(parts) == 1:
        seed(0)
        image_features, text_features = encode(parts[0])
        value = loss(image_features, text_features)
        value.backward()
    else:
        image_features, text_features = _encode_all(encode, parts, seed)
        value = loss(image_features.requires_grad_(), text_features.requires_grad_())
        # Scale and bias get their gradients here, once; the towers get theirs below.
        value.backward()
        statistics = [buffer.clone() for buffer in running_statistics]
        first = 0
        for number, part in enumerate(parts):
            rows = slice(first, first := first + len(part.valid))
            seed(number)
            gradients = (_grad(image_features)[rows], _grad(text_features)[rows])
            # The features of a locked tower lead back to no weight.
            pairs = [
                (f, g) for f, g in zip(encode(part), gradients, strict=True) if f.requires_grad
            ]
            features, wanted = zip(*pairs, strict=True)
            torch.autograd.backward(features, wanted)
        for buffer, after_first_run in zip(running_statistics, statistics, strict=True):
            buffer.copy_(after_first_run)
    return Found(
        loss=value.detach(),
        image_features=image_features.detach(),
        text_features=text_features.detach(),
    )


@torch.no_grad()
def _encode_all(
    encode: Encode, parts: Sequence[ImageTextBatch], seed: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    features = []
    for number, part in enumerate(parts):
        seed(number)
        features.append(encode(part))
    images, texts = zip(*features, strict=True)
    return torch.cat(images), torch.cat(texts)


def _grad(features: Tensor) -> Tensor:
    assert features.grad is not None
    return features.grad
