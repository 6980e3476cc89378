"""Augmentation of a batch on its device, each picture by its own seed.

Axes: B pictures of side S.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Ranges from which each picture draws its own change; all zero (the SigLIP recipes): none."""

    max_rotation_degrees: float = 0.0
    """Rotation by up to this angle either way."""
    min_scale: float = 1.0
    """Smallest zoom: 0.8 shows the picture at four fifths of its size."""
    max_scale: float = 1.0
    """Largest zoom: 1.2 crops to the middle 1/1.2."""
    max_shift: float = 0.0
    """Shift by up to this share of the side, along each axis."""
    flip: bool = False
    """Mirror every second picture left to right."""
    brightness: float = 0.0
    """Factor on pixels drawn from 1 - brightness to 1 + brightness."""
    contrast: float = 0.0
    """Factor on the distance from the picture's mean grey, from 1 - contrast to 1 + contrast."""
    saturation: float = 0.0
    """Factor on the distance from each pixel's grey, from 1 - saturation to 1 + saturation."""


NONE = AugmentationConfig()


def augment(
    images: Float[Tensor, "B 3 S S"], row_seeds: Int64[Tensor, " B"], config: AugmentationConfig
) -> Float[Tensor, "B 3 S S"]:
    """The pictures (values in [0, 1]) moved and recoloured: a pure function of picture, seed and ranges.

    Borders that come into view repeat the edge.
    """
    if config == NONE:
        return images
    uniform = _Uniforms(row_seeds)
    images = _move(images, uniform, config)
    return _recolour(images, uniform, config).clamp(0.0, 1.0)


class _Uniforms:
    """A stream of numbers for each row, drawn by hashing (row seed, how many were drawn before)."""

    def __init__(self, row_seeds: Tensor) -> None:
        self.row_seeds = row_seeds
        self.count = 0

    def between(self, low: float, high: float) -> Tensor:
        """One number per row, uniform in [low, high)."""
        self.count += 1
        # splitmix64's mixing, on signed integers, which wrap around alike on every device.
        x = self.row_seeds + _signed(self.count * 0x9E3779B97F4A7C15)
        x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
        x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
        bits = _shift_right(x ^ _shift_right(x, 31), 40)
        return low + (high - low) * bits.float() / 2**24


def _signed(number: int) -> int:
    """The lowest 64 bits as torch's integers hold them."""
    return (number + 2**63) % 2**64 - 2**63


def _shift_right(x: Tensor, places: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)


def _move(images: Tensor, uniform: _Uniforms, config: AugmentationConfig) -> Tensor:
    limit = math.radians(config.max_rotation_degrees)
    angle = uniform.between(-limit, limit)
    scale = uniform.between(config.min_scale, config.max_scale)
    # A shift by the whole side is 2 in the coordinates of grid_sample.
    shift_x = 2 * uniform.between(-config.max_shift, config.max_shift)
    shift_y = 2 * uniform.between(-config.max_shift, config.max_shift)
    mirror = torch.where(uniform.between(0.0, 1.0) < 0.5, -1.0, 1.0) if config.flip else 1.0
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    rows = (cosine * mirror, -sine, shift_x, sine * mirror, cosine, shift_y)
    matrices = torch.stack(torch.broadcast_tensors(*rows), dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolour(images: Tensor, uniform: _Uniforms, config: AugmentationConfig) -> Tensor:
    def factor(reach: float) -> Tensor:
        return uniform.between(1.0 - reach, 1.0 + reach)[:, None, None, None]

    images = images * factor(config.brightness)
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)[:, None, None]
    grey = (images * weights).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    saturation, contrast = factor(config.saturation), factor(config.contrast)
    return mean + contrast * (grey + saturation * (images - grey) - mean)
