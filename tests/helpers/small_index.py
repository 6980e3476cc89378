"""An index made in a moment: pictures of a folder with names, labels and captions as a test wants them."""

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.words import printable
from eval.encoder import DualEncoder
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


def write_small_index(
    folder: Path,
    pictures: Path,
    shown: Mapping[str, tuple[np.ndarray, str, str]],
    encoder: DualEncoder,
    *,
    image_signature: str,
    text_signature: str,
    model_path: str = "gone/model",
) -> Path:
    """Write pixels, label and caption under each file name, and an index of them; return its folder."""
    pictures.mkdir(parents=True)
    rows, all_pixels = [], []
    # Numbers follow the order in which the folder is listed.
    for number, (name, (pixels, label, caption)) in enumerate(sorted(shown.items())):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (pictures / name).write_bytes(buffer.getvalue())
        height, width = pixels.shape[:2]
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        rows.append(
            PictureRow(
                number=number, name=printable(name), label=label, caption=caption, width=width, height=height,
                sha256=digest,
            )
        )  # fmt: skip
        all_pixels.append(pixels)
    vectors = encoder.encode_images(all_pixels, [image_signature])[image_signature]
    shard = IndexShard(
        first_number=0,
        num_numbers=len(rows),
        num_pictures=len(rows),
        vectors_sha256=write_vectors(vectors_path(folder, 0), vectors.half().numpy()),
        metadata_sha256=write_metadata(metadata_path(folder, 0), rows),
    )
    model = IndexedModel(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        path=model_path,
        image_signature=image_signature,
        text_signature=text_signature,
    )
    source = IndexedSource(pictures=str(pictures), first_number=0, num_numbers=len(rows))
    write_facts(
        folder,
        IndexFacts(
            model=model, width=vectors.shape[1], pictures_per_shard=max(1, len(rows)),
            sources=(source,), shards=(shard,), left_out={},
        ),
    )  # fmt: skip
    return folder
