"""Tiny encoders for the formats, and what a consumer of this process makes of their folders."""

import importlib
import json
from pathlib import Path

import tiny
import torch
from torch.nn.functional import normalize

from rins_mm.checkpoint import write_manifest
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export.card import write_card
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig

SIGLIP = ImageTowerConfig(
    image_size=32, patch_size=8, width=32, depth=2, num_heads=2,
    recursion=RecursionConfig(signature="AAB"),
)  # fmt: skip
NAMED = ImageTowerConfig(name="test_vit3", image_size=160)


def encoder(
    image: ImageTowerConfig = SIGLIP,
    *,
    padding: str = "masked",
    gelu: str = "tanh",
    depth: int = 2,
    **recursion,
) -> SigLIPEncoder:
    """A recursive text tower of width 32 beside this image tower, no weight as it was initialised."""
    text = TextTowerConfig(
        width=32, depth=depth, num_heads=2, mlp_width=64, context_length=16, padding=padding, gelu=gelu,
        recursion=RecursionConfig(**{"signature": "A^3B", **recursion}),
    )  # fmt: skip
    tokenizer = tiny.tokenizer()
    model = build_model(
        image, text, vocab_size=tokenizer.vocab_size, pad_token=tokenizer.pad_token, seed=5
    )
    return SigLIPEncoder(shaken(model), tokenizer, name="tiny@0")


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """With noise on all weights, so that none is zero or one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor += torch.randn(tensor.shape, generator=generator) * 0.02
    return model


def write(name: str, job: ExportJob, folder: Path) -> Path:
    """A format's folder with its card, not verified."""
    folder.mkdir(parents=True)
    FORMATS[name].write(job, folder)
    write_card(name, job, folder)
    (folder / "parity.json").write_text(json.dumps({"text_signature": job.text_signature}))
    write_manifest(folder, {})
    return folder


def consumer(name: str, folder: Path):
    """What verification asks, here without a process of its own."""
    return importlib.import_module(f"rins_mm.export.consumers.{name}").load(folder)


def unit(vectors) -> torch.Tensor:
    """Unit vectors as torch has them."""
    return normalize(torch.as_tensor(vectors), dim=-1)
