"""Answers to questions: an opened index and its model behind one lock, and what each answer cost.

The model runs for one question at a time, so that its milliseconds are its own. Whoever waits for it
longer than the deadline gives up, whether or not anybody still waits for the answer.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from data_pipelines.bad_samples import BadSample
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError
from eval.encoder import DualEncoder
from eval.words import short
from rins_mm.index.accelerate import Accelerator, search_with
from rins_mm.index.opened import Index
from rins_mm.index.search import near_duplicates, picture_query, search, text_query
from rins_mm.index.shards import COLUMNS, TYPES
from rins_mm.index.where import rows_where
from rins_mm.serve.questions import MAX_PICTURE_BYTES, Question
from rins_mm.serve.thumbnails import thumbnail

KEPT_THUMBNAILS = 4_096
"""Some ten kilobytes each."""
KEPT_DUPLICATES = 8
MAX_COMPARED = 20_000
"""Pictures of which all pairs are compared while somebody waits."""
MAX_GROUPS = 100
MAX_PER_GROUP = 24
LONGEST_NAME = 200
LONGEST_CAPTION = 400
MAX_QUERY_PIXELS = 40_000_000
"""Of a picture that somebody sends: a large photograph, and no more memory than one takes."""
WARM_WORDS = "a picture"
WARM_RUNS = 7
LATEST = 9
"""Encodings at a depth whose median is its milliseconds: single ones vary with all that runs beside."""


class Busy(Exception):  # noqa: N818 - it says how things are; nothing has failed
    """Others kept the model until the deadline."""


class SearchService:
    """One index and its model, for many threads. Its answers are plain values, ready for JSON."""

    def __init__(
        self,
        index: Index,
        encoder: DualEncoder | None,
        *,
        depths: Sequence[str],
        usual_depth: str,
        deadline_seconds: float,
        accelerator: Accelerator | None = None,
    ) -> None:
        """`depths` are variants of the text encoder, shallow first; `usual_depth` is that of questions
        which name none.

        Without an encoder there are none: pictures of the index find each other, words find nothing.
        """
        self._index = index
        self._encoder = encoder
        self._depths = tuple(depths)
        self._usual_depth = usual_depth
        self._accelerator = accelerator
        self._deadline_seconds = deadline_seconds
        self._model_lock = threading.Lock()
        self._latest_ms: dict[str, tuple[float, ...]] = dict.fromkeys(depths, ())
        self._duplicates_lock = threading.Lock()
        self.thumbnail = lru_cache(KEPT_THUMBNAILS)(self._thumbnail)
        self._groups = lru_cache(KEPT_DUPLICATES)(self._find_groups)
        self.identity = _identity(index)
        """Changes with the index: numbers of another index are other pictures."""

    def warm_up(self) -> None:
        """Answer once at each depth, so that the first visitor waits no longer than others."""
        self.search(Question(number=int(self._index.numbers[self._index.present][0]), top_k=1))
        # In turns, so that whatever else the machine does falls on all depths alike.
        for _ in range(WARM_RUNS):
            for depth in self._depths:
                self.search(Question(words=WARM_WORDS, depth=depth, top_k=1))

    def about(self) -> dict[str, Any]:
        """What there is to search, and how."""
        model = self._index.facts.model
        return {
            "identity": self.identity,
            "num_pictures": self._index.num_pictures,
            "facts": [
                f"{self._index.num_pictures:,} pictures",
                *(short(source.pictures, 80) for source in self._index.facts.sources[:3]),
                f"model {short(model.name, 80)}",
            ],
            "depths": [
                {"signature": depth, "usual": depth == self._usual_depth} for depth in self._depths
            ],
            "depths_ms": self._depths_ms(),
            "fields": [
                {"name": name, "is_number": name in TYPES} for name in COLUMNS if name != "sha256"
            ],
            "max_picture_bytes": MAX_PICTURE_BYTES,
        }

    def search(self, question: Question) -> dict[str, Any]:
        """The answer to one question, and the milliseconds of its two parts.

        Raises UserError for what cannot be asked, Busy where the model was not free in time.
        """
        depth = question.depth or self._usual_depth
        query, encode_ms = self._encoded(question, depth)
        start = time.perf_counter()
        found = self._found(query, question)
        search_ms = 1000 * (time.perf_counter() - start)
        return {
            "results": [self._row(number, score) for score, number in found],
            "depth": depth if question.words else None,
            "encode_ms": encode_ms,
            "search_ms": search_ms,
            "depths_ms": self._depths_ms(),
        }

    def duplicates(self, threshold: float) -> dict[str, Any]:
        """Groups of pictures that are nearly the same, the largest first."""
        start = time.perf_counter()
        if self._index.num_pictures > MAX_COMPARED:
            raise UserError(
                f"{self._index.num_pictures:,} pictures are too many to compare all pairs while you wait; "
                f"up to {MAX_COMPARED:,} are compared here, more by python -m rins_mm.index duplicates"
            )
        with self._held(self._duplicates_lock):
            groups = self._groups(threshold)
        shown = [group[:MAX_PER_GROUP] for group in groups[:MAX_GROUPS]]
        return {
            "groups": [[self._row(number, None) for number in group] for group in shown],
            "num_groups": len(groups),
            "sizes": [len(group) for group in groups[:MAX_GROUPS]],
            "search_ms": 1000 * (time.perf_counter() - start),
        }

    def _thumbnail(self, number: int) -> bytes:
        try:
            return thumbnail(self._index.picture(number))
        except UserError as error:
            raise BadSample(str(error)) from error

    def _encoded(
        self, question: Question, depth: str
    ) -> tuple[Float32[Tensor, "1 E"] | None, float | None]:
        """The vector of what is asked, if anything, and the milliseconds of encoding it, if it was."""
        if question.number is not None:
            return self._index.vector(question.number), None
        if question.picture is not None:
            encoder, data = self._needed_encoder(), question.picture
            try:
                pixels = decode_picture(data, max_pixels=MAX_QUERY_PIXELS)
            except BadSample as error:
                raise UserError(
                    f"this file cannot be searched by ({error.cause}); give a JPEG, PNG or WebP picture"
                ) from error
            signature = self._index.facts.model.image_signature
            return self._timed(lambda: picture_query(encoder, pixels, signature=signature))
        if question.words:
            encoder = self._needed_encoder()
            if depth not in self._depths:
                raise UserError(
                    f"there is no depth {depth!r} here; choose of {', '.join(self._depths)}"
                )
            minus = [question.minus] if question.minus else []
            query, encode_ms = self._timed(
                lambda: text_query(encoder, question.words, minus, signature=depth)
            )
            self._latest_ms[depth] = (*self._latest_ms[depth], encode_ms)[-LATEST:]
            return query, encode_ms
        return None, None

    def _depths_ms(self) -> dict[str, float]:
        """The median milliseconds of the latest encodings at each depth that has had any."""
        return {depth: median(latest) for depth, latest in self._latest_ms.items() if latest}

    def _timed(
        self, encode: Callable[[], Float32[Tensor, "1 E"]]
    ) -> tuple[Float32[Tensor, "1 E"], float]:
        with self._held(self._model_lock):
            start = time.perf_counter()
            query = encode()
            return query, 1000 * (time.perf_counter() - start)

    def _needed_encoder(self) -> DualEncoder:
        if self._encoder is None:
            raise UserError(
                "the model is not here, so that nothing new can be encoded; start with --model"
            )
        return self._encoder

    def _found(
        self, query: Float32[Tensor, "1 E"] | None, question: Question
    ) -> list[tuple[float | None, int]]:
        """Scores and numbers, the best first; without a query, some of all that meet the conditions."""
        if query is None:
            return self._spread(question.where, question.top_k)
        # One more, for the picture itself is always among those like it.
        top_k = question.top_k + (question.number is not None)
        if self._accelerator is None or question.where:
            scores, numbers = search(self._index, query, top_k, question.where)
        else:
            scores, numbers = search_with(self._index, self._accelerator, query, top_k)
        pairs = zip(scores[0].tolist(), numbers[0].tolist(), strict=True)
        found = [(score, number) for score, number in pairs if number != question.number]
        return found[: question.top_k]

    def _spread(self, where: Sequence[str], count: int) -> list[tuple[float | None, int]]:
        """That many pictures without scores, evenly taken from all that meet the conditions."""
        numbers = self._index.numbers[np.flatnonzero(rows_where(self._index, where))]
        places = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).astype(int)
        return [(None, number) for number in numbers[places].tolist()]

    def _row(self, number: int, score: float | None) -> dict[str, Any]:
        row = self._index.row(number)
        return {
            "number": number,
            "score": score,
            "name": short(row["name"], LONGEST_NAME),
            "label": short(row["label"], LONGEST_NAME),
            "caption": short(row["caption"], LONGEST_CAPTION),
            "width": row["width"],
            "height": row["height"],
        }

    def _find_groups(self, threshold: float) -> list[list[int]]:
        return near_duplicates(self._index, threshold).groups

    @contextmanager
    def _held(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(timeout=self._deadline_seconds):
            raise Busy
        try:
            yield
        finally:
            lock.release()


def _identity(index: Index) -> str:
    """A short name of exactly these pictures."""
    hashes = [shard.metadata_sha256 + shard.vectors_sha256 for shard in index.facts.shards]
    return sha256("".join(hashes).encode()).hexdigest()[:12]
