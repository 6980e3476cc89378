"""What the cells are measured against: fp64, one process, the whole batch, the losses written out.

Nothing of `rins_mm.losses`, of the exchange between ranks, or of accumulation is used here. Axes: N pairs.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_pipelines.batch import ImageTextBatch
from rins_mm.augment import augment
from rins_mm.config import TrainConfig
from rins_mm.models.siglip import SigLIP
from rins_mm.models.signatures import expand
from rins_mm.selfcheck.setting import make_model

PARTS = ("image_tower", "text_tower", "logit_scale", "logit_bias")
"""What has gradients of its own, by the first word of its parameters' names."""

NOT_FINITE = 1e30
"""The error of what is no number."""


def reference(config: TrainConfig, batch: ImageTextBatch, kind: str) -> dict[str, Tensor]:
    """The loss, and the gradients of each part in one row."""
    model = make_model(config, torch.float64).train()
    # Pixels are data: fp32, as every cell has them.
    images = augment(batch.images.float() / 255.0, batch.row_seeds, config.augmentation)
    pictures, captions = model(
        images,
        batch.tokens,
        batch.offsets,
        expand(config.image.recursion.signature),
        expand(config.text.recursion.signature),
    )
    pictures, captions = pictures[batch.valid], captions[batch.valid]
    image_keys, text_keys = batch.image_keys[batch.valid], batch.text_keys[batch.valid]
    matches = (image_keys[:, None] == text_keys[None]).any(dim=-1)
    cosines = model.logit_scale.exp() * (pictures @ captions.T)
    loss = WRITTEN_OUT[kind](cosines, model.logit_bias, matches)
    loss.backward()
    return by_part(model, loss.detach())


def by_part(model: SigLIP, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
    """The loss and the gradients that a model holds; where there is none, it is zero."""
    rows: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        rows[name.partition(".")[0]].append(gradient.flatten())
    return {"loss": loss, **{part: torch.cat(gradients) for part, gradients in rows.items()}}


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """How far each part is off, norm-wise, relative to the norm of what it should be."""
    relative = {}
    for part, value in expected.items():
        norm = value.norm().item()
        error = (found[part].double() - value).norm() / (norm or 1.0)
        relative[part] = error.nan_to_num(nan=NOT_FINITE, posinf=NOT_FINITE).item()
    return relative


def _sigmoid(
    cosines: Float[Tensor, "N N"], bias: Float[Tensor, "1"], matches: Bool[Tensor, "N N"]
) -> Float[Tensor, ""]:
    probabilities = torch.sigmoid(cosines + bias)
    right = torch.where(matches, probabilities, 1 - probabilities)
    return -right.log().sum() / len(cosines)


def _softmax(
    cosines: Float[Tensor, "N N"], bias: Float[Tensor, "1"], matches: Bool[Tensor, "N N"]
) -> Float[Tensor, ""]:
    def one_way(logits: Tensor, right: Tensor) -> Tensor:
        shares = right.double() / right.sum(dim=1, keepdim=True)
        return (logits.exp().sum(dim=1).log() - (shares * logits).sum(dim=1)).mean()

    # A bias would change no softmax.
    return (one_way(cosines, matches) + one_way(cosines.T, matches.T)) / 2 + 0.0 * bias.sum()


WRITTEN_OUT: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "sigmoid": _sigmoid,
    "softmax": _softmax,
}
