"""A folder that transformers reads as a SiglipModel, without code of ours in it."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from rins_mm.checkpoint import save_tensors
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.fast_tokenizer import write_fast_tokenizer
from rins_mm.export.job import ExportJob, Format
from rins_mm.export.siglip_image import image_settings, map_pooling
from rins_mm.export.unrolled import Layer, plain_layers
from rins_mm.models.signatures import expand

SNIPPET = """import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("FOLDER").eval()
processor = AutoProcessor.from_pretrained("FOLDER")
inputs = processor(
    text=captions, images=[picture], padding="max_length", truncation=True, return_tensors="pt"
)
with torch.no_grad():
    outputs = model(**inputs)
text_vectors, image_vectors = outputs.text_embeds, outputs.image_embeds"""

DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

TEXT_LAYER = {
    "attention_norm": "layer_norm1",
    "attention.projection": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "mlp.expand": "mlp.fc1",
    "mlp.contract": "mlp.fc2",
}
IMAGE_LAYER = {
    "norm1": "layer_norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""Our names of a layer's parts, and transformers'. Query, key and value are cut apart besides."""


def write_hugging_face(job: ExportJob, folder: Path) -> None:
    """config.json, weights, tokenizer and processor. UserError: a tower that SiglipModel cannot express."""
    encoder = job.encoder
    image = image_settings(encoder.model.image_tower)
    text_layers = plain_layers(
        encoder.model.text_tower.blocks, expand(job.text_signature), tower="text"
    )
    stack = encoder.model.image_tower.stack
    assert stack is not None
    image_layers = plain_layers(stack, expand(encoder.image_signature), tower="image")
    text = encoder.model.text_tower.config
    is_masked = text.padding == "masked"
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "dtype": DTYPE_NAMES[job.dtype],
        "text_config": {
            "model_type": "siglip_text_model",
            "vocab_size": encoder.tokenizer.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": text.mlp_width,
            "num_hidden_layers": len(text_layers),
            "num_attention_heads": text.num_heads,
            "max_position_embeddings": text.context_length,
            "hidden_act": "gelu_pytorch_tanh" if text.gelu == "tanh" else "gelu",
            "layer_norm_eps": 1e-6,
            "projection_size": encoder.model.image_tower.embedding_width,
            "pad_token_id": encoder.tokenizer.end_token if is_masked else encoder.tokenizer.pad_token,
            "bos_token_id": None,
            "eos_token_id": encoder.tokenizer.end_token,
        },
        "vision_config": {
            "model_type": "siglip_vision_model", **image, "num_hidden_layers": len(image_layers),
        },
        # What a reader of SigLIP folders cannot see in the rest; transformers keeps it and does not use it.
        "rins_mm": {"text_padding": text.padding, "text_signature": job.text_signature},
    }  # fmt: skip
    tensors = {
        **_text_tensors(encoder, text_layers),
        **_image_tensors(encoder, image_layers),
        "logit_scale": encoder.model.logit_scale.detach().cpu(),
        "logit_bias": encoder.model.logit_bias.detach().cpu(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_tensors(
        job.as_stored(tensors),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    write_fast_tokenizer(encoder.tokenizer, folder, pad_left=is_masked)
    write_processor(encoder, folder)


def write_processor(encoder: SigLIPEncoder, folder: Path) -> None:
    """How pictures are prepared, for AutoProcessor and AutoImageProcessor."""
    config = encoder.model.image_tower.config
    preprocessing = {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "SiglipProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": config.image_size, "width": config.image_size},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


def _text_tensors(encoder: SigLIPEncoder, layers: list[Layer]) -> dict[str, Tensor]:
    tower = encoder.model.text_tower
    own: dict[str, Any] = {
        "embeddings.token_embedding.weight": tower.token_embedding.weight,
        "embeddings.position_embedding.weight": tower.positions,
        "final_layer_norm.weight": tower.norm.weight,
        "final_layer_norm.bias": tower.norm.bias,
        "head.weight": tower.head.weight,
        "head.bias": tower.head.bias,
    }
    tensors = {f"text_model.{name}": tensor.detach().cpu() for name, tensor in own.items()}
    return tensors | _layers(layers, TEXT_LAYER, "attention.qkv", "text_model")


def _image_tensors(encoder: SigLIPEncoder, layers: list[Layer]) -> dict[str, Tensor]:
    tower = encoder.model.image_tower
    backbone = {name: tensor.cpu() for name, tensor in tower.backbone.state_dict().items()}
    pool = map_pooling(backbone)
    own = {
        "embeddings.patch_embedding.weight": backbone["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": backbone["patch_embed.proj.bias"],
        "embeddings.position_embedding.weight": backbone["pos_embed"][0],
        "post_layernorm.weight": backbone["norm.weight"],
        "post_layernorm.bias": backbone["norm.bias"],
        **{f"head.{name}": tensor for name, tensor in pool.items()},
    }
    tensors = {f"vision_model.{name}": tensor for name, tensor in own.items()}
    return tensors | _layers(layers, IMAGE_LAYER, "attn.qkv", "vision_model")


def _layers(
    layers: list[Layer], names: dict[str, str], joined: str, tower: str
) -> dict[str, Tensor]:
    """The tensors of all layers under transformers' names, each in a storage of its own."""
    tensors = {}
    for number, layer in enumerate(layers):
        prefix = f"{tower}.encoder.layers.{number}"
        for name, tensor in layer.items():
            part, _, kind = name.rpartition(".")
            if part != joined:
                tensors[f"{prefix}.{names[part]}.{kind}"] = tensor.clone()
                continue
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                tensors[f"{prefix}.self_attn.{letter}_proj.{kind}"] = third.clone()
    return tensors


HUGGING_FACE = Format(write=write_hugging_face, library="transformers", snippet=SNIPPET, extra="hf")
