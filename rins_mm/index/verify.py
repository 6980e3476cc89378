"""Whether an index is what was written: every file against its hash, every vector against its length."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import sha256_of_file
from rins_mm.index.layout import IndexShard, damaged, metadata_path, read_removed, vectors_path
from rins_mm.index.opened import Index
from rins_mm.index.shards import open_vectors
from rins_mm.index.unfinished import read_left_out

LENGTH_TOLERANCE = 5e-3
"""float16 keeps eleven bits of each coordinate; a vector's length is right to about a thousandth."""
MOST_NAMED = 10


def verify(index: Index) -> list[str]:
    """What is wrong with the files of an index, a line for each finding; none where all is well."""
    shards = index.facts.shards
    wrong: list[str] = []
    for place, shard in with_progress(enumerate(shards), total=len(shards), label="reading shards"):
        wrong += _wrong_files(index, place, shard)
    try:
        left_out = read_left_out(index.folder)
        counted = dict(Counter(entry.cause for entry in left_out))
        if counted != index.facts.left_out:
            wrong.append(f"left_out.jsonl counts {counted}, and index.json {index.facts.left_out}")
    except UserError as error:
        wrong.append(str(error))
    unknown = set(read_removed(index.folder)) - set(index.numbers.tolist())
    if unknown:
        wrong.append(f"removed.json names {len(unknown):,} numbers that no picture has")
    missing = index.facts.end_number - index.num_rows - sum(index.facts.left_out.values())
    if missing:
        wrong.append(f"{missing:,} numbers are neither in a shard nor counted as left out")
    return wrong


def _wrong_files(index: Index, place: int, shard: IndexShard) -> Iterator[str]:
    files = (
        (vectors_path(index.folder, place), shard.vectors_sha256),
        (metadata_path(index.folder, place), shard.metadata_sha256),
    )
    for path, sha256 in files:
        if sha256_of_file(path) != sha256:
            yield str(damaged(path, "its SHA-256 is not the one in index.json"))
    try:
        vectors = open_vectors(files[0][0], shard.num_pictures, index.facts.width)
        index.metadata(place)
    except UserError as error:
        yield str(error)
        return
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    # Of those that hold something other than numbers, too.
    if off := int((~(np.abs(lengths - 1) <= LENGTH_TOLERANCE)).sum()):
        yield f"{files[0][0]} has {off:,} vectors that are not of length 1"


def verify_pictures(index: Index) -> list[str]:
    """Pictures that are not what was indexed any more: counts by cause, and the first few by name."""
    causes: Counter[str] = Counter()
    named: list[str] = []
    numbers = index.numbers[index.present].tolist()
    for number in with_progress(numbers, total=len(numbers), label="reading pictures"):
        try:
            index.picture_file(number)
        except BadSample as error:
            causes[error.cause] += 1
            if len(named) < MOST_NAMED:
                named.append(f"  {number} {index.row(number)['name']}: {error.cause}")
    return [f"{count:,} pictures: {cause}" for cause, count in causes.most_common()] + named
