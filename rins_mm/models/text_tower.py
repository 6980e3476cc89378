"""The text tower: SigLIP's transformer (pre-norm, learned positions, no causal mask) with recursion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Int64
from torch import Tensor, nn

from data_pipelines.errors import UserError
from rins_mm.models.adapters import Adapters
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.packing import lay_out, pack, pad_left, pad_right
from rins_mm.models.recursion import RecursiveStack, Running, run_shared
from rins_mm.models.signatures import Calls
from rins_mm.models.transformer import Block, Gelu, initialise_block, require_depth


@dataclass(frozen=True, kw_only=True)
class TextTowerConfig:
    """A text tower. `sizes.py` has the usual widths and depths."""

    width: int = 768
    """Width of the token vectors."""
    depth: int = 12
    """Number of blocks, each counted once however often it runs."""
    num_heads: int = 12
    """Attention heads; must divide the width."""
    mlp_width: int = 3072
    """Hidden width of the MLPs."""
    context_length: int = 64
    """Longest caption in tokens, its end token included."""
    padding: Literal["masked", "siglip"] = "masked"
    """masked: padding is never seen, positions count from the end; siglip: padding is attended (SigLIP's weights)."""
    packing: bool = True
    """masked padding only: several captions share a row, so that padding is not computed; the same vectors."""
    gelu: Gelu = "tanh"
    """Form of the GELU: tanh (Flax, big_vision) or exact (open_clip's SigLIP)."""
    checkpoint_calls: bool = False
    """Training keeps only what enters each call of a group, and computes the rest again: less memory, more time."""
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    """How the blocks are repeated."""


class TextTower(nn.Module):
    """Captions to vectors of the shared embedding (not yet of unit norm)."""

    def __init__(
        self, config: TextTowerConfig, *, vocab_size: int, pad_token: int, embedding_width: int
    ) -> None:
        super().__init__()
        require_depth("text.depth", config.depth)
        self.config = config
        self.pad_token = pad_token
        self.token_embedding = nn.Embedding(vocab_size, config.width)
        self.positions = nn.Parameter(torch.zeros(config.context_length, config.width))
        blocks = [
            Block(config.width, config.num_heads, config.mlp_width, config.gelu)
            for _ in range(config.depth)
        ]
        self.adapters = Adapters(config.recursion, config.width)
        self.blocks = RecursiveStack(
            blocks,
            config.recursion.signature,
            split=config.recursion.split,
            checkpoint_calls=config.checkpoint_calls,
            adapters=self.adapters,
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.head = nn.Linear(config.width, embedding_width)

    def forward(
        self, tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], calls: Calls
    ) -> Float[Tensor, "B E"]:
        """Vectors of the captions `tokens[offsets[b]:offsets[b + 1]]`."""
        return self.forward_variants(tokens, offsets, [calls])[0]

    def forward_variants(
        self, tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"], variants: Sequence[Calls]
    ) -> list[Float[Tensor, "B E"]]:
        """The vectors at several depths; rounds that the depths share run once."""
        for calls in variants:
            self.blocks.check(calls)
        x, mask, last = self._embed(tokens, offsets)

        def run_call(letter: str, running: Running) -> Running:
            return self.blocks.run_call(letter, running, mask)

        def pooled(x: Tensor) -> Tensor:
            return x[:, -1] if last is None else x.flatten(0, 1)[last]

        if self.blocks.probe is not None:
            self.blocks.probe.positions = pooled
        start = self.blocks.begin(x, variants)
        return [
            self.head(self.norm(pooled(self.blocks.end(running))))
            for running in run_shared(run_call, start, variants)
        ]

    def _embed(
        self, tokens: Int32[Tensor, " T"], offsets: Int32[Tensor, " O"]
    ) -> tuple[
        Float[Tensor, "rows L W"], Bool[Tensor, "rows 1 Q L"] | None, Int64[Tensor, " B"] | None
    ]:
        """Rows of token vectors, which keys each query sees, and where captions end (None: all in the last column)."""
        context_length, pad_token = self.config.context_length, self.pad_token
        # Lengths decide shapes: on a GPU they would make the host wait for the device.
        offsets = offsets.cpu()
        longest = int(offsets.diff().max())
        if longest > context_length:
            raise UserError(
                f"a caption of {longest} tokens does not fit the text tower's context_length of "
                f"{context_length}; encode it with the model's own tokenizer, which truncates"
            )
        if self.config.padding == "siglip":
            ids = pad_right(tokens, offsets, length=context_length, pad_token=pad_token)
            return self.token_embedding(ids) + self.positions, None, None
        if not self.config.packing:
            ids, real = pad_left(tokens, offsets, length=longest, pad_token=pad_token)
            x = self.token_embedding(ids) + self.positions[-longest:]
            return x, real[:, None, None, :], None
        packing = pack(offsets, context_length=context_length, width=self.config.width)
        ids, positions, mask, last = lay_out(
            tokens, offsets, packing, context_length=context_length, pad_token=pad_token
        )
        return self.token_embedding(ids) + F.embedding(positions, self.positions), mask, last


@torch.no_grad()
def initialise_text_tower(tower: TextTower, generator: torch.Generator) -> None:
    """big_vision's initialisation: embeddings and head of standard deviation 1/sqrt(width)."""
    std = 1 / math.sqrt(tower.config.width)
    for parameter in (tower.token_embedding.weight, tower.positions, tower.head.weight):
        nn.init.normal_(parameter, std=std, generator=generator)
    nn.init.zeros_(tower.head.bias)
    for index in range(len(tower.blocks)):
        block = tower.blocks[index]
        assert isinstance(block, Block)
        initialise_block(block, generator)
