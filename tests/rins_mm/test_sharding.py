import itertools

import pytest
import torch
import torch.distributed as dist
from tiny import encoder
from torch.distributed.device_mesh import init_device_mesh
from torch.profiler import ProfilerActivity, profile

from rins_mm.distributed import GradientBuffer, own_part, part_like, whole
from rins_mm.models.draws import RecursionConfig
from rins_mm.sharding import ShardedGradients, gathered, shard, skeleton_of

WORLD_SIZE = 3
"""Does not divide the sizes of the parameters."""
DEPTHS = ("AAAB", "AB")


def make_model():
    return encoder(recursion=RecursionConfig(signature="A^3B")).model


def take_gradient(model, gradients, depth, rank, *, passes=1):
    gradients.zero()
    generator = torch.Generator().manual_seed(rank)
    pictures = torch.rand(4, 3, 32, 32, generator=generator)
    tokens = torch.randint(1, 100, (20,), generator=generator).int()
    offsets = torch.arange(0, 21, 5).int()
    for _ in range(passes):
        if passes > 1:
            # As one does who needs the features of all parts before the gradients of the first.
            with torch.no_grad():
                model(pictures, tokens, offsets, tuple(depth), tuple(depth))
        images, texts = model(pictures, tokens, offsets, tuple(depth), tuple(depth))
        logits = (images @ texts.T) * model.logit_scale.exp() + model.logit_bias
        logits.square().mean().backward()
    gradients.votes[1] = rank + 1.0
    gradients.sum_over_ranks(dist.group.WORLD)
    return gradients.clip(0.5)


def exchanges(profiled):
    """How often the weights of each block were gathered, and its gradients summed."""
    kinds = {"FSDP::all_gather": 0, "FSDP::post_backward_reduce": 1}
    counts: dict[str, list[int]] = {}
    for event in profiled.key_averages():
        kind, _, block = event.key.removesuffix(")").partition(" (")
        if kind in kinds and block:
            counts.setdefault(block, [0, 0])[kinds[kind]] += event.count
    return counts


def on_rank(ranks):
    plain, sharded = make_model(), make_model()
    skeleton = skeleton_of(sharded)
    shard(sharded, init_device_mesh("cpu", (WORLD_SIZE,)), bf16=False)
    models = {"plain": plain, "sharded": sharded}
    strategies = {
        "plain": GradientBuffer(plain.parameters(), num_votes=2),
        "sharded": ShardedGradients(sharded.parameters(), num_votes=2),
    }
    found = {"held": sum(own_part(p).numel() for p in sharded.parameters())}
    for kind, depth in itertools.product(models, DEPTHS):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            norm = take_gradient(models[kind], strategies[kind], depth, ranks.rank)
        found[kind, depth] = {
            "norm": norm,
            "votes": strategies[kind].votes.clone(),
            "exchanges": exchanges(profiled),
            "gradient": {n: whole(p.grad).clone() for n, p in models[kind].named_parameters()},
        }
    norm = take_gradient(sharded, strategies["sharded"], "AAAB", ranks.rank, passes=3)
    found["three passes"] = whole(sharded.text_tower.blocks[0].mlp.expand.weight.grad).clone()
    found["three norms"] = norm
    weights = gathered(sharded, skeleton).state_dict()
    found["equal"] = all(torch.equal(weights[n], t) for n, t in plain.state_dict().items())
    a_weight = sharded.text_tower.token_embedding.weight
    part = part_like(a_weight, plain.text_tower.token_embedding.weight.detach())
    found["part"] = torch.equal(own_part(part), own_part(a_weight))
    found["empty"] = all(p.is_meta for p in skeleton.parameters())
    a_weight.grad = None
    strategies["sharded"].sum_over_ranks(dist.group.WORLD)
    found["unused"] = whole(a_weight.grad).abs().sum().item()
    broken, another = strategies["sharded"], sharded.text_tower.head.weight
    if ranks.rank == 1:
        own_part(a_weight.grad)[2, 3] = torch.nan
    before = own_part(another.grad).clone()
    broken.sum_over_ranks(dist.group.WORLD)
    found["broken"] = broken.clip(1e-3)
    found["untouched"] = torch.equal(before, own_part(another.grad))
    return found


@pytest.fixture(scope="module")
def outcomes(run_on_ranks):
    return run_on_ranks(on_rank, WORLD_SIZE)


@pytest.mark.parametrize("depth", DEPTHS)
def test_gradients_are_those_of_whole_models_summed_over_ranks_and_calls(outcomes, depth):
    for outcome in outcomes:
        plain, sharded = outcome["plain", depth], outcome["sharded", depth]
        torch.testing.assert_close(sharded["norm"], plain["norm"], rtol=1e-5, atol=0)
        assert torch.equal(sharded["votes"], plain["votes"])
        whole_gradient, difference = [], []
        for name, gradient in plain["gradient"].items():
            whole_gradient.append(gradient.flatten())
            difference.append((sharded["gradient"][name] - gradient).flatten())
        assert torch.cat(difference).norm() <= 1e-5 * torch.cat(whole_gradient).norm() > 0


def test_gradients_of_several_passes_add_up(outcomes):
    name = "text_tower.blocks.0.mlp.expand.weight"
    for outcome in outcomes:
        once = outcome["plain", "AAAB"]
        torch.testing.assert_close(outcome["three norms"], 3 * once["norm"], rtol=1e-5, atol=0)
        # Both have been clipped to the same norm.
        torch.testing.assert_close(outcome["three passes"], once["gradient"][name])


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_repeated_block_is_gathered_and_summed_once_a_step(outcomes, depth):
    # Blocks that run once are freed between the forward and the backward pass, and gathered for each.
    assert outcomes[0]["sharded", depth]["exchanges"] == {
        "image_tower.backbone.blocks.0": [1, 1],
        "image_tower.backbone.blocks.1": [2, 1],
        "text_tower.blocks.0": [1, 1],
        "text_tower.blocks.1": [2, 1],
    }


def test_each_rank_holds_a_part_and_a_plain_model_can_be_had_of_them(outcomes):
    total = sum(p.numel() for p in make_model().parameters())
    held = [outcome["held"] for outcome in outcomes]
    # Scale and bias are everywhere.
    assert sum(held) == total + 2 * (WORLD_SIZE - 1)
    assert max(held) < 0.45 * total
    for outcome in outcomes:
        assert outcome["equal"] and outcome["part"] and outcome["empty"]


def test_a_parameter_without_a_gradient_gets_one_of_zero(outcomes):
    assert [outcome["unused"] for outcome in outcomes] == [0.0] * WORLD_SIZE


def test_a_gradient_broken_on_one_rank_is_known_to_all_and_nothing_is_scaled(outcomes):
    for outcome in outcomes:
        assert outcome["broken"].isnan() and outcome["untouched"]
