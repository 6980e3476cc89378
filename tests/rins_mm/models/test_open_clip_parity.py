"""Our towers with the weights of open_clip's give open_clip's vectors."""

from functools import partial

import numpy as np
import pytest
import torch

from data_pipelines import torchvision_cpu  # noqa: F401  (before open_clip)

# isort: split
import open_clip
from open_clip.transformer import LayerNorm, TextTransformer

from data_pipelines.batch import ImageTextBatch
from data_pipelines.captions import CaptionConfig
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.tokenizers import SentencePieceTokenizer, read_model
from rins_mm.config import EMOJI_TOKENIZER
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.packing import pad_right
from rins_mm.models.siglip import SigLIP
from rins_mm.models.signatures import expand
from rins_mm.models.sizes import text_tower
from rins_mm.models.text_tower import TextTower, TextTowerConfig

BLOCK_NAMES = {
    "ln_1.weight": "attention_norm.weight",
    "ln_1.bias": "attention_norm.bias",
    "attn.in_proj_weight": "attention.qkv.weight",
    "attn.in_proj_bias": "attention.qkv.bias",
    "attn.out_proj.weight": "attention.projection.weight",
    "attn.out_proj.bias": "attention.projection.bias",
    "ln_2.weight": "mlp_norm.weight",
    "ln_2.bias": "mlp_norm.bias",
    "mlp.c_fc.weight": "mlp.expand.weight",
    "mlp.c_fc.bias": "mlp.expand.bias",
    "mlp.c_proj.weight": "mlp.contract.weight",
    "mlp.c_proj.bias": "mlp.contract.bias",
}
OTHER_NAMES = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "positions",
    "ln_final.weight": "norm.weight",
    "ln_final.bias": "norm.bias",
    "text_projection.weight": "head.weight",
    "text_projection.bias": "head.bias",
}


def our_text_name(name):
    """Our name of a weight of open_clip's text transformer."""
    if name.startswith("transformer.resblocks."):
        number, rest = name.removeprefix("transformer.resblocks.").split(".", 1)
        return f"blocks.{number}.{BLOCK_NAMES[rest]}"
    return OTHER_NAMES[name]


def our_text_weights(text):
    return {our_text_name(name): value for name, value in text.state_dict().items()}


@torch.no_grad()
def stir(model, spread, *, matrices):
    """Random biases and norms too: at their initial values they would hide a mistake."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim < 2 or matrices:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)


def rows_of_tokens(lengths, vocab_size):
    generator = torch.Generator().manual_seed(0)
    rows = [
        [*torch.randint(2, vocab_size, (n - 1,), generator=generator).tolist(), 1] for n in lengths
    ]
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
    return tokens, torch.tensor([0, *lengths]).cumsum(0).int()


def text_pair(*, gelu="exact"):
    torch.manual_seed(0)
    theirs = TextTransformer(
        context_length=12, vocab_size=60, width=32, heads=4, layers=4, output_dim=24,
        no_causal_mask=True, proj_bias=True, pool_type="last", norm_layer=partial(LayerNorm, eps=1e-6),
    ).eval()  # fmt: skip
    stir(theirs, 0.2, matrices=True)
    config = TextTowerConfig(
        width=32, depth=4, num_heads=4, mlp_width=128, context_length=12, padding="siglip", gelu=gelu,
        recursion=RecursionConfig(signature="A^2B"),
    )  # fmt: skip
    ours = TextTower(config, vocab_size=60, pad_token=1, embedding_width=24).eval()
    ours.load_state_dict(our_text_weights(theirs), strict=True)
    return ours, theirs


@torch.no_grad()
def test_a_small_text_tower_gives_open_clips_vectors():
    ours, theirs = text_pair()
    tokens, offsets = rows_of_tokens([4, 1, 12, 7], 60)
    ids = pad_right(tokens, offsets, length=12, pad_token=1)
    torch.testing.assert_close(ours(tokens, offsets, ("A", "B")), theirs(ids), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_other_gelu_would_be_noticed():
    ours, theirs = text_pair(gelu="tanh")
    tokens, offsets = rows_of_tokens([4, 1, 12, 7], 60)
    ids = pad_right(tokens, offsets, length=12, pad_token=1)
    difference = (ours(tokens, offsets, ("A", "B")) - theirs(ids)).abs().max()
    assert 1e-5 < difference < 1e-1


@torch.no_grad()
def test_a_recursive_text_tower_is_open_clips_with_its_first_half_written_twice():
    ours, theirs = text_pair()
    tokens, offsets = rows_of_tokens([4, 1, 12, 7], 60)
    blocks = theirs.transformer.resblocks
    theirs.transformer.resblocks = torch.nn.ModuleList([*blocks[:2], *blocks])
    ids = pad_right(tokens, offsets, length=12, pad_token=1)
    torch.testing.assert_close(ours(tokens, offsets, expand("AAB")), theirs(ids), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def emoji_batch() -> ImageTextBatch:
    """Six real pictures of 224 pixels with their captions, at most 64 tokens each."""
    tokenizer = SentencePieceTokenizer(
        read_model(EMOJI_TOKENIZER), canonicalize="lower_no_punctuation", context_length=64
    )
    config = DataConfig(shards=("emoji:test",), captions=CaptionConfig(kind="label_keywords"))
    batches = train_batches(
        config, open_dataset(config.shards), tokenizer,
        image_size=224, batch_size=6, seed=0, start_step=0, num_steps=1, rank=0, world_size=1,
    )  # fmt: skip
    batch = next(batches)
    batches.close()
    assert batch.valid.all()
    return batch


@pytest.mark.slow
@torch.no_grad()
def test_siglip_b16_gives_open_clips_vectors_for_real_pictures_and_captions(emoji_batch):
    torch.manual_seed(0)
    theirs = open_clip.create_model("ViT-B-16-SigLIP").eval()
    stir(theirs, 0.05, matrices=False)
    ours = SigLIP(
        ImageTowerConfig(name="vit_base_patch16_siglip_224", image_size=224),
        text_tower("B", context_length=64, padding="siglip", gelu="exact"),
        vocab_size=32_000,
        pad_token=1,
    ).eval()
    ours.image_tower.backbone.load_state_dict(theirs.visual.trunk.state_dict(), strict=True)
    ours.text_tower.load_state_dict(our_text_weights(theirs.text), strict=True)
    ours.logit_scale.copy_(theirs.logit_scale)
    ours.logit_bias.copy_(theirs.logit_bias)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == sizes[1]

    images = emoji_batch.images.float() / 255
    tokens, offsets = emoji_batch.tokens, emoji_batch.offsets
    ids = pad_right(tokens, offsets, length=64, pad_token=1)
    image_features, text_features = ours(images, tokens, offsets, ("A", "B"), ("A", "B"))
    normalised = (images - torch.tensor(np.full((3, 1, 1), 0.5, np.float32))) / 0.5
    torch.testing.assert_close(
        image_features, theirs.encode_image(normalised, normalize=True), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        text_features, theirs.encode_text(ids, normalize=True), rtol=0, atol=1e-5
    )
    # Vectors that agree because all are alike would say nothing.
    for features in (image_features, text_features):
        distances = torch.pdist(features)
        assert distances.min() > 1e-3
