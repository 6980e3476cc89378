"""Write the emoji pack: its splits, its caption table, its pictures, its manifest.

`data_pipelines.expand` reads what is written here.
"""

import hashlib
import json
import lzma
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data_pipelines.expand import (
    FORMAT_VERSION,
    PACK_SPLITS,
    SAMPLES_PER_SHARD,
    samples_of,
    shard_name,
)
from data_pipelines.hashing import stable_hash
from data_pipelines.prepare.emoji_families import merged_families, split_of_family
from data_pipelines.prepare.emoji_notice import NOTICE
from data_pipelines.prepare.emoji_packages import PACKAGES, Concept
from data_pipelines.prepare.emoji_pictures import versions_behind_the_bytes
from data_pipelines.shard_writer import write_shard

HELD_OUT_STYLE = "fluent"
"""Never in train: pictures of this style in train's families make the split "style"."""


@dataclass(frozen=True, kw_only=True)
class StyledPicture:
    """One sample before it has a split."""

    style: str
    hexcode: str
    webp: bytes


def write_pack(
    out: Path, concepts: Mapping[str, Concept], pictures: Sequence[StyledPicture]
) -> dict[str, Any]:
    """Write the pack's files; its manifest comes back."""
    shown = {picture.hexcode for picture in pictures}
    concepts = {hexcode: concepts[hexcode] for hexcode in sorted(shown)}
    families = merged_families(concepts, _groups_of_equal_pictures(pictures))
    places, blob = _stored_once(pictures)
    table = {
        **_words(concepts, families),
        "pictures": list(places.values()),
        "samples": _samples(concepts, pictures, families, list(places)),
    }
    packed = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    files = {
        "captions.json.xz": lzma.compress(packed, preset=9 | lzma.PRESET_EXTREME),
        "pictures.bin": blob,
        "NOTICE": NOTICE.encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {
        "format_version": FORMAT_VERSION,
        "pack_sha256": hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest(),
        "files": hashes,
        "packages": {name: version for name, version, _ in PACKAGES.values()},
        "made_with": versions_behind_the_bytes(),
        "counts": _counts(table),
        "shards": _shards(table, blob),
    }
    # The manifest last: a folder without one is no pack.
    files["manifest.json"] = json.dumps(manifest, indent=1).encode() + b"\n"
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        temporary = out / f".{name}.{os.getpid()}.tmp"
        temporary.write_bytes(content)
        os.replace(temporary, out / name)
    return manifest


def _groups_of_equal_pictures(pictures: Sequence[StyledPicture]) -> list[list[str]]:
    groups: dict[bytes, list[str]] = {}
    for picture in pictures:
        groups.setdefault(picture.webp, []).append(picture.hexcode)
    return [hexcodes for hexcodes in groups.values() if len(hexcodes) > 1]


def _stored_once(pictures: Sequence[StyledPicture]) -> tuple[dict[bytes, tuple[int, int]], bytes]:
    """Start and length of each distinct picture, and all of them one after the other."""
    places: dict[bytes, tuple[int, int]] = {}
    end = 0
    for picture in pictures:
        if picture.webp not in places:
            places[picture.webp] = (end, len(picture.webp))
            end += len(picture.webp)
    return places, b"".join(places)


def _words(concepts: Mapping[str, Concept], families: Mapping[str, str]) -> dict[str, Any]:
    """What is said of each base emoji once, and the labels of each concept in every language."""
    codes = sorted({code for concept in concepts.values() for code in concept.locales})
    numbers: dict[str, int] = {}
    bases: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for concept in concepts.values():
        if concept.base not in numbers:
            numbers[concept.base] = len(bases)
            bases.append(
                {
                    "positive_key": concept.positive_key,
                    "keywords": list(concept.keywords),
                    "group": concept.group,
                    "family": families[concept.hexcode],
                }
            )
        rows.append(
            {
                "hexcode": concept.hexcode,
                "base": numbers[concept.base],
                "label": concept.label,
                # Languages without the word (an extra has English alone) are null.
                "locales": [concept.locales.get(code) for code in codes],
            }
        )
    return {"locales": codes, "bases": bases, "concepts": rows}


def _samples(
    concepts: Mapping[str, Concept],
    pictures: Sequence[StyledPicture],
    families: Mapping[str, str],
    distinct: Sequence[bytes],
) -> dict[str, list[tuple[str, int, int]]]:
    """Style, concept and picture of every sample of each split, in a fixed shuffled order."""
    concept_numbers = {hexcode: number for number, hexcode in enumerate(concepts)}
    picture_numbers = {webp: number for number, webp in enumerate(distinct)}
    samples: dict[str, list[tuple[str, int, int]]] = {split: [] for split in PACK_SPLITS["emoji"]}
    for picture in sorted(pictures, key=_shuffled):
        split = split_of_family(families[picture.hexcode])
        if split == "train" and picture.style == HELD_OUT_STYLE:
            split = "style"
        sample = (picture.style, concept_numbers[picture.hexcode], picture_numbers[picture.webp])
        samples[split].append(sample)
    return samples


def _shuffled(picture: StyledPicture) -> tuple[int, str, str]:
    # Shards are read in order by simple readers, so neighbours must not be siblings.
    return (
        stable_hash("emoji order", picture.style, picture.hexcode),
        picture.style,
        picture.hexcode,
    )


def _counts(table: Mapping[str, Any]) -> dict[str, Any]:
    bases, concepts, samples = table["bases"], table["concepts"], table["samples"]
    families = {
        split: {bases[concepts[concept]["base"]]["family"] for _, concept, _ in rows}
        for split, rows in samples.items()
    }
    return {
        "samples": {split: len(rows) for split, rows in samples.items()},
        "families": {split: len(names) for split, names in families.items()},
        "all_samples": sum(len(rows) for rows in samples.values()),
        "all_families": len(set().union(*families.values())),
        "distinct_pictures": len(table["pictures"]),
        "base_concepts": len(bases),
        "concepts": len(concepts),
        "languages": len(table["locales"]),
    }


def _shards(table: dict[str, Any], blob: bytes) -> dict[str, list[dict[str, Any]]]:
    """Name, size and hash of every shard that the pack expands to, found by expanding it."""
    shards: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="emoji-shards-") as folder:
        for split, rows in table["samples"].items():
            shards[split] = []
            samples = samples_of(table, split, blob)
            for number in range(-(-len(rows) // SAMPLES_PER_SHARD)):
                name = shard_name(split, number)
                written = write_shard(Path(folder) / name, islice(samples, SAMPLES_PER_SHARD))
                shards[split].append(
                    {
                        "name": name,
                        "num_samples": written.num_samples,
                        "num_bytes": written.num_bytes,
                        "sha256": written.sha256,
                    }
                )
    return shards
