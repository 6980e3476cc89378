import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from data_pipelines.errors import UserError
from rins_mm.models.adapters import Adapters, adapter_parameters, uses
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.recursion import RecursiveStack
from rins_mm.models.recursion_checks import check_recursion
from rins_mm.models.siglip import SigLIP, build_model
from rins_mm.models.signatures import expand
from rins_mm.models.sizes import text_tower
from rins_mm.models.text_tower import TextTowerConfig

PLACES = ("between_rounds", "before_next_group", "after_stack")
KINDS = {
    **{f"linear {place}": {"adapter": "linear", "adapter_place": place} for place in PLACES},
    "linear each round": {"adapter": "linear", "adapter_index": "round", "adapter_norm": False},
    "lora": {"adapter": "lora", "adapter_rank": 3},
    "scale": {"adapter": "scale"},
}
TOKENS = torch.arange(15, dtype=torch.int32) + 2
OFFSETS = torch.tensor([0, 3, 4, 11, 15], dtype=torch.int32)


def build(*, seed=1, checkpoint_calls=False, **recursion) -> SigLIP:
    config = RecursionConfig(**{"signature": "A^3B", **recursion})
    image = ImageTowerConfig(
        image_size=16, patch_size=8, width=32, depth=2, num_heads=2, recursion=config,
        checkpoint_calls=checkpoint_calls,
    )  # fmt: skip
    text = TextTowerConfig(
        width=32, depth=2, num_heads=2, mlp_width=64, context_length=12, recursion=config,
        checkpoint_calls=checkpoint_calls,
    )  # fmt: skip
    return build_model(image, text, vocab_size=20, pad_token=0, seed=seed)


def features(model, calls):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return torch.cat(model(images, TOKENS, OFFSETS, expand(calls), expand(calls)))


def disturb(model):
    """Adapters as they might be after training."""
    generator = torch.Generator().manual_seed(5)
    for parameter in adapter_parameters(model).values():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_ab_is_the_plain_tower_bit_for_bit_and_adapters_begin_as_the_identity(kind):
    plain, adapted = build(), build(**KINDS[kind])
    for calls in ("AB", "A^5B"):
        assert torch.equal(features(plain, calls), features(adapted, calls))
    disturb(adapted)
    assert torch.equal(features(plain, "AB"), features(adapted, "AB"))
    for calls in ("AAB", "A^5B"):
        assert not torch.allclose(features(plain, calls), features(adapted, calls), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_several_depths_in_one_pass_are_those_of_passes_of_their_own(kind):
    model = disturb(build(**KINDS[kind])).eval()
    variants = [expand(calls) for calls in ("AB", "AAAB", "AAB", "A^4B")]
    images = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        for tower, inputs in (
            (model.image_tower, (images,)),
            (model.text_tower, (TOKENS, OFFSETS)),
        ):
            together = tower.forward_variants(*inputs, variants)
            for calls, found in zip(variants, together, strict=True):
                assert torch.equal(found, tower(*inputs, calls))


@pytest.mark.parametrize("kind", KINDS)
def test_calls_computed_again_give_the_same_gradients(kind):
    found = []
    for checkpoint_calls in (False, True):
        model = disturb(build(checkpoint_calls=checkpoint_calls, **KINDS[kind]))
        features(model, "AAAB").pow(3).sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("changes", "calls", "expected"),
    [
        ({}, "AAAB", "A3"),
        ({}, "AAB", "A2"),
        ({}, "AB", ""),
        ({}, "A^5B", "A3"),
        ({"adapter_first_round": 1}, "AB", "A1"),
        ({"adapter_index": "round"}, "A^4B", "A2 A3 A3"),
        ({"adapter_place": "between_rounds"}, "A^4B", "A2 A3 A3"),
        ({"adapter_place": "between_rounds", "adapter_first_round": 1}, "AAB", "A1 A2"),
        ({"adapter": "lora"}, "AAAB", "A2 A3"),
        ({"adapter_place": "after_stack"}, "AAAB", "A3"),
        ({"signature": "ABAB"}, "ABAB", "A2 B2"),
        ({"signature": "ABAB", "adapter_place": "after_stack"}, "ABAB", "A2 B2"),
        ({"signature": "AB^3"}, "ABBB", "B3"),
        ({"signature": "(AAB)_2"}, "AABAABCCD", "A2 A4 B2 C2"),
        ({"signature": "AB", "patterns": ("AB", "AAB")}, "AAB", "A2"),
    ],
)
def test_the_adapters_that_run_are_those_of_the_rounds(changes, calls, expected):
    config = RecursionConfig(**{"signature": "AAAB", "adapter": "linear", **changes})
    found = " ".join(f"{letter}{number}" for letter, number in uses(config, expand(calls)))
    assert found == expected


def block(width):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, width), nn.Tanh()).double()


@pytest.mark.parametrize("place", PLACES)
def test_shared_gradients_are_the_sums_over_unrolled_copies_with_adapters_between(place):
    config = RecursionConfig(signature="AAAB", adapter="linear", adapter_place=place)
    adapters = Adapters(config, 6).double()
    for parameter in adapters.parameters():
        nn.init.normal_(parameter)
    blocks = [block(6), block(6)]
    stack = RecursiveStack(blocks, "AAAB", adapters=adapters)
    stack.calls = expand("AAAB")
    x = torch.randn(3, 6, dtype=torch.float64)
    stack(x).square().sum().backward()

    copies = [copy.deepcopy(blocks[0]) for _ in range(3)] + [copy.deepcopy(blocks[1])]
    second, third = (adapters["A"][n].linear.weight.detach().clone() for n in "23")
    weights = [second.requires_grad_(), third.requires_grad_()]

    def adapted(y, weight):
        return y + F.layer_norm(y, (6,), eps=1e-6) @ weight.T

    y = copies[0](x)
    y = adapted(y, second) if place == "between_rounds" else y
    y = copies[1](y)
    y = adapted(y, third) if place == "between_rounds" else y
    y = copies[2](y)
    y = adapted(y, third) if place == "before_next_group" else y
    y = copies[3](y)
    y = adapted(y, third) if place == "after_stack" else y
    assert torch.allclose(y, stack(x), rtol=1e-13, atol=1e-13)
    y.square().sum().backward()
    total = sum(part[0].weight.grad for part in copies[:3])
    # Unrolled copies begin without a gradient: the shared block's is what they have in sum.
    torch.testing.assert_close(blocks[0][0].weight.grad, total, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(blocks[1][0].weight.grad, copies[3][0].weight.grad)
    for number, weight in zip("23", weights, strict=True):
        found = adapters["A"][number].linear.weight.grad
        assert (found is None) == (weight.grad is None)
        if found is not None:
            torch.testing.assert_close(found, weight.grad, rtol=1e-12, atol=1e-12)


def count(model):
    return sum(p.numel() for p in adapter_parameters(model).values())


def test_parameters_are_counted_exactly():
    width, rank, mlp = 32, 3, {"image": 128, "text": 64}
    assert count(build()) == 0
    assert count(build(adapter="linear")) == 2 * 2 * width**2
    assert count(build(adapter="linear", adapter_first_round=1)) == 2 * 3 * width**2
    assert count(build(adapter="linear", signature="A^3B^2")) == 2 * 3 * width**2
    assert count(build(adapter="scale")) == 2 * 2 * width
    ends = sum(6 * width + 2 * (width + hidden) for hidden in mlp.values())
    assert count(build(adapter="lora", adapter_rank=rank)) == 2 * rank * ends
    for kind in KINDS.values():
        plain, adapted = build(), build(**kind)
        added = set(adapted.state_dict()) - set(plain.state_dict())
        assert added == set(adapter_parameters(adapted))
        assert not set(plain.state_dict()) - set(adapted.state_dict())


def test_the_paper_s_adapters_are_less_than_one_percent_of_a_model_of_size_b():
    recursion = RecursionConfig(signature="A^3B", adapter="linear")
    with torch.device("meta"):
        model = SigLIP(
            ImageTowerConfig(), text_tower("B", recursion=recursion), vocab_size=32_000, pad_token=1
        )
    share = count(model) / sum(p.numel() for p in model.parameters())
    assert 0.005 < share < 0.01


def test_the_weights_that_all_kinds_share_begin_alike():
    plain = build().state_dict()
    for kind in KINDS.values():
        state = build(**kind).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())
        again = build(**kind).state_dict()
        assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"adapter_first_round": 3}, "adapter_first_round is 3; it must be 2, or 1"),
        ({"adapter_rank": 0}, "adapter_rank is 0"),
        ({"signature": "AB", "adapter": "lora"}, "repeats no group"),
        ({"kind": "latent"}, r"write it like AB\^8C"),
        ({"kind": "latent", "signature": "AB^99C"}, "99 rounds in the mean"),
        ({"kind": "latent", "signature": "AB^8C", "latent_gradient_rounds": 0}, "at least 1"),
        ({"kind": "latent", "signature": "AB^8C", "latent_sigma": -1.0}, r"lie in \[0, 2\]"),
        ({"kind": "latent", "signature": "AB^8C", "adapter": "scale"}, "leave out"),
        ({"kind": "latent", "signature": "AB^8C", "skip_probability": 0.5}, "leave out"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(settings, told):
    with pytest.raises(UserError, match=told) as error:
        check_recursion("text", RecursionConfig(**{"signature": "A^3B", **settings}))
    assert "text.recursion" in str(error.value) and "\n" not in str(error.value)
