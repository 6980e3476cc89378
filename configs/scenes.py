"""Small scenes and sentences about them (data_pipelines.prepare.scenes): two plain towers for studies on a CPU core."""

from data_pipelines.loader import DataConfig
from rins_mm.config import LossConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

LOG_EVERY = 20
EVALUATIONS = 8
"""During a run: the points of its learning curve."""


def config(
    *,
    text: RecursionConfig = RecursionConfig(),  # noqa: B008  (frozen)
    image: RecursionConfig = RecursionConfig(),  # noqa: B008  (frozen)
    text_depth: int = 4,
    image_depth: int = 4,
    width: int = 128,
    picture_size: int = 32,
    patch_size: int = 8,
    pairs: int = 300_000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    data: str = "runs/data/scenes",
) -> TrainConfig:
    """A ViT beside a text tower, A and B of two blocks each; `data` is the folder with the splits."""
    max_steps = -(-pairs // batch_size)
    every = LOG_EVERY * max(1, round(max_steps / EVALUATIONS / LOG_EVERY))
    return TrainConfig(
        run_dir="runs/scenes",
        max_steps=max_steps,
        batch_size=batch_size,
        log_every=LOG_EVERY,
        eval_every=every,
        checkpoint_every=every,
        image=ImageTowerConfig(
            image_size=picture_size,
            patch_size=patch_size,
            width=width,
            depth=image_depth,
            num_heads=width // 64,
            recursion=image,
        ),
        text=TextTowerConfig(
            width=width,
            depth=text_depth,
            num_heads=width // 64,
            mlp_width=4 * width,
            context_length=64,
            recursion=text,
        ),
        loss=LossConfig(initial_bias=-5.0),
        data=DataConfig(
            shards=(f"{data}/train/*.tar",),
            positives=("caption", "positive_key"),
            # Siblings lie beside each other in the shards: so they meet in one batch.
            block_size=batch_size,
        ),
        optimizer=OptimizerConfig(
            name="nmuon", peak_learning_rate=learning_rate, weight_decay=0.1, beta2=0.98
        ),
        # Constant but for its ends, so that curves of different lengths can be read beside each other.
        schedule=ScheduleConfig(
            shape="rsqrt",
            warmup_samples=pairs // 10,
            cooldown_samples=pairs // 5,
            timescale_samples=100 * pairs,
        ),
    )
