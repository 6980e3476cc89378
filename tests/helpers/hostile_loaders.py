"""The public loaders as a command, so that they are tried as commands are:  LOADER PATH"""

from collections.abc import Callable
from pathlib import Path

import rins_mm
from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.tokenizers import load_tokenizer
from eval.report import read_results
from rins_mm.index.opened import open_index
from rins_mm.serve.__main__ import ServeCommand, open_service
from rins_mm.weights.files import read_weights
from rins_mm.weights.sources import load


def encode(model: str, pictures: str) -> None:
    """Vectors of the pictures in a folder."""
    found = sorted(path for path in Path(pictures).iterdir() if path.suffix == ".png")
    rins_mm.load(model).encode_images(found)


def load_and_encode(folder: str) -> None:
    """A model, and a vector of a string."""
    rins_mm.load(folder).encode_texts(["a red apple"])


def read_index(folder: str) -> None:
    """An index, and everything in it."""
    index = open_index(Path(folder))
    index.rows(slice(0, index.num_rows))
    for number in index.numbers.tolist():
        index.row(number)
        try:
            index.picture(number)
        except BadSample as error:
            raise UserError(str(error)) from error


LOADERS: dict[str, Callable[..., object]] = {
    "load": load_and_encode,
    "weights": lambda path: read_weights(Path(path)),
    "big_vision": lambda path: load(f"big_vision:{path}"),
    "hf": lambda path: load(f"hf:{path}"),
    "open_clip": lambda path: load(f"open_clip:local-dir:{path}"),
    "encode": encode,
    "tokenizer": lambda path: load_tokenizer(Path(path)).encode(["a red apple", "\U0001f34e" * 50]),
    "index": read_index,
    "serve": lambda path: open_service(ServeCommand(folder=Path(path))),
    "results": lambda path: read_results(Path(path)),
}


def main(argv: list[str]) -> None:
    """Load."""
    LOADERS[argv[0]](*argv[1:])
