"""The smallest encoder that has all parts, with fresh weights, and pictures for it."""

import functools

import numpy as np

from data_pipelines.tokenizers import SentencePieceTokenizer, read_model
from rins_mm.config import EMOJI_TOKENIZER
from rins_mm.encoder import SigLIPEncoder
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig


@functools.cache
def tokenizer() -> SentencePieceTokenizer:
    """The tokenizer of the emoji pack."""
    return SentencePieceTokenizer(
        read_model(EMOJI_TOKENIZER), canonicalize="lower_no_punctuation", context_length=16
    )


def encoder(**image_settings: object) -> SigLIPEncoder:
    """Two towers of width 32 and depth 2, the text tower recursive; a new model at every call."""
    settings: dict = {
        "name": "vit_tiny_patch16_224", "image_size": 32, "patch_size": 8, "width": 32, "depth": 2,
        "num_heads": 2, **image_settings,
    }  # fmt: skip
    model = build_model(
        ImageTowerConfig(**settings),
        TextTowerConfig(
            width=32,
            depth=2,
            num_heads=2,
            mlp_width=64,
            context_length=16,
            recursion=RecursionConfig(signature="A^3B", skip_probability=0.5),
        ),
        vocab_size=tokenizer().vocab_size,
        pad_token=tokenizer().pad_token,
        seed=7,
    )
    return SigLIPEncoder(model, tokenizer(), name="tiny@0")


def pixels(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    """A picture of coarse coloured noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return coarse.repeat(-(-height // 5), 0).repeat(-(-width // 5), 1)[:height, :width]
