"""The npm packages behind the emoji pack: pinned, checked by SHA-256, read as pictures and words.

Only openly licensed art: Noto (google), Twemoji (twitter), OpenMoji (openmoji), Fluent 3D (fluent).
"""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_object
from data_pipelines.shard_writer import sha256_of_file

PACKAGES: Mapping[str, tuple[str, str, str]] = {
    "google": (
        "emoji-datasource-google",
        "16.0.0",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
    "twitter": (
        "emoji-datasource-twitter",
        "16.0.0",
        "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    ),
    "openmoji": (
        "openmoji",
        "17.0.0",
        "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    ),
    "fluent": (
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
    ),
    "words": (
        "emojibase-data",
        "17.0.0",
        "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    ),
}
"""What for: the package's name, version, and the SHA-256 of its tarball."""

_PICTURES: Mapping[str, str] = {
    "google": "img/google/64/*.png",
    "twitter": "img/twitter/64/*.png",
    "openmoji": "color/svg/*.svg",
    "fluent": "assets/*.webp",
}
_VARIATION_SELECTOR = "FE0F"
# The flags of England, Scotland and Wales end with a cancel tag, which one package leaves out.
_TAG_SEQUENCE = re.compile(r"1F3F4(-E00[0-9A-F]{2})+")
_CANCEL_TAG = "E007F"


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One emoji, skin tones told apart, and its words."""

    hexcode: str
    """Code points in upper case, joined by "-", without variation selectors."""
    base: str
    """The hexcode of the same emoji without skin tones."""
    label: str
    locales: Mapping[str, str]
    """The label in each language; only English for a concept that emojibase does not know."""
    positive_key: str
    """The label without skin tones: pictures that share it show the same thing."""
    keywords: tuple[str, ...]
    group: str


def unpacked_packages(packages: Path | None, working: Path) -> dict[str, Path]:
    """The folder of each package.

    Unpacked folders in `packages` are used as they are; tarballs in it are checked and unpacked
    into `working`; without `packages` npm fetches the tarballs. Raises UserError when a package is
    missing or is not the pinned version.
    """
    return {use: _unpacked(use, packages, working) for use in PACKAGES}


def _unpacked(use: str, packages: Path | None, working: Path) -> Path:
    name, version, _ = PACKAGES[use]
    stem = f"{name.removeprefix('@').replace('/', '-')}-{version}"
    if packages is None:
        tarball = _fetched(name, version, stem, working)
    else:
        folder = packages / stem / "package"
        if folder.is_dir():
            found = read_plain_object(folder / "package.json", "unpack the package again")
            if (found.get("name"), found.get("version")) != (name, version):
                raise UserError(
                    f"{folder} is {found.get('name')} {found.get('version')}; "
                    f"{name} {version} is wanted"
                )
            return folder
        tarball = packages / f"{stem}.tgz"
        if not tarball.is_file():
            raise UserError(
                f"{packages} holds neither {stem}.tgz nor {stem}/package; "
                f"fetch it: npm pack {name}@{version}"
            )
    return _checked_and_unpacked(use, tarball, working / stem)


def _fetched(name: str, version: str, stem: str, working: Path) -> Path:
    if shutil.which("npm") is None:
        raise UserError(
            f"npm is not installed; install it, or fetch {name}@{version} elsewhere "
            "and give --packages"
        )
    command = ["npm", "pack", "--silent", f"{name}@{version}"]
    fetched = subprocess.run(command, cwd=working, capture_output=True, text=True, timeout=900)
    if fetched.returncode != 0:
        reason = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"npm could not fetch {name}@{version}: {reason}")
    return working / f"{stem}.tgz"


def _checked_and_unpacked(use: str, tarball: Path, folder: Path) -> Path:
    name, version, sha256 = PACKAGES[use]
    found = sha256_of_file(tarball)
    if found != sha256:
        raise UserError(
            f"{tarball} has SHA-256 {found[:12]}…, and {name} {version} has {sha256[:12]}…; "
            "fetch it again"
        )
    with tarfile.open(tarball) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package"


def picture_files(style: str, package: Path) -> dict[str, Path]:
    """The picture of each hexcode in one style; where names repeat a hexcode, the first counts."""
    files: dict[str, Path] = {}
    for path in sorted(package.glob(_PICTURES[style])):
        files.setdefault(hexcode_of(path.stem), path)
    return files


def hexcode_of(name: str) -> str:
    """The hexcode that a file's name means: upper case, four digits, no variation selectors."""
    points = [point.zfill(4) for point in name.upper().replace("_", "-").split("-")]
    hexcode = "-".join(point for point in points if point != _VARIATION_SELECTOR)
    if _TAG_SEQUENCE.fullmatch(hexcode) and not hexcode.endswith(_CANCEL_TAG):
        return f"{hexcode}-{_CANCEL_TAG}"
    return hexcode


def read_concepts(words: Path, openmoji: Path) -> dict[str, Concept]:
    """Every concept by hexcode: emojibase's, then OpenMoji's own extras.

    OpenMoji's logos of brands are left out: their art is free, the trademarks are not.
    """
    concepts = _emojibase_concepts(words)
    for entry in json.loads((openmoji / "data" / "openmoji.json").read_bytes()):
        hexcode = hexcode_of(entry["hexcode"])
        if hexcode not in concepts and entry["subgroups"] != "brand":
            concepts[hexcode] = _extra_concept(hexcode, entry)
    return concepts


def _emojibase_concepts(words: Path) -> dict[str, Concept]:
    groups = json.loads((words / "meta" / "groups.json").read_bytes())["groups"]
    codes = sorted(path.parent.name for path in words.glob("*/data.json"))
    labels: dict[str, dict[str, str]] = {}
    for code in codes:
        for entry in json.loads((words / code / "data.json").read_bytes()):
            for variant in (entry, *entry.get("skins", [])):
                labels.setdefault(hexcode_of(variant["hexcode"]), {})[code] = variant["label"]
    concepts: dict[str, Concept] = {}
    for entry in json.loads((words / "en" / "data.json").read_bytes()):
        for variant in (entry, *entry.get("skins", [])):
            hexcode = hexcode_of(variant["hexcode"])
            group = entry.get("group")
            concepts[hexcode] = Concept(
                hexcode=hexcode,
                base=hexcode_of(entry["hexcode"]),
                label=variant["label"],
                locales=labels[hexcode],
                positive_key=entry["label"],
                keywords=tuple(entry.get("tags", ())),
                group="regional-indicator" if group is None else groups[str(group)],
            )
    return concepts


def _extra_concept(hexcode: str, entry: Mapping[str, Any]) -> Concept:
    tags = f"{entry['tags']},{entry['openmoji_tags']}".split(",")
    label = " ".join(entry["annotation"].split())
    return Concept(
        hexcode=hexcode,
        base=hexcode,
        label=label,
        locales={"en": label},
        positive_key=label,
        # dict, not set: the order of the first mention stays.
        keywords=tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip())),
        group=entry["group"],
    )
