"""The pre-norm transformer block of the text tower (SigLIP's, after big_vision's ViT)."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from data_pipelines.errors import UserError

Gelu = Literal["tanh", "exact"]

MAX_BLOCKS = 1_000
"""Of a tower."""


def require_depth(name: str, depth: int) -> None:
    """Refuse more blocks than any tower has: anybody may have recorded their number."""
    if depth > MAX_BLOCKS:
        raise UserError(f"{name} is {depth:,}; give at most {MAX_BLOCKS:,} blocks")


def attend(
    query: Float[Tensor, "B H L K"],
    key: Float[Tensor, "B H L K"],
    value: Float[Tensor, "B H L K"],
    mask: Bool[Tensor, "B 1 Q L"] | None,
) -> Float[Tensor, "B H L K"]:
    """Softmax attention; keys where `mask` is False are not seen."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    # In bf16 on a CPU the fused kernel takes more than twice the time of these three products.
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1) @ value


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B L W"], mask: Bool[Tensor, "B 1 Q L"] | None
    ) -> Float[Tensor, "B L W"]:
        B, L, W = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.num_heads, W // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.projection(attend(query, key, value, mask).transpose(1, 2).reshape(B, L, W))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden_width: int, gelu: Gelu) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden_width)
        self.gelu = nn.GELU(approximate="tanh" if gelu == "tanh" else "none")
        self.contract = nn.Linear(hidden_width, width)

    def forward(self, x: Float[Tensor, "B L W"]) -> Float[Tensor, "B L W"]:
        return self.contract(self.gelu(self.expand(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)). LayerNorm's epsilon is Flax's 1e-6."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, gelu: Gelu) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_width, gelu)

    def forward(
        self, x: Float[Tensor, "B L W"], mask: Bool[Tensor, "B 1 Q L"] | None
    ) -> Float[Tensor, "B L W"]:
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.mlp(self.mlp_norm(x))


@torch.no_grad()
def initialise_block(block: Block, generator: torch.Generator) -> None:
    """Xavier-uniform kernels (query, key and value each as a matrix of its own), tiny MLP biases."""
    for matrix in (*block.attention.qkv.weight.chunk(3), block.attention.projection.weight):
        nn.init.xavier_uniform_(matrix, generator=generator)
    nn.init.zeros_(block.attention.qkv.bias)
    nn.init.zeros_(block.attention.projection.bias)
    for linear in (block.mlp.expand, block.mlp.contract):
        nn.init.xavier_uniform_(linear.weight, generator=generator)
        nn.init.normal_(linear.bias, std=1e-6, generator=generator)
