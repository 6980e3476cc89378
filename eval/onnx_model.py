"""A pair of ONNX graphs with their tokenizer: image.onnx, text.onnx, and onnx.json, which says how to feed them.

    {"format_version": 1,
     "image": {"input": "pixels", "output": "vectors", "size": 224,
               "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
     "text": {"input": "ids", "mask": null, "output": "vectors", "context_length": 64}}

`pixels` are float32 [N, 3, size, size], (RGB / 255 - mean) / std, the whole picture squeezed to the
square. `ids` are int64 [N, context_length], always padded on the right to the whole length with the
tokenizer's pad token; `mask`, where it is no null, names an input int64 [N, context_length] that is 1
on tokens and 0 on padding. `vectors` are float32 [N, E]. The tokenizer is one of this project's
(tokenizer.json and tokenizer.model). All files lie in one folder.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json, require_plain
from data_pipelines.plain_values import from_plain
from data_pipelines.resize import resize_picture
from data_pipelines.tokenizers import load_tokenizer
from eval.encoder import Picture
from eval.local_models import MAX_SIDE, existing_folder, fingerprint_of, loading
from eval.pixels import read_pixels

FORMAT_VERSION = 1
SETTINGS_NAME = "onnx.json"
MAX_SETTINGS_BYTES = 2**16
MAX_TOKENS = 65_536
FATAL = 4
"""The severity above which onnxruntime writes to the terminal itself: what fails is told by its exceptions."""


@dataclass(frozen=True, kw_only=True)
class ImageGraph:
    """How image.onnx is fed."""

    input: str
    """Name of the input for the pixels."""
    output: str
    """Name of the output."""
    size: int
    """Side of the square in pixels."""
    mean: tuple[float, float, float]
    """Of each channel, where 1 is white."""
    std: tuple[float, float, float]
    """By which each channel is divided after that."""


@dataclass(frozen=True, kw_only=True)
class TextGraph:
    """How text.onnx is fed."""

    input: str
    """Name of the input for the token ids."""
    mask: str | None = None
    """Name of the input for the mask, if there is one."""
    output: str
    """Name of the output."""
    context_length: int
    """Tokens of every row, padding included."""


class OnnxModel:
    """Two graphs, run by onnxruntime."""

    def __init__(self, folder: Path, device: str) -> None:
        existing_folder(folder, f"image.onnx, text.onnx, {SETTINGS_NAME} and a tokenizer")
        self.device = device
        self._image, self._text = _read_settings(folder / SETTINGS_NAME)
        self._tokenizer = load_tokenizer(folder, context_length=self._text.context_length)
        with loading(f"the ONNX pair {folder}", extra="export", place=folder):
            self._image_session = _session(folder / "image.onnx", device)
            self._text_session = _session(folder / "text.onnx", device)
        self.fingerprint = fingerprint_of(
            tensors={},
            # Graphs may keep their weights in files beside them.
            files={
                path.name: _sha256(path)
                for path in folder.iterdir()
                if path.is_file() and ".onnx" in path.name
            },
            settings=[self._tokenizer.fingerprint, repr(self._image), repr(self._text)],
        )

    def encode_images(self, pictures: Sequence[Picture]) -> Float[Tensor, "N E"]:
        """Vectors of the pictures."""
        size, mean, std = self._image.size, self._image.mean, self._image.std
        squares = torch.stack([resize_picture(read_pixels(picture), size) for picture in pictures])
        pixels = (squares / 255.0 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
            :, None, None
        ]
        inputs = {self._image.input: pixels.numpy()}
        return _answer(self._image_session, self._image.output, inputs)

    def encode_texts(self, strings: Sequence[str]) -> Float[Tensor, "N E"]:
        """Vectors of the strings, each the same in whatever company it comes."""
        rows = self._tokenizer.encode(strings)
        shape = (len(rows), self._text.context_length)
        ids = np.full(shape, self._tokenizer.pad_token, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        inputs = {self._text.input: ids}
        if self._text.mask is not None:
            inputs[self._text.mask] = mask
        return _answer(self._text_session, self._text.output, inputs)


def _read_settings(path: Path) -> tuple[ImageGraph, TextGraph]:
    try:
        described = read_plain_json(path, MAX_SETTINGS_BYTES)
        version = described["format_version"]
        if version == FORMAT_VERSION:
            image = from_plain(ImageGraph, described["image"])
            text = from_plain(TextGraph, described["text"])
            if not (1 <= image.size <= MAX_SIDE and 1 <= text.context_length <= MAX_TOKENS):
                raise ValueError(f"size {image.size}, context_length {text.context_length}")
            return image, text
    except FileNotFoundError as error:
        raise UserError(
            f"there is no {path}; it says how the graphs are fed, and stands in the same folder"
        ) from error
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not readable: {error!r}; export the model again") from error
    raise UserError(
        f"{path} has format_version {version!r}, and this program reads {FORMAT_VERSION}; "
        "export the model again"
    )


def _session(path: Path, device: str) -> Any:
    """The graph, ready to run: with as many threads as torch has, so that ranks share the machine."""
    import onnxruntime

    require_plain(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = FATAL
    wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        raise UserError(
            f"this onnxruntime has no {wanted}, which the device {device} needs; "
            "install onnxruntime-gpu, or evaluate on the CPU"
        )
    return onnxruntime.InferenceSession(str(path), options, providers=[wanted])


def _answer(session: Any, output: str, inputs: Mapping[str, np.ndarray]) -> Float[Tensor, "N E"]:
    """What a graph gives. Raises UserError where it cannot run, or gives something else."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = FATAL
    try:
        vectors = torch.from_numpy(session.run([output], inputs, options)[0])
        if vectors.shape[:1] != next(iter(inputs.values())).shape[:1] or vectors.dim() != 2:
            raise ValueError(f"its output has the shape {list(vectors.shape)}")
        return vectors.float()
    # onnxruntime has exceptions of its own for what a graph can do wrong.
    except Exception as error:
        raise UserError(
            f"the graph with the output {output!r} does not run as {SETTINGS_NAME} says: "
            f"{str(error)[:300]}; export the model again"
        ) from error


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
