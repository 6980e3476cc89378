"""How many pictures a second does one core bring from shards to batches?  python benchmarks/data.py

Compared on JPEGs of real photographs: this loader, with full and with scaled decoding; the stages of
open_clip's loader (webdataset, PIL, open_clip's own transform); and the kernels that decode and
resize, alone in a loop, which are the limit. The runs take turns, so that a busy machine slows all
alike, and what counts is CPU time of all threads of the process, which other programs hardly move.
Only two workers against one are timed by the clock, which needs two quiet cores.

This loader also tokenises captions, hashes keys and checks headers; the other two are spared that.
"""

import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
import tyro
import webdataset
from photographs import read_photographs, write_photo_shards
from PIL import Image
from rich.console import Console
from rich.table import Table

from data_pipelines import torchvision_cpu  # noqa: F401
from data_pipelines.decode import decode_picture
from data_pipelines.errors import UserError, run_command
from data_pipelines.loader import DataConfig, train_batches
from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.packs import __path__ as packs
from data_pipelines.progress import with_progress
from data_pipelines.resize import resize_picture
from data_pipelines.tokenizers import SentencePieceTokenizer

ROOT = Path(__file__).parents[1]
IMAGE_SIZE = 224
BATCH_SIZE = 32
WORKER_BATCHES = 40
"""Batches that are timed with workers, after those that were made while they started."""
TOKENIZER = SentencePieceTokenizer(
    (Path(packs[0]) / "emoji" / "tokenizer.model").read_bytes(),
    canonicalize="lower_no_punctuation",
    context_length=32,
)
WIDTH = 120
"""Columns of the table: it is to be read whole, also in a log."""

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class DataBenchmark:
    """Pictures per second and core, from shards to uint8 batches at 224 px."""

    photos: Path | None = None
    """Folder of photographs (JPEG, PNG, WebP); without it pip fetches packages that hold some."""
    sizes: tuple[int, ...] = (256, 512, 1024)
    """Sides of the JPEGs in px."""
    pictures: int = 96
    """JPEGs per size; a multiple of 32."""
    rounds: int = 9
    """Times that the runs take turns; the table shows medians."""
    worker_rounds: int = 5
    """Times that one worker and two take turns, at 512 px; 0 leaves this out."""
    out: Path = ROOT / "docs" / "results" / "data.json"
    """File to write."""
    overwrite: bool = False
    """Replace that file."""


def batches(dataset: Dataset, config: DataConfig, num_steps: int) -> Iterator[object]:
    """Batches of this loader."""
    return train_batches(
        config, dataset, TOKENIZER, image_size=IMAGE_SIZE, batch_size=BATCH_SIZE, seed=0,
        start_step=0, num_steps=num_steps, rank=0, world_size=1,
    )  # fmt: skip


def our_run(dataset: Dataset, passes: int, *, scaled: bool) -> Run:
    """Some epochs through this loader."""
    config = DataConfig(scaled_decoding=scaled)
    steps = passes * dataset.num_samples // BATCH_SIZE
    return lambda: [None for _ in batches(dataset, config, steps)]


def open_clip_run(shards: Sequence[Path], passes: int) -> Run:
    """Some epochs through the stages of open_clip's loader, without its tokenizer."""
    # After torchvision_cpu, which stands above and which isort would not keep in front.
    from open_clip.transform import image_transform

    transform = image_transform(IMAGE_SIZE, is_train=False, resize_mode="squash")

    def run() -> None:
        pipeline = webdataset.DataPipeline(
            webdataset.SimpleShardList([str(shard) for shard in shards] * passes),
            webdataset.split_by_worker,
            webdataset.tarfile_to_samples(),
            webdataset.decode("pilrgb"),
            webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
            webdataset.map_dict(image=transform, text=len),
            webdataset.to_tuple("image", "text"),
            webdataset.batched(BATCH_SIZE, partial=True),
        )
        for _ in webdataset.WebLoader(pipeline, batch_size=None, num_workers=0):
            pass

    return run


def kernel_run(jpegs: Sequence[bytes], passes: int, least_side: int) -> Run:
    """The JPEG decoder and the resize kernel in a bare loop over bytes in memory."""

    def run() -> None:
        for data in [*jpegs] * passes:
            pixels = simplejpeg.decode_jpeg(
                data, "RGB", min_height=least_side, min_width=least_side
            )
            picture = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
            side = (IMAGE_SIZE, IMAGE_SIZE)
            F.interpolate(picture, side, mode="bicubic", antialias=True).contiguous()

    return run


def take_turns(runs: dict[str, Run], rounds: int, num_pictures: int) -> dict[str, list[float]]:
    """Seconds of CPU per picture of each run in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            if turn > 0:
                seconds[name].append((time.process_time() - begin) / num_pictures)
    return seconds


def median_ratio(slow: Sequence[float], quick: Sequence[float]) -> float:
    """How many times as quick: the median over rounds, each compared with its own neighbour."""
    return statistics.median(a / b for a, b in zip(slow, quick, strict=True))


def scaled_difference(jpegs: Sequence[bytes]) -> dict[str, float]:
    """By how many of 255 levels the resized pixels move when JPEGs are decoded at a smaller scale."""
    differences = []
    for data in jpegs:
        full, scaled = (
            resize_picture(decode_picture(data, least_size=least), IMAGE_SIZE).int()
            for least in (None, IMAGE_SIZE)
        )
        differences.append((full - scaled).abs().flatten())
    levels = torch.cat(differences).double()
    return {
        "mean": levels.mean().item(),
        "root_mean_square": levels.square().mean().sqrt().item(),
        "share_above_8": (levels > 8).double().mean().item(),
        "largest": levels.max().item(),
    }


def same_pixels_as_pillow(jpegs: Sequence[bytes]) -> int:
    """How many of the JPEGs have exactly the pixels that Pillow reads."""
    read = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in jpegs)
    return sum(
        bool(np.array_equal(decode_picture(data), pixels))
        for data, pixels in zip(jpegs, read, strict=True)
    )


def measure_size(
    command: DataBenchmark, photographs: list[Image.Image], folder: Path, size: int
) -> dict:
    """All that is measured on JPEGs of one size."""
    jpegs = write_photo_shards(
        photographs, folder, size=size, num_pictures=command.pictures, num_shards=4
    )
    dataset = open_dataset([f"{folder}/*.tar"])
    scale = max(scale for scale in (1, 2, 4, 8) if scale == 1 or size >= scale * IMAGE_SIZE)
    # Small pictures are read more often, so that no run is over in an instant.
    passes = max(1, max(command.sizes) // size)
    runs = {
        "open_clip": open_clip_run(sorted(folder.glob("*.tar")), passes),
        "full": our_run(dataset, passes, scaled=False),
        "full kernels": kernel_run(jpegs, passes, 0),
        "scaled": our_run(dataset, passes, scaled=True),
        "scaled kernels": kernel_run(jpegs, passes, -(-size // scale)),
    }
    seconds = take_turns(runs, command.rounds, passes * command.pictures)
    return {
        "size": size,
        "scale": scale,
        "bytes_per_picture": statistics.mean(map(len, jpegs)),
        "pictures_per_cpu_second": {
            name: 1 / statistics.median(values) for name, values in seconds.items()
        },
        "times_open_clip": {
            name: median_ratio(seconds["open_clip"], seconds[name]) for name in ("full", "scaled")
        },
        "share_of_kernels": {
            name: median_ratio(seconds[f"{name} kernels"], seconds[name])
            for name in ("full", "scaled")
        },
        "same_pixels_as_pillow": [same_pixels_as_pillow(jpegs), len(jpegs)],
        "scaled_difference": scaled_difference(jpegs),
        "seconds_of_cpu_per_picture": seconds,
    }


def measure_workers(dataset: Dataset, rounds: int) -> dict:
    """Pictures per second by the clock with one worker and with two."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    turns = [workers for _ in range(rounds) for workers in rates]
    for workers in with_progress(turns, total=len(turns), label="workers"):
        config = DataConfig(num_workers=workers)
        warm_up = config.prefetch_batches + 2 * workers
        stream = batches(dataset, config, warm_up + WORKER_BATCHES + config.prefetch_batches)
        for _ in range(warm_up):
            next(stream)
        begin = time.perf_counter()
        for _ in range(WORKER_BATCHES):
            next(stream)
        rates[workers].append(WORKER_BATCHES * BATCH_SIZE / (time.perf_counter() - begin))
        stream.close()
    return {
        "pictures_per_second": {str(workers): values for workers, values in rates.items()},
        "two_to_one": median_ratio(rates[2], rates[1]),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
    }


def show(results: dict) -> None:
    """The tables, for people."""
    table = Table(title="pictures per second of CPU, shards to 224 px batches (medians)")
    for column in ("px", "open_clip", "full", "scaled", "full : open_clip", "scaled : open_clip",
                   "full : its kernels", "scaled : its kernels"):  # fmt: skip
        table.add_column(column, justify="right")
    for row in results["sizes"]:
        rates = row["pictures_per_cpu_second"]
        table.add_row(
            f"{row['size']} (1/{row['scale']})",
            *(f"{rates[name]:,.0f}" for name in ("open_clip", "full", "scaled")),
            *(f"{row['times_open_clip'][name]:.2f}" for name in ("full", "scaled")),
            *(f"{row['share_of_kernels'][name]:.2f}" for name in ("full", "scaled")),
        )
    console = Console(width=WIDTH)
    console.print(table)
    if "workers" in results:
        workers = results["workers"]
        one, two = (statistics.median(workers["pictures_per_second"][n]) for n in ("1", "2"))
        console.print(
            f"512 px by the clock: 1 worker {one:,.0f}/s, 2 workers {two:,.0f}/s, "
            f"ratio {workers['two_to_one']:.2f} (load average {workers['load_average']:.1f} "
            f"on {workers['cores']} cores)"
        )


def main(argv: list[str]) -> None:
    """Measure, print the tables, and write all figures."""
    command = tyro.cli(DataBenchmark, args=argv, description=__doc__)
    if command.out.exists() and not command.overwrite:
        raise UserError(f"{command.out} is there already; give --overwrite or another --out")
    torch.set_num_threads(1)
    packages = ("torch", "pillow", "simplejpeg", "webdataset", "open_clip_torch", "numpy")
    results: dict = {
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in packages},
        "pictures_per_size": command.pictures,
        "rounds": command.rounds,
    }
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        photographs = read_photographs(command.photos, scratch)
        sizes = with_progress(command.sizes, total=len(command.sizes), label="sizes")
        results["sizes"] = [
            measure_size(command, photographs, scratch / str(size), size) for size in sizes
        ]
        if command.worker_rounds:
            write_photo_shards(photographs, scratch / "w", size=512, num_pictures=256, num_shards=4)
            dataset = open_dataset([f"{scratch}/w/*.tar"])
            results["workers"] = measure_workers(dataset, command.worker_rounds)
    command.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = command.out.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(command.out)
    show(results)


if __name__ == "__main__":
    run_command(main)
