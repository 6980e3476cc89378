"""A folder that export has written: description, weights, tokenizer."""

import tempfile
from functools import cache
from pathlib import Path
from random import Random

import tiny
import torch
from byte_mutations import mutated_bytes
from json_mutations import mutated_json
from target import Files, Target, laid_down
from tensor_mutations import mutated_tensors, sealed_again

from data_pipelines import plain_values, tokenizers
from data_pipelines.errors import UserError
from rins_mm import checkpoint, encoder
from rins_mm.checkpoint import MANIFEST
from rins_mm.encoder import load_encoder
from rins_mm.export.native import write_native

PICTURE = tiny.pixels(1, 8, 8)


@cache
def seeds() -> list[Files]:
    """Exports of the tiny encoder: plain, and with other settings."""
    made = []
    with tempfile.TemporaryDirectory() as name:
        for number, settings in enumerate(({}, {"stem_channels": (4, 8, 16), "patch_size": None})):
            out = Path(name) / str(number)
            write_native(tiny.encoder(**settings), out)
            made.append({path.name: path.read_bytes() for path in out.iterdir()})
    return made


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """A file of the folder, and a manifest that mostly fits it again."""
    files = dict(files)
    for _ in range(draws.choice((1, 1, 2))):
        # The description decides what is built.
        name = draws.choice(
            [*files, "encoder.json", "encoder.json", "tokenizer.json", "tokenizer.model"]
        )
        data, piece = files.get(name, b""), other.get(name, b"")
        if name.endswith(".json"):
            files[name] = mutated_json(data, draws, piece)[:200_000]
        elif name.endswith("safetensors"):
            files[name] = mutated_tensors(data, draws, piece)
        else:
            files[name] = _message_changed(data, draws, piece)
    if draws.random() < 0.02:
        del files[draws.choice(list(files))]
    return sealed_again(files, draws)


def _message_changed(data: bytes, draws: Random, piece: bytes) -> bytes:
    """A tokenizer's model with changes near its end, where its settings are, or anywhere."""
    place = max(0, len(data) - draws.choice((200, 3000, 250_000)))
    if draws.random() < 0.2:
        place = draws.randrange(len(data) + 1)
    short = data[place : place + 4000]
    return data[:place] + mutated_bytes(short, draws, piece[-4000:]) + data[place + 4000 :]


def attempt(files: Files, folder: Path) -> str:
    """Load it and use it; written and loaded again it has the same fingerprint."""
    (folder / "export").mkdir()
    laid_down(files, folder / "export")
    loaded = load_encoder(folder / "export")
    texts = loaded.encode_texts(["a red apple", ""])
    images = loaded.encode_images([PICTURE])
    assert texts.shape[1] == images.shape[1]
    if torch.isfinite(texts).all():
        assert torch.all((texts.norm(dim=1) - 1).abs() < 1e-3) or (texts.norm(dim=1) < 1e-3).any()
    write_native(loaded, folder / "again")
    assert load_encoder(folder / "again").fingerprint == loaded.fingerprint
    return "loaded"


TARGET = Target(
    name="export",
    what="load_encoder and both encoders; written by export and loaded again it has the same fingerprint",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(encoder, tokenizers, plain_values, checkpoint),
    documented=(UserError,),
)
assert MANIFEST in seeds()[0]
torch.set_num_threads(1)
