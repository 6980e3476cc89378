"""From scenes to pixels, in whole numbers: the same pictures offline and on any device.

Axes: N scenes, T things of the scene that has most, K kinds, 2 sizes (small, large), P pixels of the widest
thing, S pixels of a picture.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from data_pipelines.errors import UserError
from data_pipelines.scenes.cut_outs import CutOut
from data_pipelines.scenes.scene import CANVAS, LARGE, SMALL, Scene
from data_pipelines.scenes.world import BACKGROUNDS, COLOURS

SIZES = (SMALL, LARGE)
STEP = 8
"""Pictures are a multiple of it wide, so that things are whole pixels wide."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneNumbers:
    """Scenes as numbers, to be sent to a device."""

    things: Int32[Tensor, "N T 6"]
    """From the back to the front: kind, size, colour (all by their numbers), x, y, and 1; zeros where there
    is none."""
    backgrounds: Int32[Tensor, " N"]

    def to(self, device: torch.device) -> "SceneNumbers":
        """The same on a device."""
        return SceneNumbers(things=self.things.to(device), backgrounds=self.backgrounds.to(device))


def scene_numbers(scenes: Sequence[Scene], kinds: Sequence[str]) -> SceneNumbers:
    """The scenes as numbers; `kinds` in the order of the atlas."""
    kind_numbers = {kind: number for number, kind in enumerate(kinds)}
    colour_numbers = {colour: number for number, colour in enumerate(COLOURS)}
    most = max((len(scene.things) for scene in scenes), default=0)
    numbers = np.zeros((len(scenes), most, 6), dtype=np.int32)
    for row, scene in enumerate(scenes):
        for place, thing in enumerate(sorted(scene.things, key=lambda thing: thing.depth)):
            numbers[row, place] = (
                kind_numbers[thing.kind],
                SIZES.index(thing.size),
                colour_numbers[thing.colour],
                thing.x,
                thing.y,
                1,
            )
    backgrounds = torch.tensor([scene.background for scene in scenes], dtype=torch.int32)
    return SceneNumbers(things=torch.from_numpy(numbers), backgrounds=backgrounds)


def atlas_of(cut_outs: Sequence[CutOut], picture_size: int) -> UInt8[Tensor, "K 2 2 P P"]:
    """Every kind in both sizes, as grey and alpha; what the smaller one does not fill is transparent.

    Raises UserError for sizes at which things would not be whole pixels wide.
    """
    if picture_size < STEP or picture_size % STEP:
        raise UserError(
            f"--picture-size is {picture_size}; it must be a multiple of {STEP}, such as 32 or 64"
        )
    sides = [size * picture_size // CANVAS for size in SIZES]
    atlas = np.zeros((len(cut_outs), len(sides), 2, max(sides), max(sides)), dtype=np.uint8)
    for kind, cut_out in enumerate(cut_outs):
        for size, side in enumerate(sides):
            atlas[kind, size, :, :side, :side] = cut_out.shrunk(side)
    return torch.from_numpy(atlas)


def atlas_fingerprint(atlas: UInt8[Tensor, "K 2 2 P P"]) -> str:
    """A hash of the drawings."""
    return hashlib.sha256(atlas.numpy().tobytes()).hexdigest()


def paint(
    scenes: SceneNumbers, atlas: UInt8[Tensor, "K 2 2 P P"], picture_size: int
) -> UInt8[Tensor, "N 3 S S"]:
    """The pictures, on the device of the scenes and the atlas. Every device gives the same bytes."""
    device, widest = atlas.device, atlas.shape[-1]
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.int32, device=device)
    backgrounds = torch.tensor(BACKGROUNDS, dtype=torch.int32, device=device)
    sides = torch.tensor([size * picture_size // CANVAS for size in SIZES], device=device)
    # A margin all around takes the transparent parts of drawings at the edge.
    room = picture_size + 2 * widest
    canvas = backgrounds[scenes.backgrounds][:, None, None].repeat(1, room, room, 1)
    pixels = torch.arange(widest, device=device)
    rows = torch.arange(len(canvas), device=device)[:, None, None]
    for place in range(scenes.things.shape[1]):
        kind, size, colour, x, y, shown = scenes.things[:, place].long().unbind(1)
        drawing = atlas[kind, size].int() * shown.int()[:, None, None, None]
        # Floor, so that pictures of any size agree on which side of a pixel a centre falls.
        left, top = (widest + place * picture_size // CANVAS - sides[size] // 2 for place in (x, y))
        window = (
            rows,
            (top[:, None] + pixels)[:, :, None],
            (left[:, None] + pixels)[:, None, :],
        )
        grey, alpha = drawing[:, 0, :, :, None], drawing[:, 1, :, :, None]
        paint_here = (grey * colours[colour][:, None, None] + 127) // 255
        canvas[window] = (alpha * paint_here + (255 - alpha) * canvas[window] + 127) // 255
    inside = slice(widest, widest + picture_size)
    return canvas[:, inside, inside].permute(0, 3, 1, 2).to(torch.uint8).contiguous()
