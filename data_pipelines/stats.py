"""Measure a data set: counts, sizes of pictures, lengths of captions, truncation, duplicates.

python -m data_pipelines.stats emoji:train --tokenizer FILE.model --context-length 16 --html STATS.html
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError, run_command
from data_pipelines.histograms import histogram
from data_pipelines.manifest import open_dataset
from data_pipelines.measures import (
    Measures,
    as_numbers,
    measure,
    sentences,
    summary_json,
    summary_of,
    table_rows,
)
from data_pipelines.pages import rendered_page
from data_pipelines.tokenizers import (
    Canonicalization,
    SentencePieceTokenizer,
    Tokenizer,
    load_tokenizer,
    read_model,
)
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import cell

# No caption has as many tokens: captions of more than 20,000 characters are bad samples.
WITHOUT_TRUNCATION = 10**6
SIGLIP_CONTEXT_LENGTH = 64


@dataclass(frozen=True, kw_only=True)
class StatsCommand:
    """Measure a data set; pictures are not decoded (data_pipelines.lint does that)."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Packs, paths, globs or ranges, such as emoji:train."""
    tokenizer: Path | None = None
    """A sentencepiece .model file or the folder of a saved tokenizer; without one, no tokens are
    counted."""
    canonicalize: Canonicalization = "lower_no_punctuation"
    """The form of captions for a .model file; a saved tokenizer brings its own."""
    context_length: int | None = None
    """Tokens of a caption, the end token included; default: the saved tokenizer's, or 64."""
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    """How captions are chosen, as in the recipe; of captions that are drawn, one draw is measured."""
    deny_lists: tuple[str, ...] = ()
    """Files of samples that are left out."""
    json: bool = False
    """Print JSON instead of a table."""
    html: Path | None = None
    """A page with the plots, to be written there."""
    overwrite: bool = False
    """Replace the page where there is one."""


def main(argv: list[str]) -> None:
    """Measure, print, and write the page."""
    command = tyro.cli(StatsCommand, args=argv, prog="python -m data_pipelines.stats")
    refuse_existing([command.html], overwrite=command.overwrite)
    tokenizer, context_length = _tokenizer(command)
    dataset = open_dataset(command.shards, command.deny_lists)
    found = measure(dataset, command.captions, tokenizer)
    if not found.samples:
        causes = ", ".join(f"{number:,} x {cause}" for cause, number in found.bad.items())
        raise UserError(f"not one of {dataset.num_samples:,} samples can be measured: {causes}")
    summary = summary_of(dataset, found, context_length)
    if command.json:
        print(summary_json(summary), end="")
    else:
        _print_table(summary)
    if command.html is not None:
        page = stats_page(" ".join(command.shards), summary, found)
        write_whole(command.html, page, overwrite=command.overwrite)


def stats_page(title: str, summary: dict[str, Any], found: Measures) -> str:
    """An HTML page with plots and tables. It loads nothing, runs no script."""
    charts = [
        histogram("Width of pictures", "pixels", as_numbers(found.widths)),
        histogram("Height of pictures", "pixels", as_numbers(found.heights)),
        histogram("Size of pictures", "bytes", as_numbers(found.picture_bytes)),
        histogram("Length of captions", "characters", as_numbers(found.caption_characters)),
    ]
    if found.caption_tokens:
        context_length = summary["context_length"]
        mark = (context_length, f"context {context_length}")
        tokens = as_numbers(found.caption_tokens)
        charts.append(histogram("Length of captions", "tokens, the end included", tokens, mark))
    titles, rows = table_rows(summary)
    first, *others = sentences(summary)
    values = {"title": title, "summary": first, "sentences": others, "titles": titles}
    fingerprint = summary["dataset_fingerprint"]
    return rendered_page(
        "stats.html.jinja",
        {**values, "charts": charts, "rows": rows, "dataset_fingerprint": fingerprint},
    )


def _tokenizer(command: StatsCommand) -> tuple[Tokenizer | None, int | None]:
    """A tokenizer that truncates nothing, and the context length that is asked about."""
    wanted = command.context_length
    if wanted is not None and wanted < 1:
        raise UserError(f"--context-length is {wanted}; it must be at least 1")
    if command.tokenizer is None:
        if wanted is not None:
            raise UserError(f"--context-length {wanted} needs a --tokenizer that counts tokens")
        return None, None
    if command.tokenizer.is_dir():
        own = wanted or load_tokenizer(command.tokenizer).context_length
        return load_tokenizer(command.tokenizer, context_length=WITHOUT_TRUNCATION), own
    tokenizer = SentencePieceTokenizer(
        read_model(command.tokenizer),
        canonicalize=command.canonicalize,
        context_length=WITHOUT_TRUNCATION,
    )
    return tokenizer, wanted or SIGLIP_CONTEXT_LENGTH


def _print_table(summary: dict[str, Any]) -> None:
    titles, rows = table_rows(summary)
    # A row for each percentile, as a terminal is narrow.
    table = Table(box=SIMPLE)
    for number, column in enumerate([titles, *rows]):
        table.add_column(column[0], justify="right" if number else "left")
    for cells in zip(*(column[1:] for column in [titles, *rows]), strict=True):
        table.add_row(*cells)
    console = Console()
    console.print(table)
    for line in sentences(summary):
        console.print(cell(line))


if __name__ == "__main__":
    run_command(main)
