"""A folder that open_clip reads: `open_clip.create_model_and_transforms("local-dir:FOLDER")`."""

import json
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from data_pipelines.errors import UserError
from rins_mm.checkpoint import save_tensors
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.fast_tokenizer import write_fast_tokenizer
from rins_mm.export.job import ExportJob, Format
from rins_mm.export.timm import model_arguments, plain_backbone
from rins_mm.export.unrolled import Layer, plain_layers
from rins_mm.models.signatures import expand

SNIPPET = """import open_clip
import torch

model, _, prepare = open_clip.create_model_and_transforms("local-dir:FOLDER")
tokenizer = open_clip.get_tokenizer("local-dir:FOLDER")
model.eval()
with torch.no_grad():
    image_vectors = model.encode_image(prepare(picture)[None], normalize=True)
    text_vectors = model.encode_text(tokenizer(captions), normalize=True)"""

TEXT_LAYER = {
    "attention_norm": "ln_1",
    "attention.projection": "attn.out_proj",
    "mlp_norm": "ln_2",
    "mlp.expand": "mlp.c_fc",
    "mlp.contract": "mlp.c_proj",
}


def write_open_clip(job: ExportJob, folder: Path) -> None:
    """open_clip_config.json, weights and tokenizer. UserError: a tower that open_clip cannot express."""
    encoder = job.encoder
    _refuse_unknown_towers(encoder)
    text = encoder.model.text_tower.config
    image = encoder.model.image_tower
    layers = plain_layers(encoder.model.text_tower.blocks, expand(job.text_signature), tower="text")
    config = {
        "model_cfg": {
            "embed_dim": image.embedding_width,
            "init_logit_bias": float(encoder.model.logit_bias.detach()),
            "custom_text": True,
            "vision_cfg": {
                "image_size": image.config.image_size,
                "timm_model_name": image.config.name,
                "timm_model_pretrained": False,
                "timm_pool": getattr(image.backbone, "global_pool", None) or "",
                "timm_proj": "none",
            },
            "text_cfg": {
                "context_length": text.context_length,
                "vocab_size": encoder.tokenizer.vocab_size,
                # Read from this folder; open_clip only looks whether there is a name.
                "hf_tokenizer_name": "local",
                "width": text.width,
                "heads": text.num_heads,
                "layers": len(layers),
                "mlp_ratio": text.mlp_width / text.width,
                "no_causal_mask": True,
                "proj_bias": True,
                "pool_type": "last",
                "norm_kwargs": {"eps": 1e-6},
                **({"act_kwargs": {"approximate": "tanh"}} if text.gelu == "tanh" else {}),
            },
        },
        "preprocess_cfg": {
            "size": image.config.image_size,
            "mean": list(image.config.mean),
            "std": list(image.config.std),
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }  # fmt: skip
    tensors = {
        **{
            f"visual.trunk.{name}": tensor
            for name, tensor in plain_backbone(image, encoder.image_signature).items()
        },
        **_text_tensors(encoder, layers),
        "logit_scale": encoder.model.logit_scale.detach().cpu().reshape(()),
        "logit_bias": encoder.model.logit_bias.detach().cpu().reshape(()),
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_tensors(
        job.as_stored(tensors),
        folder / "open_clip_model.safetensors",
        metadata={"format": "pt"},
    )
    write_fast_tokenizer(encoder.tokenizer, folder, pad_left=False)


def _refuse_unknown_towers(encoder: SigLIPEncoder) -> None:
    text = encoder.model.text_tower.config
    if text.padding == "masked":
        raise UserError(
            "open_clip's text towers see padding and this one's was masked (text.padding masked), so that "
            "open_clip cannot express it; export hf or sentence_transformers, or train with --text.padding siglip"
        )
    if int(text.width * (text.mlp_width / text.width)) != text.mlp_width:
        raise UserError(
            f"open_clip computes an MLP's width from a ratio and misses {text.mlp_width} at a width of "
            f"{text.width}; export hf, or train with an mlp_width that is a multiple of the width"
        )
    tower = encoder.model.image_tower
    arguments = model_arguments(tower, encoder.image_signature)
    pretrained = timm.get_pretrained_cfg(tower.config.name)
    own_size = pretrained.input_size[1] if pretrained is not None else None
    if arguments.get("img_size") == own_size:
        del arguments["img_size"]
    if arguments:
        raise UserError(
            f"open_clip makes timm's {tower.config.name} by its name alone, and this tower has "
            f"{', '.join(f'{name} {value}' for name, value in arguments.items())} of its own; export hf or "
            "timm, or train with the sizes of a named model"
        )


def _text_tensors(encoder: SigLIPEncoder, layers: list[Layer]) -> dict[str, Tensor]:
    tower = encoder.model.text_tower
    own: dict[str, Any] = {
        "token_embedding.weight": tower.token_embedding.weight,
        "positional_embedding": tower.positions,
        "ln_final.weight": tower.norm.weight,
        "ln_final.bias": tower.norm.bias,
        "text_projection.weight": tower.head.weight,
        "text_projection.bias": tower.head.bias,
    }
    for number, layer in enumerate(layers):
        prefix = f"transformer.resblocks.{number}"
        for name, tensor in layer.items():
            part, _, kind = name.rpartition(".")
            if part == "attention.qkv":
                own[f"{prefix}.attn.in_proj_{kind}"] = tensor.clone()
            else:
                own[f"{prefix}.{TEXT_LAYER[part]}.{kind}"] = tensor.clone()
    return {f"text.{name}": tensor.detach().cpu() for name, tensor in own.items()}


OPEN_CLIP = Format(
    write=write_open_clip,
    library="open_clip",
    snippet=SNIPPET,
    extra="hf",
    resizes_as_we_do=False,
)
