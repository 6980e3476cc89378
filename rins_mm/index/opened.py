"""An index, opened for search. Axes: N pictures, E the shared embedding."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from eval.encoder import DualEncoder
from rins_mm.gallery import Gallery, open_gallery
from rins_mm.index.layout import (
    IndexFacts,
    damaged,
    metadata_path,
    read_facts,
    read_removed,
    vectors_path,
)
from rins_mm.index.shards import open_vectors, read_metadata, read_numbers

RESIDENT_BYTES = 2 * 2**30
"""Vectors that take no more than this in float32 are kept so, once they have been searched."""
ROWS_AT_ONCE = 16_384
"""Of vectors that are not."""
SHARDS_OF_METADATA = 256
"""Whose metadata are kept once they have been read."""


def open_index(folder: Path, *, pictures: Sequence[str] = ()) -> "Index":
    """The index in a folder, after a look at the form of everything in it (`verify` reads the contents).

    `pictures` says where the sources are now, in their order, if not where they were.
    Raises UserError for a folder that is no index, and for files that are not what was written.
    """
    facts = read_facts(folder)
    if pictures and len(pictures) != len(facts.sources):
        raise UserError(
            f"{len(pictures)} places of pictures are named, and {folder} has {len(facts.sources)} "
            "sources; name one for each, in their order"
        )
    return Index(folder, facts, pictures)


class Index:
    """Pictures with their vectors and metadata. May be used by several threads."""

    def __init__(self, folder: Path, facts: IndexFacts, pictures: Sequence[str] = ()) -> None:
        self.folder = folder
        self.facts = facts
        self._pictures = tuple(pictures)
        counts = [shard.num_pictures for shard in facts.shards]
        self._ends = np.cumsum([0, *counts])
        self._vectors = [
            open_vectors(vectors_path(folder, place), count, facts.width)
            for place, count in enumerate(counts)
        ]
        numbers = [
            read_numbers(
                metadata_path(folder, place),
                shard.first_number,
                shard.num_numbers,
                shard.num_pictures,
            )
            for place, shard in enumerate(facts.shards)
        ]
        self.numbers: Int64[np.ndarray, " N"] = np.concatenate(numbers)
        """Of the pictures in the order of their vectors; they rise."""
        self.present: Bool[np.ndarray, " N"] = ~np.isin(self.numbers, read_removed(folder))
        """False where the picture has been removed."""
        self.num_pictures = int(self.present.sum())
        """How many can be found."""
        self.metadata = lru_cache(SHARDS_OF_METADATA)(self._metadata)
        self._gallery = lru_cache(self._open_gallery)

    @property
    def num_rows(self) -> int:
        """Vectors, those of removed pictures too."""
        return len(self.numbers)

    def place(self, number: int) -> int:
        """The row of the picture with this number. Raises UserError where there is none (any more)."""
        row = int(np.searchsorted(self.numbers, number))
        if row >= self.num_rows or self.numbers[row] != number or not self.present[row]:
            raise UserError(
                f"there is no picture {number} in {self.folder}; it holds {self.num_pictures:,} "
                f"with numbers below {self.facts.end_number:,}"
            )
        return row

    def row(self, number: int) -> dict[str, Any]:
        """Number, name, label, caption, width, height and sha256 of the picture with this number.

        Raises UserError where there is none.
        """
        shard, place = self._locate(self.place(number))
        return self.metadata(shard).slice(place, 1).to_pylist()[0]

    def vector(self, number: int) -> Float32[Tensor, "1 E"]:
        """The vector of the picture with this number. Raises UserError where there is none."""
        row = self.place(number)
        return self.rows(slice(row, row + 1))

    def picture(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of the picture with this number, from its source.

        Raises BadSample where it is not what was indexed any more, UserError where there is no such
        number or the source cannot be opened.
        """
        return decode_picture(self.picture_file(number))

    def picture_file(self, number: int) -> bytes:
        """The same before it is decoded. It has the SHA-256 that the index says."""
        row = self.row(number)
        source = bisect_right([s.first_number for s in self.facts.sources], number) - 1
        gallery = self._gallery(source)
        place = number - self.facts.sources[source].first_number
        # The hash decides: other files may have come and gone since.
        if place >= gallery.num_pictures or gallery.name(place) != row["name"]:
            found = self._places(source).get(row["name"])
            if found is None:
                raise BadSample("moved since it was indexed")
            place = found
        data = gallery.file(place).data
        if sha256(data).hexdigest() != row["sha256"]:
            raise BadSample("changed since it was indexed")
        return data

    def rows(self, places: slice) -> Float32[Tensor, "n E"]:
        """Neighbouring vectors, in their order. Raises UserError where one is not finite."""
        if self.num_rows * self.facts.width * 4 <= RESIDENT_BYTES:
            return self._resident[places]
        return self._read_rows(places)

    def rows_at(self, places: Int64[np.ndarray, " n"]) -> Float32[Tensor, "n E"]:
        """Vectors of rows that rise, mostly neighbours. Raises UserError where one is not finite."""
        if not len(places):
            return torch.empty(0, self.facts.width)
        first = int(places[0])
        return self.rows(slice(first, int(places[-1]) + 1))[torch.from_numpy(places - first)]

    def gathered(self, places: Int64[np.ndarray, " n"]) -> Float32[Tensor, "n E"]:
        """Vectors of any few rows, read one by one: the rest of an index stays on the disk.

        Raises UserError where one is not finite.
        """
        rows = np.empty((len(places), self.facts.width), dtype=np.float32)
        shards = np.searchsorted(self._ends, places, side="right") - 1
        for shard in np.unique(shards):
            here = shards == shard
            rows[here] = self._vectors[shard][places[here] - self._ends[shard]]
            self._require_finite(int(shard), rows[here])
        return _unit(rows)

    def tiles(
        self, rows_at_once: int = ROWS_AT_ONCE
    ) -> Iterator[tuple[int, Float32[Tensor, "n E"]]]:
        """All vectors in their order, so many at a time, each with the row of the first."""
        for start in range(0, self.num_rows, rows_at_once):
            yield start, self.rows(slice(start, start + rows_at_once))

    @cached_property
    def _resident(self) -> Float32[Tensor, "N E"]:
        return self._read_rows(slice(0, self.num_rows))

    def _read_rows(self, places: slice) -> Float32[Tensor, "n E"]:
        start, stop, _ = places.indices(self.num_rows)
        rows = np.empty((max(0, stop - start), self.facts.width), dtype=np.float32)
        at = start
        while at < stop:
            shard, place = self._locate(at)
            part = self._vectors[shard][place : place + stop - at]
            filled = rows[at - start : at - start + len(part)]
            filled[:] = part
            self._require_finite(shard, filled)
            at += len(part)
        return _unit(rows)

    def _require_finite(self, shard: int, rows: Float32[np.ndarray, "n E"]) -> None:
        if not np.isfinite(rows).all():
            raise damaged(vectors_path(self.folder, shard), "it has numbers that are not finite")

    def _locate(self, row: int) -> tuple[int, int]:
        """(Shard, place in it) of a row."""
        shard = int(np.searchsorted(self._ends, row, side="right")) - 1
        return shard, row - int(self._ends[shard])

    def _metadata(self, shard: int) -> Any:
        """The metadata of a shard: a pyarrow table, its rows as its vectors. Kept when it has been read."""
        return read_metadata(
            metadata_path(self.folder, shard), self.facts.shards[shard].num_pictures
        )

    def _open_gallery(self, source: int) -> Gallery:
        named = self._pictures[source] if self._pictures else self.facts.sources[source].pictures
        if not self._pictures and "://" in named:
            raise UserError(
                f"{self.folder} names pictures at {named!r}; name them yourself, with --pictures, "
                "to have them fetched from there"
            )
        return open_gallery(named)

    def _places(self, source: int) -> dict[str, int]:
        if source not in self._names:
            gallery = self._gallery(source)
            self._names[source] = {gallery.name(n): n for n in range(gallery.num_pictures)}
        return self._names[source]

    @cached_property
    def _names(self) -> dict[int, dict[str, int]]:
        return {}


def _unit(rows: Float32[np.ndarray, "n E"]) -> Float32[Tensor, "n E"]:
    """The rows as unit vectors, in the same memory: rounded to float16, they are a little off."""
    vectors = torch.from_numpy(rows)
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_(min=1e-6))


def require_model(index: Index, encoder: DualEncoder) -> None:
    """Raise UserError where the index was not built with this model."""
    model = index.facts.model
    if encoder.fingerprint != model.fingerprint:
        raise UserError(
            f"{index.folder} was built with the model {model.name} ({model.fingerprint[:12]}…), and "
            f"this is {encoder.name} ({encoder.fingerprint[:12]}…); give that model, or build an "
            "index with this one"
        )
