"""The cases of gpu.py: training steps of this project and of open_clip on made-up batches, and the loss alone."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from data_pipelines import torchvision_cpu  # noqa: F401  (before open_clip)

# isort: split
import torch

from data_pipelines.batch import ImageTextBatch
from eval.ranks import Ranks
from rins_mm.config import TokenizerConfig, TrainConfig
from rins_mm.flops import StepCost
from rins_mm.learner import Learner
from rins_mm.losses import sigmoid_loss
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.recursion import RecursionConfig, draw_calls
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.watch import Watch

Captions = Literal["natural", "full"]
Case = Callable[[], dict[str, Any]]
"""Runs, and says what it measured. It builds its model only then, and keeps nothing."""

WARM_UP_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of both towers, and of the text tower's table."""

    image_size: int
    patch_size: int
    width: int
    depth: int
    context_length: int
    vocab_size: int


def median_seconds(step: Callable[[int], None], device: torch.device, steps: int) -> float:
    """The time of a step in the median, after the first few."""
    seconds = []
    for number in range(WARM_UP_STEPS + steps):
        begin = time.perf_counter()
        step(number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP_STEPS:])


def made_up_batch(sizes: Sizes, captions: Captions, batch_size: int) -> ImageTextBatch:
    """Random pictures with captions of 5 to 20 tokens, or as long as the context."""
    draw = torch.Generator().manual_seed(0)
    longest = sizes.context_length
    lengths = (
        torch.randint(5, min(20, longest) + 1, (batch_size,), generator=draw)
        if captions == "natural"
        else torch.full((batch_size,), longest)
    )
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    side, keys = sizes.image_size, torch.arange(batch_size)[:, None]
    return ImageTextBatch(
        images=torch.randint(0, 256, (batch_size, 3, side, side), generator=draw).to(torch.uint8),
        tokens=torch.randint(2, sizes.vocab_size, (int(offsets[-1]),), generator=draw).int(),
        offsets=offsets,
        image_keys=keys,
        text_keys=keys,
        valid=torch.ones(batch_size, dtype=torch.bool),
        row_seeds=torch.arange(batch_size),
        sample_keys=("",) * batch_size,
    )


def our_case(
    sizes: Sizes,
    device: torch.device,
    signature: str,
    chance: float,
    *,
    captions: Captions,
    batch_size: int,
    steps: int,
) -> Case:
    """This project's whole step: towers, loss, gradients, clipping, update."""
    heads = sizes.width // 64
    config = TrainConfig(
        max_steps=1000,
        batch_size=batch_size,
        image=ImageTowerConfig(
            image_size=sizes.image_size, patch_size=sizes.patch_size, width=sizes.width,
            depth=sizes.depth, num_heads=heads,
        ),
        text=TextTowerConfig(
            width=sizes.width, depth=sizes.depth, num_heads=heads, mlp_width=4 * sizes.width,
            context_length=sizes.context_length,
            recursion=RecursionConfig(signature=signature, skip_probability=chance),
        ),
        tokenizer=TokenizerConfig(vocab_size=sizes.vocab_size),
    )  # fmt: skip

    def run() -> dict[str, Any]:
        model = build_model(
            config.image, config.text, vocab_size=sizes.vocab_size, pad_token=0, seed=0
        )
        ranks = Ranks()
        batch = made_up_batch(sizes, captions, batch_size)
        with tempfile.TemporaryDirectory() as folder:
            learner = Learner(
                TrainConfig(**{**vars(config), "run_dir": folder}), model, ranks=ranks,
                device=device, watch=Watch(ranks, 600.0), say=print,
            )  # fmt: skip
            on_device = batch.to(device)
            seconds = median_seconds(
                lambda number: learner.train_step(number, on_device), device, steps
            )
        cost = StepCost(config.image, config.text, embedding_width=sizes.width)
        # The median step's depth is not known where it is drawn: the mean stands for it.
        flops = [
            cost.flops(batch.offsets.diff(), *calls_of(config, number), world_size=1)
            for number in range(WARM_UP_STEPS, WARM_UP_STEPS + steps)
        ]
        return {"seconds": seconds, "flops_per_step": statistics.mean(flops)}

    return run


def calls_of(config: TrainConfig, step: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What runs in a step, in the image tower and in the text tower."""
    return (
        draw_calls(config.image.recursion, tower="image", seed=config.seed, step=step),
        draw_calls(config.text.recursion, tower="text", seed=config.seed, step=step),
    )


def open_clip_config(sizes: Sizes) -> dict[str, Any]:
    """open_clip's own model with towers of the same sizes."""
    return {
        "embed_dim": sizes.width,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": sizes.image_size, "layers": sizes.depth, "width": sizes.width,
            "head_width": 64, "patch_size": sizes.patch_size,
        },
        "text_cfg": {
            "context_length": sizes.context_length, "vocab_size": sizes.vocab_size,
            "width": sizes.width, "heads": sizes.width // 64, "layers": sizes.depth,
            "no_causal_mask": True,
        },
    }  # fmt: skip


def peer_case(
    sizes: Sizes, device: torch.device, *, captions: Captions, batch_size: int, steps: int
) -> Case:
    """open_clip's model and sigmoid loss as its trainer drives them: bf16 autocast and torch's AdamW."""

    def run() -> dict[str, Any]:
        try:
            from open_clip import CLIP
            from open_clip.loss import SigLipLoss
        except ImportError as error:
            return {"left_out": f"open_clip cannot be imported: {error}"}
        # Its trainer sets this where there is a GPU.
        torch.backends.cuda.matmul.allow_tf32 = True
        model = CLIP(**open_clip_config(sizes)).to(device)
        loss_of = SigLipLoss()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98))
        batch = made_up_batch(sizes, captions, batch_size)
        mean = std = torch.full((3, 1, 1), 0.5)
        images = ((batch.images / 255.0 - mean) / std).to(device)
        rows = [batch.tokens[a:b] for a, b in batch.offsets.unfold(0, 2, 1).tolist()]
        rows[0] = torch.nn.functional.pad(rows[0], (0, sizes.context_length - len(rows[0])))
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).long().to(device)

        def step(_: int) -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = loss_of(*model(images, tokens))
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, 4.6052)

        return {"seconds": median_seconds(step, device, steps)}

    return run


def loss_case(device: torch.device, batch_size: int, width: int, steps: int) -> Case:
    """The sigmoid loss with its gradients, and the three products that it cannot do without."""

    def run() -> dict[str, Any]:
        draw = torch.Generator().manual_seed(0)
        features = [
            torch.nn.functional.normalize(torch.randn(batch_size, width, generator=draw), dim=-1)
            .to(device)
            .requires_grad_()
            for _ in range(2)
        ]
        scale, bias = (
            torch.full((1,), value, device=device, requires_grad=True) for value in (2.3, -10.0)
        )
        keys = torch.arange(batch_size, device=device)[:, None]
        valid = torch.ones(batch_size, dtype=torch.bool, device=device)

        def step(_: int) -> None:
            sigmoid_loss(
                *features, logit_scale=scale, logit_bias=bias, image_keys=keys, text_keys=keys,
                valid=valid, group=None,
            ).backward()  # fmt: skip

        seconds = median_seconds(step, device, steps)
        images, texts = (rows.detach() for rows in features)
        tile = min(batch_size, 4096)

        def products(_: int) -> None:
            # By tiles of rows, so that no product needs batch x batch numbers of memory.
            for rows in images.split(tile):
                logits = rows @ texts.T
                logits @ texts
                logits.T @ rows

        return {
            "seconds": seconds,
            "seconds_of_products": median_seconds(products, device, steps),
        }

    return run
