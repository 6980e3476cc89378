"""A locked image tower is left as it is, and costs no backward pass."""

import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.models.locking import lock

VIT = ImageTowerConfig(
    image_size=32, width=32, depth=4, num_heads=2, drop_path=0.5, patch_dropout=0.5
)
LITE = ImageTowerConfig(name="test_efficientnet", image_size=32)
PICTURES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def locked(config, block=None):
    torch.manual_seed(0)
    tower = ImageTower(config)
    lock(tower, unlock_from_block=block)
    return tower.train()


def trained_parts(tower):
    return {
        name.removeprefix("backbone.").split(".weight")[0]
        for name, parameter in tower.named_parameters()
        if parameter.requires_grad and name.endswith("weight")
    }


@pytest.mark.parametrize("config", [VIT, LITE])
def test_a_locked_tower_works_in_training_as_in_use_and_keeps_nothing_for_a_backward_pass(config):
    tower = locked(config)
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    found = tower(PICTURES, ("A", "B"))
    assert not found.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())
    assert torch.equal(found, tower.eval()(PICTURES, ("A", "B")))
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_a_vit_is_unlocked_from_a_block_on():
    tower = locked(VIT, 3)
    parts = trained_parts(tower)
    assert {name for name in parts if name.startswith("blocks.")} == {
        f"blocks.3.{name}" for name in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    }  # fmt: skip
    assert {"norm", "attn_pool.q", "attn_pool.mlp.fc2"} < parts
    assert not {"patch_embed.proj"} & parts
    assert not tower.backbone.pos_embed.requires_grad
    tower(PICTURES, ("A", "B")).sum().backward()
    got = {name for name, p in tower.named_parameters() if p.grad is not None}
    assert got == {name for name, p in tower.named_parameters() if p.requires_grad}


def test_with_all_blocks_locked_what_follows_them_is_trained():
    assert {name.split(".")[0] for name in trained_parts(locked(VIT, 4))} == {"norm", "attn_pool"}
    stages = len(locked(LITE).backbone.blocks)
    assert trained_parts(locked(LITE, stages)) == {"conv_head", "bn2"}


def test_unlocked_blocks_draw_and_locked_ones_do_not():
    tower = locked(VIT, 2)
    assert [block.training for block in tower.backbone.blocks.children()] == [False] * 2 + [
        True
    ] * 2
    assert not tower.backbone.patch_drop.training


def test_statistics_of_batches_stay_as_they_are_in_the_whole_tower():
    tower = locked(LITE, 0)
    before = tower.backbone.bn2.running_mean.clone()
    tower(PICTURES, ("A", "B")).sum().backward()
    assert torch.equal(tower.backbone.bn2.running_mean, before)
    assert tower.backbone.bn2.weight.grad is not None


@pytest.mark.parametrize(("config", "block"), [(VIT, 5), (VIT, -1)])
def test_blocks_that_are_not_there_are_refused(config, block):
    with pytest.raises(UserError, match=rf"unlock_from_block is {block}, .*4 blocks.* 0 to 4"):
        locked(config, block)


def test_a_model_without_blocks_is_locked_whole_or_not():
    config = ImageTowerConfig(name="test_convnext", image_size=32)
    assert trained_parts(locked(config)) == set()
    with pytest.raises(UserError, match="keeps no list of blocks; lock all of it"):
        locked(config, 1)
