"""A folder that timm reads as its own model: the image tower, `timm.create_model("local-dir:FOLDER")`."""

import json
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from data_pipelines.errors import UserError
from rins_mm.checkpoint import save_tensors
from rins_mm.export.job import ExportJob, Format
from rins_mm.export.unrolled import plain_layers
from rins_mm.models.image_tower import ImageTower
from rins_mm.models.signatures import expand

SNIPPET = """import timm
import torch
from timm.data import create_transform, resolve_data_config

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
prepare = create_transform(**resolve_data_config({}, model=model))
with torch.no_grad():
    vectors = model(prepare(picture)[None])
image_vectors = torch.nn.functional.normalize(vectors, dim=-1)"""


def write_timm(job: ExportJob, folder: Path) -> None:
    """config.json and weights. UserError: a tower that timm's names and numbers alone do not describe."""
    tower = job.encoder.model.image_tower
    tensors = plain_backbone(tower, job.encoder.image_signature)
    config = tower.config
    pretrained = timm.get_pretrained_cfg(config.name)
    size = [3, config.image_size, config.image_size]
    description: dict[str, Any] = {
        "architecture": config.name,
        "num_classes": 0,
        "num_features": tower.embedding_width,
        "model_args": model_arguments(tower, job.encoder.image_signature),
        "pretrained_cfg": {
            "architecture": config.name,
            "input_size": size,
            "test_input_size": size,
            "fixed_input_size": bool(pretrained and pretrained.fixed_input_size),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            # Straight to the square.
            "crop_mode": "squash",
            "mean": list(config.mean),
            "std": list(config.std),
            "num_classes": 0,
            "pool_size": pretrained.pool_size if pretrained else None,
            "first_conv": pretrained.first_conv if pretrained else None,
            "classifier": pretrained.classifier if pretrained else None,
        },
    }
    (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    save_tensors(
        job.as_stored(tensors),
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def plain_backbone(tower: ImageTower, signature: str) -> dict[str, Tensor]:
    """The tower's tensors under timm's names, its blocks unrolled."""
    if tower.config.stem_channels:
        raise UserError(
            f"the image tower {tower.config.name} has a convolutional stem (image.stem_channels), which timm "
            "knows no name for; export native, onnx or pt2, or train with the model's own patches"
        )
    tensors = {name: tensor.cpu() for name, tensor in tower.backbone.state_dict().items()}
    if tower.stack is None:
        return tensors
    plain = {name: t for name, t in tensors.items() if not name.startswith("blocks.")}
    for number, layer in enumerate(plain_layers(tower.stack, expand(signature), tower="image")):
        plain |= {f"blocks.{number}.{name}": tensor.clone() for name, tensor in layer.items()}
    return plain


def model_arguments(tower: ImageTower, signature: str) -> dict[str, Any]:
    """What timm.create_model must be told beside the model's name."""
    config = tower.config
    depth = config.depth
    if tower.stack is not None:
        layers = sum(len(tower.stack.group(letter)) for letter in expand(signature))
        # A named model's own depth needs no word, and some constructors know none.
        depth = layers if config.depth is not None or layers != len(tower.stack) else None
    pretrained = timm.get_pretrained_cfg(config.name)
    takes_size = pretrained is not None and pretrained.fixed_input_size
    arguments = {
        "img_size": config.image_size if takes_size else None,
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": depth,
        "num_heads": config.num_heads,
    }
    return {name: value for name, value in arguments.items() if value is not None}


TIMM = Format(
    write=write_timm, library="timm", snippet=SNIPPET, towers=("image",), resizes_as_we_do=False
)
