"""Bytes of a picture to RGB pixels, or a short word for why not.

JPEG, PNG and WebP only, told apart by their first bytes and never by their names. All conversions
are rules: EXIF orientation is applied, alpha is laid on white, 16 bits keep their upper 8.

Sound JPEGs are decoded by simplejpeg, which gives Pillow's pixels in less time; Pillow has the last
word on all that is odd.
"""

import warnings
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from data_pipelines.bad_samples import BadSample
from data_pipelines.jpeg import num_scans, plain_size, sound_pixels

# One picture's metadata can be wrong ten thousand times, and each would be a line on the terminal.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")

MAX_PIXELS = 64_000_000
MAX_SCANS = 100
"""Progressive JPEGs have about ten scans. Each costs a pass over all pixels and a few bytes only."""
MAX_SCANNED_PIXELS = 1_000_000_000
"""Of all scans together: enough for fifteen over the largest picture."""
MAX_CHUNKS = 20_000
"""A PNG has a few, and one more for every 8 KB of pixels or so."""

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


def decode_picture(
    data: bytes, *, max_pixels: int = MAX_PIXELS, least_size: int | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a JPEG, PNG or WebP as people see it.

    With `least_size`, a JPEG comes 2, 4 or 8 times smaller where both its sides stay at least that
    long: less work for one that is resized to `least_size` anyway.
    Raises BadSample: "not a picture", "animated picture", "too many pixels", "too many scans",
    "truncated picture" or "broken picture". Pixels and scans are counted before any is decoded.
    """
    opener = _opener(data)
    if opener is None:
        raise BadSample("not a picture")
    if opener is PngImageFile and _has_too_many_chunks(data):
        raise BadSample("broken picture")
    try:
        if opener is JpegImageFile:
            pixels = _plain_jpeg(data, max_pixels, least_size)
            if pixels is not None:
                return pixels
        with opener(BytesIO(data)) as image:
            if getattr(image, "is_animated", False):
                raise BadSample("animated picture")
            if image.width * image.height > max_pixels:
                raise BadSample("too many pixels")
            if isinstance(image, JpegImageFile):
                pixels = _other_jpeg(data, image, least_size)
                if pixels is not None:
                    return pixels
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


def _has_too_many_chunks(data: bytes) -> bool:
    # Pillow spends a few microseconds on each chunk, and an empty one has only 12 bytes.
    at = len(b"\x89PNG\r\n\x1a\n")
    for _ in range(MAX_CHUNKS):
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at >= len(data):
            return False
    return True


def _plain_jpeg(
    data: bytes, max_pixels: int, least_size: int | None
) -> UInt8[np.ndarray, "H W 3"] | None:
    """The pixels of a JPEG of the most usual kind, without Pillow; None where Pillow shall judge."""
    size = plain_size(data)
    if size is None:
        return None
    if size[0] * size[1] > max_pixels:
        raise BadSample("too many pixels")
    return sound_pixels(data, *size, least_size)


def _other_jpeg(
    data: bytes, image: JpegImageFile, least_size: int | None
) -> UInt8[np.ndarray, "H W 3"] | None:
    """The pixels of a sound JPEG whose header Pillow has read; None where Pillow shall judge."""
    scans = num_scans(data)
    if scans > MAX_SCANS or scans * image.width * image.height > MAX_SCANNED_PIXELS:
        raise BadSample("too many scans")
    if image.mode not in ("L", "RGB"):
        return None
    pixels = sound_pixels(data, image.height, image.width, least_size)
    if pixels is None:
        return None
    turn = UPRIGHT.get(_orientation(image))
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _ends_early(opener: type[ImageFile], data: bytes) -> bool:
    if opener is JpegImageFile:
        return b"\xff\xd9" not in data[-64:]
    if opener is PngImageFile:
        return b"IEND" not in data[-64:]
    return int.from_bytes(data[4:8], "little") + 8 > len(data)


def _upright(image: Image.Image) -> Image.Image:
    turn = UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info:
        return 1
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    # Broken metadata leave the picture as it is: the pixels are whole.
    except Exception:
        return 1
    return orientation if orientation in UPRIGHT else 1


def _rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode in ("I", "I;16"):
        grey = (np.array(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
