"""The loss on a fixed set of batches: the same pictures, captions and negatives for every arm and seed."""

import hashlib
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import UserError
from data_pipelines.loader import open_training_data, train_batches
from rins_mm.config import TrainConfig
from rins_mm.encoder import SigLIPEncoder
from rins_mm.losses import choose_loss
from rins_mm.models.siglip import unit
from rins_mm.models.signatures import expand
from rins_mm.study.design import HeldOut


@dataclass(frozen=True, kw_only=True)
class HeldOutLoss:
    """The mean loss over the batches at each depth of the text tower."""

    losses: dict[str, float]
    fingerprint: str
    """Of the pictures and of which captions they go with: arms that differ in it cannot be compared."""


@torch.no_grad()
def held_out_loss(
    encoder: SigLIPEncoder, config: TrainConfig, held_out: HeldOut, signatures: Sequence[str]
) -> HeldOutLoss:
    """The loss that the run was trained by, without augmentation, in fp32, on the batches of `held_out`.

    All rounds of each signature run; the image tower is at its trained depth. Raises UserError for a
    loss that is no number.
    """
    model = encoder.model.eval().float()
    loss_of = choose_loss(
        config.loss.kind, form="dense", tile_size=0, exchange="gather", compiler="off"
    )
    image_calls, depths = expand(encoder.image_signature), [expand(s) for s in signatures]
    sums, digest = dict.fromkeys(signatures, 0.0), hashlib.sha256()
    batches = _batches(encoder, config, held_out)
    with closing(batches):
        for batch in batches:
            for facts in (batch.images, batch.image_keys, batch.text_keys, batch.valid):
                digest.update(facts.contiguous().numpy().data)
            part = batch.to(encoder.device)
            pictures = unit(model.image_tower(part.images.float() / 255.0, image_calls))
            texts = model.text_tower.forward_variants(part.tokens, part.offsets, depths)
            for signature, vectors in zip(signatures, texts, strict=True):
                value = loss_of(
                    pictures,
                    unit(vectors),
                    logit_scale=model.logit_scale,
                    logit_bias=model.logit_bias,
                    image_keys=part.image_keys,
                    text_keys=part.text_keys,
                    valid=part.valid,
                    group=None,
                )
                sums[signature] += float(value) / held_out.num_batches
    if not all(math.isfinite(value) for value in sums.values()):
        raise UserError(
            f"the loss of {encoder.name} on the held-out batches is not finite ({sums}): its training has "
            "diverged; lower the learning rate"
        )
    return HeldOutLoss(losses=sums, fingerprint=digest.hexdigest())


def _batches(
    encoder: SigLIPEncoder, config: TrainConfig, held_out: HeldOut
) -> Generator[ImageTextBatch, None, None]:
    data = replace(config.data, shards=held_out.shards, mixture=(), deny_lists=(), num_workers=0)
    return train_batches(
        data,
        open_training_data(data),
        encoder.tokenizer,
        image_size=config.image.image_size,
        batch_size=held_out.batch_size,
        seed=held_out.seed,
        start_step=0,
        num_steps=held_out.num_batches,
        rank=0,
        world_size=1,
    )
