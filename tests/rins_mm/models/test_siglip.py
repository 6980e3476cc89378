import dataclasses
import math
import resource

import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTower, ImageTowerConfig
from rins_mm.models.siglip import build_model, unit
from rins_mm.models.signatures import expand
from rins_mm.models.sizes import TEXT_SIZES, text_tower
from rins_mm.models.text_tower import TextTowerConfig

IMAGE = ImageTowerConfig(image_size=32, width=32, depth=2, num_heads=2)


def make_model(seed=0, signature="AB", **changes):
    text = TextTowerConfig(
        width=24, depth=2, num_heads=2, mlp_width=48, context_length=8,
        recursion=RecursionConfig(signature=signature),
    )  # fmt: skip
    return build_model(IMAGE, text, vocab_size=30, pad_token=0, seed=seed, **changes)


def inputs():
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([5, 6, 1, 1, 9, 1], dtype=torch.int32)
    return images, tokens, torch.tensor([0, 3, 4, 6], dtype=torch.int32)


def test_both_towers_give_unit_vectors_of_one_width_in_fp32():
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = model(*inputs(), ("A", "B"), ("A", "B"))
    for vectors in features:
        assert vectors.shape == (3, 32)
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_calls_reach_the_tower_that_they_are_for():
    model = make_model(signature="A^3B").eval()
    with torch.no_grad():
        plain = model(*inputs(), ("A", "B"), ("A", "B"))
        deeper_text = model(*inputs(), ("A", "B"), expand("A^3B"))
        deeper_image = model(*inputs(), expand("AAB"), ("A", "B"))
    assert torch.equal(plain[0], deeper_text[0])
    assert not torch.equal(plain[1], deeper_text[1])
    assert not torch.equal(plain[0], deeper_image[0])
    assert torch.equal(plain[1], deeper_image[1])


def test_a_vector_of_zeros_has_no_direction_and_stays():
    assert torch.equal(unit(torch.zeros(1, 4)), torch.zeros(1, 4))


def test_scale_and_bias_start_as_given_with_one_axis():
    model = make_model(initial_scale=20.0, initial_bias=-5.0)
    assert model.logit_scale.shape == model.logit_bias.shape == (1,)
    assert math.isclose(model.logit_scale.exp().item(), 20.0, rel_tol=1e-6)
    assert model.logit_bias.item() == -5.0


def test_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = make_model(seed=1).state_dict()
    assert torch.equal(torch.rand(3), expected)
    again, other = make_model(seed=1).state_dict(), make_model(seed=2).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    changed = {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"image_tower", "text_tower"}


def test_the_signature_changes_no_initial_weight():
    plain, recursive = make_model().state_dict(), make_model(signature="A^3B").state_dict()
    assert plain.keys() == recursive.keys()
    assert all(torch.equal(plain[name], recursive[name]) for name in plain)


@pytest.mark.parametrize("size", TEXT_SIZES)
def test_the_named_sizes_have_the_proportions_of_vits(size):
    config = text_tower(size, context_length=16)
    assert config.context_length == 16
    assert config.width % config.num_heads == 0
    assert config.mlp_width == {"So400m": 4304}.get(size, 4 * config.width)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mlp_width": 10**9}, r"the text tower would have .* text.mlp_width 1000000000"),
        ({"width": 10**10, "num_heads": 1}, "text.width 10000000000"),
        ({"context_length": 10**10}, "text.context_length 10000000000"),
        ({"depth": 1_001}, "text.depth is 1,001; give at most 1,000 blocks"),
    ],
)
def test_a_model_that_this_machine_cannot_hold_is_one_line_that_names_the_setting(changes, told):
    text = TextTowerConfig(**{"width": 32, "num_heads": 1, "depth": 2, "mlp_width": 48} | changes)
    with pytest.raises(UserError, match=told):
        build_model(IMAGE, text, vocab_size=30, pad_token=0, seed=0)


def test_an_image_tower_that_no_machine_can_hold_is_named():
    image = dataclasses.replace(IMAGE, image_size=10**7)
    text = TextTowerConfig(width=32, num_heads=1, depth=2, mlp_width=48)
    with pytest.raises(UserError, match=r"image\.image_size 10000000"):
        build_model(image, text, vocab_size=30, pad_token=0, seed=0)


def test_room_for_training_is_measured_too_and_within_the_limits_of_the_process(monkeypatch):
    needed = 4 * sum(p.numel() for part in ("image_tower", "text_tower")
                     for p in getattr(make_model(), part).parameters())  # fmt: skip
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2 * needed, 2 * needed))
    make_model(copies=2)
    with pytest.raises(UserError, match=r"GB of memory in training, of which there are"):
        make_model(copies=3)


def test_a_depth_of_ten_million_is_refused_wherever_a_tower_is_made():
    with pytest.raises(UserError, match=r"image\.depth is 10,000,000; give at most 1,000"):
        ImageTower(dataclasses.replace(IMAGE, depth=10**7))
