"""What an index costs: build, add, queries exact and accelerated, and what accelerators miss.

python benchmarks/index_search.py --out docs/results/index_search.json

The model is left out: its vectors are made up, and the pictures are 8 x 8 pixels that say which is
theirs. All else of build and add is the real thing. Latencies are of one query at a time, by the clock
and in CPU time, which other programs on the machine hardly move.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import tyro
from measuring import RESULTS, machine, write_figures
from PIL import Image
from torch import Tensor

from data_pipelines.decode import decode_picture
from data_pipelines.errors import run_command
from eval.ranks import Ranks
from rins_mm.gallery import Gallery, PictureFile
from rins_mm.index.accelerate import open_accelerator, search_with
from rins_mm.index.build import Addition, build
from rins_mm.index.layout import IndexedModel
from rins_mm.index.opened import Index, open_index
from rins_mm.index.search import search

TOP_K = 10


@dataclass(frozen=True, kw_only=True)
class IndexSearchBenchmark:
    """Measure an index of made-up vectors."""

    out: Path = RESULTS / "index_search.json"
    """File of the figures; replaced."""
    num_pictures: int = 100_000
    num_added: int = 4_096
    width: int = 256
    """Numbers of a vector."""
    num_clusters: int = 2_000
    """Pictures lie about so many places. (Vectors without any structure are like nothing that is searched.)"""
    spread: float = 0.8
    """Length of what leads from such a place to a picture, of which it has length 1."""
    num_queries: int = 200
    """Of each kind."""
    kinds: tuple[str, ...] = ("faiss", "faiss-pq", "usearch")
    threads: int = 1


class GivenVectors:
    """An encoder that looks up the vector whose number a picture shows."""

    name = "made up"
    fingerprint = "0" * 64

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def encode_images(self, pictures: Sequence[Any], variants: Sequence[str]) -> dict[str, Tensor]:
        """The vectors of the pictures."""
        colours = np.stack([np.asarray(picture)[0, 0] for picture in pictures]).astype(np.int64)
        numbers = torch.from_numpy(colours @ np.array([65536, 256, 1]) % len(self.vectors))
        return dict.fromkeys(variants, self.vectors[numbers])

    def encode_texts(self, strings: Sequence[str], variants: Sequence[str]) -> Mapping[str, Tensor]:
        """No text is asked for."""
        raise NotImplementedError


def numbered_picture(number: int) -> bytes:
    """A PNG of 8 x 8 pixels that shows a number as its colour."""
    colour = (number >> 16, number >> 8 & 255, number & 255)
    buffer = BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def addition_of(vectors: Tensor, first: int, end: int, first_shard: int) -> Addition:
    """The pictures with these numbers, ready to be built."""
    files = [numbered_picture(number) for number in range(first, end)]
    gallery = Gallery(
        num_pictures=len(files),
        file=lambda at: PictureFile(files[at], f"label {at % 100}", f"caption of picture {at}"),
        read=lambda at: decode_picture(files[at]),
        name=lambda at: f"folder/{first + at:08d}.png",
        label=lambda at: "",
        fingerprint=lambda: str(first),
        unreadable={},
    )
    model = IndexedModel(
        name="made up", fingerprint="0" * 64, path="", image_signature="AB", text_signature="AB"
    )
    return Addition(
        encoder=GivenVectors(vectors), model=model, pictures="made up", gallery=gallery,
        items=range(len(files)), first_number=first, first_shard=first_shard, pictures_per_shard=4096,
    )  # fmt: skip


def made_up(command: IndexSearchBenchmark, count: int, seed: int) -> Tensor:
    """Unit vectors about the clusters, which are the same for every seed."""
    places = torch.randn(
        command.num_clusters, command.width, generator=torch.Generator().manual_seed(0)
    )
    places = torch.nn.functional.normalize(places, dim=1)
    generator = torch.Generator().manual_seed(seed)
    rows = places[torch.randint(command.num_clusters, (count,), generator=generator)]
    away = torch.randn(count, command.width, generator=generator) / command.width**0.5
    return torch.nn.functional.normalize(rows + command.spread * away, dim=1)


def queries_of(command: IndexSearchBenchmark) -> dict[str, Tensor]:
    """Like other pictures; and like texts, which all lie to one side of where pictures lie."""
    near = made_up(command, command.num_queries, seed=2)
    aside = torch.randn(1, command.width, generator=torch.Generator().manual_seed(3))
    aside = torch.nn.functional.normalize(aside, dim=1)
    return {"pictures": near, "texts": torch.nn.functional.normalize(0.5 * near + aside, dim=1)}


def latencies(ask: Callable[[Tensor], object], queries: Tensor) -> dict[str, float]:
    """Milliseconds of single queries, after a few that do not count."""
    clock, cpu = [], []
    for number, query in enumerate([*queries[:5], *queries]):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        ask(query[None])
        if number >= 5:
            clock.append(1000 * (time.perf_counter() - begin))
            cpu.append(1000 * (time.process_time() - begin_cpu))
    return {
        "clock_p50_ms": statistics.median(clock),
        "clock_p99_ms": float(np.percentile(clock, 99)),
        "cpu_p50_ms": statistics.median(cpu),
        "cpu_p99_ms": float(np.percentile(cpu, 99)),
    }


def timed(run: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds of one run, and what it returned."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    returned = run()
    seconds = {
        "clock_seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - begin_cpu,
    }
    return seconds, returned


def recall(found: Tensor, best: Tensor) -> float:
    """How many of the best were found."""
    pairs = zip(found.tolist(), best.tolist(), strict=True)
    return sum(len(set(a) & set(b)) for a, b in pairs) / best.numel()


def measure_accelerator(
    index: Index, kind: str, queries: Mapping[str, Tensor], best: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Building, loading, asking, and what is missed."""
    build_seconds, _ = timed(lambda: open_accelerator(index, kind))
    load_seconds, accelerator = timed(lambda: open_accelerator(index, kind))
    path = index.folder / "accelerators" / f"{kind}.bin"
    found = {
        name: search_with(index, accelerator, rows, TOP_K)[1] for name, rows in queries.items()
    }
    return {
        "build": build_seconds,
        "load": load_seconds,
        "megabytes": path.stat().st_size / 1e6,
        "effort": accelerator.effort,
        "recall_when_tried": accelerator.recall,
        "recall_at_10": {name: recall(found[name], best[name]) for name in queries},
        "query": latencies(
            lambda query: search_with(index, accelerator, query, TOP_K), queries["texts"]
        ),
    }


def measure_exact(index: Index, vectors: Tensor, queries: Mapping[str, Tensor]) -> dict[str, Any]:
    """Exact search: the first query, which reads all vectors, the others, and with a condition."""
    first, _ = timed(lambda: search(index, queries["texts"][:1], TOP_K))
    in_float32 = {name: (rows @ vectors.T).topk(TOP_K).indices for name, rows in queries.items()}
    return {
        "first_query": first,
        "query": latencies(lambda query: search(index, query, TOP_K), queries["texts"]),
        "query_where": latencies(
            lambda query: search(index, query, TOP_K, ["label=label 7"]), queries["texts"][:50]
        ),
        "recall_of_float16_at_10": {
            name: recall(search(index, rows, TOP_K)[1], in_float32[name])
            for name, rows in queries.items()
        },
    }


def main(argv: list[str]) -> None:
    """Measure, and write the figures."""
    command = tyro.cli(IndexSearchBenchmark, args=argv, prog="python benchmarks/index_search.py")
    torch.set_num_threads(command.threads)
    total = command.num_pictures + command.num_added
    vectors = made_up(command, total, seed=1)
    queries = queries_of(command)
    with TemporaryDirectory() as name:
        folder = Path(name) / "index"
        addition = addition_of(vectors, 0, command.num_pictures, 0)
        built, facts = timed(partial(build, addition, folder, Ranks()))
        more = addition_of(vectors, command.num_pictures, total, len(facts.shards))
        added, _ = timed(partial(build, more, folder, Ranks()))
        opened, index = timed(lambda: open_index(folder))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        exact = measure_exact(index, vectors, queries)
        best = {kind: search(index, rows, TOP_K)[1] for kind, rows in queries.items()}
        accelerated = {
            kind: measure_accelerator(index, kind, queries, best) for kind in command.kinds
        }
    packages = {
        package: version(package) for package in ("numpy", "pyarrow", "faiss-cpu", "usearch")
    }
    figures = {
        **machine(torch.device("cpu")),
        "packages": packages,
        "settings": {
            setting: value for setting, value in vars(command).items() if setting not in ("out",)
        },
        "megabytes": size / 1e6,
        "build": built,
        "add": added,
        "open": opened,
        "exact": exact,
        "accelerated": accelerated,
    }
    write_figures(command.out, figures)
    print(f"wrote {command.out}")


if __name__ == "__main__":
    run_command(main)
