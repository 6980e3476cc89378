"""Items to vectors, each item once, with the same last bits at any number of processes.

A product of matrices in float32 gives other last bits at another batch size. So the encoder is
always given blocks of exactly 64 items, cut from the whole list in the same way everywhere; the
last block is filled by repeating its last item. Block b belongs to process b mod W.

Axes: N items, E the shared embedding.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from eval.ranks import Ranks

T = TypeVar("T")

BLOCK = 64
BLANK_SIDE = 64
READER_THREADS = 4


class EmbeddedPictures(NamedTuple):
    """The vectors of a list of pictures, in its order."""

    features: Float32[Tensor, "N E"]
    usable: Bool[Tensor, " N"]
    """False where the picture could not be decoded; its vector there means nothing."""
    causes: dict[int, str]
    """Why, for the number of each picture that is not usable."""


def embed_texts(
    encoder: DualEncoder,
    strings: Sequence[str],
    variants: Sequence[str],
    ranks: Ranks,
    label: str | None = None,
) -> dict[str, Float32[Tensor, "N E"]]:
    """The unit vectors of the strings for each variant, on the CPU of every rank.

    A string that stands there several times is encoded once. With a `label` the first process tells
    on standard error how far it is.
    """
    distinct = list(dict.fromkeys(strings))
    blocks = _own_blocks(len(distinct), ranks)
    shares: dict[str, list[Tensor]] = {variant: [] for variant in variants}
    for block in _watched(blocks, len(blocks), label, ranks):
        ranks.leave_when_asked()
        encoded = encoder.encode_texts([distinct[number] for number in block], variants)
        for variant in variants:
            shares[variant].append(_checked(encoded[variant], encoder))
    row_of = {string: row for row, string in enumerate(distinct)}
    rows = torch.tensor([row_of[string] for string in strings])
    return {
        variant: _gather(share, len(distinct), ranks)[rows] for variant, share in shares.items()
    }


def embed_pictures(
    encoder: DualEncoder,
    read_picture: Callable[[int], Picture],
    num_pictures: int,
    ranks: Ranks,
    label: str | None = None,
) -> EmbeddedPictures:
    """The unit vectors of pictures 0 … num_pictures - 1, on the CPU of every rank.

    Where `read_picture` raises BadSample, a black picture keeps the place, and the place is marked.
    With a `label` the first process tells on standard error how far it is.
    """
    blocks = _own_blocks(num_pictures, ranks)
    unusable: dict[int, str] = {}
    read_ahead = _read_ahead(read_picture, blocks, unusable)
    share = []
    for pictures in _watched(read_ahead, len(blocks), label, ranks):
        ranks.leave_when_asked()
        share.append(_checked(encoder.encode_images(pictures), encoder))
    causes = _all_causes(unusable, ranks)
    usable = torch.ones(num_pictures, dtype=torch.bool)
    usable[list(causes)] = False
    return EmbeddedPictures(_gather(share, num_pictures, ranks), usable, causes)


def _own_blocks(num_items: int, ranks: Ranks) -> list[list[int]]:
    """This process's blocks of item numbers, each of full size: the last repeats its last item."""
    starts = range(ranks.rank * BLOCK, num_items, ranks.world_size * BLOCK)
    blocks = [list(range(start, min(start + BLOCK, num_items))) for start in starts]
    return [block + [block[-1]] * (BLOCK - len(block)) for block in blocks]


def _watched(blocks: Iterable[T], num_blocks: int, label: str | None, ranks: Ranks) -> Iterable[T]:
    if label is None or not ranks.is_first:
        return blocks
    return with_progress(blocks, total=num_blocks, label=f"{label}, blocks of {BLOCK}")


def _read_ahead(
    read_picture: Callable[[int], Picture], blocks: Sequence[list[int]], unusable: dict[int, str]
) -> Iterator[list[Picture]]:
    """The pictures of each block; threads read the next block while this one is encoded."""
    if not blocks:
        # Few pictures and many ranks: this one has none.
        return
    with ThreadPoolExecutor(max_workers=READER_THREADS) as readers:

        def begin(block: list[int]) -> dict[int, Future[Picture]]:
            return {n: readers.submit(_read, read_picture, n, unusable) for n in set(block)}

        pending = begin(blocks[0])
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            pictures = {number: future.result() for number, future in pending.items()}
            if following:
                pending = begin(following)
            yield [pictures[number] for number in block]


def _read(read_picture: Callable[[int], Picture], number: int, unusable: dict[int, str]) -> Picture:
    try:
        return read_picture(number)
    except BadSample as error:
        unusable[number] = error.cause
        return np.zeros((BLANK_SIDE, BLANK_SIDE, 3), dtype=np.uint8)


def _checked(features: Float[Tensor, "N E"], encoder: DualEncoder) -> Float32[Tensor, "N E"]:
    """The vectors of one block in float32, after a look at what the encoder promised."""
    if len(features) != BLOCK:
        raise UserError(
            f"the encoder {encoder.name} returned {len(features)} vectors for {BLOCK} items; "
            "it must return one for each, in their order"
        )
    return features.detach().float().cpu()


def _gather(share: list[Tensor], num_items: int, ranks: Ranks) -> Float32[Tensor, "N E"]:
    """All vectors in the order of the items, from each process's share of the blocks."""
    num_blocks = -(-num_items // BLOCK)
    blocks_each = -(-num_blocks // ranks.world_size)
    # A process without a block of its own does not know the width.
    width = ranks.largest(share[0].shape[1] if share else 0)
    filled = torch.zeros(blocks_each, BLOCK, width)
    for place, block in enumerate(share):
        filled[place] = block
    # [W, blocks, 64, E]: block b stands at [b mod W, b div W].
    return ranks.all_gather(filled).transpose(0, 1).reshape(-1, width)[:num_items].clone()


def _all_causes(unusable: dict[int, str], ranks: Ranks) -> dict[int, str]:
    """The numbers and causes of all processes, in the order of the numbers."""
    shares = ranks.all_gather_text(json.dumps(list(unusable.items())))
    return dict(sorted((number, cause) for share in shares for number, cause in json.loads(share)))
