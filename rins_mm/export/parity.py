"""What an encoder gives for golden strings and pictures, kept beside its exported weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json, require_plain
from data_pipelines.resize import resize_picture
from data_pipelines.shapes import Shape, is_number, is_text, is_whole, misfit
from eval.pixels import read_pixels, rgb_image
from rins_mm.checkpoint import read_tensors, save_tensors
from rins_mm.export.golden import NUM_PICTURES, NUM_STRINGS, golden_picture, golden_strings
from rins_mm.export.job import DTYPES, ExportJob

FORMAT_VERSION = 1
MAX_SIDE = 4096
"""Pixels of a tower's pictures."""
KEPT_PICTURES = 8
"""Whose pixels are stored; the others are made again and known by their hashes."""
MAX_WIDTH = 2**14
"""Elements of a vector."""
MAX_CHARACTERS = 10_000
"""Of a string; the longest golden one has 1,200."""

DOCUMENT: Shape = {
    "format_version": is_whole,
    "format": is_text,
    "dtype": lambda value: is_text(value) and value in DTYPES,
    "text_signature": is_text,
    "image_signature": is_text,
    "image_size": lambda value: is_whole(value) and 1 <= value <= MAX_SIDE,
    "mean": lambda value: _is_colour(value),
    # Pixels are divided by these.
    "std": lambda value: _is_colour(value) and min(value) > 0,
    "fingerprint": is_text,
    "strings": [lambda value: is_text(value) and len(value) <= MAX_CHARACTERS],
    "token_ids": [[is_whole]],
    "pixels_sha256": [is_text],
}
"""parity.json."""


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


def _is_colour(value: Any) -> bool:
    """A small number for each channel."""
    numbers = isinstance(value, list) and len(value) == 3 and all(map(is_number, value))
    return numbers and all(abs(number) < 1e6 for number in value)


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
    """What `write_parity` wrote; pictures that are not stored are made again. UserError: it is something else."""
    try:
        document = read_plain_json(folder / "parity.json")
        _require_shape(document)
        # Before anything is made of this size: a file of a few bytes may name any.
        _require_size(folder / "parity.safetensors", document["image_size"])
        pixels = _same_pixels(document["image_size"], document.pop("pixels_sha256"))
        tensors = read_tensors(folder / "parity.safetensors")
        strings, token_ids = document.pop("strings"), document.pop("token_ids")
        _require_tensors(tensors, len(strings), pixels)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} cannot be verified: parity.json or parity.safetensors: {error}; export it again"
        ) from error
    return Parity(
        facts=document,
        strings=strings,
        token_ids=token_ids,
        text_vectors=tensors["text_vectors"],
        pixels=pixels,
        picture_vectors=tensors["picture_vectors"],
    )


def _require_shape(document: Any) -> None:
    if where := misfit(document, DOCUMENT):
        raise ValueError(f"{where} is missing or of another kind")
    if document["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version {document['format_version']}")
    counts = [("strings", NUM_STRINGS), ("token_ids", len(document["strings"])),
              ("pixels_sha256", NUM_PICTURES)]  # fmt: skip
    for name, number in counts:
        if len(document[name]) != number:
            raise ValueError(f"{len(document[name]):,} {name} in place of {number:,}")


def _require_size(path: Path, image_size: int) -> None:
    kept = KEPT_PICTURES * 3 * image_size**2
    size = require_plain(path, kept + (NUM_STRINGS + NUM_PICTURES) * 4 * MAX_WIDTH + 2**20)
    if size < kept:
        raise ValueError(f"{size:,} bytes cannot hold pictures of {image_size:,} pixels a side")


def _same_pixels(size: int, hashes: Sequence[str]) -> UInt8[Tensor, "M 3 S S"]:
    """The golden pictures; the first that is another ends it."""
    made = []
    for number, sha256 in enumerate(hashes):
        pixels = resize_picture(read_pixels(golden_picture(number)), size)
        if _sha256(pixels) != sha256:
            raise ValueError("this version of NumPy, Pillow or torch makes other golden pictures")
        made.append(pixels)
    return torch.stack(made)


def _require_tensors(tensors: Mapping[str, Tensor], num_strings: int, pixels: Tensor) -> None:
    for name, number in (("text_vectors", num_strings), ("picture_vectors", NUM_PICTURES)):
        rows = tensors.get(name)
        if rows is None or rows.dtype != torch.float32 or rows.ndim != 2 or len(rows) != number:
            raise ValueError(f"{name} is missing or of another shape or kind")
        if not 1 <= rows.shape[1] <= MAX_WIDTH or not rows.isfinite().all():
            raise ValueError(f"{name} holds no vectors of finite numbers")
    if tensors["text_vectors"].shape[1] != tensors["picture_vectors"].shape[1]:
        raise ValueError("text_vectors and picture_vectors are of different widths")
    kept = tensors.get("pixels")
    if kept is None or kept.dtype != torch.uint8 or not kept.equal(pixels[:KEPT_PICTURES]):
        raise ValueError("pixels is missing or holds other pictures than the golden ones")


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
