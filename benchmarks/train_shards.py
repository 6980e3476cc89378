"""Shards of noisy pictures with captions of a chosen length, to train on for the sake of time."""

import io
import random
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from data_pipelines.index import read_or_build_index
from data_pipelines.shard_writer import write_shard

WORDS = (
    "a",
    "red",
    "cat",
    "on",
    "the",
    "old",
    "blue",
    "car",
    "with",
    "two",
    "small",
    "green",
    "dogs",
)
"""Each is one token of CLIP's vocabulary."""
Captions = Literal["natural", "full"]


def write_shards(
    folder: Path, captions: Captions, *, samples: int, side: int, context_length: int
) -> list[Path]:
    """Eight shards. Natural captions have 5 to 20 tokens, start and end included; full ones fill the context."""
    folder.mkdir(parents=True)
    draw = random.Random(0)
    pixels = np.random.default_rng(0)
    paths = []
    for number in range(8):
        rows = []
        for row in range(samples // 8):
            # Smooth enough for a JPEG of a usual size.
            coarse = pixels.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            picture = io.BytesIO()
            Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(
                picture, "JPEG", quality=90
            )
            words = draw.randint(3, 18) if captions == "natural" else context_length
            text = " ".join(draw.choices(WORDS, k=words))
            rows.append(
                (f"{number:02d}{row:06d}", {"jpg": picture.getvalue(), "txt": text.encode()})
            )
        paths.append(write_shard(folder / f"{number:05d}.tar", rows).path)
        # Before the ranks begin, who would each look for it.
        read_or_build_index(paths[-1])
    return paths
