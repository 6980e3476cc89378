"""Emoji of four styles as small WebP pictures of one form: 64x64 RGB on white."""

import io
import os
from pathlib import Path
from typing import Any

import PIL
import PIL.features
from PIL import Image

from data_pipelines.errors import UserError

SIZE = 64
WEBP_QUALITY = 90
"""Chosen by eye among 60 to 95: the lowest at which thin dark lines on colour show no fringes."""


def encoded_picture(path: Path) -> bytes:
    """The picture file (PNG, WebP, SVG) as WebP bytes; equal pictures give equal bytes."""
    with _rendered(path) if path.suffix == ".svg" else Image.open(path) as picture:
        flat = _on_white(picture.convert("RGBA"))
    buffer = io.BytesIO()
    flat.save(buffer, "WEBP", quality=WEBP_QUALITY, method=6)
    return buffer.getvalue()


def versions_behind_the_bytes() -> dict[str, str]:
    """The versions on which the picture bytes depend."""
    return {
        "pillow": PIL.__version__,
        "libwebp": str(PIL.features.version("webp")),
        "resvg_py": _resvg().__version__,
    }


def _rendered(path: Path) -> Image.Image:
    # System fonts would make the bytes depend on the machine.
    png = _resvg().svg_to_bytes(svg_path=os.fspath(path), width=SIZE, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png)))


def _resvg() -> Any:
    try:
        # An extra: only those who make the pack anew need it.
        import resvg_py
    except ImportError as error:
        raise UserError(
            "drawings as SVG need resvg_py; install it (pip install 'rins_mm[prepare]')"
        ) from error
    return resvg_py


def _on_white(picture: Image.Image) -> Image.Image:
    """The picture on a white square of `SIZE`, centred, its form kept."""
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), "white")
    corner = ((side - picture.width) // 2, (side - picture.height) // 2)
    square.alpha_composite(picture, corner)
    flat = square.convert("RGB")
    if side != SIZE:
        flat = flat.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return flat
