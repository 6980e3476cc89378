import copy

import pytest
import torch

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
from timm.optim import AdafactorBigVision

from data_pipelines.errors import UserError
from rins_mm.distributed import GradientBuffer
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.locking import lock
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig
from rins_mm.optim import (
    OptimizerConfig,
    build_optimizer,
    check_optimizer_name,
    kernel_parameters,
    rate_factors,
    set_learning_rate,
)


def make_model(**image):
    return build_model(
        ImageTowerConfig(**{"image_size": 32, "width": 32, "depth": 2, "num_heads": 2, **image}),
        TextTowerConfig(width=24, depth=2, num_heads=2, mlp_width=48, context_length=8),
        vocab_size=30,
        pad_token=0,
        seed=0,
    )


def fill_gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.grad is None:
            parameter.grad = values
        else:
            parameter.grad.copy_(values)


TEXT_BLOCK_KERNELS = ("attention.qkv", "attention.projection", "mlp.expand", "mlp.contract")
IMAGE_BLOCK_KERNELS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
POOL_KERNELS = ("q", "kv", "proj", "mlp.fc1", "mlp.fc2")


def test_kernels_and_nothing_else_decay():
    model = make_model()
    kernels = kernel_parameters(model)
    decayed = {name for name, parameter in model.named_parameters() if parameter in kernels}
    backbone = "image_tower.backbone."
    assert decayed == {
        "text_tower.head.weight",
        f"{backbone}patch_embed.proj.weight",
        *(f"text_tower.blocks.{i}.{name}.weight" for i in (0, 1) for name in TEXT_BLOCK_KERNELS),
        *(f"{backbone}blocks.{i}.{name}.weight" for i in (0, 1) for name in IMAGE_BLOCK_KERNELS),
        *(f"{backbone}attn_pool.{name}.weight" for name in POOL_KERNELS),
    }
    rest = {name for name, _ in model.named_parameters()} - decayed
    assert {
        "logit_scale", "logit_bias", "text_tower.token_embedding.weight", "text_tower.positions",
        f"{backbone}pos_embed", f"{backbone}attn_pool.latent", f"{backbone}attn_pool.norm.weight",
    } < rest  # fmt: skip


def test_the_convolutions_of_a_stem_decay_and_their_norms_do_not():
    model = make_model(stem_channels=(8, 16))
    kernels = kernel_parameters(model)
    stem = {n: p in kernels for n, p in model.named_parameters() if ".patch_embed." in n}
    assert {n for n, decays in stem.items() if decays} == {
        n for n, p in model.named_parameters() if ".patch_embed." in n and p.ndim == 4
    }
    assert sum(stem.values()) == 3


def test_each_parameter_is_in_one_group_with_its_decay():
    model = make_model()
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.3), model)
    kernels = kernel_parameters(model)
    seen = [(p, group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]]
    assert len(seen) == len({p for p, _ in seen}) == len(list(model.parameters()))
    assert all(decay == (0.3 if p in kernels else 0.0) for p, decay in seen)


@pytest.mark.parametrize("name", ["adamw", "adafactorbv"])
def test_steps_through_the_buffer_are_steps_on_separate_gradients(name):
    separate, buffered = make_model(), make_model()
    GradientBuffer(buffered.parameters())
    config = OptimizerConfig(name=name, beta1=0.8, beta2=0.97, weight_decay=0.2)
    kernels = [n for n, p in separate.named_parameters() if p in kernel_parameters(separate)]
    groups = [
        {
            "params": [p for n, p in separate.named_parameters() if n in kernels],
            "weight_decay": 0.2,
        },
        {
            "params": [p for n, p in separate.named_parameters() if n not in kernels],
            "weight_decay": 0.0,
        },
    ]
    if name == "adamw":
        expected = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.97), eps=1e-8, foreach=False)
    else:
        expected = AdafactorBigVision(groups, lr=1.0, momentum=0.8, beta2_cap=0.97)
    ours = build_optimizer(config, buffered)
    for step in range(5):
        rate = 1e-2 / (step + 1)
        for model, optimizer in ((separate, expected), (buffered, ours)):
            fill_gradients(model, step)
            set_learning_rate(optimizer, rate)
            optimizer.step()
    for (parameter_name, one), two in zip(
        separate.named_parameters(), buffered.parameters(), strict=True
    ):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6, msg=parameter_name)


def test_an_unused_parameter_moves_alike_whether_others_use_it_or_not():
    # A gradient of zero decays moments and weights; None would leave both as they were.
    model = make_model()
    buffer = GradientBuffer(model.parameters())
    optimizer = build_optimizer(OptimizerConfig(), model)
    fill_gradients(model, 0)
    optimizer.step()
    before = copy.deepcopy(model.state_dict())
    buffer.zero()
    optimizer.step()
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize("name", ["muon", "lion", "sgd"])
def test_other_optimizers_of_timm_train(name):
    model = make_model()
    GradientBuffer(model.parameters())
    optimizer = build_optimizer(OptimizerConfig(name=name), model)
    before = copy.deepcopy(model.state_dict())
    fill_gradients(model, 0)
    optimizer.step()
    after = model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(before["text_tower.head.weight"], after["text_tower.head.weight"])


@pytest.mark.parametrize(
    ("wrong", "near"), [("adamww", "adamw"), ("adafactorbw", "adafactorbv"), ("§", "adamw")]
)
def test_an_unknown_optimizer_is_refused_with_the_nearest_names(wrong, near):
    with pytest.raises(UserError, match=f"{wrong!r}.*{near}"):
        check_optimizer_name(wrong)
    with pytest.raises(UserError, match=near):
        build_optimizer(OptimizerConfig(name=wrong), make_model())


@pytest.mark.parametrize("name", ["adan", "adahessian", "kron", "lambc"])
def test_optimizers_that_could_not_be_driven_or_resumed_are_refused_before_training(name):
    with pytest.raises(UserError, match="can be used here"):
        check_optimizer_name(name)


def test_an_optimizer_that_needs_another_device_is_refused_in_a_line():
    if torch.cuda.is_available():
        pytest.skip("apex needs CUDA, and it is there")
    with pytest.raises(UserError, match="'fusedadam' cannot be used here"):
        build_optimizer(OptimizerConfig(name="fusedadam"), make_model())


def test_towers_and_blocks_have_rates_of_their_own():
    model = make_model()
    config = OptimizerConfig(image_rate_factor=0.1, text_rate_factor=2.0, layer_decay=0.5)
    factors = rate_factors(config, [name for name, _ in model.named_parameters()])
    backbone = "image_tower.backbone."
    expected = {
        "logit_scale": 1.0,
        f"{backbone}pos_embed": 0.1 / 8, f"{backbone}patch_embed.proj.weight": 0.1 / 8,
        f"{backbone}blocks.0.attn.qkv.weight": 0.1 / 4, f"{backbone}blocks.1.norm1.bias": 0.1 / 2,
        f"{backbone}norm.weight": 0.1, f"{backbone}attn_pool.q.weight": 0.1,
        "text_tower.token_embedding.weight": 2 / 8, "text_tower.blocks.1.mlp.expand.bias": 1.0,
        "text_tower.head.weight": 2.0,
    }  # fmt: skip
    assert {name: factors[name] for name in expected} == pytest.approx(expected)
    optimizer = build_optimizer(config, model)
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.5 * factors[name])
    kernels = kernel_parameters(model)
    for group in optimizer.param_groups:
        assert len({p in kernels for p in group["params"]}) == 1


def test_adapters_and_towers_without_blocks_have_the_rate_of_their_tower():
    names = [
        "text_tower.adapters.A.2.linear.weight",
        "text_tower.blocks.0.x",
        "text_tower.blocks.1.x",
    ]
    names += ["image_tower.backbone.stages.0.weight", "image_tower.backbone.head.weight"]
    factors = rate_factors(OptimizerConfig(layer_decay=0.5, image_rate_factor=0.1), names)
    assert list(factors.values()) == [1.0, 0.25, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_locked_parameters_neither_move_nor_decay_and_rates_scale_updates(name):
    model = make_model()
    lock(model.image_tower, unlock_from_block=1)
    config = OptimizerConfig(name=name, weight_decay=0.5, text_rate_factor=0.01)
    GradientBuffer(model.parameters())
    optimizer = build_optimizer(config, model)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad.copy_(torch.randn(parameter.shape, generator=generator))
    set_learning_rate(optimizer, 1e-2)
    optimizer.step()
    moved = {n: (p.detach() - before[n]).abs().max().item() for n, p in model.named_parameters()}
    for name_of, parameter in model.named_parameters():
        assert (moved[name_of] > 0) == parameter.requires_grad, name_of
    image, text = "image_tower.backbone.norm.bias", "text_tower.norm.bias"
    assert moved[text] == pytest.approx(0.01 * moved[image], rel=1e-3)


def test_a_rate_holds_for_every_group():
    optimizer = build_optimizer(OptimizerConfig(), make_model())
    set_learning_rate(optimizer, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]
