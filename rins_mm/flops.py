"""What a run costs, counted from the calls that run.

Counts are of matrix products and convolutions, two operations per multiply-add, as torch's own counter
counts them. Axes: L tokens of a caption.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Real
from timm.layers import PatchDropout
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rins_mm.models.adapters import expected_uses, rounds_with_adapters, uses
from rins_mm.models.draws import (
    CORE,
    RecursionConfig,
    expected_calls,
    expected_rounds_without_gradient,
    rounds_without_gradient,
)
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig, set_fused_attention
from rins_mm.models.signatures import Calls, group_sizes
from rins_mm.models.text_tower import TextTowerConfig

STEP_PER_FORWARD = 3
"""A training step multiplies once in the forward and twice in the backward pass."""

PEAK_FLOPS = {"h100": 989e12, "h200": 989e12, "a100": 312e12, "l40s": 362e12, "rtx4090": 165e12}
"""Dense bf16 operations per second of one device, from the makers' data sheets."""

DEVICE_GIB = {"h100": 80, "h200": 141, "a100": 80, "l40s": 48, "rtx4090": 24}
"""Memory of one device, in GiB, from the same sheets."""


@dataclass(frozen=True, kw_only=True)
class TowerCost:
    """Forward operations for one picture or one caption."""

    outside_blocks: float
    per_group: dict[str, float]
    blocks_per_group: dict[str, int]
    recursion: RecursionConfig
    per_adapter: dict[str, float] = field(default_factory=dict)
    """One use of an adapter of each group; what latent thinking injects is counted with its core."""
    is_locked: bool = False
    """Whether training leaves the tower as it is, and runs it forward alone."""

    def forward(self, calls: Calls) -> float:
        """Operations of one forward pass under these calls."""
        adapters = sum(self.per_adapter[letter] for letter, _ in uses(self.recursion, calls))
        return self.outside_blocks + sum(self.per_group[letter] for letter in calls) + adapters

    def training(self, calls: Calls) -> float:
        """Operations of a forward and a backward pass; rounds without gradient have a forward pass alone."""
        if self.is_locked:
            return self.forward(calls)
        alone = rounds_without_gradient(self.recursion, calls) * self.per_group.get(CORE, 0.0)
        return STEP_PER_FORWARD * (self.forward(calls) - alone) + alone

    def expected_training(self) -> float:
        """The same in the mean over the draws."""
        if self.is_locked:
            return self.expected_forward(self.recursion)
        rounds = expected_rounds_without_gradient(self.recursion)
        alone = rounds * self.per_group.get(CORE, 0.0)
        return STEP_PER_FORWARD * (self.expected_forward(self.recursion) - alone) + alone

    def layer_steps(self, calls: Calls) -> int:
        """How many blocks run under these calls."""
        return sum(self.blocks_per_group[letter] for letter in calls)

    def expected_forward(self, recursion: RecursionConfig) -> float:
        """Operations of one forward pass in training, in the mean over the draws of skipped calls."""
        adapters = sum(
            number * self.per_adapter[letter] for letter, number in expected_uses(recursion).items()
        )
        return self.outside_blocks + _expected(self.per_group, recursion) + adapters

    def expected_layer_steps(self, recursion: RecursionConfig) -> float:
        """Blocks that run in one forward pass in training, in the mean over the draws."""
        return _expected(self.blocks_per_group, recursion)


def _expected(per_group: Mapping[str, float | int], recursion: RecursionConfig) -> float:
    return sum(per_group[letter] * number for letter, number in expected_calls(recursion).items())


def text_cost(config: TextTowerConfig, *, embedding_width: int, length: float) -> TowerCost:
    """The text tower on captions of `length` tokens (the context length where padding is attended)."""
    L = float(config.context_length) if config.padding == "siglip" else length
    return _captions_cost(config, embedding_width, captions=1, tokens=L, pairs_of_tokens=L * L)


def _captions_cost(
    config: TextTowerConfig,
    embedding_width: int,
    *,
    captions: int,
    tokens: float,
    pairs_of_tokens: float,
) -> TowerCost:
    """The text tower on several captions: their tokens, and the sum of their squared lengths."""
    projections = 2 * tokens * (4 * config.width**2 + 2 * config.width * config.mlp_width)
    attention = 4 * pairs_of_tokens * config.width
    blocks = group_sizes(config.recursion.signature, config.depth, config.recursion.split)
    per_group = {letter: size * (projections + attention) for letter, size in blocks.items()}
    if config.recursion.kind == "latent":
        per_group[CORE] += 4 * tokens * config.width**2
    return TowerCost(
        outside_blocks=2.0 * captions * config.width * embedding_width,
        per_group=per_group,
        blocks_per_group=blocks,
        recursion=config.recursion,
        per_adapter={
            letter: tokens * _adapter_operations(config, number)
            for letter, number in blocks.items()
        },
    )


def _adapter_operations(config: TextTowerConfig, blocks: int) -> float:
    """For one token and one use of an adapter of a group of so many blocks."""
    width, adapter = config.width, config.recursion.adapter
    if adapter == "lora":
        # Inputs and outputs of the block's linear layers.
        ends = 8 * width + 2 * config.mlp_width
        return 2.0 * blocks * config.recursion.adapter_rank * ends
    return 2.0 * width**2 if adapter == "linear" else 0.0


class StepCost:
    """Model operations of training steps, from the calls that ran and the captions that were read.

    What is computed twice to save memory counts once, and padding that is not computed not at all.
    """

    def __init__(
        self,
        image: ImageTowerConfig,
        text: TextTowerConfig,
        *,
        embedding_width: int,
        image_is_locked: bool = False,
    ) -> None:
        self.image = replace(image_cost(image, training=True), is_locked=image_is_locked)
        self.text = text
        self.embedding_width = embedding_width
        self.text_blocks = group_sizes(text.recursion.signature, text.depth, text.recursion.split)

    def flops(
        self,
        caption_lengths: Real[Tensor, " B"],
        image_calls: Calls,
        text_calls: Calls,
        *,
        world_size: int,
    ) -> float:
        """Operations of one rank's share of a step: towers, and its rows of the loss."""
        B = len(caption_lengths)
        text = self._text_cost(caption_lengths).training(text_calls)
        return B * self.image.training(image_calls) + text + self._loss_flops(B, world_size)

    def expected_flops(self, caption_lengths: Real[Tensor, " B"], *, world_size: int) -> float:
        """The same in the mean over the draws."""
        B = len(caption_lengths)
        text = self._text_cost(caption_lengths).expected_training()
        return B * self.image.expected_training() + text + self._loss_flops(B, world_size)

    def _text_cost(self, caption_lengths: Real[Tensor, " B"]) -> TowerCost:
        lengths = laid_out(self.text, caption_lengths.double())
        return _captions_cost(
            self.text,
            self.embedding_width,
            captions=len(lengths),
            tokens=float(lengths.sum()),
            pairs_of_tokens=float(lengths.square().sum()),
        )

    def _loss_flops(self, B: int, world_size: int) -> float:
        return STEP_PER_FORWARD * 2.0 * B * (B * world_size) * self.embedding_width

    def layer_steps(self, image_calls: Calls, text_calls: Calls) -> int:
        """How many blocks a pair passes, in both towers."""
        text = sum(self.text_blocks[letter] for letter in text_calls)
        return self.image.layer_steps(image_calls) + text

    def expected_layer_steps(self) -> float:
        """The same in the mean over the draws."""
        image = self.image.expected_layer_steps(self.image.recursion)
        return image + _expected(self.text_blocks, self.text.recursion)


def laid_out(config: TextTowerConfig, lengths: Tensor) -> Tensor:
    """The lengths that captions have when they are computed, with the padding that is computed too."""
    if config.padding == "siglip":
        return torch.full_like(lengths, config.context_length)
    return lengths if config.packing else lengths.max().expand_as(lengths)


def image_cost(config: ImageTowerConfig, *, training: bool = False) -> TowerCost:
    """The image tower, counted by running it without data: this holds for any timm model.

    In training, patches that are dropped cost nothing.
    """
    tower = _empty_tower(config, training=training)
    if tower.stack is None:
        return TowerCost(
            outside_blocks=_count(tower, ()),
            per_group={"A": 0.0, "B": 0.0},
            blocks_per_group={"A": 0, "B": 0},
            recursion=config.recursion,
        )
    plain = tower
    if config.recursion.adapter != "none":
        recursion = replace(config.recursion, adapter="none")
        plain = _empty_tower(replace(config, recursion=recursion), training=training)
    outside = _count(plain, ())
    per_group = {letter: _count(plain, (letter,)) - outside for letter in tower.stack.groups}
    return TowerCost(
        outside_blocks=outside,
        per_group=per_group,
        blocks_per_group={letter: len(blocks) for letter, blocks in tower.stack.groups.items()},
        recursion=config.recursion,
        per_adapter={
            # Two rounds use one adapter at least.
            letter: (_count(tower, (letter, letter)) - _count(plain, (letter, letter)))
            / len(uses(config.recursion, (letter, letter)))
            for letter in rounds_with_adapters(config.recursion)
        },
    )


def _empty_tower(config: ImageTowerConfig, *, training: bool) -> ImageTower:
    """A tower without weights that counts as one in training, or in use."""
    with torch.device("meta"):
        tower = ImageTower(config).eval().requires_grad_(False)
    set_fused_attention(tower, fused=False)
    for module in tower.modules():
        if isinstance(module, PatchDropout):
            module.train(training)
    return tower


def _count(tower: ImageTower, calls: Calls) -> float:
    side = tower.config.image_size
    with FlopCounterMode(display=False) as counter:
        tower(torch.empty(1, 3, side, side, device="meta"), calls)
    return float(counter.get_total_flops())
