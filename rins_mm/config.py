"""The configuration of a run: one tree of plain values, from a recipe, a recorded file, and flags."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

import data_pipelines.packs
from data_pipelines.errors import UserError
from data_pipelines.loader import DataConfig
from data_pipelines.tokenizers import (
    Canonicalization,
    ClipTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    read_model,
)
from rins_mm.augment import AugmentationConfig
from rins_mm.guard import GuardConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.locking import lock
from rins_mm.models.siglip import SigLIP, build_model
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig
from rins_mm.schedules import ScheduleConfig

FORMAT_VERSION = 1
EMOJI_TOKENIZER = Path(data_pipelines.packs.__path__[0]) / "emoji" / "tokenizer.model"


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How captions become token ids. The context length is the text tower's."""

    kind: Literal["sentencepiece", "clip"] = "sentencepiece"
    """sentencepiece: a .model file; clip: open_clip's byte-pair encoding."""
    model_file: str = "emoji"
    """sentencepiece only: path of a .model file, or emoji for the one that comes with this project."""
    canonicalize: Canonicalization = "lower_no_punctuation"
    """sentencepiece only: lower case, and punctuation removed, before encoding (SigLIP does both)."""
    vocab_size: int = 3_302
    """How many ids the tokenizer has: the size of the text tower's table, checked against the file."""
    pad_token: int | None = None
    """sentencepiece only, seen only where text.padding is siglip: the id that fills rows (1 for SigLIP's weights)."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The loss and the start of its two parameters."""

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    """sigmoid: SigLIP's; softmax: CLIP's, as a baseline."""
    initial_scale: float = 10.0
    """Start of the factor on cosines; its logarithm is trained."""
    initial_bias: float = -10.0
    """Start of the bias added to scaled cosines: most pairs do not match."""
    form: Literal["tiled", "dense"] = "tiled"
    """sigmoid only. tiled: memory grows with the batch; dense: with its square, as the reference does."""
    tile_size: int = 0
    """tiled only: pictures and texts in a tile of the pair matrix; 0: by device, 1,024 on the CPU."""
    exchange: Literal["ring", "gather"] = "ring"
    """tiled only. ring: texts travel from rank to rank; gather: every rank holds those of all ranks."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured during training, on all ranks."""

    tasks: tuple[str, ...] = ()
    """Task names, such as zero_shot:emoji-style or retrieval:emoji-val."""
    text_signatures: tuple[str, ...] = ()
    """Depths of the text tower to measure; empty: the trained signature and its forms with fewer rounds."""
    data: str = ""
    """Folder of the pictures, for tasks that need one (zero_shot:imagenet)."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What runs that are compared spend alike."""

    match: Literal["steps", "samples", "layer_steps", "flops"] = "steps"
    """steps: max_steps. Otherwise max_steps follows from amount: pairs; blocks that a pair passes in both towers,
    summed over the steps; or training FLOPs (what is computed twice to save memory counts once)."""
    amount: float = 0.0
    """How much of it; 0 with steps."""
    caption_tokens: float = 0.0
    """flops only: mean length of a caption in tokens, by which steps are priced; 0: that of a sample of the data."""


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Weights that a run begins with, and what of them it leaves as they are. Empty names: fresh weights."""

    model: str = ""
    """Both towers, scale and bias: a run, checkpoint or export of this project, open_clip:NAME:FILE,
    open_clip:local-dir:FOLDER, hf:FOLDER, or big_vision:FILE.npz."""
    image: str = ""
    """The image tower alone: any of these, timm:NAME:FILE, or timm:NAME where an installed package has its weights."""
    text: str = ""
    """The text tower alone: any that model can be."""
    strict: bool = True
    """Every weight must fit and be there (positions are interpolated, adapters may begin as the identity);
    otherwise what does not fit begins anew, and is told."""
    lock_image: bool = False
    """Leave the image tower as it begins (LiT)."""
    unlock_from_block: int | None = None
    """lock_image only: train its blocks from this one on (from 0), and what follows them; None: none."""

    @property
    def locks_all_of_image(self) -> bool:
        """Whether training runs the image tower forward alone."""
        return self.lock_image and self.unlock_from_block is None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run is. A recipe returns one; flags change its leaves; config.json records it."""

    run_dir: str = "runs/unnamed"
    """Folder of the run: configuration, metrics, checkpoints, evaluations."""
    max_steps: int = 1000
    """Length of the run in optimizer steps; found from the budget where that matches anything else."""
    batch_size: int = 256
    """Pairs per optimizer step, over all ranks."""
    micro_batch_size: int = 0
    """Pairs of a rank that run through the towers at once, each twice where its share holds more; 0: all."""
    seed: int = 0
    """Every random choice of the run is a pure function of this number."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay; at least 1."""
    checkpoint_async: bool = True
    """Write checkpoints while training goes on, from a copy in memory; the last one is waited for."""
    eval_every: int = 0
    """Steps between evaluations; the last step always evaluates; 0: only then."""
    log_every: int = 10
    """Steps between lines of the log."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """fp32, or bf16 autocast in the towers; weights, loss and updates are fp32 either way."""
    compile: Literal["off", "inductor", "aot_eager"] = "off"
    """Compile the towers' blocks and the tiles of the sigmoid loss (torch.compile) with this backend; inductor takes
    minutes at the start, for faster steps on GPUs and hardly on CPUs."""
    sharding: Literal["none", "fsdp"] = "none"
    """none: every rank holds the whole model; fsdp: a part of its weights, gradients and moments (the same with
    one rank). A run may change it when it is resumed."""
    num_threads: int = 1
    """CPU threads per rank."""
    deterministic: bool = False
    """Repeat a run bit for bit on the same machine, versions, threads and ranks, on GPUs too; slower there."""
    timeout_seconds: float = 600.0
    """A rank that hears nothing from the others for this long gives up."""
    ema_decay: float = 0.0
    """Keep an exponential moving average of the weights with this decay per step, and evaluate it; 0: none."""
    tensorboard: bool = False
    """Also write TensorBoard files."""
    profile: int = 0
    """Steps that the first rank traces by torch's profiler, soon after each start, into profile/; 0: none."""
    init: InitConfig = field(default_factory=InitConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def initial_model(config: TrainConfig, *, pad_token: int) -> SigLIP:
    """The model that a run begins with where no weights are named, locked as the configuration says.

    A pure function of the configuration; `pad_token` is its tokenizer's.
    """
    model = build_model(
        config.image,
        config.text,
        vocab_size=config.tokenizer.vocab_size,
        pad_token=pad_token,
        seed=config.seed,
        initial_scale=config.loss.initial_scale,
        initial_bias=config.loss.initial_bias,
        # Beside the weights their gradients, and at least one mean of these; elsewhere than on a CPU there is
        # room of its own for them.
        copies=1 if config.init.lock_image or torch.cuda.is_available() else 3,
    )
    if config.init.lock_image:
        lock(model.image_tower, unlock_from_block=config.init.unlock_from_block)
    return model


def build_tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer that the configuration names, with the text tower's context length."""
    tokenizer = _open_tokenizer(config.tokenizer, config.text.context_length)
    if tokenizer.vocab_size != config.tokenizer.vocab_size:
        raise UserError(
            f"the {config.tokenizer.kind} tokenizer has {tokenizer.vocab_size} ids, not "
            f"{config.tokenizer.vocab_size}; set --tokenizer.vocab-size {tokenizer.vocab_size}"
        )
    return tokenizer


def _open_tokenizer(config: TokenizerConfig, context_length: int) -> Tokenizer:
    if config.kind == "clip":
        return ClipTokenizer(context_length=context_length)
    path = EMOJI_TOKENIZER if config.model_file == "emoji" else Path(config.model_file)
    model = read_model(path)
    try:
        return SentencePieceTokenizer(
            model,
            canonicalize=config.canonicalize,
            context_length=context_length,
            pad_token=config.pad_token,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
