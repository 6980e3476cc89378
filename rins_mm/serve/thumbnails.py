"""Small copies of pictures, encoded anew: nothing of a file from outside reaches the browser."""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

THUMBNAIL_SIDE = 320
"""Pixels of the longer side: sharp on dense screens at the size of a card."""
QUALITY = 82


def thumbnail(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """A WebP of at most 320 x 320 pixels; small pictures keep their size."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
