"""Other people's models by name, each with the padding and the preparation that belong to it:

open_clip:MODEL:WEIGHTS          a name of open_clip's list, and a file with its weights
open_clip:local-dir:FOLDER       a folder with open_clip_config.json, weights and tokenizer
hf:FOLDER                        SigLIP, SigLIP 2 or CLIP as transformers saves them
sentence_transformers:FOLDER     a model of sentence-transformers that encodes pictures and strings
onnx:FOLDER                      image.onnx, text.onnx, onnx.json and a tokenizer
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from eval.encoder import DualEncoder, as_dual_encoder
from eval.hugging_face_model import HuggingFaceModel
from eval.onnx_model import OnnxModel
from eval.open_clip_model import OpenClipModel
from eval.sentence_transformers_model import SentenceTransformersModel


def is_named(name: str) -> bool:
    """Whether this is such a name, and not a path."""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def load_named(name: str, device: str) -> DualEncoder:
    """The model of that name, in float32, from files on this disk; nothing is fetched or executed.

    Raises UserError for names of another form, and for files that are missing or do not fit.
    """
    library, _, rest = name.partition(":")
    if not is_named(name) or not rest:
        raise UserError(
            f"{name!r} names no model; names are open_clip:MODEL:WEIGHTS, "
            "open_clip:local-dir:FOLDER, hf:FOLDER, sentence_transformers:FOLDER and onnx:FOLDER"
        )
    model = LIBRARIES[library](rest, device)
    return as_dual_encoder(model, name=_short(name), fingerprint=model.fingerprint)


def _short(name: str) -> str:
    """The name with the last part of its path alone: what is published needs no folders of one machine."""
    parts = name.split(":", maxsplit=2 if name.startswith("open_clip:") else 1)
    return ":".join([*parts[:-1], Path(parts[-1]).name])


def _open_clip(rest: str, device: str) -> OpenClipModel:
    model_name, _, place = rest.partition(":")
    if not place:
        raise UserError(
            f"open_clip:{rest} names no weights; write open_clip:{rest}:FILE, "
            "or open_clip:local-dir:FOLDER"
        )
    return OpenClipModel(model_name, Path(place), device)


LIBRARIES: dict[str, Callable[[str, str], Any]] = {
    "open_clip": _open_clip,
    "hf": lambda folder, device: HuggingFaceModel(Path(folder), device),
    "sentence_transformers": lambda folder, device: SentenceTransformersModel(Path(folder), device),
    "onnx": lambda folder, device: OnnxModel(Path(folder), device),
}
