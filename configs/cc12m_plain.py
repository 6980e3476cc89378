"""ViT-B/16 at 224 pixels on CC12M (about 10 million pairs that can still be had, 30 passes), plain towers.

torchrun --nproc-per-node 8 -m rins_mm.train cc12m_plain --data.shards 'cc12m/*.tar'
"""

from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig
from rins_mm.config import TokenizerConfig, TrainConfig
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.sizes import text_tower
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

BATCH_SIZE = 4_096


def config(
    text_recursion: RecursionConfig = RecursionConfig(),  # noqa: B008  (frozen)
    run_dir: str = "runs/cc12m_plain",
) -> TrainConfig:
    """The plain arm of the pair; `text_recursion` makes the other."""
    return TrainConfig(
        run_dir=run_dir,
        max_steps=73_000,
        batch_size=BATCH_SIZE,
        checkpoint_every=2_000,
        log_every=20,
        image=ImageTowerConfig(name="vit_base_patch16_siglip_224", image_size=224),
        text=text_tower("B", context_length=64, recursion=text_recursion),
        tokenizer=TokenizerConfig(kind="clip", vocab_size=49_408),
        data=DataConfig(
            shards=("cc12m/*.tar",), captions=CaptionConfig(kind="text"), num_workers=8
        ),
        optimizer=OptimizerConfig(peak_learning_rate=1e-3, weight_decay=0.1, beta2=0.95),
        schedule=ScheduleConfig(shape="cosine", warmup_samples=2_000 * BATCH_SIZE),
    )
