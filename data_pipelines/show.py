"""Look at a data set: a sheet of samples with their captions, on the terminal and as one HTML page.

python -m data_pipelines.show emoji:train --number 48 --html SHEET.html
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import UInt8
from PIL import Image
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_pipelines.bad_samples import BadSample
from data_pipelines.captions import CaptionConfig, caption_of
from data_pipelines.errors import UserError, run_command
from data_pipelines.hashing import stable_hash
from data_pipelines.manifest import Dataset, open_dataset
from data_pipelines.order import EpochOrder
from data_pipelines.pages import rendered_page
from data_pipelines.progress import with_progress
from data_pipelines.samples import decoded_sample, sample_name
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import cell, printable

THUMBNAIL_SIZE = 320
"""Longest side in pixels; drawn at half of that, for fine screens."""
MOST_SAMPLES = 2000
"""More pictures than these in one page are no pleasure for a browser."""


@dataclass(frozen=True, kw_only=True)
class ShowCommand:
    """Show a few samples with their captions, drawn from all shards."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Packs, paths, globs or ranges, such as emoji:train."""
    number: int = 24
    """Samples to show."""
    seed: int = 0
    """Another seed draws other samples, and other captions where these are drawn."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    """How captions are chosen, as in the recipe."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out."""
    html: Path | None = None
    """A page with the pictures, to be written there."""
    overwrite: bool = False
    """Replace the page where there is one."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One sample of the sheet."""

    name: str
    """Shard and key."""
    caption: str
    cause: str
    """Why it cannot be used; empty for a good one."""
    size: str
    """Width x height in pixels."""
    thumbnail: str
    """A small copy of the picture as a data: address, encoded here; empty for a bad one."""


def main(argv: list[str]) -> None:
    """Draw samples, print the table, write the page."""
    command = tyro.cli(ShowCommand, args=argv, prog="python -m data_pipelines.show")
    if not 1 <= command.number <= MOST_SAMPLES:
        raise UserError(f"--number is {command.number}; it must be from 1 to {MOST_SAMPLES:,}")
    refuse_existing([command.html], overwrite=command.overwrite)
    dataset = open_dataset(command.shards, command.deny_lists)
    samples = list(shown_samples(dataset, command.captions, command.number, command.seed))
    _print_table(samples)
    if command.html is not None:
        page = sheet_page(" ".join(command.shards), dataset, samples)
        write_whole(command.html, page, overwrite=command.overwrite)


def shown_samples(
    dataset: Dataset, captions: CaptionConfig, number: int, seed: int
) -> Iterator[Shown]:
    """The first samples of a shuffle of the whole data set: the same for the same seed."""
    # One block as large as the data set, up to a bound: the sheet should not show few shards only.
    block_size = min(dataset.num_samples, 10_000_000)
    order = EpochOrder(dataset.shard_sizes, seed=seed, epoch=0, block_size=block_size)
    drawn = order[:number].tolist()
    for index in with_progress(drawn, total=len(drawn), label="reading samples"):
        yield _shown(dataset, index, captions, stable_hash("row", seed, 0, index))


def sheet_page(title: str, dataset: Dataset, samples: Sequence[Shown]) -> str:
    """An HTML page of the samples. It loads nothing, runs no script."""
    summary = (
        f"{len(samples):,} of {dataset.num_samples:,} samples in {len(dataset.shards):,} shards"
    )
    values = {"title": title, "summary": summary, "samples": samples}
    return rendered_page("show.html.jinja", {**values, "dataset_fingerprint": dataset.fingerprint})


def thumbnail_of(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """A data: address of the picture, made smaller where it is larger than a thumbnail."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    encoded = BytesIO()
    image.save(encoded, "WEBP", quality=85)
    return f"data:image/webp;base64,{b64encode(encoded.getvalue()).decode()}"


def _shown(dataset: Dataset, index: int, captions: CaptionConfig, row_seed: int) -> Shown:
    name = printable(":".join(sample_name(dataset, index)))
    try:
        pixels, record = decoded_sample(dataset, index)
        caption = printable(" ".join(caption_of(record, captions, row_seed).split()))
    except BadSample as bad:
        return Shown(name=name, caption="", cause=bad.cause, size="", thumbnail="")
    height, width = pixels.shape[:2]
    return Shown(
        name=name,
        caption=caption,
        cause="",
        size=f"{width} x {height}",
        thumbnail=thumbnail_of(pixels),
    )


def _print_table(samples: Sequence[Shown]) -> None:
    table = Table(box=SIMPLE)
    table.add_column("sample", overflow="fold")
    table.add_column("pixels", no_wrap=True, justify="right")
    table.add_column("caption", overflow="fold")
    for sample in samples:
        said = cell(sample.caption or f"BAD: {sample.cause}")
        if sample.cause:
            said.stylize("bold red")
        table.add_row(cell(sample.name), sample.size, said)
    Console().print(table)


if __name__ == "__main__":
    run_command(main)
