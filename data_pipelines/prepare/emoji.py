"""Rebuild the emoji pack from its npm packages; the same versions give the same bytes.

python -m data_pipelines.prepare.emoji --out FOLDER [--packages FOLDER]
"""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro

from data_pipelines.errors import UserError, run_command
from data_pipelines.prepare.emoji_pack import StyledPicture, write_pack
from data_pipelines.prepare.emoji_packages import (
    Concept,
    picture_files,
    read_concepts,
    unpacked_packages,
)
from data_pipelines.prepare.emoji_pictures import encoded_picture
from data_pipelines.progress import with_progress

STYLES = ("google", "twitter", "openmoji", "fluent")


@dataclass(frozen=True, kw_only=True)
class EmojiConfig:
    """Rebuild the emoji pack from its pinned npm packages."""

    out: Path
    """Folder to write the pack into."""
    packages: Path | None = None
    """Folder with the packages, as tarballs or unpacked; without it npm fetches them (163 MB)."""
    overwrite: bool = False
    """Replace a pack that is already there."""


def main(argv: list[str]) -> None:
    """Fetch, check, encode, split, write."""
    config = tyro.cli(EmojiConfig, args=argv, prog="python -m data_pipelines.prepare.emoji")
    if (config.out / "manifest.json").exists() and not config.overwrite:
        raise UserError(f"{config.out} holds a pack; choose another folder or add --overwrite")
    with tempfile.TemporaryDirectory(prefix="emoji-") as working:
        folders = unpacked_packages(config.packages, Path(working))
        concepts = read_concepts(folders["words"], folders["openmoji"])
        pictures, num_left_out = read_pictures(folders, concepts)
    manifest = write_pack(config.out, concepts, pictures)
    for style, count in sorted(num_left_out.items()):
        print(f"left out: {count} {style} pictures (logos of brands, or of no known concept)")
    print(json.dumps(manifest["counts"], indent=2))


def read_pictures(
    folders: Mapping[str, Path], concepts: Mapping[str, Concept]
) -> tuple[list[StyledPicture], Counter[str]]:
    """All pictures of known concepts, by style and code; and how many of each style show none."""
    files = [
        (style, hexcode, path)
        for style in STYLES
        for hexcode, path in sorted(picture_files(style, folders[style]).items())
    ]
    num_left_out = Counter(style for style, hexcode, _ in files if hexcode not in concepts)
    known = [file for file in files if file[1] in concepts]
    pictures = [
        StyledPicture(style=style, hexcode=hexcode, webp=encoded_picture(path))
        for style, hexcode, path in with_progress(
            known, total=len(known), label="encoding pictures"
        )
    ]
    return pictures, num_left_out


if __name__ == "__main__":
    run_command(main)
