"""The demo: emoji in three drawing styles, in minutes on two CPU cores. The text tower is recursive."""

from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig
from rins_mm.augment import AugmentationConfig
from rins_mm.config import EvaluationConfig, LossConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

BATCH_SIZE = 256


def config(signature: str = "A^3B", skip_probability: float = 0.5) -> TrainConfig:
    """A small ViT with a convolutional stem beside a text tower that runs its first half up to three times."""
    return TrainConfig(
        run_dir="runs/emoji",
        max_steps=850,
        batch_size=BATCH_SIZE,
        checkpoint_every=300,
        precision="bf16",
        image=ImageTowerConfig(
            image_size=32,
            width=192,
            depth=2,
            num_heads=3,
            stem_channels=(64, 128, 192),
        ),
        text=TextTowerConfig(
            width=128,
            depth=2,
            num_heads=2,
            mlp_width=512,
            context_length=32,
            recursion=RecursionConfig(signature=signature, skip_probability=skip_probability),
        ),
        # Small batches hold few wrong pairs: with SigLIP's bias of -10 the vectors collapse first.
        loss=LossConfig(initial_bias=-5.0),
        data=DataConfig(
            shards=("emoji:train",),
            captions=CaptionConfig(kind="label_keywords", num_keywords=4),
            positives=("caption", "positive_key"),
        ),
        augmentation=AugmentationConfig(
            max_rotation_degrees=12.0,
            min_scale=0.8,
            max_scale=1.15,
            max_shift=0.08,
            brightness=0.2,
            contrast=0.2,
            saturation=0.3,
        ),
        # Muon learns this in less than half the steps that AdamW needs.
        optimizer=OptimizerConfig(
            name="nmuon", peak_learning_rate=2e-3, weight_decay=0.1, beta2=0.98
        ),
        schedule=ScheduleConfig(shape="cosine", warmup_samples=85 * BATCH_SIZE),
        evaluation=EvaluationConfig(tasks=("retrieval:emoji-val",)),
    )
