"""What a recipe will cost, before it runs: parameters, operations, memory, time."""

import math
from dataclasses import dataclass, replace

import torch

from rins_mm.config import TrainConfig
from rins_mm.flops import DEVICE_GIB, PEAK_FLOPS, STEP_PER_FORWARD, image_cost, text_cost
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.siglip import SigLIP

BYTES_PER_PARAMETER = 16
"""fp32 weights, gradients and two moments."""

ACTIVATION_BYTES_PER_TOKEN_AND_WIDTH = 34
"""What a pre-norm block keeps in bf16 for its backward pass (arXiv 2205.05198, section 4.1)."""

USABLE_MEMORY = 0.9
"""Share of a device's memory that weights and activations may fill."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Costs of a run as configured. Estimates say so in their names."""

    image_parameters: int
    text_parameters: int
    parameters: int
    adapter_parameters: int
    """Those by which rounds of the same group differ, and what latent thinking injects with."""
    flops_per_pair: float
    """Training, forward and backward, in the mean over the draws of skipped calls."""
    samples: int
    total_flops: float
    state_bytes: float
    """Weights, gradients and moments."""
    estimated_activation_bytes_per_pair: float


def estimate(config: TrainConfig, *, caption_tokens: float) -> Budget:
    """Count a recipe's costs without allocating its weights.

    `caption_tokens` is the mean length of a caption where captions are packed, else that of the longest of a batch.
    """
    with torch.device("meta"):
        model = SigLIP(
            config.image, config.text, vocab_size=config.tokenizer.vocab_size, pad_token=0
        )
    image = replace(image_cost(config.image), is_locked=config.init.locks_all_of_image)
    width = model.image_tower.embedding_width
    text = text_cost(config.text, embedding_width=width, length=caption_tokens)
    flops = image.expected_training() + text.expected_training()
    counts = [
        sum(p.numel() for p in tower.parameters())
        for tower in (model.image_tower, model.text_tower)
    ]
    parameters = sum(p.numel() for p in model.parameters())
    samples = config.max_steps * config.batch_size
    # What is no ViT says nothing of patches; its estimate is that of one with patches of 16 pixels.
    patch_embed = getattr(model.image_tower.backbone, "patch_embed", None)
    patches = getattr(patch_embed, "num_patches", (config.image.image_size // 16) ** 2)
    image_blocks = image.expected_layer_steps(config.image.recursion)
    text_blocks = text.expected_layer_steps(config.text.recursion)
    length = config.text.context_length if config.text.padding == "siglip" else caption_tokens
    activations = ACTIVATION_BYTES_PER_TOKEN_AND_WIDTH * (
        image_blocks * patches * width + text_blocks * length * config.text.width
    )
    return Budget(
        image_parameters=counts[0],
        text_parameters=counts[1],
        parameters=parameters,
        adapter_parameters=sum(p.numel() for p in adapter_parameters(model).values()),
        flops_per_pair=flops,
        samples=samples,
        total_flops=flops * samples,
        state_bytes=float(BYTES_PER_PARAMETER * parameters),
        estimated_activation_bytes_per_pair=activations,
    )


def describe_adapters(number: int, parameters: int) -> str:
    """The parameters of adapters, and their share of all."""
    return f"{number:,} parameters, {number / parameters:.2%} of all"


def describe(budget: Budget, config: TrainConfig, *, device: str, utilisation: float) -> str:
    """The budget in words, with the time on a named device that reaches a share `utilisation` of its peak."""
    is_split = 0 < config.micro_batch_size < config.batch_size
    at_once = config.micro_batch_size if is_split else config.batch_size
    at_once_bytes = budget.estimated_activation_bytes_per_pair * at_once
    room = USABLE_MEMORY * DEVICE_GIB[device] * 2**30 - budget.state_bytes
    # The share of a batch shrinks with more devices, a micro-batch does not.
    enough = room > at_once_bytes if is_split else room > 0
    devices = f"at least {math.ceil(at_once_bytes / room)}" if enough else "none is large enough"
    # What is split runs forward once more.
    flops_per_pair = budget.flops_per_pair * (1 + is_split / STEP_PER_FORWARD)
    rate = PEAK_FLOPS[device] * utilisation / flops_per_pair
    hours = budget.samples / rate / 3600
    lines = (
        (
            "parameters",
            f"{budget.parameters:,} (image {budget.image_parameters:,}, text {budget.text_parameters:,})",
        ),
        (
            "adapters",
            describe_adapters(budget.adapter_parameters, budget.parameters),
        ),
        (
            "signatures",
            f"image {config.image.recursion.signature}, text {config.text.recursion.signature} "
            f"with p_s {config.text.recursion.skip_probability}",
        ),
        ("training FLOPs per pair", f"{budget.flops_per_pair / 1e9:.2f} G"),
        ("pairs", f"{budget.samples:,} ({config.max_steps:,} steps of {config.batch_size:,})"),
        ("training FLOPs", f"{budget.total_flops:.3g}"),
        ("weights, gradients, moments", f"{budget.state_bytes / 2**30:.2f} GiB"),
        (
            f"activations of a {'micro-' if is_split else 'whole '}batch",
            f"about {at_once_bytes / 2**30:.1f} GiB, "
            f"{'on each rank' if is_split else 'shared by all ranks'}",
        ),
        (
            f"{device}s of {DEVICE_GIB[device]} GiB needed",
            f"{devices}: each holds {'a micro-batch' if is_split else 'its share of a batch'} at once",
        ),
        (
            f"time on one {device}",
            f"about {hours:,.1f} h at {utilisation:.0%} of its peak ({rate:,.0f} pairs/s)",
        ),
    )
    return "\n".join(f"{name:<30} {value}" for name, value in lines)
