"""Changes to safetensors files, and to a manifest that still fits its files."""

import hashlib
import json
import struct
from random import Random
from typing import Any

from byte_mutations import EDGES, mutated_bytes
from json_mutations import UNREADABLE, mutated_json, parsed
from target import Files

from rins_mm.checkpoint import MANIFEST, _sealed

KINDS = ("F32", "F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "X", "")
SHAPES = ([], [0], [1], [2, 2], [-1], [2**63], [2**32, 2**32], [1] * 70, [3.5], None)


def mutated_tensors(data: bytes, draws: Random, other: bytes = b"") -> bytes:
    """A safetensors file with another header whose length mostly fits, or other bytes."""
    if len(data) < 8 or draws.random() < 0.15:
        return mutated_bytes(data, draws, other)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :] if length < len(data) else b""
    entries = parsed(header)
    if entries is UNREADABLE or not isinstance(entries, dict) or draws.random() < 0.3:
        header = mutated_json(header, draws, indent=None).rstrip()
    else:
        for _ in range(draws.choice((1, 1, 2))):
            body = _entry_changed(entries, body, draws)
        header = json.dumps(entries).encode()
    length = draws.choice(EDGES) % 2**64 if draws.random() < 0.1 else len(header)
    return struct.pack("<Q", length) + header + body


def _entry_changed(entries: dict[str, Any], body: bytes, draws: Random) -> bytes:
    if not entries:
        return body
    name = draws.choice(list(entries))
    entry = entries[name]
    if not isinstance(entry, dict) or "shape" not in entry:
        entries.pop(name)
        return body
    match draws.randrange(8):
        case 0:
            entries[draws.choice((name + "x", "", "a/b", "../x", draws.choice(list(entries))))] = (
                entries.pop(name)
            )
        case 1:
            entry["dtype"] = draws.choice(KINDS)
        case 2:
            entry["shape"] = draws.choice(
                (*SHAPES, _listed(entry["shape"])[::-1], [*_listed(entry["shape"]), 1])
            )
        case 3:
            entry["data_offsets"] = [
                draws.choice((0, 4, len(body), 2**63)),
                draws.choice((0, 8, len(body), 2**64 - 1)),
            ]
        case 4:
            entries["__metadata__"] = draws.choice(
                ({}, {"a": "b"}, {"a": 1}, [], None, {"format": "pt" * 99})
            )
        case 5:
            # The same number of bytes in another kind, which the container takes for sound.
            entry["dtype"] = {"F32": "I32", "F64": "I64", "I64": "F64"}.get(
                str(entry["dtype"]), "U8"
            )
        case 6:
            # Numbers that are none, of any size.
            place = draws.randrange(len(body) + 1) & ~3
            body = (
                body[:place]
                + draws.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"))
                + body[place + 4 :]
            )
        case _:
            del entries[name]
    return body


def _listed(shape: Any) -> list:
    return shape if isinstance(shape, list) else []


def sealed_again(files: Files, draws: Random, *, folder: str = "") -> Files:
    """The files with a manifest whose hashes mostly are those of the files, and its own; a few lie."""
    path = f"{folder}{MANIFEST}"
    manifest = parsed(files.get(path, b""))
    if not isinstance(manifest, dict) or draws.random() < 0.1:
        return files
    listed = manifest.get("files")
    if isinstance(listed, dict):
        for name, facts in listed.items():
            if isinstance(facts, dict) and folder + name in files:
                data = files[folder + name]
                facts |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest.pop("manifest_sha256", None)
    try:
        return {**files, path: _sealed(manifest).encode()}
    except (ValueError, RecursionError, TypeError):
        return files
