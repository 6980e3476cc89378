"""A recipe that trains in seconds: two tiny towers on the validation split of the emoji pack."""

from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig
from rins_mm.augment import AugmentationConfig
from rins_mm.config import TokenizerConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig


def config() -> TrainConfig:
    """Recursive text tower, random rounds, augmentation, positives beyond the diagonal: all that could go wrong."""
    return TrainConfig(
        run_dir="runs/toy",
        max_steps=20,
        batch_size=32,
        checkpoint_every=10,
        log_every=1,
        precision="fp32",
        timeout_seconds=60.0,
        image=ImageTowerConfig(image_size=32, patch_size=8, width=64, depth=2, num_heads=2),
        text=TextTowerConfig(
            width=64,
            depth=2,
            num_heads=2,
            mlp_width=128,
            context_length=24,
            recursion=RecursionConfig(signature="A^3B", skip_probability=0.5),
        ),
        tokenizer=TokenizerConfig(),
        data=DataConfig(
            shards=("emoji:val",),
            captions=CaptionConfig(kind="label_keywords"),
            positives=("caption", "positive_key"),
        ),
        augmentation=AugmentationConfig(
            max_rotation_degrees=10.0, min_scale=0.9, max_scale=1.1, max_shift=0.05, brightness=0.2
        ),
        optimizer=OptimizerConfig(peak_learning_rate=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(shape="cosine"),
    )
