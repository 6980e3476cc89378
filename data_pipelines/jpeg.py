"""Sound JPEGs to pixels by simplejpeg: those that Pillow reads, in less time.

Nothing here says what is wrong with a picture. What is odd in any way comes back as None, and Pillow
judges it.
"""

import numpy as np
import simplejpeg
from jaxtyping import UInt8

SCALES = (8, 4, 2)
"""By how much a JPEG can be decoded smaller cheaply: its blocks of 8 x 8 become 1, 2 or 4 wide."""

BASELINE = (0xC0, 0xC1)
PASSED_OVER = (0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE)
"""Markers of tables, of applications' own data, and of comments."""
APP1 = 0xE1
START_OF_SCAN = 0xDA


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG that is grey or of three colours, in one scan and without EXIF.

    None for any other, and for a header that is not quite as it should be.
    """
    size, components = None, 0
    at = 2
    # Room for the longest fixed part that is looked at below.
    while at + 16 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in BASELINE and size is None and data[at + 4] == 8:
            size = (data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8])
            components = data[at + 9]
        elif marker == START_OF_SCAN:
            # A scan of all components is the only one that is read, whatever follows it.
            return size if components in (1, 3) and data[at + 4] == components else None
        elif marker not in PASSED_OVER or (marker == APP1 and data.startswith(b"Exif", at + 4)):
            return None
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return None


def num_scans(data: bytes) -> int:
    """How often the marker that begins a scan occurs in a JPEG.

    Compressed pixels never hold its two bytes; a thumbnail in the header may, once or twice.
    """
    return data.count(bytes((0xFF, START_OF_SCAN)))


def sound_pixels(
    data: bytes, height: int, width: int, least_size: int | None
) -> UInt8[np.ndarray, "H W 3"] | None:
    """The pixels of a grey or colour JPEG of that size as they are stored; None for a faulty one.

    With `least_size` they come 2, 4 or 8 times smaller where both sides stay at least that long.
    """
    scale = _scale(height, width, least_size)
    shape = (-(-height // scale), -(-width // scale))
    try:
        # Limits were checked on the caller's reading of the header: this one must be the same.
        if simplejpeg.decode_jpeg_header(data)[:2] != (height, width):
            return None
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=shape[0], min_width=shape[1], min_factor=scale, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == shape else None


def _scale(height: int, width: int, least_size: int | None) -> int:
    if least_size is not None:
        for scale in SCALES:
            if min(height, width) >= scale * least_size:
                return scale
    return 1
