"""The masked text tower with the weights of transformers' SigLIP gives its vectors for left-padded rows."""

import pytest
import torch
from transformers import SiglipTextConfig, SiglipTextModel

from rins_mm.models.packing import pad_left
from rins_mm.models.text_tower import TextTower, TextTowerConfig

CONTEXT_LENGTH, VOCAB_SIZE, PAD = 10, 40, 0
BLOCK_NAMES = {
    "layer_norm1": "attention_norm",
    "self_attn.out_proj": "attention.projection",
    "layer_norm2": "mlp_norm",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
}
OTHER_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positions",
    "final_layer_norm.weight": "norm.weight",
    "final_layer_norm.bias": "norm.bias",
    "head.weight": "head.weight",
    "head.bias": "head.bias",
}


def our_weights(model):
    """The weights of a SiglipTextModel under our names, query, key and value as one matrix."""
    theirs = {n.removeprefix("text_model."): v for n, v in model.state_dict().items()}
    theirs.pop("embeddings.position_ids", None)
    ours = {OTHER_NAMES[n]: v for n, v in theirs.items() if not n.startswith("encoder.")}
    for number in range(model.config.num_hidden_layers):
        prefix = f"encoder.layers.{number}."
        for kind in ("weight", "bias"):
            parts = [theirs[f"{prefix}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            ours[f"blocks.{number}.attention.qkv.{kind}"] = torch.cat(parts)
            for name, own in BLOCK_NAMES.items():
                ours[f"blocks.{number}.{own}.{kind}"] = theirs[f"{prefix}{name}.{kind}"]
    return ours


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    config = SiglipTextConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=CONTEXT_LENGTH, projection_size=24,
        hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, pad_token_id=PAD, bos_token_id=2,
        eos_token_id=1,
    )  # fmt: skip
    theirs = SiglipTextModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    tower = TextTowerConfig(
        width=32,
        depth=4,
        num_heads=4,
        mlp_width=64,
        context_length=CONTEXT_LENGTH,
        padding="masked",
    )
    ours = TextTower(tower, vocab_size=VOCAB_SIZE, pad_token=PAD, embedding_width=24).eval()
    ours.load_state_dict(our_weights(theirs), strict=True)
    return ours, theirs


@pytest.mark.parametrize("lengths", [[3], [1], [10], [3, 1, 7, 2], [10, 1, 10, 5]])
@torch.no_grad()
def test_masked_captions_are_left_padded_rows_with_an_attention_mask(pair, lengths):
    ours, theirs = pair
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = [torch.randint(3, VOCAB_SIZE, (n,), generator=generator) for n in lengths]
    tokens, offsets = torch.cat(rows).int(), torch.tensor([0, *lengths]).cumsum(0).int()
    # They want whole rows of the context length for positions to count from the end.
    ids, real = pad_left(tokens, offsets, length=CONTEXT_LENGTH, pad_token=PAD)
    expected = theirs(input_ids=ids, attention_mask=real.long()).pooler_output
    torch.testing.assert_close(ours(tokens, offsets, ("A", "B")), expected, rtol=0, atol=1e-5)
    if min(lengths) < CONTEXT_LENGTH:
        unmasked = theirs(input_ids=ids).pooler_output
        assert (unmasked - expected).abs().max() > 1e-3
