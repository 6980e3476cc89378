"""What an encoder must offer to be scored, and how any model comes to offer it.

Axes: N items, E the shared embedding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from data_pipelines.errors import UserError

Picture = Image.Image | np.ndarray | Path | str
"""A picture as people have it: a PIL image, uint8 RGB pixels [H, W, 3], or the path of a file."""

DEFAULT_VARIANT = "default"
"""The variant of both encoders that every model has: the one that it would use itself."""


@runtime_checkable
class DualEncoder(Protocol):
    """Pictures and strings in, unit vectors out; padding, canonicalisation, resizing stay inside.

    `variants` are opaque names of versions of an encoder (here they are signatures, that is, depths);
    what several of them share is computed once. A variant's vectors do not depend on which others
    are asked for beside it.
    """

    name: str
    fingerprint: str
    """A hash of weights, tokenizer and preprocessing: what may be cached is cached under it."""

    def encode_images(
        self, pictures: Sequence[Picture], variants: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "N E"]]:
        """Unit vectors of the pictures, for each variant of the image encoder."""
        ...

    def encode_texts(
        self, strings: Sequence[str], variants: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "N E"]]:
        """Unit vectors of the strings, for each variant of the text encoder."""
        ...


def as_dual_encoder(model: Any, *, name: str, fingerprint: str) -> DualEncoder:
    """Any object with `encode_images(pictures)` and `encode_texts(strings)`, ready to be scored.

    They return [N, E] of torch or numpy; rows are made unit vectors here. Pictures of data sets
    arrive as uint8 RGB arrays [H, W, 3]. `fingerprint` must change with anything that changes the
    vectors: weights, tokenizer, preprocessing. Raises UserError for an object without these methods.
    """
    for method in ("encode_images", "encode_texts"):
        if not callable(getattr(model, method, None)):
            raise UserError(
                f"the model {name} has no method {method}; give an object that has encode_images "
                "and encode_texts, each from a list to vectors [N, E]"
            )
    return _AnyModel(model, name, fingerprint)


class _AnyModel:
    """A model with the one variant that it has, and a look at what it returns."""

    def __init__(self, model: Any, name: str, fingerprint: str) -> None:
        self.model = model
        self.device = getattr(model, "device", "")
        self.name = name
        self.fingerprint = fingerprint

    def encode_images(
        self, pictures: Sequence[Picture], variants: Sequence[str]
    ) -> Mapping[str, Float32[Tensor, "N E"]]:
        """Unit vectors of the pictures, for the one variant."""
        return self._encode("encode_images", pictures, variants)

    def encode_texts(
        self, strings: Sequence[str], variants: Sequence[str]
    ) -> Mapping[str, Float32[Tensor, "N E"]]:
        """Unit vectors of the strings, for the one variant."""
        return self._encode("encode_texts", strings, variants)

    def _encode(
        self, method: str, items: Sequence[Any], variants: Sequence[str]
    ) -> Mapping[str, Float32[Tensor, "N E"]]:
        if unknown := [variant for variant in variants if variant != DEFAULT_VARIANT]:
            raise UserError(
                f"the model {self.name} has no variant {unknown[0]!r}; "
                f"it has {DEFAULT_VARIANT!r} alone"
            )
        with torch.no_grad():
            returned = getattr(self.model, method)(list(items))
        rows = (
            returned.detach()
            if isinstance(returned, Tensor)
            else torch.tensor(np.asarray(returned))
        )
        shape = list(rows.shape)
        if len(shape) != 2 or shape[0] != len(items) or not shape[1]:
            raise UserError(
                f"{method} of the model {self.name} returned the shape {shape} for {len(items)} "
                f"items; it must return one row for each, [{len(items)}, E]"
            )
        if not bool(rows.isfinite().all()):
            raise UserError(
                f"{method} of the model {self.name} returned numbers that are not finite; "
                "look at its weights, or run it in float32"
            )
        return dict.fromkeys(variants, normalize(rows.float(), dim=-1))
