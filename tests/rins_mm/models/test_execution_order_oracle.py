"""The order of calls against x-transformers, which runs tied layers in any order that it is given."""

import warnings

import pytest
import torch
from torch import nn

from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.signatures import expand
from rins_mm.models.transformer import Block, initialise_block

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import x_transformers

WIDTH, HEADS, DEPTH = 32, 4, 4


def copy_block(block, attention, mlp):
    """Put a block's weights into the two layers that x-transformers makes of it; its attention has no biases."""
    for own, matrix in zip(
        (attention.to_q, attention.to_k, attention.to_v),
        block.attention.qkv.weight.chunk(3),
        strict=True,
    ):
        own.weight.copy_(matrix)
    attention.to_out.weight.copy_(block.attention.projection.weight)
    linears = [part for part in mlp.modules() if isinstance(part, nn.Linear)]
    for own, theirs in zip(linears, (block.mlp.expand, block.mlp.contract), strict=True):
        own.weight.copy_(theirs.weight)
        own.bias.copy_(theirs.bias)


@pytest.mark.parametrize("signature", ["AB", "A^3B", "AB^2", "(AB)^2", "AABB", "ABCDC", "(A^2B)_2"])
def test_the_same_weights_in_the_same_order_give_the_same_vectors(signature):
    generator = torch.Generator().manual_seed(0)
    blocks = [Block(WIDTH, HEADS, 64, "exact") for _ in range(DEPTH)]
    for block in blocks:
        initialise_block(block, generator)
        for norm in (block.attention_norm, block.mlp_norm):
            # x-transformers' epsilon and its norms without a bias.
            norm.eps = 1e-5
            nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
    stack = RecursiveStack(blocks, signature).double()
    stack.calls = expand(signature)
    order = [2 * n + half for c in stack.calls for n in stack.groups[c] for half in (0, 1)]
    other = x_transformers.Encoder(
        dim=WIDTH,
        depth=DEPTH,
        heads=HEADS,
        attn_dim_head=WIDTH // HEADS,
        ff_mult=64 / WIDTH,
        layers_execute_order=tuple(order),
        pre_norm_has_final_norm=False,
    ).double()
    assert len(other.layers) == 2 * DEPTH
    with torch.no_grad():
        for number, block in enumerate(blocks):
            (attention_norms, attention, _), (mlp_norms, mlp, _) = other.layers[
                2 * number : 2 * number + 2
            ]
            copy_block(block, attention, mlp)
            for norms, own in (
                (attention_norms, block.attention_norm),
                (mlp_norms, block.mlp_norm),
            ):
                norms[0].gamma.copy_(own.weight - float(norms[0].unit_offset))
        x = torch.randn(3, 7, WIDTH, dtype=torch.float64, generator=generator)
        expected = other(x)
        found = x
        for call in stack.calls:
            for block in stack.group(call):
                found = block(found, None)
        # x-transformers' softmax is in fp32 always.
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

        class WithoutMask(nn.Module):
            def __init__(self, block):
                super().__init__()
                self.block = block

            def forward(self, x):
                return self.block(x, None)

        wrapped = RecursiveStack([WithoutMask(block) for block in blocks], signature)
        wrapped.calls = stack.calls
        assert torch.equal(wrapped(x), found)
