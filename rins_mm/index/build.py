"""Pictures to an index, on any number of ranks: each makes whole shards of fixed pictures.

The bytes of the index do not depend on the number of ranks, nor on how often the build was killed.

Axes: N pictures, E the shared embedding.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from data_pipelines.words import tell
from eval.embed import READER_THREADS, STAND_IN, embed_pictures
from eval.encoder import DualEncoder
from eval.ranks import Ranks, require_same
from eval.words import short
from rins_mm.gallery import Gallery
from rins_mm.index.layout import (
    MAX_PICTURES_PER_SHARD,
    IndexedModel,
    IndexedSource,
    IndexFacts,
    IndexShard,
    metadata_path,
    read_facts,
    vectors_path,
    write_facts,
)
from rins_mm.index.opened import Index
from rins_mm.index.shards import PictureRow, write_metadata, write_vectors
from rins_mm.index.unfinished import (
    FIRST_SHARD,
    LeftOut,
    ShardRecord,
    begin_or_go_on,
    finish,
    give_up,
    read_left_out,
    read_record,
    write_left_out,
    write_record,
)

MAX_CAPTION = 2_000
"""Characters of captions, labels and names that are kept."""
NOT_FINITE = "vector is not finite"


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Pictures that are to become part of an index."""

    encoder: DualEncoder
    model: IndexedModel
    pictures: str
    """What `gallery` was opened by."""
    gallery: Gallery
    items: Sequence[int]
    """Numbers in the gallery."""
    first_number: int = 0
    """In the index, of the first of them."""
    first_shard: int = 0
    pictures_per_shard: int
    batch_size: int = 1

    @cached_property
    def shards(self) -> dict[int, Sequence[int]]:
        """The items of each shard, by the shard's place in the index."""
        size = self.pictures_per_shard
        parts = [self.items[at : at + size] for at in range(0, len(self.items), size)]
        return dict(enumerate(parts, self.first_shard))


def build(addition: Addition, folder: Path, ranks: Ranks, *, overwrite: bool = False) -> IndexFacts:
    """Make a new index, or what an addition adds to an index; all ranks return what index.json says then.

    An interrupted one goes on. Raises UserError, on all ranks, where the folder may not be written
    and where none of the pictures can be used.
    """
    if not 1 <= addition.pictures_per_shard <= MAX_PICTURES_PER_SHARD:
        raise UserError(
            f"pictures_per_shard is {addition.pictures_per_shard}; "
            f"it must be from 1 to {MAX_PICTURES_PER_SHARD:,}"
        )
    plan = _plan(addition)
    require_same("the model and the pictures", [json.dumps(plan)], ranks)
    places = addition.shards
    with ExitStack() as kept_open:

        def prepare() -> list[int]:
            lock = begin_or_go_on(folder, plan, list(places), overwrite=overwrite)
            kept_open.enter_context(lock)
            return [place for place in places if read_record(folder, place) is None]

        missing = decided_by_the_first(ranks, prepare)
        own = missing[ranks.rank :: ranks.world_size]
        for count, place in enumerate(own, 1):
            label = f"shard {count:,} of {len(own):,}" if ranks.is_first else None
            write_record(folder, place, _make_shard(addition, place, folder, label))
        # Nothing is closed before every rank has come to its end.
        ranks.largest(0)
        decided_by_the_first(ranks, lambda: _close(addition, folder))
    return read_facts(folder)


def decided_by_the_first(ranks: Ranks, decide: Callable[[], Any]) -> Any:
    """What the first process finds, as JSON has it, or the UserError that it meets, on all of them."""
    answer: dict[str, Any] = {}
    if ranks.is_first:
        try:
            answer = {"found": decide()}
        except UserError as error:
            answer = {"mistake": str(error)}
    answer = json.loads(ranks.all_gather_text(json.dumps(answer))[0])
    if "mistake" in answer:
        raise UserError(answer["mistake"])
    return answer["found"]


def unknown_items(gallery: Gallery, known: Set[str], ranks: Ranks) -> list[int]:
    """The pictures of a gallery whose bytes have none of these SHA-256, found by all ranks together."""
    own = range(ranks.rank, gallery.num_pictures, ranks.world_size)
    seen = torch.zeros(gallery.num_pictures, dtype=torch.int64)

    def is_known(item: int) -> bool:
        try:
            return _sha256(gallery.file(item).data) in known
        except BadSample:
            # What is wrong with it is found out, and counted, when it is its turn.
            return False

    with ThreadPoolExecutor(max_workers=READER_THREADS) as readers:
        found = readers.map(is_known, own)
        shown = with_progress(found, total=len(own), label="comparing files with the index")
        for item, yes in zip(own, shown if ranks.is_first else found, strict=True):
            seen[item] = int(yes)
    return (ranks.sum_counts(seen) == 0).nonzero().flatten().tolist()


def known_files(index: Index) -> set[str]:
    """The SHA-256 of all pictures that are in an index and not removed."""
    hashes: list[str] = []
    for place, shard in enumerate(index.facts.shards):
        if shard.num_pictures:
            hashes += index.metadata(place)["sha256"].to_pylist()
    return {sha256 for sha256, here in zip(hashes, index.present, strict=True) if here}


def _plan(addition: Addition) -> dict[str, Any]:
    return {
        "model": addition.model.fingerprint,
        "image signature": addition.model.image_signature,
        "text signature": addition.model.text_signature,
        "pictures": [addition.gallery.fingerprint(), _sha256(np.array(addition.items).tobytes())],
        "pictures per shard": addition.pictures_per_shard,
        "batch size": addition.batch_size,
        FIRST_SHARD: addition.first_shard,
        "first number": addition.first_number,
    }


def _make_shard(addition: Addition, place: int, folder: Path, label: str | None) -> ShardRecord:
    """Embed the pictures of a shard and write its files; with a label, tell how far it is."""
    items = addition.shards[place]
    first = addition.first_number + (place - addition.first_shard) * addition.pictures_per_shard
    looks: dict[int, PictureRow] = {}
    name = addition.gallery.name

    def read(at: int) -> UInt8[np.ndarray, "H W 3"]:
        file = addition.gallery.file(items[at])
        pixels = decode_picture(file.data)
        looks[at] = PictureRow(
            number=first + at,
            name=short(name(items[at]), MAX_CAPTION),
            label=short(file.label, MAX_CAPTION),
            caption=short(file.caption, MAX_CAPTION),
            width=pixels.shape[1],
            height=pixels.shape[0],
            sha256=_sha256(file.data),
        )
        return pixels

    variant = addition.model.image_signature
    # Alone with these: a shard is not shared, so its blocks are the same on any number of ranks.
    embedded = embed_pictures(
        addition.encoder,
        read,
        len(items),
        [variant],
        Ranks(),
        batch_size=addition.batch_size,
        label=label,
    )
    vectors = embedded.features[variant]
    causes = {**embedded.causes}
    for at in (~vectors.isfinite().all(dim=1)).nonzero().flatten().tolist():
        causes.setdefault(at, NOT_FINITE)
    usable = [at for at in range(len(items)) if at not in causes]
    shard = IndexShard(
        first_number=first,
        num_numbers=len(items),
        num_pictures=len(usable),
        vectors_sha256=write_vectors(
            vectors_path(folder, place), vectors[usable].numpy().astype(np.float16)
        ),
        metadata_sha256=write_metadata(metadata_path(folder, place), [looks[at] for at in usable]),
    )
    left_out = [
        LeftOut(number=first + at, name=short(name(items[at]), MAX_CAPTION), cause=cause)
        for at, cause in sorted(causes.items())
    ]
    return ShardRecord(shard=shard, left_out=tuple(left_out))


def _close(addition: Addition, folder: Path) -> None:
    """Write what makes the shards an index, or a part of one."""
    records = [_require_record(folder, place) for place in addition.shards]
    entries = [entry for record in records for entry in record.left_out]
    if len(entries) == len(addition.items):
        causes = dict(Counter(entry.cause for entry in entries).most_common())
        give_up(folder, list(addition.shards))
        if addition.first_shard:
            # An index that gets nothing new is an index all the same.
            tell(f"none of {len(entries):,} new pictures can be used ({causes})")
            return
        raise UserError(
            f"none of the {len(entries):,} pictures can be used ({causes}); look at the files"
        )
    earlier = read_facts(folder) if addition.first_shard else None
    kept = read_left_out(folder) if earlier else []
    entries = [entry for entry in kept if entry.number < addition.first_number] + entries
    source = IndexedSource(
        pictures=addition.pictures,
        first_number=addition.first_number,
        num_numbers=len(addition.items),
    )
    facts = IndexFacts(
        model=earlier.model if earlier else addition.model,
        width=earlier.width if earlier else _width(addition),
        pictures_per_shard=addition.pictures_per_shard,
        sources=(*(earlier.sources if earlier else ()), source),
        shards=(*(earlier.shards if earlier else ()), *(record.shard for record in records)),
        left_out=dict(sorted(Counter(entry.cause for entry in entries).items())),
    )
    write_left_out(folder, entries)
    write_facts(folder, facts)
    finish(folder)


def _require_record(folder: Path, place: int) -> ShardRecord:
    record = read_record(folder, place)
    if record is None:
        raise UserError(
            f"shard {place} of {folder} has not been written where the first rank can see it; "
            "all ranks must write to one shared folder"
        )
    return record


def _width(addition: Addition) -> int:
    variant = addition.model.image_signature
    return int(addition.encoder.encode_images([STAND_IN], [variant])[variant].shape[1])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
