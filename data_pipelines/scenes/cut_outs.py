"""The things that scenes show: drawings of the emoji pack, or a folder of transparent PNGs."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.expand import PACKS_FOLDER, read_pictures, read_table
from data_pipelines.plain_files import require_plain
from data_pipelines.scenes.scene import LARGE, SMALL
from data_pipelines.scenes.world import Silhouettes

EMOJI = "emoji"
EMOJI_CREDIT = (
    "drawings: Twemoji, (c) Twitter, Inc and other contributors, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/), cut out, made grey and coloured"
)
LEAST_KINDS = 7

_STYLE = "twitter"
# One after the other as far from those before as can be, by their grey forms at 8 pixels.
_EMOJI: Mapping[str, str] = {
    "star": "star",
    "cat": "cat",
    "key": "key",
    "heart": "red heart",
    "tree": "evergreen tree",
    "car": "automobile",
    "cloud": "cloud",
    "note": "musical note",
    "bone": "bone",
    "moon": "crescent moon",
    "guitar": "guitar",
    "hat": "top hat",
    "magnet": "magnet",
    "cup": "hot beverage",
    "duck": "duck",
    "drum": "drum",
    "plane": "airplane",
    "balloon": "balloon",
    "pear": "pear",
    "chair": "chair",
    "hook": "hook",
    "crab": "crab",
    "rocket": "rocket",
    "tooth": "tooth",
    "snowflake": "snowflake",
    "lock": "locked",
    "spider": "spider",
    "giraffe": "giraffe",
}
# Paper is white, and WebP's noise a little less so.
_PAPER = 232
_SHADE = 100
"""Largest darkening of a colour by its shading, in levels of 255."""
_NAME = re.compile(r"[a-z]+( [a-z]+)*")
_MOST_PIXELS = 4096 * 4096
_MOST_BYTES = 2**26


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """One kind of thing."""

    kind: str
    """Its name in the singular."""
    grey: UInt8[np.ndarray, "side side"]
    """From dark to 255."""
    alpha: UInt8[np.ndarray, "side side"]

    def shrunk(self, side: int) -> UInt8[np.ndarray, "2 s s"]:
        """Grey and alpha at another size."""
        picture = Image.merge("LA", [Image.fromarray(self.grey), Image.fromarray(self.alpha)])
        small = picture.resize((side, side), Image.Resampling.BOX)
        return np.asarray(small).transpose(2, 0, 1)


def read_cut_outs(source: str, number: int) -> list[CutOut]:
    """The first `number` kinds of the emoji or of a folder.

    Raises UserError where there are fewer, or where a file is no transparent PNG with a plain name.
    """
    found = _emoji() if source == EMOJI else _folder(Path(source))
    if not LEAST_KINDS <= number <= len(found):
        raise UserError(
            f"--num-kinds is {number}, and {source} offers {len(found)}; give a number from "
            f"{LEAST_KINDS} to {len(found)}"
            + ("" if len(found) >= LEAST_KINDS else f", and at least {LEAST_KINDS} cut-outs")
        )
    return found[:number]


def _emoji() -> list[CutOut]:
    pack = PACKS_FOLDER / EMOJI
    table, pictures = read_table(pack), read_pictures(pack)
    places = {
        table["concepts"][concept]["label"]: table["pictures"][picture]
        for samples in table["samples"].values()
        for style, concept, picture in samples
        if style == _STYLE
    }
    cut_outs = []
    for kind, label in _EMOJI.items():
        start, size = places[label]
        with Image.open(io.BytesIO(pictures[start : start + size])) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        # One pixel less at the edge, where paper shines through.
        ground = _spread(_connected_to_border(pixels.min(axis=2) >= _PAPER))
        cut_outs.append(_cut_out(kind, pixels, np.where(ground, 0, 255).astype(np.uint8)))
    return cut_outs


def _folder(folder: Path) -> list[CutOut]:
    if not folder.is_dir():
        raise UserError(
            f"--cut-outs is {folder}; give {EMOJI}, or a folder of transparent PNGs named by what "
            "they show"
        )
    cut_outs: list[CutOut] = []
    for path in sorted(folder.glob("*.png")):
        kind = path.stem.replace("_", " ").lower()
        if not _NAME.fullmatch(kind):
            raise UserError(
                f"{path} does not say what it shows; name it by English words such as teddy_bear.png"
            )
        if kind in {known.kind for known in cut_outs}:
            raise UserError(
                f"{path} shows a {kind}, as another file of the folder does; rename one"
            )
        pixels = _transparent_png(path)
        cut_outs.append(_cut_out(kind, pixels[..., :3], pixels[..., 3]))
    return cut_outs


def _transparent_png(path: Path) -> UInt8[np.ndarray, "H W 4"]:
    try:
        require_plain(path, _MOST_BYTES)
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UserError(
                    f"{path} is {picture.width} x {picture.height} pixels; 4096 x 4096 is the limit"
                )
            pixels = np.asarray(picture.convert("RGBA"))
    except UserError:
        raise
    # Pillow's parsers meet hostile bytes with nearly any exception there is.
    except Exception as error:
        raise UserError(f"{path} is no PNG that can be read; save it again") from error
    if pixels[..., 3].min() > 127 or pixels[..., 3].max() <= 127:
        raise UserError(
            f"{path} is not a form on a transparent ground; cut it out and save it with transparency"
        )
    return pixels


def _cut_out(
    kind: str, pixels: UInt8[np.ndarray, "H W 3"], alpha: UInt8[np.ndarray, "H W"]
) -> CutOut:
    """The form in the middle of the smallest square that holds it, in greys that keep colours bright."""
    rows, columns = (np.flatnonzero((alpha > 127).any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels, alpha = pixels[box], alpha[box]
    # Whole numbers: the same on every machine.
    light = pixels.astype(np.int64) @ np.array([30, 59, 11]) // 100
    # Most of a form is bright, and its shading never hides which colour it has.
    bright = int(np.sort(light[alpha > 127])[-1 - np.count_nonzero(alpha > 127) // 3])
    grey = 255 - np.clip(2 * (bright - light), 0, _SHADE)
    side = max(alpha.shape)
    square = np.zeros((2, side, side), dtype=np.uint8)
    top, left = ((side - length) // 2 for length in alpha.shape)
    square[:, top : top + alpha.shape[0], left : left + alpha.shape[1]] = grey, alpha
    return CutOut(kind=kind, grey=square[0], alpha=square[1])


def _connected_to_border(paper: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Paper that is reached from the border over paper."""
    reached = np.zeros_like(paper)
    border = np.ones_like(paper)
    border[1:-1, 1:-1] = False
    front = border & paper
    while front.any():
        reached |= front
        front = _spread(reached) & paper & ~reached
    return reached


def _spread(area: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The area and the pixels beside it."""
    padded = np.pad(area, 1)
    return area | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def names(cut_outs: Sequence[CutOut]) -> tuple[str, ...]:
    """The kinds, in their order."""
    return tuple(cut_out.kind for cut_out in cut_outs)


def silhouettes(cut_outs: Sequence[CutOut]) -> tuple[Silhouettes, ...]:
    """Which units of the canvas each kind covers."""
    return tuple((_rows(cut_out, SMALL), _rows(cut_out, LARGE)) for cut_out in cut_outs)


def _rows(cut_out: CutOut, size: int) -> tuple[int, ...]:
    """A number for each row, bit n of which says whether unit n is covered."""
    covered = cut_out.shrunk(size)[1] > 127
    return tuple(sum(1 << int(n) for n in np.flatnonzero(row)) for row in covered)
