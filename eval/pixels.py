"""A picture as people have it to the pixels that every encoder begins with."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture, pixels_of
from data_pipelines.errors import UserError
from data_pipelines.reader import read_picture_file
from eval.encoder import Picture


def read_pixels(picture: Picture) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a picture, upright and on white: by one rule for all encoders.

    Raises UserError for a file that is not a picture, and for an array of another form.
    """
    if isinstance(picture, str | Path):
        try:
            return decode_picture(read_picture_file(Path(picture)))
        except BadSample as error:
            raise UserError(
                f"cannot read the picture {picture}: {error}; give a JPEG, PNG or WebP file"
            ) from error
    if isinstance(picture, Image.Image):
        return pixels_of(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise UserError(
            f"a picture is an array of {picture.dtype} with the shape {list(picture.shape)}; "
            "give uint8 RGB pixels of the shape [height, width, 3]"
        )
    # torch takes neither mirrored nor read-only arrays as they are.
    return np.require(picture, requirements=["C", "W"])


def rgb_image(picture: Picture) -> Image.Image:
    """The same pixels as the PIL image that other libraries want."""
    return Image.fromarray(read_pixels(picture))
