"""SigLIP B/16 at 256 pixels on 10 billion pairs: the settings of "No Filter" (arXiv 2405.13777, section 2).

Give your own shards and a sentencepiece model of 32,000 pieces. `--dry-run` says how many devices hold a batch:

    torchrun --nnodes 4 --nproc-per-node 8 -m rins_mm.train siglip_b16 --data.shards 'shards/*.tar' \\
        --tokenizer.model-file c4_en.model
"""

from data_pipelines.loader import DataConfig
from rins_mm.config import TokenizerConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.sizes import text_tower
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

BATCH_SIZE = 16_384


def config(
    text_recursion: RecursionConfig = RecursionConfig(),  # noqa: B008  (frozen)
    run_dir: str = "runs/siglip_b16",
) -> TrainConfig:
    """The plain baseline; `text_recursion` makes the text tower recursive."""
    return TrainConfig(
        run_dir=run_dir,
        max_steps=610_000,
        batch_size=BATCH_SIZE,
        checkpoint_every=5_000,
        log_every=50,
        image=ImageTowerConfig(name="vit_base_patch16_siglip_256", image_size=256),
        text=text_tower("B", context_length=64, recursion=text_recursion),
        tokenizer=TokenizerConfig(model_file="c4_en.model", vocab_size=32_000),
        data=DataConfig(shards=("shards/*.tar",), num_workers=8),
        # A decay of 1e-4 that is not multiplied by the rate of 1e-3 is torch's 0.1.
        optimizer=OptimizerConfig(
            name="adafactorbv", peak_learning_rate=1e-3, weight_decay=0.1, beta1=0.9, beta2=0.999
        ),
        schedule=ScheduleConfig(
            shape="rsqrt",
            warmup_samples=50_000 * BATCH_SIZE,
            cooldown_samples=50_000 * BATCH_SIZE,
            timescale_samples=10_000 * BATCH_SIZE,
        ),
    )
