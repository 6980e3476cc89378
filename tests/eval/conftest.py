"""An encoder that needs no weights, and small data sets."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from data_pipelines.hashing import stable_hash
from data_pipelines.shard_writer import write_shard

WIDTH = 24


def random_rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed % 2**63))


@dataclass(kw_only=True)
class ToyEncoder:
    """Random projections of means of pixels and of hashed words; it notes what it is asked."""

    name: str = "toy"
    fingerprint: str = "toy-1"
    picture_batches: list[int] = field(default_factory=list)
    string_batches: list[list[str]] = field(default_factory=list)
    asked_variants: list[tuple[str, ...]] = field(default_factory=list)
    asked_image_variants: list[tuple[str, ...]] = field(default_factory=list)

    def encode_images(self, pictures, variants):
        self.picture_batches.append(len(pictures))
        self.asked_image_variants.append(tuple(variants))
        rows = torch.stack([_means(np.asarray(picture)) for picture in pictures])
        depths = {v: 1 if v == "default" else stable_hash("image", v) for v in variants}
        projections = {v: random_rows(depth, rows.shape[1], WIDTH) for v, depth in depths.items()}
        return {v: normalize(rows @ projections[v] + 1e-3, dim=-1) for v in variants}

    def encode_texts(self, strings, variants):
        self.string_batches.append(list(strings))
        self.asked_variants.append(tuple(variants))
        rows = torch.stack(
            [sum(random_rows(stable_hash(w), WIDTH) for w in ["", *s.split()]) for s in strings]
        )
        projections = {v: random_rows(stable_hash("variant", v), WIDTH, WIDTH) for v in variants}
        return {v: normalize(rows @ projections[v], dim=-1) for v in variants}


def _means(pixels: np.ndarray) -> torch.Tensor:
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.adaptive_avg_pool2d(image, 4).flatten()


@pytest.fixture
def toy_encoder() -> ToyEncoder:
    return ToyEncoder()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """150 samples: three pictures to a caption; the first caption has a second one beside it.

    Number 7 is truncated, number 70 no picture at all, number 100 has no words, and the pictures
    120, 121 and 122, the only ones of their caption, are broken.
    """

    def sample(number: int) -> tuple[str, dict[str, bytes]]:
        picture = _png(np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8))
        words = f"caption {number // 3}" + ("\nanother one\n" if number == 0 else "")
        if number == 7:
            picture = picture[:-40]
        if number == 70 or 120 <= number < 123:
            picture = b"no picture"
        if number == 100:
            words = " \n"
        return f"sample-{number:03d}", {"png": picture, "txt": words.encode()}

    path = tmp_path / "val.tar"
    write_shard(path, [sample(number) for number in range(150)])
    return path


@pytest.fixture
def png() -> bytes:
    """A whole picture file."""
    return _png(np.zeros((3, 4, 3), dtype=np.uint8))


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """ImageNet's layout with pictures of one colour, whose red is the number of the class they show.

    Synsets 0, 1 and 657 have pictures; one of the three in synset 1 shows class 0.
    """
    folder = tmp_path / "val"
    layout = {"n01440764": [0, 0], "n01443537": [1, 0, 1], "n03773504": [200]}
    for synset, reds in layout.items():
        (folder / synset).mkdir(parents=True)
        for number, red in enumerate(reds):
            pixels = np.full((5, 8, 3), (red, 0, 0), dtype=np.uint8)
            (folder / synset / f"picture_{number}.PNG").write_bytes(_png(pixels))
    return folder


def _png(pixels: np.ndarray) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
