"""What can be asked of an index: pictures near to vectors, and the vectors of words and pictures.

    index = open_index(folder)
    require_model(index, encoder)
    query = text_query(encoder, "a red apple", minus=["a leaf"])
    scores, numbers = search(index, query, 10, where=["width>=512"])
    index.row(int(numbers[0, 0])), index.picture(int(numbers[0, 0]))

`encoder` is any DualEncoder; of a SigLIPEncoder, take `as_dual_encoder()`.

Axes: Q queries, N pictures, E the shared embedding, k kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from eval.encoder import DEFAULT_VARIANT, DualEncoder, Picture
from eval.nearest import best_keys, keys_of, scores_and_numbers
from eval.pixels import read_pixels
from rins_mm.index.duplicates import Duplicates, near_duplicates
from rins_mm.index.opened import Index, open_index, require_model
from rins_mm.index.where import rows_where

__all__ = [
    "Duplicates",
    "Index",
    "near_duplicates",
    "open_index",
    "picture_query",
    "require_model",
    "search",
    "text_query",
]

SCORES_AT_ONCE = 2**23
"""Of all queries of a tile: 64 MB of keys."""
MINUS_WEIGHT = 0.5
LEAST_LENGTH = 1e-3
"""Of a query of which other words were taken away; a shorter one is made of rounding errors."""


def search(
    index: Index,
    query_vectors: Float32[Tensor, "Q E"],
    top_k: int,
    where: Sequence[str] | None = None,
) -> tuple[Float32[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """Scores, to six decimals, and numbers of the `top_k` best pictures for each query, the best first.

    Every picture is compared with every query; of equal scores the lower number comes first. With
    `where`, such as ["width>=512", "label=apple"], only pictures that meet all conditions count. There
    are fewer than `top_k` columns where there are fewer pictures. Raises UserError for vectors of
    another width and for conditions that cannot be read.
    """
    check_queries(index, query_vectors, top_k)
    return search_rows(index, query_vectors, top_k, rows_where(index, where or ()))


def check_queries(index: Index, query_vectors: Float32[Tensor, "Q E"], top_k: int) -> None:
    """Raise UserError for what an index cannot answer."""
    if top_k < 1:
        raise UserError(f"top_k is {top_k}; it must be at least 1")
    if query_vectors.shape[1] != index.facts.width:
        raise UserError(
            f"the query has {query_vectors.shape[1]} numbers and the vectors of {index.folder} have "
            f"{index.facts.width}; ask with the model {index.facts.model.name}"
        )
    if not bool(query_vectors.isfinite().all()):
        raise UserError("the query has numbers that are not finite; look at the model's weights")


def search_rows(
    index: Index,
    query_vectors: Float32[Tensor, "Q E"],
    top_k: int,
    allowed: Bool[np.ndarray, " N"],
) -> tuple[Float32[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """The same among the rows that are allowed."""
    queries = query_vectors.cpu()
    k = min(top_k, int(allowed.sum()))
    best = torch.empty(len(queries), 0, dtype=torch.int64)
    refused = torch.from_numpy(~allowed)
    for start, vectors in index.tiles(max(1, SCORES_AT_ONCE // max(1, len(queries)))):
        scores = queries @ vectors.T
        scores.masked_fill_(refused[start : start + len(vectors)], torch.nan)
        # Of a tile no more than k can be among the best: keys of the rest are not kept.
        best = best_keys(torch.cat([best, best_keys(keys_of(scores, start), k)], dim=1), k)
    best_scores, rows = scores_and_numbers(best)
    return best_scores.float(), torch.from_numpy(index.numbers)[rows]


def text_query(
    encoder: DualEncoder,
    words: str,
    minus: Sequence[str] = (),
    *,
    signature: str | None = None,
    minus_weight: float = MINUS_WEIGHT,
) -> Float32[Tensor, "1 E"]:
    """The unit vector of words, away from what `minus` says.

    From the vector of the words `minus_weight` times the mean vector of `minus` is taken away.
    `signature` is the depth of the text tower (a variant of the encoder); None: its own.
    Raises UserError for empty words, and where nothing is left.
    """
    strings = [words, *minus]
    if not all(string.strip() for string in strings):
        raise UserError('a query is empty; write what to look for, such as "a red apple"')
    variant = DEFAULT_VARIANT if signature is None else signature
    rows = encoder.encode_texts(strings, [variant])[variant].detach().float().cpu()
    query = rows[:1]
    if minus:
        query = query - minus_weight * rows[1:].mean(dim=0, keepdim=True)
        if float(query.norm()) < LEAST_LENGTH:
            raise UserError(
                f"nothing is left of {words!r} without {', '.join(map(repr, minus))}; "
                "take away something else"
            )
    return normalize(query, dim=-1)


def picture_query(
    encoder: DualEncoder, picture: Picture, *, signature: str | None = None
) -> Float32[Tensor, "1 E"]:
    """The unit vector of a picture: a path, a PIL image, or uint8 RGB pixels [H, W, 3].

    `signature` must be the one that the index was built at, `index.facts.model.image_signature`; None:
    the encoder's own. Raises UserError for a file that is no picture.
    """
    variant = DEFAULT_VARIANT if signature is None else signature
    rows = encoder.encode_images([read_pixels(picture)], [variant])[variant]
    return normalize(rows.detach().float().cpu(), dim=-1)
