"""What an encoder must offer to be scored.

Axes: N items, E the shared embedding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

Picture = Image.Image | np.ndarray | Path | str
"""A picture as people have it: a PIL image, uint8 RGB pixels [H, W, 3], or the path of a file."""


@runtime_checkable
class DualEncoder(Protocol):
    """Pictures and strings in, unit vectors out; padding, canonicalisation, resizing stay inside.

    `variants` are opaque names of versions of the text encoder (here they are signatures, that is,
    depths); pictures are encoded once for all of them.
    """

    name: str
    fingerprint: str
    """A hash of weights, tokenizer and preprocessing: what may be cached is cached under it."""

    def encode_images(self, pictures: Sequence[Picture]) -> Float[Tensor, "N E"]:
        """Unit vectors of the pictures."""
        ...

    def encode_texts(
        self, strings: Sequence[str], variants: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "N E"]]:
        """Unit vectors of the strings, for each variant."""
        ...
