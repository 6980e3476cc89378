"""One small model, its pictures and the index of them, for all tests of indexes."""

from pathlib import Path

import pytest
import tiny
from PIL import Image
from toy_index import build_argv

from rins_mm.export.native import write_native
from rins_mm.index.__main__ import main

BROKEN = {"05.png": b"no picture", "41.png": b""}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("exports") / "tiny"
    write_native(tiny.encoder(), path)
    return str(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """70 files, two of which are no pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(70):
        image = Image.fromarray(tiny.pixels(number, 20 + number, 30))
        image.save(folder / f"{number:02d}.png")
    for name, data in BROKEN.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def built(model, pictures, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("indexes") / "whole"
    main(build_argv(model, pictures, out))
    return out
