"""Adapters that a step does not use: zero gradients, and the same update at every number of ranks, sharded or not."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from rins_mm.distributed import GradientBuffer, whole
from rins_mm.models.adapters import adapter_parameters
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import OptimizerConfig, build_optimizer
from rins_mm.sharding import ShardedGradients, shard

# The deepest step moves the adapters of round 3; momentum and decay move them on in the others.
DEPTHS = ("AAAB", "AB", "AAB", "AB")
# Epsilon outweighs the rounding of gradients that are zero but for it (biases of keys).
OPTIMIZER = OptimizerConfig(weight_decay=1.0, peak_learning_rate=0.01, epsilon=1e-2)
KINDS = ("linear", "lora", "scale", "latent")


def make_model(kind):
    recursion = (
        RecursionConfig(kind="latent", signature="AB^2C", latent_gradient_rounds=1)
        if kind == "latent"
        else RecursionConfig(signature="A^3B", adapter=kind, adapter_rank=2)
    )
    sizes = {"width": 16, "depth": 3 if kind == "latent" else 2, "num_heads": 2}
    image = ImageTowerConfig(image_size=16, patch_size=8, recursion=recursion, **sizes)
    text = TextTowerConfig(mlp_width=32, context_length=6, recursion=recursion, **sizes)
    model = build_model(image, text, vocab_size=20, pad_token=0, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in adapter_parameters(model).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def train(kind, rank, world_size, *, sharded=False):
    model = make_model(kind)
    if sharded:
        shard(model, init_device_mesh("cpu", (world_size,)), bf16=False)
    gradients = (ShardedGradients if sharded else GradientBuffer)(model.parameters())
    optimizer = build_optimizer(OPTIMIZER, model)
    group = dist.group.WORLD if world_size > 1 else None
    generator = torch.Generator().manual_seed(3)
    unused = []
    for depth in DEPTHS:
        calls = ("A", *"B" * (len(depth) - 1), "C") if kind == "latent" else tuple(depth)
        pictures = torch.rand(4, 3, 16, 16, generator=generator)
        tokens = torch.randint(1, 20, (16,), generator=generator).int()
        rows = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
        own = tokens.view(4, 4)[rows].reshape(-1)
        offsets = torch.arange(0, len(own) + 1, 4).int()
        gradients.zero()
        images, texts = model(pictures[rows], own, offsets, calls, calls)
        (images * texts).sum(dim=-1).exp().sum().backward()
        gradients.sum_over_ranks(group)
        assert all(p.grad is not None for p in model.parameters())
        unused.append(sum(not whole(p.grad).any() for p in adapter_parameters(model).values()))
        optimizer.step()
    weights = {name: whole(p.detach()).clone() for name, p in model.named_parameters()}
    return {"weights": weights, "unused": unused}


def on_rank(ranks):
    return {
        f"{kind} {sharded}": train(kind, ranks.rank, ranks.world_size, sharded=sharded)
        for kind in KINDS
        for sharded in (False, True)
    }


@pytest.fixture(scope="module")
def outcomes(run_on_ranks):
    return run_on_ranks(on_rank, 2)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_sharded_or_not_update_adapters_as_one_does(outcomes, kind, sharded):
    alone = train(kind, 0, 1)
    for outcome in outcomes:
        found = outcome[f"{kind} {sharded}"]
        assert found["unused"] == alone["unused"]
        for name, expected in alone["weights"].items():
            torch.testing.assert_close(found["weights"][name], expected, rtol=1e-4, atol=2e-5)


def test_what_a_depth_does_not_use_has_gradients_of_zero():
    # Two towers; after AB none of two adapters is used, after AAB that of round 2 alone.
    assert train("linear", 0, 1)["unused"] == [2, 4, 2, 4]
    assert train("latent", 0, 1)["unused"] == [0, 0, 0, 0]
