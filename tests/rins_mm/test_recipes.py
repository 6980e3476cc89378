import math
import re
from dataclasses import replace

import pytest
import torch

from rins_mm.budget import describe, estimate
from rins_mm.config import build_tokenizer
from rins_mm.models.image_tower import ImageTower
from rins_mm.models.siglip import SigLIP
from rins_mm.recipes import load_config, recipe_names
from rins_mm.recorded_config import read_config, write_config
from rins_mm.validation import validate

PARAMETERS = {
    "cc12m_plain": (92_884_224, 123_641_088),
    "cc12m_rins": (92_884_224, 123_641_088),
    "datacomp_small_plain": (94_540_800, 63_553_280),
    "datacomp_small_rins": (94_540_800, 63_553_280),
    "emoji": (1_672_128, 848_320),
    "lit_emoji": (3_371_008, 988_672),
    "scenes": (1_018_240, 1_240_704),
    "siglip_b16": (92_930_304, 110_271_744),
    "siglip_b16_rins": (92_930_304, 110_271_744),
}
"""Image tower, text tower; the model has two more: scale and bias."""

EVERY = pytest.mark.parametrize("name", recipe_names())
PAIRS = ["siglip_b16", "cc12m_plain", "datacomp_small_plain"]


def rins_arm(plain):
    return {"siglip_b16": "siglip_b16_rins"}.get(plain, plain.replace("_plain", "_rins"))


def on_meta(config):
    with torch.device("meta"):
        return SigLIP(
            config.image, config.text, vocab_size=config.tokenizer.vocab_size, pad_token=0
        )


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_every_recipe_is_pinned():
    assert sorted(PARAMETERS) == recipe_names()


@EVERY
def test_a_recipe_can_run_and_comes_back_from_its_record(name, tmp_path):
    config = load_config(name)
    validate(config, world_size=8)
    write_config(config, tmp_path / "config.json")
    assert read_config(tmp_path / "config.json") == config
    assert config.run_dir == f"runs/{name}"


@EVERY
def test_a_recipe_has_the_parameters_that_it_always_had(name):
    model = on_meta(load_config(name))
    assert (count(model.image_tower), count(model.text_tower)) == PARAMETERS[name]
    assert count(model) == sum(PARAMETERS[name]) + 2


@pytest.mark.parametrize("plain", PAIRS)
def test_the_arms_of_a_pair_differ_in_the_text_recursion_alone(plain):
    one, two = load_config(plain), load_config(rins_arm(plain))
    assert PARAMETERS[plain] == PARAMETERS[rins_arm(plain)]
    assert two.text.recursion.signature == "A^3B"
    assert one.text.recursion.signature == "AB"
    text = replace(two.text, recursion=one.text.recursion)
    assert replace(two, run_dir=one.run_dir, text=text) == one


@EVERY
def test_a_budget_counts_parameters_and_samples_and_says_them(name):
    config = load_config(name)
    budget = estimate(config, caption_tokens=16.0)
    assert (budget.image_parameters, budget.text_parameters) == PARAMETERS[name]
    assert budget.samples == config.max_steps * config.batch_size
    assert budget.total_flops == pytest.approx(budget.flops_per_pair * budget.samples)
    said = describe(budget, config, device="h100", utilisation=0.5)
    assert f"{budget.parameters:,}" in said
    hours = budget.total_flops / (0.5 * 989e12) / 3600
    assert f"about {hours:,.1f} h" in said


def test_a_recursive_text_tower_costs_more_by_its_optional_rounds():
    plain, rins = (
        estimate(load_config(name), caption_tokens=64.0)
        for name in ("siglip_b16", "siglip_b16_rins")
    )
    # Half of 12 blocks of width 768 on 64 tokens runs 1 + 0.5 + 0.5 times, forward and backward.
    block = 2 * 64 * 12 * 768**2 + 4 * 64**2 * 768
    assert rins.flops_per_pair - plain.flops_per_pair == pytest.approx(3 * 6 * block, rel=1e-9)


def test_siglip_b16_has_the_towers_of_the_published_model():
    config = load_config("siglip_b16")
    # SigLIP B/16 at 256 pixels: 92.9 and 110.3 million, which model cards round to 203 million.
    assert math.isclose(sum(PARAMETERS["siglip_b16"]) / 1e6, 203.2, rel_tol=0.001)
    assert (config.image.image_size, config.text.context_length) == (256, 64)


def test_the_activations_of_a_budget_count_the_patches_that_there_are():
    config = load_config("emoji")
    with torch.device("meta"):
        patches = ImageTower(config.image).backbone.patch_embed.num_patches
    plain = replace(config.image, depth=2 * config.image.depth)
    deeper = estimate(replace(config, image=plain), caption_tokens=16.0)
    budget = estimate(config, caption_tokens=16.0)
    more = deeper.estimated_activation_bytes_per_pair - budget.estimated_activation_bytes_per_pair
    assert more == pytest.approx(34 * config.image.depth * patches * config.image.width)


def test_the_tokenizer_of_the_demo_is_the_one_that_its_recipe_says():
    config = load_config("emoji")
    assert build_tokenizer(config).vocab_size == config.tokenizer.vocab_size


def test_a_split_batch_needs_the_memory_of_a_micro_batch_and_a_third_more_time():
    config = load_config("siglip_b16")
    split = replace(config, micro_batch_size=512)
    budget = estimate(config, caption_tokens=16.0)

    def said(config):
        return describe(budget, config, device="h100", utilisation=0.4)

    def pairs_per_second(config):
        (rate,) = re.findall(r"\(([\d,]+) pairs/s\)", said(config))
        return int(rate.replace(",", ""))

    gib = 512 * budget.estimated_activation_bytes_per_pair / 2**30
    assert f"about {gib:.1f} GiB, on each rank" in said(split)
    assert "at least 1: each holds a micro-batch at once" in said(split)
    assert "shared by all ranks" in said(config)
    assert pairs_per_second(config) / pairs_per_second(split) == pytest.approx(4 / 3, rel=0.01)
    huge = replace(config, micro_batch_size=config.batch_size - 1)
    assert "none is large enough" in said(huge)
