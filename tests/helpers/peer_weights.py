"""Random SigLIPs of other libraries' own classes in two sizes, and our encoder with their weights."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from foreign_models import tiny_tokenizer

from data_pipelines import torchvision_cpu  # noqa: F401  (before timm)

# isort: split
import open_clip
import timm
from safetensors.torch import save_file

from rins_mm.config import InitConfig, TokenizerConfig, TrainConfig, build_tokenizer, initial_model
from rins_mm.encoder import SigLIPEncoder
from rins_mm.initial_weights import begin_with
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.text_tower import TextTowerConfig

CONTEXT, PATCH = 16, 16
STRINGS = ["", "a photo of a Cat", "Red apple, green tree; blue sky!", "seven " * 40, "日本 🍎"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size of both towers."""

    width: int
    depth: int
    num_heads: int
    side: int


SMALL = Size(width=32, depth=2, num_heads=2, side=32)
LARGER = Size(width=48, depth=3, num_heads=4, side=64)
SIZES = (SMALL, LARGER)


def pictures(size: Size) -> list[np.ndarray]:
    """Pictures that need no resizing."""
    numbers = np.random.default_rng(1)
    return [numbers.integers(0, 256, (size.side, size.side, 3), dtype=np.uint8) for _ in range(3)]


def pixels(size: Size) -> torch.Tensor:
    """The same as SigLIP's towers are given them."""
    stacked = torch.from_numpy(np.stack(pictures(size))).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1.0


def tokenizer(folder: Path) -> transformers.SiglipTokenizer:
    """A tiny tokenizer of transformers', whose sentencepiece model lies in the folder."""
    tiny_tokenizer().save(folder / "tiny")
    model = folder / "spiece.model"
    model.write_bytes((folder / "tiny" / "tokenizer.model").read_bytes())
    found = transformers.SiglipTokenizer(str(model), model_max_length=CONTEXT)
    found.save_pretrained(folder)
    return found


def ids(tokenizer: transformers.SiglipTokenizer) -> torch.Tensor:
    """Rows of the strings, filled up as for training."""
    return tokenizer(
        STRINGS, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )["input_ids"]


@torch.no_grad()
def stir(model: torch.nn.Module) -> None:
    """Random biases, norms and positions too: at their initial values they would hide a mistake."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def hugging_face(folder: Path, size: Size, *, any_shape: bool) -> torch.nn.Module:
    """A SiglipModel, or a Siglip2Model (`any_shape`), saved in the folder."""
    tower = {
        "hidden_size": size.width, "intermediate_size": 4 * size.width,
        "num_hidden_layers": size.depth, "num_attention_heads": size.num_heads,
    }  # fmt: skip
    text = tower | {
        "vocab_size": tiny_tokenizer().vocab_size, "max_position_embeddings": CONTEXT,
        "projection_size": size.width, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    if any_shape:
        vision = tower | {"patch_size": PATCH, "num_patches": (size.side // PATCH) ** 2}
        config = transformers.Siglip2Config(text_config=text, vision_config=vision)
        model = transformers.Siglip2Model(config)
    else:
        vision = tower | {"patch_size": PATCH, "image_size": size.side}
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(config)
    stir(model)
    model.save_pretrained(folder)
    return model.eval()


def open_clip_model(size: Size, *, gelu: str = "exact") -> open_clip.CustomTextCLIP:
    """open_clip's SigLIP with a trunk and a text tower of this size."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**open_clip_config(size, gelu), init_logit_bias=-10.0)
    model.visual.trunk = timm.create_model(
        "vit_base_patch16_siglip_224", num_classes=0, img_size=size.side, embed_dim=size.width,
        depth=size.depth, num_heads=size.num_heads, act_layer="gelu_tanh" if gelu == "tanh" else None,
    )  # fmt: skip
    model.text.text_projection = torch.nn.Linear(size.width, size.width)
    stir(model)
    return model.eval()


def open_clip_config(size: Size, gelu: str) -> dict:
    """Its configuration, but for the image tower and the projection, which are replaced."""
    return {
        "embed_dim": 96,
        "vision_cfg": {"timm_model_name": "test_vit3", "image_size": size.side, "timm_proj": "none"},
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": tiny_tokenizer().vocab_size,
            "width": size.width, "heads": size.num_heads, "layers": size.depth,
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"} if gelu == "tanh" else {},
        },
    }  # fmt: skip


def save_open_clip(folder: Path, model: torch.nn.Module, config: dict, *, pickled: bool) -> None:
    """A folder as open_clip saves it; `pickled` as its trainer does, from several ranks."""
    preparation = {"mean": [0.5] * 3, "std": [0.5] * 3}
    described = {"model_cfg": config | {"custom_text": True}, "preprocess_cfg": preparation}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    state = model.state_dict()
    if pickled:
        named = {f"module.{name}": tensor for name, tensor in state.items()}
        saved = {"epoch": 3, "name": "run", "state_dict": named}
        torch.save(saved, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state, folder / "open_clip_model.safetensors")


def train_config(folder: Path, size: Size, *, gelu: str = "tanh", **init: object) -> TrainConfig:
    """A configuration of ours of that size, which begins with such weights."""
    return TrainConfig(
        image=ImageTowerConfig(
            image_size=size.side, width=size.width, depth=size.depth, num_heads=size.num_heads,
            gelu=gelu,
        ),
        text=TextTowerConfig(
            width=size.width, depth=size.depth, num_heads=size.num_heads, mlp_width=4 * size.width,
            context_length=CONTEXT, padding="siglip", gelu=gelu,
            recursion=RecursionConfig(signature="A^2B", split=(1, size.depth - 1), adapter="linear"),
        ),
        tokenizer=TokenizerConfig(
            model_file=str(folder / "spiece.model"), vocab_size=tiny_tokenizer().vocab_size,
            pad_token=1,
        ),
        init=InitConfig(**init),
    )  # fmt: skip


def encoder(config: TrainConfig) -> SigLIPEncoder:
    """Our encoder with the weights that the configuration names."""
    own = build_tokenizer(config)
    model = initial_model(config, pad_token=own.pad_token)
    begin_with(model, own, config)
    return SigLIPEncoder(model.eval(), own, name="theirs")


def assert_same_vectors(
    ours: SigLIPEncoder, size: Size, images: torch.Tensor, texts: torch.Tensor
) -> None:
    """The same strings and pictures give the same unit vectors, which are not all alike."""
    found = ours.encode_images(pictures(size)), ours.encode_texts(STRINGS, signature="AB")
    for own, expected in zip(found, (images, texts), strict=True):
        expected = torch.nn.functional.normalize(expected, dim=-1)
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
        assert torch.pdist(own).min() > 1e-3
