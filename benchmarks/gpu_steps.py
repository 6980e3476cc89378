"""Whole training steps of this project and of open_clip on made-up batches, for gpu.py."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from data_pipelines import torchvision_cpu  # noqa: F401  (before open_clip)

# isort: split
import torch
import torch.nn.functional as F
from measuring import peak_bytes, seconds_of
from train_shards import Captions

from data_pipelines.batch import ImageTextBatch
from eval.ranks import Ranks
from rins_mm.config import TokenizerConfig, TrainConfig, initial_model
from rins_mm.flops import StepCost
from rins_mm.learner import Learner
from rins_mm.models.draws import RecursionConfig, draw_calls
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.watch import Watch

WARM_UP_STEPS = 3
DIFFERENT_PICTURES = 256
"""Made-up pictures; larger batches repeat them."""
Step = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cases have in common."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    context_length: int
    vocab_size: int
    steps: int
    """Steps, and turns of the loss, that count."""
    loader_samples: int
    """Pairs in the shards that the loader reads."""


@dataclass(frozen=True, kw_only=True)
class StepCase:
    """A whole training step: towers, loss, gradients, update."""

    trainer: Literal["rins_mm", "open_clip"]
    signature: str = "AB"
    skip_probability: float = 0.0
    layout: Literal["packed", "padded"]
    """Of captions: several to a row, or each filled up to the context."""
    compiler: str
    captions: Captions = "natural"
    batch_size: int
    micro_batch_size: int = 0


def run_step(case: StepCase, setting: Setting, device: torch.device) -> dict[str, Any]:
    """Seconds and operations of a step, and the memory at its fullest moment."""
    config = config_of(case, setting)
    batch = made_up_batch(setting, case.captions, case.batch_size)
    with (
        # A rank's folder for steps that go wrong.
        tempfile.TemporaryDirectory() as folder,
        settings_of_open_clip(case),
        # A run has one batch size, which compiled image blocks take for fixed; here others came before.
        torch._dynamo.config.patch(automatic_dynamic_shapes=False),
    ):
        make = our_step if case.trainer == "rins_mm" else peer_step
        begin = time.perf_counter()
        step = make(config, batch, device, folder)
        numbers = range(WARM_UP_STEPS + setting.steps)
        built = time.perf_counter() - begin
        seconds = [seconds_of(lambda n=number: step(n), device) for number in numbers]
    counted = seconds[WARM_UP_STEPS:]
    cost = StepCost(config.image, config.text, embedding_width=setting.width)
    lengths = batch.offsets.diff()
    flops = [
        cost.flops(lengths, *calls_of(config, number), world_size=1)
        for number in numbers[WARM_UP_STEPS:]
    ]
    # Steps of a drawn depth differ, and a mean is what training has; elsewhere a median is steadier.
    average = statistics.mean if case.skip_probability else statistics.median
    return {
        "seconds": average(counted),
        "flops_per_step": statistics.mean(flops),
        "flops_per_second": statistics.median(f / s for f, s in zip(flops, counted, strict=True)),
        "seconds_by_step": seconds,
        "seconds_to_build": built,
        "peak_bytes": peak_bytes(device),
    }


def config_of(case: StepCase, setting: Setting) -> TrainConfig:
    """The towers of the case: a ViT with a class token, as open_clip has it, beside a text tower of its size."""
    heads = setting.width // 64
    return TrainConfig(
        max_steps=1000,
        batch_size=case.batch_size,
        micro_batch_size=case.micro_batch_size,
        compile=case.compiler,  # type: ignore[arg-type]  (what the command line allows)
        image=ImageTowerConfig(
            name="vit_base_patch16_224", image_size=setting.image_size,
            patch_size=setting.patch_size, width=setting.width, depth=setting.depth,
            num_heads=heads,
        ),
        text=TextTowerConfig(
            width=setting.width, depth=setting.depth, num_heads=heads, mlp_width=4 * setting.width,
            context_length=setting.context_length, gelu="exact",
            padding="masked" if case.layout == "packed" else "siglip",
            recursion=RecursionConfig(
                signature=case.signature, skip_probability=case.skip_probability
            ),
        ),
        tokenizer=TokenizerConfig(vocab_size=setting.vocab_size),
    )  # fmt: skip


def made_up_batch(setting: Setting, captions: Captions, batch_size: int) -> ImageTextBatch:
    """Random pictures with captions of 5 to 20 tokens, or as long as the context."""
    draw = torch.Generator().manual_seed(0)
    side, longest = setting.image_size, setting.context_length
    lengths = (
        torch.randint(5, min(20, longest) + 1, (batch_size,), generator=draw)
        if captions == "natural"
        else torch.full((batch_size,), longest)
    )
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    shape = (min(batch_size, DIFFERENT_PICTURES), 3, side, side)
    pictures = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    keys = torch.arange(batch_size)[:, None]
    return ImageTextBatch(
        images=pictures[torch.arange(batch_size) % len(pictures)],
        tokens=torch.randint(2, setting.vocab_size, (int(offsets[-1]),), generator=draw).int(),
        offsets=offsets,
        image_keys=keys,
        text_keys=keys,
        valid=torch.ones(batch_size, dtype=torch.bool),
        row_seeds=torch.arange(batch_size),
        sample_keys=("",) * batch_size,
    )


def our_step(config: TrainConfig, batch: ImageTextBatch, device: torch.device, folder: str) -> Step:
    """This project's step, with all that its trainer does between two batches."""
    ranks = Ranks()
    learner = Learner(
        TrainConfig(**{**vars(config), "run_dir": folder}), initial_model(config, pad_token=0),
        ranks=ranks, device=device, watch=Watch(ranks, 600.0), say=print,
    )  # fmt: skip
    on_device = batch.to(device)
    return lambda number: learner.train_step(number, on_device)


def calls_of(config: TrainConfig, step: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What runs in a step, in the image tower and in the text tower."""
    return (
        draw_calls(config.image.recursion, tower="image", seed=config.seed, step=step),
        draw_calls(config.text.recursion, tower="text", seed=config.seed, step=step),
    )


def open_clip_config(config: TrainConfig) -> dict[str, Any]:
    """open_clip's own model with towers of the same sizes."""
    image, text = config.image, config.text
    return {
        "embed_dim": image.width,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": image.image_size, "layers": image.depth, "width": image.width,
            "head_width": 64, "patch_size": image.patch_size,
        },
        "text_cfg": {
            "context_length": text.context_length, "vocab_size": config.tokenizer.vocab_size,
            "width": text.width, "heads": text.num_heads, "layers": text.depth,
            "no_causal_mask": True,
        },
    }  # fmt: skip


def peer_step(config: TrainConfig, batch: ImageTextBatch, device: torch.device, _: str) -> Step:
    """open_clip's model and sigmoid loss as its trainer drives them: bf16 autocast and torch's AdamW."""
    from open_clip import CLIP
    from open_clip.loss import SigLipLoss

    model = CLIP(**open_clip_config(config)).to(device)
    # As its --torchcompile does.
    forward = model if config.compile == "off" else torch.compile(model, backend=config.compile)
    loss_of = SigLipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
    images = (batch.images.to(device) / 255.0 - 0.5) / 0.5
    rows = [batch.tokens[a:b] for a, b in batch.offsets.unfold(0, 2, 1).tolist()]
    rows[0] = F.pad(rows[0], (0, config.text.context_length - len(rows[0])))
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).long().to(device)

    def step(_: int) -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = loss_of(*forward(images, tokens))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)

    return step


@contextmanager
def settings_of_open_clip(case: StepCase) -> Iterator[None]:
    """What its trainer sets on GPUs, while a case of its is measured."""
    if case.trainer != "open_clip":
        yield
        return
    precision, benchmark = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark
