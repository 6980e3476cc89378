"""DataComp's small scale (arXiv 2304.14108): ViT-B/32, 12.8 million samples, batch 4,096, plain towers.

torchrun --nproc-per-node 4 -m rins_mm.train datacomp_small_plain --data.shards 'datacomp/*.tar'
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
    run_dir: str = "runs/datacomp_small_plain",
) -> TrainConfig:
    """The plain arm of the pair; rate, warm-up and decay are those that DataComp fixes for this scale."""
    return TrainConfig(
        run_dir=run_dir,
        max_steps=3_125,
        batch_size=BATCH_SIZE,
        checkpoint_every=500,
        log_every=10,
        image=ImageTowerConfig(name="vit_base_patch16_siglip_224", image_size=224, patch_size=32),
        text=text_tower("M", context_length=64, recursion=text_recursion),
        tokenizer=TokenizerConfig(kind="clip", vocab_size=49_408),
        data=DataConfig(
            shards=("datacomp/*.tar",), captions=CaptionConfig(kind="text"), num_workers=8
        ),
        optimizer=OptimizerConfig(peak_learning_rate=5e-4, weight_decay=0.2, beta2=0.98),
        schedule=ScheduleConfig(shape="cosine", warmup_samples=500 * BATCH_SIZE),
    )
