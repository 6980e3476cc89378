"""Bytes of a picture to RGB pixels, or a short word for why not.

JPEG, PNG and WebP only, told apart by their first bytes and never by their names. All conversions
are rules: EXIF orientation is applied, alpha is laid on white, 16 bits keep their upper 8.
"""

from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from data_pipelines.bad_samples import BadSample

MAX_PIXELS = 64_000_000

EXIF_ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What to do to a picture with each EXIF orientation; 1 is upright already."""


def decode_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a JPEG, PNG or WebP as people see it.

    Raises BadSample: "not a picture", "animated picture", "too many pixels", "truncated picture" or
    "broken picture". The number of pixels is checked in the header, before any is decoded.
    """
    opener = _opener(data)
    if opener is None:
        raise BadSample("not a picture")
    try:
        with opener(BytesIO(data)) as image:
            if getattr(image, "is_animated", False):
                raise BadSample("animated picture")
            if image.width * image.height > max_pixels:
                raise BadSample("too many pixels")
            image.load()
            return pixels_of(image)
    except (BadSample, MemoryError):
        raise
    # Pillow's parsers meet hostile bytes with nearly any exception there is.
    except Exception as error:
        cause = "truncated picture" if _ends_early(opener, data) else "broken picture"
        raise BadSample(cause) from error


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of an open picture, upright and on white."""
    return _rgb(_upright(image))


def _opener(data: bytes) -> type[ImageFile] | None:
    # The classes themselves: Image.open would judge the size first, by limits that are global.
    if data[:3] == b"\xff\xd8\xff":
        return JpegImageFile
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return PngImageFile
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WebPImageFile
    return None


def _ends_early(opener: type[ImageFile], data: bytes) -> bool:
    if opener is JpegImageFile:
        return b"\xff\xd9" not in data[-64:]
    if opener is PngImageFile:
        return b"IEND" not in data[-64:]
    return int.from_bytes(data[4:8], "little") + 8 > len(data)


def _upright(image: Image.Image) -> Image.Image:
    if "exif" not in image.info:
        return image
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    # Broken metadata leave the picture as it is: the pixels are whole.
    except Exception:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("I", "I;16"):
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
