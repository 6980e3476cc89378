"""What is checked: towers in the form of a recipe, and a small batch of its data."""

import dataclasses

import torch

from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import UserError
from data_pipelines.loader import open_training_data, train_batches
from rins_mm.config import TrainConfig, build_tokenizer, initial_model
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import SigLIP
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTowerConfig

NUM_PAIRS = 24
"""Pairs of the batch, holes among them; 1, 2 and 3 ranks have equal shares of it."""

HOLES = (3, 10)
"""Slots that are made invalid."""


def prepare(config: TrainConfig, *, full: bool) -> TrainConfig:
    """The recipe as it is checked: in toy size unless `full`, and without anything that is drawn by chance.

    What is drawn depends on how a batch is cut up, so that no two ways could agree.
    """
    image = dataclasses.replace(config.image, drop_path=0.0, patch_dropout=0.0)
    return dataclasses.replace(
        config,
        batch_size=NUM_PAIRS,
        micro_batch_size=0,
        precision="fp32",
        ema_decay=0.0,
        image=image if full else _toy_image(image),
        text=config.text if full else _toy_text(config.text),
        data=dataclasses.replace(config.data, num_workers=0, prefetch_batches=1),
    )


def open_batch(config: TrainConfig) -> tuple[ImageTextBatch, str]:
    """One batch with holes and positives beyond the diagonal, and where it comes from, in words."""
    try:
        batch, origin = _real_batch(config), "real data"
    except UserError as error:
        batch, origin = _synthetic_batch(config), f"synthetic data: {error}"
    valid = batch.valid.clone()
    valid[list(HOLES)] = False
    # Whatever the recipe's keys are: pairs 7 and 1 belong together, and 20 and 5.
    image_keys, text_keys = batch.image_keys.clone(), batch.text_keys.clone()
    for keys in (image_keys, text_keys):
        keys[[7, 20]] = image_keys[[1, 5]]
    return dataclasses.replace(
        batch, image_keys=image_keys, text_keys=text_keys, valid=valid
    ), origin


def make_model(config: TrainConfig, dtype: torch.dtype) -> SigLIP:
    """The model of the recipe's seed: the same weights, whatever the precision."""
    return initial_model(config, pad_token=config.tokenizer.pad_token or 0).to(dtype)


def _toy_image(image: ImageTowerConfig) -> ImageTowerConfig:
    if not image.name.startswith("vit"):
        return dataclasses.replace(image, image_size=min(image.image_size, 64))
    return dataclasses.replace(
        image,
        image_size=32,
        patch_size=None if image.stem_channels else 8,
        stem_channels=(8,) * len(image.stem_channels),
        width=32,
        num_heads=2,
        depth=len(set(expand(image.recursion.signature))),
    )


def _toy_text(text: TextTowerConfig) -> TextTowerConfig:
    depth = len(set(expand(text.recursion.signature)))
    return dataclasses.replace(text, width=32, num_heads=2, mlp_width=64, depth=depth)


def _real_batch(config: TrainConfig) -> ImageTextBatch:
    batches = train_batches(
        config.data,
        open_training_data(config.data),
        build_tokenizer(config),
        image_size=config.image.image_size,
        batch_size=NUM_PAIRS,
        seed=config.seed,
        start_step=0,
        num_steps=1,
        rank=0,
        world_size=1,
    )
    (batch,) = batches
    return batch


def _synthetic_batch(config: TrainConfig) -> ImageTextBatch:
    """Noise, with captions of 1 to 20 tokens."""
    generator = torch.Generator().manual_seed(config.seed)

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    lengths = draw(1, min(config.text.context_length, 20) + 1, NUM_PAIRS)
    size, num_tokens = config.image.image_size, int(lengths.sum())
    keys = torch.arange(NUM_PAIRS)[:, None].expand(-1, 1 + len(config.data.positives)).clone()
    return ImageTextBatch(
        images=draw(0, 256, NUM_PAIRS, 3, size, size).to(torch.uint8),
        tokens=draw(0, config.tokenizer.vocab_size, num_tokens).to(torch.int32),
        offsets=torch.cat((torch.zeros(1), lengths.cumsum(0))).to(torch.int32),
        image_keys=keys,
        text_keys=keys.clone(),
        valid=torch.ones(NUM_PAIRS, dtype=torch.bool),
        row_seeds=draw(0, 2**62, NUM_PAIRS),
        sample_keys=("",) * NUM_PAIRS,
    )
