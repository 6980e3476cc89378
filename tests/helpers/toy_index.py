"""Indexes of made-up vectors, on disk in a moment: no model and no picture is needed."""

from pathlib import Path

import numpy as np

from rins_mm.index.layout import (
    IndexedModel,
    IndexedSource,
    IndexFacts,
    IndexShard,
    metadata_path,
    vectors_path,
    write_facts,
)
from rins_mm.index.shards import PictureRow, write_metadata, write_vectors

FINGERPRINT = "0" * 64


def unit_rows(num_rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Random unit vectors in float32."""
    rows = np.random.default_rng(seed).standard_normal((num_rows, width), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def row(number: int, **known: object) -> PictureRow:
    """A picture: every third an apple, wider with its number."""
    facts: dict = {
        "number": number, "name": f"a/{number:04d}.png", "label": "" if number % 3 else "apple",
        "caption": f"Picture {number}", "width": 100 + number, "height": 60, "sha256": "",
    }  # fmt: skip
    return PictureRow(**{**facts, **known})


def write_index(
    folder: Path, vectors: np.ndarray, *, per_shard: int = 32, gaps: int = 10, **known: object
) -> Path:
    """An index of these vectors; every `gaps`-th number is left out, so numbers are not rows."""
    numbers = [n for n in range(len(vectors) * gaps // (gaps - 1) + 1) if n % gaps != gaps - 1]
    numbers = numbers[: len(vectors)]
    end = numbers[-1] + 1
    shards = []
    for place, first in enumerate(range(0, end, per_shard)):
        rows = [r for r, n in enumerate(numbers) if first <= n < first + per_shard]
        shards.append(
            IndexShard(
                first_number=first,
                num_numbers=min(per_shard, end - first),
                num_pictures=len(rows),
                vectors_sha256=write_vectors(
                    vectors_path(folder, place), vectors[rows].astype(np.float16)
                ),
                metadata_sha256=write_metadata(
                    metadata_path(folder, place), [row(numbers[r], **known) for r in rows]
                ),
            )
        )
    write_facts(folder, facts_of(shards, vectors.shape[1], per_shard, end))
    return folder


def facts_of(shards: list[IndexShard], width: int, per_shard: int, end: int) -> IndexFacts:
    """What index.json says of such shards."""
    return IndexFacts(
        model=IndexedModel(
            name="made up", fingerprint=FINGERPRINT, path="", image_signature="AB", text_signature="AB"
        ),
        width=width,
        pictures_per_shard=per_shard,
        sources=(IndexedSource(pictures="nowhere", first_number=0, num_numbers=end),),
        shards=tuple(shards),
        left_out={"made up": end - sum(shard.num_pictures for shard in shards)},
    )  # fmt: skip


def build_argv(model: str, pictures: Path, out: Path) -> list[str]:
    """The command line of a build with shards of 16 pictures."""
    sizes = ["--pictures-per-shard", "16"]
    return ["build", model, "--pictures", str(pictures), "--out", str(out), *sizes]
