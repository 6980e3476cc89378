"""What an encoder gives for golden strings and pictures, kept beside its exported weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json
from data_pipelines.resize import resize_picture
from eval.pixels import read_pixels, rgb_image
from rins_mm.checkpoint import read_tensors, save_tensors
from rins_mm.export.golden import NUM_PICTURES, golden_picture, golden_strings
from rins_mm.export.job import ExportJob

FORMAT_VERSION = 1
MAX_SIDE = 4096
"""Pixels of a tower's pictures."""
KEPT_PICTURES = 8
"""Whose pixels are stored; the others are made again and known by their hashes."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Golden inputs, and what they became."""

    facts: dict[str, Any]
    """format, dtype, text_signature, image_signature, image_size, mean, std, fingerprint."""
    strings: Sequence[str]
    token_ids: Sequence[Sequence[int]]
    text_vectors: Float[Tensor, "N E"]
    pixels: UInt8[Tensor, "M 3 S S"]
    """Of the golden pictures, in RGB, upright, on white, and resized."""
    picture_vectors: Float[Tensor, "M E"]


def measure(job: ExportJob) -> Parity:
    """What the encoder gives at the exported depth, in fp32."""
    encoder = job.encoder
    config = encoder.model.image_tower.config
    strings = golden_strings()
    pixels = _golden_pixels(config.image_size)
    return Parity(
        facts={
            "dtype": job.dtype,
            "text_signature": job.text_signature,
            "image_signature": encoder.image_signature,
            "image_size": config.image_size,
            "mean": list(config.mean),
            "std": list(config.std),
            "fingerprint": encoder.fingerprint,
        },
        strings=strings,
        token_ids=encoder.tokenizer.encode(strings),
        text_vectors=encoder.encode_texts(strings, job.text_signature).cpu(),
        pixels=pixels,
        picture_vectors=encoder.encode_images(
            [picture.permute(1, 2, 0).contiguous().numpy() for picture in pixels]
        ).cpu(),
    )


def write_parity(parity: Parity, name: str, folder: Path) -> None:
    """parity.json and parity.safetensors of a format."""
    document = {
        "format_version": FORMAT_VERSION,
        "format": name,
        **parity.facts,
        "pixels_sha256": [_sha256(pixels) for pixels in parity.pixels],
        "strings": list(parity.strings),
        "token_ids": list(parity.token_ids),
    }
    (folder / "parity.json").write_text(json.dumps(document) + "\n")
    tensors = {
        "text_vectors": parity.text_vectors,
        "picture_vectors": parity.picture_vectors,
        "pixels": parity.pixels[:KEPT_PICTURES].clone(),
    }
    save_tensors(tensors, folder / "parity.safetensors")


def read_parity(folder: Path) -> Parity:
    """What `write_parity` wrote; pictures that are not stored are made again."""
    try:
        document = read_plain_json(folder / "parity.json")
        if document["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {document['format_version']!r}")
        if not 1 <= document["image_size"] <= MAX_SIDE:
            raise ValueError(f"image_size {document['image_size']}")
        strings, token_ids = document.pop("strings"), document.pop("token_ids")
        hashes = document.pop("pixels_sha256")
        tensors = read_tensors(folder / "parity.safetensors")
        pixels = _golden_pixels(document["image_size"])
        if not tensors["pixels"].equal(pixels[: len(tensors["pixels"])]) or hashes != [
            _sha256(each) for each in pixels
        ]:
            raise ValueError("this version of NumPy, Pillow or torch makes other golden pictures")
        return Parity(
            facts=document,
            strings=strings,
            token_ids=token_ids,
            text_vectors=tensors["text_vectors"],
            pixels=pixels,
            picture_vectors=tensors["picture_vectors"],
        )
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder} cannot be verified: parity.json or parity.safetensors: {error!r}; export it again"
        ) from error


def save_golden_pictures(folder: Path) -> None:
    """The golden pictures as PNG files in RGB, upright and on white, as consumers are given them."""
    for number in range(NUM_PICTURES):
        rgb_image(golden_picture(number)).save(folder / f"{number:03d}.png")


def _golden_pixels(size: int) -> UInt8[Tensor, "M 3 S S"]:
    return torch.stack(
        [
            resize_picture(read_pixels(golden_picture(number)), size)
            for number in range(NUM_PICTURES)
        ]
    )


def _sha256(pixels: UInt8[Tensor, "3 S S"]) -> str:
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
