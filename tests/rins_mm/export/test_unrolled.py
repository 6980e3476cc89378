"""Plain layers: the same vectors as the recursive tower, at any depth, or a refusal."""

import exported
import pytest
import torch

from data_pipelines.errors import UserError
from rins_mm.export.formats import ExportJob
from rins_mm.export.unrolled import growth, plain_layers
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTower, TextTowerConfig

STRINGS = ["a red apple", "two dogs", ""]


def vectors_of_plain_tower(encoder, layers):
    """What a tower without recursion gives that has these layers."""
    own = encoder.model.text_tower
    config = TextTowerConfig(
        width=32, depth=len(layers), num_heads=2, mlp_width=64, context_length=16
    )
    tower = TextTower(
        config, vocab_size=encoder.tokenizer.vocab_size, pad_token=own.pad_token, embedding_width=32
    ).eval()
    tensors = {
        k: v for k, v in own.state_dict().items() if k.split(".")[0] not in ("blocks", "adapters")
    }
    for number, layer in enumerate(layers):
        tensors |= {f"blocks.{number}.{name}": tensor for name, tensor in layer.items()}
    tower.load_state_dict(tensors)
    ids = encoder.tokenizer.encode(STRINGS)
    offsets = torch.tensor([0, *map(len, ids)]).cumsum(0).int()
    tokens = torch.tensor([token for row in ids for token in row], dtype=torch.int32)
    with torch.no_grad():
        return exported.unit(tower(tokens, offsets, expand("AB")))


def layers_of(encoder, signature):
    return plain_layers(encoder.model.text_tower.blocks, expand(signature), tower="text")


@pytest.mark.parametrize("signature", ["AB", "AAB", "AAAB", "AABAB"])
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_repeated_layers_give_the_vectors_of_the_recursive_tower(signature, adapter):
    encoder = exported.encoder(adapter=adapter, adapter_rank=2)
    layers = layers_of(encoder, signature)
    assert len(layers) == len(signature)
    expected = encoder.encode_texts(STRINGS, signature)
    torch.testing.assert_close(vectors_of_plain_tower(encoder, layers), expected, rtol=0, atol=2e-6)


def test_changes_of_low_rank_make_each_round_a_layer_of_its_own():
    layers = layers_of(exported.encoder(adapter="lora", adapter_rank=2), "AAAB")
    first, second, third, _ = (layer["mlp.expand.weight"] for layer in layers)
    assert not first.equal(second) and not second.equal(third)
    plain = [layer["mlp.expand.weight"] for layer in layers_of(exported.encoder(), "AAAB")]
    assert plain[0].equal(plain[1]) and plain[1].equal(plain[2]) and not plain[2].equal(plain[3])


@pytest.mark.parametrize("adapter", ["linear", "scale"])
def test_adapters_between_rounds_are_refused_where_they_act_and_not_where_they_are_not_run(adapter):
    encoder = exported.encoder(adapter=adapter)
    with pytest.raises(UserError, match=r"A\.2.*native, onnx or pt2"):
        layers_of(encoder, "AAB")
    assert len(layers_of(encoder, "AB")) == 2


@pytest.mark.parametrize(("adapter", "neutral"), [("linear", 0.0), ("scale", 1.0)])
def test_adapters_that_do_nothing_are_allowed(adapter, neutral):
    encoder = exported.encoder(adapter=adapter)
    with torch.no_grad():
        for parameter in encoder.model.text_tower.adapters.parameters():
            parameter.fill_(neutral)
    layers = layers_of(encoder, "AAAB")
    expected = encoder.encode_texts(STRINGS, "AAAB")
    torch.testing.assert_close(vectors_of_plain_tower(encoder, layers), expected, rtol=0, atol=2e-6)


def test_a_latent_core_that_is_given_the_prelude_again_is_refused_unless_it_takes_nothing_of_it():
    encoder = exported.encoder(signature="AB^2C", kind="latent", depth=3)
    with pytest.raises(UserError, match=r"the injection of B.*native, onnx or pt2"):
        layers_of(encoder, "ABBC")
    with torch.no_grad():
        encoder.model.text_tower.adapters["B"].linear.weight.zero_()
    expected = encoder.encode_texts(STRINGS, "ABBC")
    torch.testing.assert_close(
        vectors_of_plain_tower(encoder, layers_of(encoder, "ABBC")), expected, rtol=0, atol=2e-6
    )


def test_growth_counts_layers_and_parameters():
    job = ExportJob(encoder=exported.encoder(), text_signature="AAAB")
    told = growth(job, ("image", "text"))
    assert "image tower's 2 blocks are 3 layers and the text tower's 2 blocks are 4 layers" in told
    towers = (job.encoder.model.image_tower, job.encoder.model.text_tower)
    own = sum(p.numel() for tower in towers for p in tower.parameters())
    block = sum(p.numel() for p in towers[1].blocks[0].parameters())
    image_block = sum(p.numel() for p in towers[0].stack[0].parameters())
    assert f"{(own + 2 * block + image_block) / own:.2f} times the {own:,}" in told
    plain = ExportJob(encoder=exported.encoder(exported.NAMED), text_signature="AB")
    assert growth(plain, ("image", "text")) == ""
