"""Faster search that may miss: faiss or usearch name likely rows, whose scores are then computed exactly.

An accelerator is made from the vectors and kept beside them, in `accelerators`. A file there is used
only if it was made here: it is sealed with a key that lies in this user's cache folder and nowhere
else, together with the hashes of the vectors that it was made of. Anything else is made anew.

Axes: Q queries, N pictures, E the shared embedding, k kept.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from math import sqrt
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn.functional import normalize

from data_pipelines.errors import UserError
from data_pipelines.plain_files import refuse_links
from data_pipelines.progress import with_progress
from data_pipelines.shard_writer import sha256_of_file
from data_pipelines.words import tell
from rins_mm.index.layout import damaged, vectors_path
from rins_mm.index.opened import Index
from rins_mm.index.sealed import read_sealed, write_sealed
from rins_mm.index.search import check_queries, search, search_rows

KINDS = Literal["exact", "faiss", "faiss-pq", "usearch"]

VERSION = 1
"""Of how accelerators are made; what an earlier version made is made anew."""
MOST_TRAINING_ROWS = 65_536
ROWS_PER_LIST = 39
"""faiss wants so many for each list of its coarse quantizer."""
NUMBERS_PER_BYTE = 4
"""Coordinates that a product quantizer puts into one byte."""
PRODUCT_TRAINING = {"niter": 10, "max_points_per_centroid": 64}
"""faiss's own 25 and 256 take ten times as long; what the rough scores lose, exact ones of more candidates mend."""
TRIED_QUERIES = 128
"""Of each kind that an accelerator is tried with."""
WANTED_RECALL = 0.98
"""Of the ten best, on these queries: how hard an accelerator looks is chosen by it."""
EFFORTS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""How many lists of faiss are read, or how wide usearch looks around."""
CANDIDATES_PER_ANSWER = {"faiss": 4, "faiss-pq": 16, "usearch": 4}


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Likely rows for queries."""

    kind: str
    find: Callable[[Float32[np.ndarray, "Q E"], int], Int64[np.ndarray, "Q n"]]
    """Rows of the index, in no order that counts; -1 where none was found."""
    recall: float
    """How many of the ten best it found when it was tried; of two kinds of queries the worse."""
    effort: int


def open_accelerator(index: Index, kind: str) -> Accelerator:
    """The accelerator of an index, from the file beside it or made anew; standard error tells which.

    Raises UserError where its library is not installed, where the index holds no vectors or some that
    are not finite, and where links lie in the place that it would be kept in.
    """
    library = _library(kind)
    if not index.num_rows:
        raise UserError(
            f"{index.folder} has no vectors, and {kind} is made of them; add pictures, or search exactly"
        )
    made_of = _made_of(index, kind)
    path = index.folder / "accelerators" / f"{kind}.bin"
    settings, data = read_sealed(path, made_of)
    if settings is not None:
        return _accelerator(library, kind, _loaded(library, kind, data), settings)
    refuse_links(path.parent, "an index", "search exactly", itself=True)
    _require_whole(index)
    inner = _made(library, index, kind)
    settings = _chosen_effort(library, index, kind, inner)
    write_sealed(path, made_of, settings, _saved(library, kind, inner))
    return _accelerator(library, kind, inner, settings)


def search_with(
    index: Index, accelerator: Accelerator, query_vectors: Float32[Tensor, "Q E"], top_k: int
) -> tuple[Float32[Tensor, "Q k"], Int64[Tensor, "Q k"]]:
    """What `search` returns, among the rows that the accelerator finds likely.

    The scores are exact; pictures may be missing. Where too few are found, all are compared.
    """
    check_queries(index, query_vectors, top_k)
    queries = query_vectors.cpu().contiguous()
    k = min(top_k, index.num_pictures)
    rows = accelerator.find(queries.numpy(), CANDIDATES_PER_ANSWER[accelerator.kind] * k + 32)
    scores, numbers = torch.empty(len(queries), k), torch.empty(len(queries), k, dtype=torch.int64)
    for place, likely in enumerate(rows):
        likely = np.unique(likely[likely >= 0])
        likely = likely[index.present[likely]]
        if len(likely) < k:
            scores[place], numbers[place] = (
                found[0] for found in search(index, queries[place : place + 1], k)
            )
            continue
        exact = (index.gathered(likely) @ queries[place]).mul_(1e6).round_().div_(1e6)
        best = exact.sort(descending=True, stable=True).indices[:k]
        scores[place], numbers[place] = exact[best], torch.from_numpy(index.numbers[likely])[best]
    return scores, numbers


def _library(kind: str) -> Any:
    try:
        if kind == "usearch":
            import usearch.index

            return usearch.index
        import faiss

        return faiss
    except ImportError as error:
        raise UserError(
            f"the accelerator {kind} is not installed; install it (pip install "
            "'rins_mm[accelerate]'), or search exactly"
        ) from error


def _made_of(index: Index, kind: str) -> str:
    """A hash of all that an accelerator depends on."""
    package = "usearch" if kind == "usearch" else "faiss-cpu"
    with suppress(ImportError):
        package = f"{package} {version(package)}"
    vectors = [shard.vectors_sha256 for shard in index.facts.shards]
    return hashlib.sha256(
        json.dumps([VERSION, kind, package, index.facts.width, vectors]).encode()
    ).hexdigest()


def _require_whole(index: Index) -> None:
    """Raise UserError where vectors are not those whose hashes an accelerator will be known by."""
    for place, shard in enumerate(index.facts.shards):
        path = vectors_path(index.folder, place)
        if sha256_of_file(path) != shard.vectors_sha256:
            raise damaged(path, "its SHA-256 is not the one in index.json")


def _made(library: Any, index: Index, kind: str) -> Any:
    width, tile = index.facts.width, 16_384
    tiles = with_progress(
        index.tiles(tile), total=-(-index.num_rows // tile), label=f"building {kind}"
    )
    if kind == "usearch":
        inner = library.Index(ndim=width, metric="ip", dtype="f16")
        for start, vectors in tiles:
            keys = np.arange(start, start + len(vectors), dtype=np.uint64)
            inner.add(keys, vectors.numpy(), threads=torch.get_num_threads())
        return inner
    library.omp_set_num_threads(torch.get_num_threads())
    inner = library.index_factory(width, _faiss_form(index, kind), library.METRIC_INNER_PRODUCT)
    if kind == "faiss-pq":
        for name, value in PRODUCT_TRAINING.items():
            setattr(inner.pq.cp, name, value)
    chosen = np.random.default_rng(0).permutation(index.num_rows)[:MOST_TRAINING_ROWS]
    inner.train(index.gathered(np.sort(chosen)).numpy())
    for _, vectors in tiles:
        inner.add(vectors.numpy())
    return inner


def _faiss_form(index: Index, kind: str) -> str:
    rows, width = index.num_rows, index.facts.width
    lists = max(1, min(int(4 * sqrt(rows)), min(rows, MOST_TRAINING_ROWS) // ROWS_PER_LIST))
    if kind == "faiss":
        return f"IVF{lists},SQfp16"
    if rows < 256 * ROWS_PER_LIST:
        raise UserError(
            f"{index.folder} has {rows:,} vectors, and faiss-pq learns from {256 * ROWS_PER_LIST:,} "
            "or more; take faiss, or search exactly"
        )
    num_bytes = next(n for n in range(max(1, width // NUMBERS_PER_BYTE), 0, -1) if width % n == 0)
    return f"IVF{lists},PQ{num_bytes}x8"


def _chosen_effort(library: Any, index: Index, kind: str, inner: Any) -> dict[str, Any]:
    """The least effort that finds what is wanted, and the recall that it was seen to have."""
    queries = _tried_queries(index)
    k = min(10, index.num_rows)
    everything = np.ones(index.num_rows, dtype=bool)
    _, numbers = search_rows(index, queries, k, everything)
    best = np.searchsorted(index.numbers, numbers.numpy())
    settings: dict[str, Any] = {}
    for effort in EFFORTS:
        accelerator = _accelerator(library, kind, inner, {"effort": effort, "recall": 0.0})
        found = accelerator.find(queries.numpy(), CANDIDATES_PER_ANSWER[kind] * k + 32)
        hits = np.array([len(np.intersect1d(a, b)) for a, b in zip(best, found, strict=True)])
        settings = {"effort": effort, "recall": float(hits.reshape(2, -1).mean(1).min() / k)}
        if settings["recall"] >= WANTED_RECALL:
            break
    else:
        tell(
            f"{kind} finds {settings['recall']:.1%} of the ten best in {index.folder}, less than "
            f"{WANTED_RECALL:.0%}; exact search finds all",
        )
    return settings


def _tried_queries(index: Index) -> Float32[Tensor, "Q E"]:
    """Mixtures of two pictures; and the same far to one side, as texts lie of pictures."""
    generator = np.random.default_rng(1)
    draws = generator.integers(index.num_rows, size=(2, TRIED_QUERIES))
    first, second = (index.gathered(rows) for rows in draws)
    mixtures = normalize(first + second, dim=1)
    aside = torch.from_numpy(generator.standard_normal((1, index.facts.width), dtype=np.float32))
    return torch.cat([mixtures, normalize(0.5 * mixtures + normalize(aside, dim=1), dim=1)])


def _accelerator(library: Any, kind: str, inner: Any, settings: dict[str, Any]) -> Accelerator:
    effort, recall = int(settings["effort"]), float(settings["recall"])

    def with_faiss(queries: Float32[np.ndarray, "Q E"], count: int) -> Int64[np.ndarray, "Q n"]:
        # Given with the query: threads that ask at once must not set it for each other.
        parameters = library.SearchParametersIVF(nprobe=effort)
        return inner.search(queries, count, params=parameters)[1]

    def with_usearch(queries: Float32[np.ndarray, "Q E"], count: int) -> Int64[np.ndarray, "Q n"]:
        inner.expansion_search = max(effort, count)
        found: Any = inner.search(queries, count, threads=1)
        keys = np.atleast_2d(found.keys).astype(np.int64)
        num_found: Any = getattr(found, "counts", keys.shape[1])
        # What stands behind the last one that was found is no key.
        keys[np.arange(keys.shape[1]) >= np.atleast_1d(num_found)[:, None]] = -1
        return np.where((keys >= 0) & (keys < len(inner)), keys, -1)

    find = with_usearch if kind == "usearch" else with_faiss
    return Accelerator(kind=kind, find=find, recall=recall, effort=effort)


def _saved(library: Any, kind: str, inner: Any) -> bytes:
    if kind == "usearch":
        return bytes(inner.save())
    return library.serialize_index(inner).tobytes()


def _loaded(library: Any, kind: str, data: bytes) -> Any:
    if kind == "usearch":
        inner = library.Index.restore(data)
        assert inner is not None, "what this program has sealed can be read"
        return inner
    return library.deserialize_index(np.frombuffer(data, dtype=np.uint8))
