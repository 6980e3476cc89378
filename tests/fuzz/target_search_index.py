"""A folder of an index of pictures: facts, vectors, metadata, what was removed and left out."""

import hashlib
import json
import struct
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import pyarrow.compute  # noqa: F401  (pyarrow imports it late, and makes classes of texts as it does)
import torch
from byte_mutations import mutated_bytes
from json_mutations import mutated_json, parsed
from target import Files, Target, laid_down
from toy_index import unit_rows, write_index

from data_pipelines.errors import UserError
from rins_mm.index import layout, opened, shards, unfinished
from rins_mm.index.opened import open_index
from rins_mm.index.search import search
from rins_mm.index.verify import verify

WIDTH = 8


@cache
def seeds() -> list[Files]:
    """Indexes of one shard and of three, with and without removed pictures."""
    made = []
    with tempfile.TemporaryDirectory() as name:
        for number, rows in enumerate((5, 20)):
            folder = write_index(Path(name) / str(number), unit_rows(rows, WIDTH), per_shard=8)
            made.append(
                {
                    str(p.relative_to(folder)): p.read_bytes()
                    for p in folder.rglob("*")
                    if p.is_file()
                }
            )
    removed = {"removed.json": b'{"format_version": 1, "numbers": [1, 2]}'}
    left_out = {"left_out.jsonl": b'{"number": 9, "name": "x", "cause": "made up"}\n' * 2}
    return [made[0], {**made[1], **removed, **left_out}]


def mutate(files: Files, draws: Random, other: Files) -> Files:
    """One of the files; index.json mostly has the hashes of the others again."""
    files = dict(files)
    for _ in range(draws.choice((1, 1, 2))):
        name = draws.choice([*files, "index.json", "removed.json", "left_out.jsonl"])
        data, piece = files.get(name, b"{}"), other.get(name, b"")
        if name.endswith((".json", ".jsonl")):
            files[name] = mutated_json(data, draws, piece)[:200_000]
        elif name.endswith(".npy") and draws.random() < 0.4 and len(data) > 10:
            (length,) = struct.unpack("<H", data[8:10])
            text = mutated_bytes(data[10 : 10 + length].rstrip(), draws)[:60_000]
            files[name] = data[:8] + struct.pack("<H", len(text)) + text + data[10 + length :]
        elif name.endswith(".parquet") and draws.random() < 0.6:
            # Its description is at its end.
            place = max(0, len(data) - draws.choice((16, 200, 2500)))
            files[name] = data[:place] + mutated_bytes(data[place:], draws, piece[-500:])
        else:
            files[name] = mutated_bytes(data, draws, piece)
    if draws.random() < 0.03:
        del files[draws.choice(list(files))]
    return _hashed(files) if draws.random() < 0.5 else files


def _hashed(files: Files) -> Files:
    facts = parsed(files.get("index.json", b""))
    if not isinstance(facts, dict) or not isinstance(facts.get("shards"), list):
        return files
    for place, shard in enumerate(facts["shards"][:10]):
        if isinstance(shard, dict):
            for name, path in (
                ("vectors", f"{place:05d}.npy"),
                ("metadata", f"{place:05d}.parquet"),
            ):
                data = files.get(f"{name}/{path}", b"")
                shard[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
    try:
        return {**files, "index.json": json.dumps(facts, indent=1).encode()}
    except (ValueError, RecursionError):
        return files


def attempt(files: Files, folder: Path) -> str:
    """Open, verify and search it; the best are those of a plain product of all vectors."""
    laid_down(files, folder)
    index = open_index(folder)
    wrong = verify(index)
    assert all("\n" not in line for line in wrong), wrong
    numbers = index.numbers[index.present]
    assert index.num_pictures == len(numbers)
    for number in numbers[:3].tolist():
        row = index.row(number)
        assert row["number"] == number and isinstance(row["name"], str)
    query = torch.from_numpy(unit_rows(1, WIDTH, seed=3))
    if index.facts.width == WIDTH and index.num_pictures:
        found, _ = search(index, query, 3)
        scores = (index.rows(slice(0, index.num_rows)) @ query[0])[torch.from_numpy(index.present)]
        best = scores.sort(descending=True).values[:3]
        assert torch.allclose(found[0], best, atol=2e-6), (found, best)
    return "searched, sound" if not wrong else "searched, not what was written"


TARGET = Target(
    name="search_index",
    what="open_index, verify, row and search; the best pictures are those of a plain product",
    attempt=attempt,
    seeds=seeds,
    mutate=mutate,
    traced=(layout, opened, shards, unfinished),
    documented=(UserError,),
)
torch.set_num_threads(1)
