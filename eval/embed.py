"""Items to vectors, each item once, with the same last bits at any number of processes.

A product of matrices in float32 gives other last bits at another batch size. So the encoder is given
calls that are cut from the whole list in the same way everywhere: `batch_size` blocks of exactly 64
items, the last call as many blocks as are left, the last block filled by repeating its last item.
Call c belongs to process c mod W. What a finished call gave can be kept on disk: an evaluation that
was interrupted reads it, at any number of processes.

Axes: N items, E the shared embedding.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from data_pipelines.bad_samples import BadSample
from data_pipelines.errors import UserError
from data_pipelines.progress import with_progress
from eval.encoder import DualEncoder, Picture
from eval.feature_store import FeatureStore, Stored, key_of, prompt_fingerprint, surroundings_of
from eval.ranks import Ranks

T = TypeVar("T")

BLOCK = 64
STAND_IN = (np.arange(64 * 64 * 3) % 251).astype(np.uint8).reshape(64, 64, 3)
"""In the place of a broken picture. Not of one colour: a model may divide by the spread of the pixels."""
READER_THREADS = 4
NUMBERS_PER_EXCHANGE = 1 << 23
NOTHING_KEPT = FeatureStore()


class EmbeddedPictures(NamedTuple):
    """The vectors of a list of pictures, in its order."""

    features: dict[str, Float32[Tensor, "N E"]]
    """For each variant of the image encoder."""
    usable: Bool[Tensor, " N"]
    """False where the picture could not be decoded; its vector there means nothing."""
    causes: dict[int, str]
    """Why, for the number of each picture that is not usable."""


def embed_texts(
    encoder: DualEncoder,
    strings: Sequence[str],
    variants: Sequence[str],
    ranks: Ranks,
    *,
    batch_size: int = 1,
    work: FeatureStore = NOTHING_KEPT,
    label: str | None = None,
) -> dict[str, Float32[Tensor, "N E"]]:
    """The unit vectors of the strings for each variant, on the CPU of every rank.

    A string that stands there several times is encoded once, `batch_size` blocks of 64 at a time.
    Finished calls are kept in `work`. With a `label` the first process tells on standard error how
    far it is.
    """
    distinct = list(dict.fromkeys(strings))
    calls = _calls(len(distinct), batch_size)
    key = _work_key("texts", encoder, variants, batch_size, prompt_fingerprint(distinct))
    done = _done(calls, ranks, work, key)
    missing = {number: calls[number] for number in _own(calls, ranks) if number not in done}
    watched = _watched(missing.items(), len(missing), label, ranks, batch_size)
    for number, items in watched:
        ranks.leave_when_asked()
        encoded = encoder.encode_texts([distinct[item] for item in items], variants)
        done[number] = Stored(_checked(encoded, variants, len(items), encoder), "")
        work.save(f"{key}/{number:06d}", done[number].rows)
    gathered = _gather(done, calls, variants, len(distinct), ranks)
    if len(distinct) == len(strings):
        return gathered
    row_of = {string: row for row, string in enumerate(distinct)}
    rows = torch.tensor([row_of[string] for string in strings])
    return {variant: features[rows] for variant, features in gathered.items()}


def embed_pictures(
    encoder: DualEncoder,
    read_picture: Callable[[int], Picture],
    num_pictures: int,
    variants: Sequence[str],
    ranks: Ranks,
    *,
    batch_size: int = 1,
    work: FeatureStore = NOTHING_KEPT,
    fingerprint: str = "",
    label: str | None = None,
) -> EmbeddedPictures:
    """The unit vectors of pictures 0 … num_pictures - 1 for each variant, on the CPU of every rank.

    Where `read_picture` raises BadSample, another picture keeps the place, and the place is marked.
    Pictures are decoded `batch_size` blocks of 64 ahead. Finished calls are kept in `work` under the
    `fingerprint` of the pictures, which must say all of what they are. With a `label` the first
    process tells on standard error how far it is.
    """
    assert fingerprint or work.folder is None, "vectors of pictures without a name cannot be kept"
    calls = _calls(num_pictures, batch_size)
    key = _work_key("pictures", encoder, variants, batch_size, f"{num_pictures} {fingerprint}")
    done = _done(calls, ranks, work, key)
    unusable = {int(n): cause for stored in done.values() for n, cause in json.loads(stored.note)}
    missing = {number: calls[number] for number in _own(calls, ranks) if number not in done}
    read_ahead = _read_ahead(read_picture, list(missing.values()), unusable)
    watched = _watched(read_ahead, len(missing), label, ranks, batch_size)
    for (number, items), pictures in zip(missing.items(), watched, strict=True):
        ranks.leave_when_asked()
        encoded = encoder.encode_images(pictures, variants)
        own_causes = [(item, unusable[item]) for item in sorted(set(items)) if item in unusable]
        rows = _checked(encoded, variants, len(items), encoder)
        done[number] = Stored(rows, json.dumps(own_causes))
        work.save(f"{key}/{number:06d}", *done[number])
    causes = _all_causes(unusable, ranks)
    usable = torch.ones(num_pictures, dtype=torch.bool)
    usable[list(causes)] = False
    return EmbeddedPictures(_gather(done, calls, variants, num_pictures, ranks), usable, causes)


def _calls(num_items: int, batch_size: int) -> list[list[int]]:
    """The item numbers of each call of the encoder; the last one's last item fills its block."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1, a block of {BLOCK}")
    size = batch_size * BLOCK
    calls = [
        list(range(start, min(start + size, num_items))) for start in range(0, num_items, size)
    ]
    return [call + [call[-1]] * (-len(call) % BLOCK) for call in calls]


def _own(calls: Sequence[list[int]], ranks: Ranks) -> range:
    """The numbers of this process's calls."""
    return range(ranks.rank, len(calls), ranks.world_size)


def _work_key(
    kind: str, encoder: DualEncoder, variants: Sequence[str], batch_size: int, content: str
) -> str:
    """The folder of one pass over one list: all that its vectors depend on."""
    return key_of(
        kind, encoder.fingerprint, list(variants), batch_size, content, surroundings_of(encoder)
    )


def _done(
    calls: Sequence[list[int]], ranks: Ranks, work: FeatureStore, key: str
) -> dict[int, Stored]:
    """What an earlier evaluation has left of this process's calls."""
    found = {number: work.load(f"{key}/{number:06d}") for number in _own(calls, ranks)}
    return {number: stored for number, stored in found.items() if stored is not None}


def _watched(
    calls: Iterable[T], num_calls: int, label: str | None, ranks: Ranks, batch_size: int
) -> Iterable[T]:
    if label is None or not ranks.is_first:
        return calls
    return with_progress(calls, total=num_calls, label=f"{label}, calls of {batch_size * BLOCK:,}")


def _read_ahead(
    read_picture: Callable[[int], Picture], calls: Sequence[list[int]], unusable: dict[int, str]
) -> Iterator[list[Picture]]:
    """The pictures of each call; threads read the next call's while this one is encoded."""
    if not calls:
        # Few pictures and many ranks, or all done before: this one has none to read.
        return
    with ThreadPoolExecutor(max_workers=READER_THREADS) as readers:

        def begin(call: list[int]) -> dict[int, Future[Picture | BadSample]]:
            return {number: readers.submit(_read, read_picture, number) for number in set(call)}

        pending = begin(calls[0])
        for call, following in zip(calls, [*calls[1:], None], strict=True):
            read = {number: future.result() for number, future in pending.items()}
            if following:
                pending = begin(following)
            unusable.update(
                {n: found.cause for n, found in read.items() if isinstance(found, BadSample)}
            )
            pictures = [read[number] for number in call]
            yield [STAND_IN if isinstance(found, BadSample) else found for found in pictures]


def _read(read_picture: Callable[[int], Picture], number: int) -> Picture | BadSample:
    try:
        return read_picture(number)
    except BadSample as error:
        return error


def _checked(
    encoded: Mapping[str, Float[Tensor, "N E"]],
    variants: Sequence[str],
    num_items: int,
    encoder: DualEncoder,
) -> dict[str, Float32[Tensor, "N E"]]:
    """The vectors of one call in float32, after a look at what the encoder promised."""
    for variant in variants:
        if len(encoded[variant]) != num_items:
            raise UserError(
                f"the encoder {encoder.name} returned {len(encoded[variant])} vectors for "
                f"{num_items} items; it must return one for each, in their order"
            )
    return {variant: encoded[variant].detach().float().cpu() for variant in variants}


def _gather(
    done: Mapping[int, Stored],
    calls: Sequence[list[int]],
    variants: Sequence[str],
    num_items: int,
    ranks: Ranks,
) -> dict[str, Float32[Tensor, "N E"]]:
    """All vectors of each variant in the order of the items, from each process's share of the calls.

    Shares are exchanged a few calls at a time, and forgotten then: they would double the memory.
    """
    # A process without a call of its own does not know the width.
    width = ranks.largest(
        max((rows.shape[1] for stored in done.values() for rows in stored.rows.values()), default=0)
    )
    # No call is larger than the first.
    size = len(calls[0]) if calls else 0
    calls_each = -(-len(calls) // ranks.world_size)
    at_once = max(1, NUMBERS_PER_EXCHANGE // max(1, size * width))
    gathered = {variant: torch.empty(num_items, width) for variant in variants}
    for first in range(0, calls_each, at_once):
        num_calls = min(at_once, calls_each - first)
        start = first * ranks.world_size * size
        for variant in variants:
            filled = torch.zeros(num_calls, size, width)
            for place in range(num_calls):
                number = (first + place) * ranks.world_size + ranks.rank
                if number in done:
                    rows = done[number].rows.pop(variant)
                    filled[place, : len(rows)] = rows
            # [W, calls, items, E]: call c stands at [c mod W, c div W]; only the last one is shorter.
            received = ranks.all_gather(filled).transpose(0, 1).reshape(-1, width)
            gathered[variant][start : start + len(received)] = received[: num_items - start]
    return gathered


def _all_causes(unusable: dict[int, str], ranks: Ranks) -> dict[int, str]:
    """The numbers and causes of all processes, in the order of the numbers."""
    shares = ranks.all_gather_text(json.dumps(list(unusable.items())))
    return dict(sorted((number, cause) for share in shares for number, cause in json.loads(share)))
