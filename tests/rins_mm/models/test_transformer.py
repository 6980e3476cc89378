import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rins_mm.models.transformer import Attention, Block, Mlp, attend, initialise_block


def one_head_at_a_time(attention, x, mask):
    """Attention written out: a loop over rows and heads, with each row's real keys alone."""
    W = x.shape[-1]
    K = W // attention.num_heads
    weights, biases = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
    out = torch.zeros_like(x)
    for b in range(x.shape[0]):
        real = torch.ones(x.shape[1], dtype=torch.bool) if mask is None else mask[b, 0, 0]
        q, k, v = (x[b] @ w.T + bias for w, bias in zip(weights, biases, strict=True))
        for h in range(attention.num_heads):
            part = slice(h * K, (h + 1) * K)
            scores = q[:, part] @ k[real][:, part].T / math.sqrt(K)
            out[b, :, part] = torch.softmax(scores, dim=-1) @ v[real][:, part]
    return out @ attention.projection.weight.T + attention.projection.bias


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_softmax_over_the_real_keys_of_each_head(masked):
    torch.manual_seed(0)
    attention = Attention(12, 3).double()
    x = torch.randn(4, 5, 12, dtype=torch.float64)
    real = torch.tensor([[0, 0, 0, 0, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1]]).bool()
    mask = real[:, None, None, :] if masked else None
    torch.testing.assert_close(
        attention(x, mask), one_head_at_a_time(attention, x, mask), rtol=1e-12, atol=1e-12
    )


def test_the_products_of_a_cpu_in_bf16_agree_with_the_fused_kernel():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 6, 8).bfloat16().unbind()
    mask = (torch.arange(6) >= torch.tensor([[0], [4]]))[:, None, None, :]
    for chosen in (None, mask):
        ours = attend(query, key, value, chosen).float()
        exact = F.scaled_dot_product_attention(
            query.float(), key.float(), value.float(), attn_mask=chosen
        )
        torch.testing.assert_close(ours, exact, rtol=0.03, atol=0.03)


def test_a_block_is_two_residual_branches_after_norms():
    torch.manual_seed(0)
    block = Block(12, 3, 20, "tanh").double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 4, 12, dtype=torch.float64)

    def norm(y, layer):
        mean, variance = y.mean(-1, keepdim=True), y.var(-1, keepdim=True, correction=0)
        return (y - mean) / (variance + 1e-6).sqrt() * layer.weight + layer.bias

    y = x + one_head_at_a_time(block.attention, norm(x, block.attention_norm), None)
    hidden = norm(y, block.mlp_norm) @ block.mlp.expand.weight.T + block.mlp.expand.bias
    y = (
        y
        + F.gelu(hidden, approximate="tanh") @ block.mlp.contract.weight.T
        + block.mlp.contract.bias
    )
    torch.testing.assert_close(block(x, None), y, rtol=1e-11, atol=1e-11)


def test_the_two_forms_of_gelu_differ_as_named():
    x = torch.linspace(-3, 3, 50)[None, None, :]
    for name, approximate in (("tanh", "tanh"), ("exact", "none")):
        mlp = Mlp(50, 50, name)
        with torch.no_grad():
            for linear in (mlp.expand, mlp.contract):
                linear.weight.copy_(torch.eye(50))
                linear.bias.zero_()
        torch.testing.assert_close(mlp(x), F.gelu(x, approximate=approximate))


def test_query_key_and_value_are_initialised_as_matrices_of_their_own():
    block = Block(64, 4, 128, "tanh")
    initialise_block(block, torch.Generator().manual_seed(0))
    square, tall = math.sqrt(6 / 128), math.sqrt(6 / 192)
    for matrix in (*block.attention.qkv.weight.chunk(3), block.attention.projection.weight):
        assert 0.98 * square < matrix.abs().max() <= square
    for linear in (block.mlp.expand, block.mlp.contract):
        assert 0.98 * tall < linear.weight.abs().max() <= tall
        assert 0 < linear.bias.abs().max() < 1e-5
    assert not block.attention.qkv.bias.any()
    assert not block.attention.projection.bias.any()
    assert (block.attention_norm.weight == 1).all()
    assert (block.mlp_norm.bias == 0).all()
