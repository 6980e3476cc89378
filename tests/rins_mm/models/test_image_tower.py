import copy

import pytest
import torch
from torch import nn

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
import timm

from data_pipelines.errors import UserError
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig, set_fused_attention
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.signatures import expand

SIGLIP = {
    "name": "vit_base_patch16_siglip_224",
    "image_size": 64,
    "width": 64,
    "depth": 4,
    "num_heads": 4,
}
FAMILIES = {
    "siglip": SIGLIP,
    "eva": {
        "name": "eva02_tiny_patch14_224",
        "image_size": 56,
        "width": 48,
        "depth": 4,
        "num_heads": 3,
    },
    "beit": {
        "name": "beit_base_patch16_224",
        "image_size": 64,
        "width": 48,
        "depth": 4,
        "num_heads": 3,
    },
}


def make_tower(seed=0, **settings):
    torch.manual_seed(seed)
    return ImageTower(ImageTowerConfig(**settings)).eval()


def pictures(size, number=2):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def with_plain_blocks(tower, calls):
    """The timm model of a tower with its blocks spelled out in the order of the calls."""
    backbone = copy.deepcopy(tower.backbone)
    blocks = [block for letter in calls for block in tower.backbone.blocks.group(letter)]
    kind = nn.Sequential if tower.config.name.startswith("vit") else nn.ModuleList
    backbone.blocks = kind(*blocks) if kind is nn.Sequential else kind(blocks)
    return backbone


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("signature", ["AB", "AAB", "ABAB"])
def test_a_signature_is_bit_for_bit_the_timm_model_with_its_blocks_spelled_out(family, signature):
    settings = FAMILIES[family]
    tower = make_tower(**settings, recursion=RecursionConfig(signature="A^2B"))
    images = pictures(settings["image_size"])
    plain = with_plain_blocks(tower, expand(signature))
    with torch.no_grad():
        assert torch.equal(tower(images, expand(signature)), plain((images - 0.5) / 0.5))


@pytest.mark.parametrize("family", FAMILIES)
def test_several_depths_in_one_pass_are_each_alone_bit_for_bit_and_share_their_rounds(family):
    settings = FAMILIES[family]
    tower = make_tower(**settings, recursion=RecursionConfig(signature="A^2B"))
    images = pictures(settings["image_size"])
    variants = [expand(signature) for signature in ("AB", "AAB", "AAAB", "AB")]
    with torch.no_grad():
        alone = [tower(images, calls) for calls in variants]
        runs = []
        for index in range(len(tower.stack)):
            tower.stack[index].register_forward_hook(lambda *_, index=index: runs.append(index))
        together = tower.forward_variants(images, variants)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
    # Three rounds of A, and three of B after one, two and three of them.
    assert sorted(runs) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    runs.clear()
    with torch.no_grad():
        tower(images, expand("AB"))
    assert runs == [0, 1, 2, 3]


def test_replacing_the_blocks_of_a_timm_model_by_a_stack_changes_no_bit():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_base_patch16_siglip_224",
        img_size=64,
        embed_dim=64,
        depth=4,
        num_heads=4,
        num_classes=0,
    ).eval()
    images = pictures(64)
    with torch.no_grad():
        before, names = model(images), list(model.state_dict())
        model.blocks = RecursiveStack(list(model.blocks), "AB")
        assert torch.equal(model(images), before)
    assert list(model.state_dict()) == names


def test_the_tower_is_the_timm_model_with_its_weights_and_normalised_pixels():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_base_patch16_siglip_224",
        img_size=64, embed_dim=64, depth=4, num_heads=4, num_classes=0, weight_init="jax",
    ).eval()  # fmt: skip
    tower = make_tower(**SIGLIP, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    assert list(tower.backbone.state_dict()) == list(model.state_dict())
    images = pictures(64)
    channels = [
        (images[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)])
    ]
    with torch.no_grad():
        assert torch.equal(tower(images, ("A", "B")), model(torch.stack(channels, dim=1)))


def test_the_mean_and_spread_of_pixels_are_no_weights():
    assert not any("mean" in n or "std" in n for n in make_tower(**SIGLIP).state_dict())


def test_kernels_start_xavier_uniform():
    tower = make_tower(**SIGLIP)
    for block in tower.stack:
        bound = (6 / (64 + 256)) ** 0.5
        assert 0.98 * bound < block.mlp.fc1.weight.abs().max() <= bound


def test_recursion_adds_no_parameters_and_its_gradients_are_sums_over_copies():
    tower = make_tower(**SIGLIP, recursion=RecursionConfig(signature="A^2B")).double()
    plain = make_tower(**SIGLIP)
    assert list(plain.state_dict()) == list(tower.state_dict())
    images = pictures(64).double()
    unrolled = copy.deepcopy(tower.backbone)
    unrolled.blocks = nn.Sequential(
        *(copy.deepcopy(tower.stack[index]) for index in (0, 1, 0, 1, 2, 3))
    )
    tower(images, expand("AAB")).square().sum().backward()
    unrolled((images - 0.5) / 0.5).square().sum().backward()
    for number, copies in enumerate([(0, 2), (1, 3), (4,), (5,)]):
        for name, parameter in tower.stack[number].named_parameters():
            total = sum(unrolled.blocks[index].get_parameter(name).grad for index in copies)
            torch.testing.assert_close(parameter.grad, total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_model_without_equal_blocks_runs_plain_and_refuses_recursion(name):
    tower = make_tower(name=name, image_size=64)
    assert tower.stack is None
    with torch.no_grad():
        vectors = tower(pictures(64), ("A", "B"))
    assert vectors.shape == (2, tower.embedding_width)
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    with torch.no_grad():
        # The tower's memory format, which decides on last digits.
        pixels = ((pictures(64) - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
        assert torch.equal(vectors, model(pixels))
        assert torch.equal(tower.forward_variants(pictures(64), [("A", "B")])[0], vectors)
    with pytest.raises(UserError, match="'AAB'; use AB"):
        tower.forward_variants(pictures(64), [("A", "A", "B")])
    with pytest.raises(
        UserError, match=f"{name}.*no list of equal blocks.*'AAAB'.*use AB or a ViT"
    ):
        make_tower(name=name, image_size=64, recursion=RecursionConfig(signature="AAAB"))


def test_calls_of_a_group_that_is_not_there_are_refused():
    with pytest.raises(UserError, match="ABC"):
        make_tower(**SIGLIP)(pictures(64), ("A", "B", "C"))


def test_an_unknown_timm_model_is_refused_with_the_nearest_names():
    with pytest.raises(UserError, match=r"vit_base_patch16_siglip_22.*vit_base_patch16_siglip_224"):
        make_tower(name="vit_base_patch16_siglip_22")


def test_a_tag_that_its_model_does_not_have_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"timm cannot build 'vit_tiny_patch16_224\.mine'.*the dot"):
        make_tower(name="vit_tiny_patch16_224.mine")


@pytest.mark.parametrize("num_heads", [0, -1])
def test_a_number_of_heads_that_cannot_be_is_refused_before_the_first_picture(num_heads):
    with pytest.raises(UserError, match=rf"image\.num_heads is {num_heads}; it must be at least 1"):
        ImageTower(ImageTowerConfig(num_heads=num_heads))


def test_weights_are_not_fetched_by_a_name_that_points_elsewhere():
    with pytest.raises(UserError, match="no model named"):
        make_tower(name="hf-hub:timm/resnet18.a1_in1k")


@pytest.mark.parametrize("wrong", [{"name": "resnet18", "width": 64}, {**SIGLIP, "num_heads": 5}])
def test_settings_that_a_model_cannot_have_are_refused(wrong):
    with pytest.raises(UserError, match="timm cannot build"):
        make_tower(**{"image_size": 64, **wrong})


def test_a_convolutional_stem_makes_patches_of_two_to_its_depth_pixels():
    tower = make_tower(image_size=48, width=48, depth=2, num_heads=3, stem_channels=(8, 16, 24))
    assert tower.backbone.patch_embed.num_patches == 36
    assert not any(isinstance(m, nn.BatchNorm2d) for m in tower.modules())
    # Statistics are of one picture alone.
    images = pictures(48, number=3)
    with torch.no_grad():
        together, alone = tower(images, ("A", "B")), tower(images[:1], ("A", "B"))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-6)


def test_both_kernels_of_attention_agree():
    tower = make_tower(**SIGLIP)
    images = pictures(64)
    outcomes = []
    with torch.no_grad():
        for fused in (True, False):
            set_fused_attention(tower, fused=fused)
            flags = [m.fused_attn for m in tower.modules() if hasattr(m, "fused_attn")]
            assert len(flags) == 5
            assert set(flags) == {fused}
            outcomes.append(tower(images, ("A", "B")))
    torch.testing.assert_close(*outcomes, rtol=0, atol=1e-5)


def test_patch_dropout_and_drop_path_act_in_training_only():
    tower = make_tower(**SIGLIP, patch_dropout=0.5, drop_path=0.5)
    images = pictures(64)
    with torch.no_grad():
        assert torch.equal(tower(images, ("A", "B")), tower(images, ("A", "B")))
        tower.train()
        assert not torch.equal(tower(images, ("A", "B")), tower(images, ("A", "B")))
