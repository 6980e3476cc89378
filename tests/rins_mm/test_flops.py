import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rins_mm.flops import StepCost, image_cost, laid_out, text_cost
from rins_mm.losses import dense_sigmoid_loss
from rins_mm.models.draws import RecursionConfig, draw_calls, reachable_signatures
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig, set_fused_attention
from rins_mm.models.siglip import build_model
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTower, TextTowerConfig

RINS = RecursionConfig(signature="A^3B", skip_probability=0.5)


def test_a_locked_image_tower_is_counted_forward_alone():
    image = ImageTowerConfig(image_size=32, width=32, depth=2, num_heads=2)
    lengths, calls = torch.tensor([3.0, 5.0]), ("A", "B")
    free, locked = (
        StepCost(image, text_config(), embedding_width=32, image_is_locked=is_locked)
        for is_locked in (False, True)
    )
    saved = 2 * 2 * image_cost(image).forward(calls)
    costs = [cost.flops(lengths, calls, calls, world_size=1) for cost in (free, locked)]
    assert costs[0] - costs[1] == pytest.approx(saved)
    means = [cost.expected_flops(lengths, world_size=1) for cost in (free, locked)]
    assert means[0] - means[1] == pytest.approx(saved)


def text_config(**changes):
    settings = {"width": 24, "depth": 4, "num_heads": 3, "mlp_width": 40, "context_length": 9}
    return TextTowerConfig(**{**settings, **changes})


def counted(run):
    # The fused kernel of a CPU is one operation that the counter does not know.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("calls", ["AB", "AAB", "AAAB", "B", ""])
@pytest.mark.parametrize(("padding", "length"), [("masked", 6), ("masked", 9), ("siglip", 6)])
def test_the_cost_of_captions_is_what_torch_counts_when_they_run(calls, padding, length):
    config = text_config(padding=padding, recursion=RINS)
    tower = TextTower(config, vocab_size=50, pad_token=0, embedding_width=16).eval()
    number = 5
    tokens = torch.ones(number * length, dtype=torch.int32)
    offsets = torch.arange(0, number * length + 1, length, dtype=torch.int32)
    cost = text_cost(config, embedding_width=16, length=float(length))
    found = counted(lambda: tower(tokens, offsets, tuple(calls)))
    assert found == number * cost.forward(tuple(calls))


def vit_by_hand(*, side, patch, width, depth, mlp_width):
    """Operations of a SigLIP ViT: patches, blocks, and attention pooling with one query."""
    patches = (side // patch) ** 2
    embedding = 2 * patches * 3 * patch * patch * width
    block = 2 * patches * (4 * width**2 + 2 * width * mlp_width) + 4 * patches**2 * width
    # Query and output for one row, key and value for all, the two products, an MLP on one row.
    pooling = (
        2 * width**2 * 2 + 2 * patches * 2 * width**2 + 4 * patches * width + 4 * width * mlp_width
    )
    return embedding + pooling, depth * block


@pytest.mark.parametrize(
    ("side", "patch", "width", "depth", "heads"),
    [(64, 16, 48, 4, 3), (48, 8, 32, 6, 2), (224, 16, 768, 12, 12)],
)
def test_the_cost_of_a_picture_is_what_the_formulas_of_a_vit_say(side, patch, width, depth, heads):
    config = ImageTowerConfig(
        image_size=side, patch_size=patch, width=width, depth=depth, num_heads=heads, recursion=RINS
    )
    cost = image_cost(config)
    outside, blocks = vit_by_hand(
        side=side, patch=patch, width=width, depth=depth, mlp_width=4 * width
    )
    assert cost.outside_blocks == outside
    assert cost.forward(("A", "B")) == outside + blocks
    assert cost.forward(expand("A^3B")) == outside + 2 * blocks
    assert cost.layer_steps(expand("A^3B")) == 2 * depth


@pytest.mark.parametrize(
    "config",
    [
        ImageTowerConfig(name="resnet18", image_size=64),
        ImageTowerConfig(name="mobilenetv3_small_050", image_size=64),
        ImageTowerConfig(name="eva02_tiny_patch14_224", image_size=56, depth=4),
        ImageTowerConfig(
            image_size=48, width=48, depth=2, num_heads=3, stem_channels=(8, 16), drop_path=0.1
        ),
    ],
)
def test_the_cost_of_any_timm_model_is_what_torch_counts_when_it_runs(config):
    torch.manual_seed(0)
    # The counter's hooks want either all gradients or none.
    tower = ImageTower(config).eval().requires_grad_(False)
    images = torch.rand(2, 3, config.image_size, config.image_size)
    set_fused_attention(tower, fused=False)
    found = counted(lambda: tower(images, ("A", "B")))
    assert found == 2 * image_cost(config).forward(("A", "B"))


def test_counting_builds_nothing_and_leaves_no_trace_of_its_calls():
    config = ImageTowerConfig(image_size=64, width=48, depth=4, num_heads=3)
    assert image_cost(config) == image_cost(config)


@settings(max_examples=30)
@given(st.sampled_from(["AB", "A^2B", "A^4B", "ABAB", "ABCABC"]), st.floats(0, 1))
def test_the_expected_cost_is_the_mean_over_draws(signature, chance):
    config = text_config(
        depth=6, recursion=RecursionConfig(signature=signature, skip_probability=chance)
    )
    cost = text_cost(config, embedding_width=16, length=5.0)
    draws = [draw_calls(config.recursion, tower="text", seed=0, step=step) for step in range(400)]
    shallowest, *_, deepest = map(expand, [*reachable_signatures(config.recursion), signature])
    for price, expected in (
        (cost.forward, cost.expected_forward(config.recursion)),
        (cost.layer_steps, cost.expected_layer_steps(config.recursion)),
    ):
        mean = sum(map(price, draws)) / len(draws)
        # Five standard errors: the standard deviation is at most half of the range.
        bound = 5 * (price(deepest) - price(shallowest)) / 2 / len(draws) ** 0.5
        assert abs(mean - expected) <= bound + 1e-9 * expected


def test_skipping_with_chance_one_half_costs_half_of_the_optional_rounds():
    cost = text_cost(text_config(recursion=RINS), embedding_width=16, length=9.0)
    plain, full = cost.forward(("A", "B")), cost.forward(expand("A^3B"))
    assert cost.expected_forward(RINS) == pytest.approx((plain + full) / 2)
    assert cost.expected_layer_steps(RINS) == 6


@pytest.mark.parametrize("text_calls", ["AB", "AAB", "AAAB"])
def test_the_cost_of_a_training_step_is_what_torch_counts_of_forward_and_backward(text_calls):
    image = ImageTowerConfig(image_size=32, patch_size=8, width=48, depth=2, num_heads=3)
    text = text_config(recursion=RINS)
    model = build_model(image, text, vocab_size=50, pad_token=0, seed=0)
    set_fused_attention(model, fused=False)
    number, length = 6, text.context_length
    # Captions of one length: how others are laid out is another test's matter.
    offsets = torch.arange(0, number * length + 1, length, dtype=torch.int32)
    keys = torch.arange(number)[:, None]

    def step():
        features = model(
            torch.rand(number, 3, 32, 32), torch.ones(number * length, dtype=torch.int32), offsets,
            ("A", "B"), tuple(text_calls),
        )  # fmt: skip
        # torch does not count products that are added in place, as the tiled form adds its own.
        dense_sigmoid_loss(
            *features, logit_scale=model.logit_scale, logit_bias=model.logit_bias, image_keys=keys,
            text_keys=keys, valid=torch.ones(number, dtype=torch.bool), group=None,
        ).backward()  # fmt: skip

    cost = StepCost(image, text, embedding_width=48)
    predicted = cost.flops(offsets.diff(), ("A", "B"), tuple(text_calls), world_size=1)
    # Pixels need no gradient: the patch embedding has one product less than three.
    patches = number * 2 * 16 * (3 * 8 * 8) * 48
    assert predicted - patches == counted(step)
    assert cost.layer_steps(("A", "B"), tuple(text_calls)) == 2 + 2 * len(text_calls)


@pytest.mark.parametrize(
    ("padding", "expected"), [("masked", [7.0, 7.0, 7.0]), ("siglip", [9.0, 9.0, 9.0])]
)
def test_padding_that_is_computed_is_counted(padding, expected):
    config = text_config(padding=padding)
    lengths = torch.tensor([3.0, 7.0, 1.0])
    if getattr(config, "packing", False) and padding == "masked":
        expected = lengths.tolist()
    assert laid_out(config, lengths).tolist() == expected


def test_patches_that_are_dropped_cost_nothing_in_training():
    sizes = {"image_size": 32, "patch_size": 4, "width": 48, "depth": 2, "num_heads": 3}
    half = image_cost(ImageTowerConfig(**sizes, patch_dropout=0.5), training=True)
    whole = image_cost(ImageTowerConfig(**sizes))
    # The projections halve, attention is quartered.
    assert 0.25 < half.per_group["A"] / whole.per_group["A"] < 0.5
    assert image_cost(ImageTowerConfig(**sizes, patch_dropout=0.5)) == whole


ADAPTED = {
    "linear": {"adapter": "linear"},
    "each round": {"adapter": "linear", "adapter_index": "round", "adapter_first_round": 1},
    "lora": {"adapter": "lora", "adapter_rank": 3},
    "scale": {"adapter": "scale"},
    "latent": {"kind": "latent", "signature": "AB^3C"},
}


@pytest.mark.parametrize("kind", ADAPTED)
def test_adapters_and_injection_are_counted_as_torch_counts_them(kind):
    recursion = RecursionConfig(**{"signature": "A^3B", **ADAPTED[kind]})
    text = text_config(depth=3 if kind == "latent" else 4, recursion=recursion)
    image = ImageTowerConfig(
        image_size=32, patch_size=8, width=48, depth=3 if kind == "latent" else 2, num_heads=3,
        recursion=recursion,
    )  # fmt: skip
    model = build_model(image, text, vocab_size=50, pad_token=0, seed=0).requires_grad_(False)
    set_fused_attention(model.eval(), fused=False)
    tokens, offsets = torch.ones(12, dtype=torch.int32), torch.tensor([0, 6, 12]).int()
    text_price = text_cost(text, embedding_width=48, length=6.0)
    image_price = image_cost(image)
    for signature in ("ABC", "AB^3C") if kind == "latent" else ("AB", "AAB", "A^5B"):
        calls = expand(signature)
        found = counted(lambda calls=calls: model.text_tower(tokens, offsets, calls))
        assert found == 2 * text_price.forward(calls)
        found = counted(lambda calls=calls: model.image_tower(torch.rand(2, 3, 32, 32), calls))
        assert found == 2 * image_price.forward(calls)


def test_rounds_without_gradient_cost_a_forward_pass_and_no_more():
    recursion = RecursionConfig(kind="latent", signature="AB^6C", latent_gradient_rounds=2)
    config = text_config(depth=3, recursion=recursion)
    tower = TextTower(config, vocab_size=50, pad_token=0, embedding_width=16)
    tokens, offsets = torch.ones(12, dtype=torch.int32), torch.tensor([0, 6, 12]).int()
    cost = text_cost(config, embedding_width=16, length=6.0)

    def counted_step(calls):
        return counted(lambda: tower(tokens, offsets, calls).sum().backward())

    # Only its last two rounds have gradients: three further ones add three forward passes.
    short, long = expand("AB^2C"), expand("AB^5C")
    assert counted_step(long) - counted_step(short) == 2 * 3 * cost.per_group["B"]
    assert 2 * cost.training(long) == counted_step(long)
    draws = [draw_calls(recursion, tower="text", seed=0, step=step) for step in range(600)]
    mean = sum(map(cost.training, draws)) / len(draws)
    assert cost.expected_training() == pytest.approx(mean, rel=0.05)
