"""From a pack that travels with the project to shards in a cache folder.

The shards have the same bytes on every machine. A pack is a folder with `pictures.bin` (WebP
pictures, one after the other), `captions.json.xz` (concepts, their words in every language, and
which sample shows what) and `manifest.json` (format version, hashes of those files and of every
shard that they expand to).
"""

import contextlib
import hashlib
import itertools
import json
import lzma
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_pipelines.cache import cache_folder, one_at_a_time
from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import Sample, write_shard

FORMAT_VERSION = 1
PACKS_FOLDER = Path(__file__).parent / "packs"
PACK_SPLITS: Mapping[str, tuple[str, ...]] = {"emoji": ("train", "val", "test", "style")}
SAMPLES_PER_SHARD = 1500

# A damaged table must not grow without bound while it is unpacked; the real one is far smaller.
_MAX_TABLE_BYTES = 64 * 2**20


def expanded_shards(pack: str, split: str) -> list[Path]:
    """The shards of one split, expanded into the cache folder if they are not there yet."""
    folder = expand_pack(PACKS_FOLDER / pack)
    return [folder / shard["name"] for shard in read_manifest(PACKS_FOLDER / pack)["shards"][split]]


def expand_pack(pack: Path) -> Path:
    """The cache folder that holds the pack's shards.

    Each shard is checked against the manifest when it is written, and the folder appears
    at once and whole, so any number of processes may ask at the same time.
    """
    manifest = read_manifest(pack)
    target = cache_folder() / f"{pack.name}-{manifest['pack_sha256'][:12]}"
    if _is_whole(target, manifest):
        return target
    with one_at_a_time("expansion"):
        if not _is_whole(target, manifest):
            _expand(pack, manifest, target)
    return target


def _expand(pack: Path, manifest: dict[str, Any], target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        working = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        working.mkdir()
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"cannot write to the cache folder {target.parent} ({error.strerror}); "
            "set RINS_MM_CACHE to a folder that you may write to"
        ) from error
    try:
        _write_shards(pack, manifest, working)
        _move_into_place(working, target, manifest)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def read_manifest(pack: Path) -> dict[str, Any]:
    """What the pack says of itself: versions, counts, hashes."""
    try:
        manifest = json.loads((pack / "manifest.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            f"the pack {pack} has no readable manifest.json; install the project again"
        ) from error
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"the pack {pack} has format version {manifest.get('format_version')!r}, and this "
            f"program reads version {FORMAT_VERSION}; install matching versions"
        )
    return manifest


def read_table(pack: Path) -> dict[str, Any]:
    """The caption table, after its bytes were checked against the manifest."""
    data = _checked_bytes(pack, "captions.json.xz")
    unpacker = lzma.LZMADecompressor()
    table = unpacker.decompress(data, max_length=_MAX_TABLE_BYTES)
    if not unpacker.eof:
        raise UserError(
            f"the caption table of {pack} is larger than {_MAX_TABLE_BYTES:,} bytes; it is damaged"
        )
    return json.loads(table)


def read_pictures(pack: Path) -> bytes:
    """All pictures of the pack, one after the other, after they were checked against the manifest."""
    return _checked_bytes(pack, "pictures.bin")


def samples_of(table: dict[str, Any], split: str, pictures: bytes) -> Iterator[Sample]:
    """The samples of a split, in their order: JSON record, caption (the label), picture."""
    for style, concept_index, picture_index in table["samples"][split]:
        concept = table["concepts"][concept_index]
        base = table["bases"][concept["base"]]
        start, size = table["pictures"][picture_index]
        record = {
            "label": concept["label"],
            "keywords": base["keywords"],
            "locales": {
                code: label
                for code, label in zip(table["locales"], concept["locales"], strict=True)
                if label
            },
            "group": base["group"],
            "family": base["family"],
            "style": style,
            "positive_key": base["positive_key"],
        }
        yield (
            f"{style}-{concept['hexcode'].lower()}",
            {
                "json": json.dumps(record, ensure_ascii=False).encode(),
                "txt": concept["label"].encode(),
                "webp": pictures[start : start + size],
            },
        )


def shard_name(split: str, number: int) -> str:
    """The file name of a split's shard."""
    return f"{split}-{number:05d}.tar"


def _write_shards(pack: Path, manifest: dict[str, Any], folder: Path) -> None:
    table = read_table(pack)
    pictures = read_pictures(pack)
    for split, shards in manifest["shards"].items():
        samples = samples_of(table, split, pictures)
        for shard in with_progress(
            shards, total=len(shards), label=f"expanding {pack.name}:{split}"
        ):
            part = itertools.islice(samples, shard["num_samples"])
            written = write_shard(folder / shard["name"], part)
            if written.sha256 != shard["sha256"]:
                raise UserError(
                    f"{shard['name']} expanded from {pack} has SHA-256 {written.sha256[:12]}… and "
                    f"not {shard['sha256'][:12]}…; the pack or the program is damaged, so install "
                    "the project again"
                )


def _move_into_place(working: Path, target: Path, manifest: dict[str, Any]) -> None:
    """Rename the finished folder; where another process was quicker, its folder stays."""
    if target.exists() and not _is_whole(target, manifest):
        # Damaged after it was made (a shard deleted or cut short): out of the way, then replaced.
        damaged = target.with_name(f".{target.name}-damaged-{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):
            os.rename(target, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(working, target)
    except OSError:
        if not _is_whole(target, manifest):
            raise


def _is_whole(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether every shard is there at its full size."""
    shards = [shard for split in manifest["shards"].values() for shard in split]
    try:
        return all(
            (folder / shard["name"]).stat().st_size == shard["num_bytes"] for shard in shards
        )
    except OSError:
        return False


def _checked_bytes(pack: Path, name: str) -> bytes:
    data = (pack / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != read_manifest(pack)["files"][name]:
        raise UserError(
            f"{pack / name} is damaged (its SHA-256 is not the manifest's); "
            "install the project again"
        )
    return data
