"""The tiled form against the dense one: values, gradients, rounding, memory, ranks."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from rins_mm.losses import choose_loss, matching_pairs, softmax_loss
from rins_mm.pair_tiles import Side, matching_places, terms_at_once, terms_in_place

LEAVES = ("images", "texts", "scale", "bias")
EXCHANGES = ("ring", "gather")


def make_batch(number, *, width=8, columns=2, different_keys=None, scale=10.0, bias=-10.0, seed=0):
    """Unit vectors whose pairs lean towards each other, keys of which some agree, and some holes; all in fp64."""
    generator = torch.Generator().manual_seed(seed)
    images, noise = torch.randn(2, number, width, generator=generator, dtype=torch.float64)
    keys = torch.randint(different_keys or 2**62, (number, columns), generator=generator)
    # Some captions are also those of other pictures, in any column.
    strangers = torch.rand(number, columns, generator=generator) < 0.3
    text_keys = torch.where(strangers, keys[torch.randperm(number, generator=generator)], keys)
    return {
        "images": F.normalize(images, dim=-1),
        "texts": F.normalize(images + noise, dim=-1),
        "scale": torch.tensor([math.log(scale)], dtype=torch.float64),
        "bias": torch.tensor([bias], dtype=torch.float64),
        "image_keys": keys,
        "text_keys": text_keys,
        "valid": torch.rand(number, generator=generator) < 0.8,
    }


def in_precision(batch, dtype):
    """The same numbers, in fp64 only if they were exact before."""
    return {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in batch.items()
    }


def value_of(loss, batch, group=None):
    return loss(
        batch["images"],
        batch["texts"],
        logit_scale=batch["scale"],
        logit_bias=batch["bias"],
        image_keys=batch["image_keys"],
        text_keys=batch["text_keys"],
        valid=batch["valid"],
        group=group,
    )


def gradients_of(loss, batch, group=None):
    """The value, and the gradients by name."""
    leaves = {name: batch[name].detach().clone().requires_grad_() for name in LEAVES}
    value = value_of(loss, {**batch, **leaves}, group)
    found = torch.autograd.grad(value, list(leaves.values()))
    return {"value": value.detach(), **dict(zip(leaves, found, strict=True))}


def tiled(tile_size=3, exchange="ring"):
    return choose_loss("sigmoid", form="tiled", tile_size=tile_size, exchange=exchange)


def dense():
    return choose_loss("sigmoid", form="dense", tile_size=0, exchange="ring")


def error(found, exact):
    """The norm of the difference as a share of the norm."""
    return ((found.double() - exact).norm() / exact.norm()).item()


batches = st.builds(
    make_batch,
    st.integers(1, 40),
    width=st.integers(1, 9),
    columns=st.integers(1, 3),
    different_keys=st.sampled_from([None, 1, 3, 30]),
    scale=st.sampled_from([1.0, 10.0, 117.0]),
    bias=st.floats(-20.0, 5.0),
    seed=st.integers(0, 2**31),
)


@given(batches, st.integers(1, 45), st.sampled_from(EXCHANGES))
def test_value_and_gradients_are_those_of_the_dense_form(batch, tile_size, exchange):
    found = gradients_of(tiled(tile_size, exchange), batch)
    expected = gradients_of(dense(), batch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12, msg=name)


@given(batches)
def test_matches_are_found_without_comparing_all_pairs(batch):
    sides = [
        Side(features=batch[name], keys=batch[f"{name[:-1]}_keys"], valid=batch["valid"])
        for name in ("images", "texts")
    ]
    expected = matching_pairs(batch["image_keys"], batch["text_keys"])
    expected &= batch["valid"][:, None] & batch["valid"]
    found = torch.zeros_like(expected)
    found.view(-1)[matching_places(*sides)] = True
    assert torch.equal(found, expected)


@given(batches)
def test_the_terms_of_a_tile_are_the_same_in_place_and_at_once(batch):
    images, texts = (
        Side(features=batch[name], keys=batch[f"{name[:-1]}_keys"], valid=batch["valid"])
        for name in ("images", "texts")
    )
    cosines, (scale, bias) = batch["images"] @ batch["texts"].T, (batch["scale"], batch["bias"])
    at_once = terms_at_once(
        cosines, images.keys, texts.keys, images.valid, texts.valid, scale, bias
    )
    for one, other in zip(
        at_once, terms_in_place(cosines.clone(), images, texts, scale, bias), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("aot_eager", marks=pytest.mark.slow),
        pytest.param("inductor", marks=pytest.mark.long),
    ],
)
def test_compiled_tiles_have_the_gradients_of_those_that_are_not(repository, backend):
    ended = subprocess.run(
        [sys.executable, str(repository / "tests" / "helpers" / "compiled_loss.py"), backend],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "graphs, equal gradients" in ended.stdout


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (117.0, -17.0)])
def test_in_fp32_it_rounds_at_most_twice_as_much_as_the_dense_form(scale, bias):
    errors = {"tiled": {}, "dense": {}}
    for seed in range(5):
        rounded = in_precision(
            make_batch(700, width=64, scale=scale, bias=bias, seed=seed), torch.float32
        )
        exact = gradients_of(dense(), in_precision(rounded, torch.float64))
        for form, loss in (("tiled", tiled(128)), ("dense", dense())):
            for name, found in gradients_of(loss, rounded).items():
                errors[form].setdefault(name, []).append(error(found, exact[name]) ** 2)
    for name in errors["tiled"]:
        ours, theirs = (math.sqrt(sum(errors[form][name]) / 5) for form in ("tiled", "dense"))
        # A single number may come out exact by chance; half a unit in its last place is no error.
        least = 2**-25 if name in ("value", "scale", "bias") else 0.0
        assert ours <= 2 * max(theirs, least), (name, ours, theirs)


def test_features_in_bf16_are_computed_in_fp32():
    rounded = make_batch(100, width=32, seed=1)
    for name in ("images", "texts"):
        rounded[name] = rounded[name].bfloat16()
    for name in ("scale", "bias"):
        rounded[name] = rounded[name].float()
    found = gradients_of(tiled(16), rounded)
    exact = gradients_of(dense(), in_precision(rounded, torch.float64))
    assert found["value"].dtype == torch.float32
    assert error(found["value"], exact["value"]) < 1e-6
    assert found["images"].dtype == torch.bfloat16
    # Rounded once, at the end.
    for name in ("images", "texts"):
        torch.testing.assert_close(found[name], exact[name].bfloat16(), rtol=2**-7, atol=1e-8)


class LargestTensor(TorchDispatchMode):
    """The bytes of the largest storage that any operation has given back."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("different_keys", [None, 1])
def test_no_tensor_is_as_large_as_the_pair_matrix(exchange, different_keys):
    largest = {}
    for number in (512, 1024):
        batch = in_precision(
            make_batch(number, width=64, different_keys=different_keys), torch.float32
        )
        with LargestTensor() as mode:
            gradients_of(tiled(64, exchange), batch)
        largest[number] = mode.bytes
    # As large as the features, whatever matches.
    assert largest[512] <= 512 * 64 * 4
    assert largest[1024] <= 1024 * 64 * 4
    with LargestTensor() as mode:
        gradients_of(dense(), batch)
    assert mode.bytes >= 1024 * 1024 * 4


def test_without_gradients_the_value_is_the_same():
    batch = make_batch(20)
    expected = gradients_of(tiled(), batch)["value"]
    leaves = {name: batch[name].clone().requires_grad_() for name in LEAVES}
    with torch.no_grad():
        alone = value_of(tiled(), {**batch, **leaves})
    assert not alone.requires_grad
    assert torch.equal(alone, expected)
    assert torch.equal(value_of(tiled(), batch), expected)


def test_it_can_be_used_twice_and_weighted():
    batch = make_batch(20)
    leaves = {name: batch[name].clone().requires_grad_() for name in LEAVES}
    values = [value_of(tiled(size), {**batch, **leaves}) for size in (3, 7)]
    (2.0 * values[0] + values[1]).backward(retain_graph=True)
    values[0].backward()
    expected = gradients_of(dense(), batch)
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, 4.0 * expected[name], rtol=1e-12, atol=1e-14)


def test_the_choice_of_a_loss_is_what_is_asked_for():
    chosen = choose_loss(
        "sigmoid", form="tiled", tile_size=5, exchange="gather", compiler="aot_eager"
    )
    assert chosen.keywords == {"tile_size": 5, "exchange": "gather", "compiler": "aot_eager"}
    assert choose_loss("softmax", form="tiled", tile_size=0, exchange="ring") is softmax_loss


@pytest.mark.parametrize("world_size", [2, 3])
def test_ring_and_gather_are_the_dense_form_at_any_number_of_ranks(run_on_ranks, world_size):
    per_rank = 5
    batch = make_batch(per_rank * world_size, different_keys=20)
    batch["valid"][:per_rank] = False  # A rank without any valid row.
    forms = {
        "ring": tiled(3, "ring"),
        "gather": tiled(3, "gather"),
        "dense": dense(),
    }

    def on_rank(ranks):
        own = slice(ranks.rank * per_rank, (ranks.rank + 1) * per_rank)
        part = {name: v if name in ("scale", "bias") else v[own] for name, v in batch.items()}
        found = {form: gradients_of(loss, part, dist.group.WORLD) for form, loss in forms.items()}
        with torch.no_grad():
            without = {form: value_of(loss, part, dist.group.WORLD) for form, loss in forms.items()}
        return found, without

    results = run_on_ranks(on_rank, world_size)
    expected = gradients_of(dense(), batch)
    close = {"rtol": 1e-12, "atol": 1e-14}
    for form in forms:
        found = [one[form] for one, _ in results]
        for one, (_, without) in zip(found, results, strict=True):
            torch.testing.assert_close(one["value"], expected["value"], **close)
            assert torch.equal(one["value"], found[0]["value"])
            assert torch.equal(one["value"], without[form])
        for name in ("scale", "bias"):
            torch.testing.assert_close(sum(one[name] for one in found), expected[name], **close)
        for name in ("images", "texts"):
            whole = torch.cat([one[name] for one in found])
            torch.testing.assert_close(whole, expected[name], **close)


def test_on_the_ring_no_rank_holds_more_when_there_are_more_ranks(run_on_ranks):
    per_rank, width = 16, 64

    def on_rank(ranks):
        batch = in_precision(make_batch(per_rank, width=width, seed=ranks.rank), torch.float32)
        held = {}
        for exchange in EXCHANGES:
            with LargestTensor() as mode:
                gradients_of(tiled(8, exchange), batch, dist.group.WORLD)
            held[exchange] = mode.bytes
        return held

    for world_size in (2, 3):
        (held, *_) = run_on_ranks(on_rank, world_size)
        assert held["ring"] == per_rank * width * 4
        assert held["gather"] == world_size * per_rank * width * 4
