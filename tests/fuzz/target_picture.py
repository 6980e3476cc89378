"""Pictures: JPEG, PNG and WebP, with their chunks and segments."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random

import hostile
import numpy as np
from byte_mutations import EDGES, mutated_bytes, raw_bytes
from PIL import Image
from target import Files, Target

from data_pipelines import decode, jpeg
from data_pipelines.decode import MAX_PIXELS, decode_picture

SMALL = 300_000
"""Pixels that a fuzzed picture may have: larger ones take their time by right."""


@cache
def seeds() -> list[Files]:
    """Every form that is decoded, small, and the hostile corpus."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 17, 4), dtype=np.uint8)
    made = []
    for mode in ("L", "RGB", "CMYK", "RGBA", "LA", "P", "1", "I;16", "YCbCr"):
        picture = Image.fromarray(noise, "RGBA").convert(
            "RGB" if mode in ("CMYK", "YCbCr", "I;16") else "RGBA"
        )
        picture = picture.convert("L" if mode == "I;16" else mode) if mode != "RGBA" else picture
        picture = (
            Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
            if mode == "I;16"
            else picture
        )
        for form, options in (
            ("JPEG", {"quality": 60}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {"lossless": True}),
            ("WEBP", {"quality": 40}),
        ):  # fmt: skip
            buffer = io.BytesIO()
            try:
                picture.save(buffer, form, **options)
            except (OSError, KeyError, ValueError):
                continue
            made.append(buffer.getvalue())
    made += [case.make() for case in hostile.cases() if case.kind == "picture"]
    return [{"input": data} for data in dict.fromkeys(made) if len(data) < 100_000]


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """Chunks and segments changed with lengths and sums that hold; or any bytes."""
    data, piece = files["input"], other["input"]
    if draws.random() < 0.01:
        return {
            "input": draws.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"))
            + raw_bytes(draws)
        }
    if draws.random() < 0.5:
        return {"input": mutated_bytes(data, draws, piece)[:100_000]}
    if data[:4] == b"\x89PNG":
        return {"input": _png(data, draws, piece)[:100_000]}
    return {"input": data[:2] + mutated_bytes(data[2:], draws, piece)[:100_000]}


def _png(data: bytes, draws: Random, piece: bytes) -> bytes:
    chunks = _chunks(data)
    for _ in range(draws.choice((1, 1, 2))):
        if not chunks:
            break
        at = draws.randrange(len(chunks))
        kind, content = chunks[at]
        match draws.randrange(6):
            case 0:
                del chunks[at]
            case 1:
                chunks.insert(draws.randrange(len(chunks)), (kind, content))
            case 2:
                kinds = (
                    b"IHDR",
                    b"PLTE",
                    b"tRNS",
                    b"IDAT",
                    b"IEND",
                    b"eXIf",
                    b"iCCP",
                    b"tEXt",
                    b"zTXt",
                    b"iTXt",
                    b"acTL",
                )
                chunks[at] = draws.choice(kinds), content
            case 3 if kind == b"IDAT":
                try:
                    raw = zlib.decompressobj().decompress(content, 1 << 20)
                except zlib.error:
                    raw = content
                chunks[at] = kind, zlib.compress(mutated_bytes(raw, draws, piece))
            case 4 if kind == b"IHDR" and len(content) == 13:
                field = draws.choice((0, 4))
                number = struct.pack(">I", draws.choice(EDGES) % 2**32)
                chunks[at] = kind, content[:field] + number + content[field + 4 :]
            case _:
                chunks[at] = kind, mutated_bytes(content, draws, piece)
    packed = (
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )
    return data[:8] + b"".join(packed)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at + 8 <= len(data) and len(found) < 200:
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def attempt(files: Files, folder: Path) -> str:
    """Decode it; twice the same, and scaled it has the same shape or is smaller by 2, 4 or 8."""
    data = files["input"]
    pixels = decode_picture(data, max_pixels=SMALL)
    height, width, channels = pixels.shape
    assert pixels.dtype == np.uint8 and channels == 3 and 0 < height * width <= SMALL <= MAX_PIXELS
    assert np.array_equal(pixels, decode_picture(data, max_pixels=SMALL))
    scaled = decode_picture(data, max_pixels=SMALL, least_size=4)
    shapes = {(-(-height // scale), -(-width // scale), 3) for scale in (1, 2, 4, 8)}
    assert scaled.shape in shapes, (pixels.shape, scaled.shape)
    return "picture"


TARGET = Target(
    name="picture",
    what="decode_picture; the same pixels twice, and scaled ones of a fitting shape",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(decode, jpeg),
)
