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
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)
    if pixels.shape[:2] == (size, size):
        return channels_first.contiguous()
    resized = F.interpolate(channels_first[None], (size, size), mode="bicubic", antialias=True)
    return resized[0].contiguous()
