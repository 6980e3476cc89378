"""Pixels of any size to the square that the image tower takes."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor


def resize_picture(pixels: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[Tensor, "3 size size"]:
    """The whole picture squeezed to size x size by antialiased bicubic filtering, as SigLIP does.

    A picture that already has that size comes back with the pixels it had.
    """
    return _resized(pixels, size).contiguous()


def resize_into(pixels: UInt8[np.ndarray, "H W 3"], picture: UInt8[np.ndarray, "3 S S"]) -> None:
    """Write what resize_picture gives to `picture`, without a copy between."""
    picture[...] = _resized(pixels, picture.shape[1]).numpy()


def _resized(pixels: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[Tensor, "3 size size"]:
    # The axis in front comes first of all: only so does torch see that the channels lie last, which
    # spares it sorting them apart before it filters.
    channels_first = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    if pixels.shape[:2] == (size, size):
        return channels_first[0]
    return F.interpolate(channels_first, (size, size), mode="bicubic", antialias=True)[0]
