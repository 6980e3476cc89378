"""Search pictures by words:  python -m rins_mm.search DIR --pictures FOLDER --query "a red apple"

Every picture is compared with every query.
"""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from data_pipelines.errors import UserError, run_command
from data_pipelines.whole_files import write_whole
from data_pipelines.words import cell, printable, say
from eval.embed import embed_pictures, embed_texts
from eval.encoder import DEFAULT_VARIANT, DualEncoder
from eval.nearest import nearest
from eval.ranks import Ranks
from eval.report import page_templates
from eval.scores import Vectors
from eval.words import short
from rins_mm.distributed import local_device
from rins_mm.encoder import load_encoder
from rins_mm.gallery import Gallery, open_gallery

THUMBNAIL_SIDE = 256
NUM_BAD_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """Find the pictures that fit the words best, by exact search over cosines."""

    folder: Annotated[Path, tyro.conf.Positional]
    """An export, a run (its newest checkpoint), or one checkpoint's folder."""
    pictures: str
    """Folder of JPEG, PNG or WebP files, searched with all folders in it; or shards, such as
    emoji:test or FOLDER/part-{000..013}.tar."""
    query: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to look for, in words; may be given several times."""
    top_k: int = 10
    """How many pictures to show for each query."""
    text_signature: str | None = None
    """Depth of the text tower, such as AB or AAB; None: the one it was trained with."""
    html: Path | None = None
    """Also write the answers, with small copies of the pictures, as a page that needs nothing beside it."""
    overwrite: bool = False
    """Replace the page if it exists."""
    num_threads: int = 0
    """CPU threads; 0: as many as torch chooses."""


def main(argv: list[str]) -> None:
    """Load, embed, search, print."""
    command = tyro.cli(SearchCommand, args=argv, prog="python -m rins_mm.search")
    check(command)
    if command.num_threads:
        torch.set_num_threads(command.num_threads)
    encoder = load_encoder(command.folder, device=str(local_device()))
    gallery = open_gallery(command.pictures)
    signature = encoder.signature if command.text_signature is None else command.text_signature
    found = search(
        encoder.as_dual_encoder(), gallery, command.query, signature=signature, top_k=command.top_k
    )
    console = Console(highlight=False)
    for query, matches in found.answers.items():
        console.print(matches_table(query, matches, gallery))
    for line in remarks(found, gallery):
        console.print(cell(line))
    if command.html is not None:
        facts = {
            "model": encoder.name,
            "text signature": signature,
            "pictures": f"{gallery.num_pictures:,} pictures in {printable(command.pictures)}",
            "fingerprint": encoder.fingerprint,
        }
        write_whole(command.html, search_page(found, gallery, facts), overwrite=command.overwrite)
        say(f"wrote {command.html}")


def check(command: SearchCommand) -> None:
    """Refuse what cannot be answered, before anything is read."""
    if not command.query:
        raise UserError('there is nothing to look for; add --query "WORDS", once or several times')
    if not all(query.strip() for query in command.query):
        raise UserError('a query is empty; write what to look for, such as --query "a red apple"')
    if command.top_k < 1:
        raise UserError(f"top_k is {command.top_k}; it must be at least 1")
    if command.num_threads < 0:
        raise UserError(f"num_threads is {command.num_threads}; it must be at least 0")
    if command.html is not None and command.html.exists() and not command.overwrite:
        raise UserError(
            f"{command.html} exists already; give --overwrite to replace it, or another --html"
        )


def search(
    encoder: DualEncoder, gallery: Gallery, queries: Sequence[str], *, signature: str, top_k: int
) -> "Found":
    """The `top_k` best pictures for each query.

    Raises UserError when none of the pictures can be decoded.
    """
    queries = list(dict.fromkeys(queries))
    # The words first: they are quick, and a mistake in the signature shows before the long work.
    words = embed_texts(encoder, queries, [signature], Ranks())[signature]
    embedded = embed_pictures(
        encoder,
        gallery.read,
        gallery.num_pictures,
        [DEFAULT_VARIANT],
        Ranks(),
        label="embedding pictures",
    )
    causes = dict(Counter(embedded.causes.values()).most_common())
    if len(embedded.causes) == gallery.num_pictures:
        raise UserError(
            f"none of the {gallery.num_pictures:,} pictures can be used ({causes}); look at the files"
        )
    pictures = embedded.usable.nonzero().flatten()
    scores, places = nearest(
        Vectors(words), Vectors(embedded.features[DEFAULT_VARIANT], pictures), top_k
    )
    answers = zip(queries, scores.tolist(), pictures[places].tolist(), strict=True)
    return Found(
        answers={
            query: [
                Match(rank=place + 1, score=score, number=number)
                for place, (score, number) in enumerate(zip(best, numbers, strict=True))
            ]
            for query, best, numbers in answers
        },
        bad=embedded.causes,
    )


def matches_table(query: str, matches: Sequence["Match"], gallery: Gallery) -> Table:
    """The answer to one query, for a terminal."""
    labels = [gallery.label(match.number) for match in matches]
    table = Table(box=box.SIMPLE_HEAD, title=cell(query, style="bold"), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    if any(labels):
        table.add_column("label", overflow="fold")
    table.add_column("file", overflow="fold")
    for match, label in zip(matches, labels, strict=True):
        words = [label, gallery.name(match.number)] if any(labels) else [gallery.name(match.number)]
        table.add_row(*map(cell, [str(match.rank), f"{match.score:.4f}", *words]))
    return table


def remarks(found: "Found", gallery: Gallery) -> list[str]:
    """What was left out: counts by cause, then the pictures themselves."""
    causes = Counter(gallery.unreadable) + Counter(found.bad.values())
    lines = [f"{number:,} left out: {cause}" for cause, number in causes.most_common()]
    listed = list(found.bad.items())[:NUM_BAD_LISTED]
    lines += [f"  {gallery.name(number)}: {cause}" for number, cause in listed]
    more = len(found.bad) - len(listed)
    return [*lines, f"  and {more:,} more"] if more else lines


def search_page(found: "Found", gallery: Gallery, facts: Mapping[str, str]) -> str:
    """An HTML page with the answers. It holds its pictures, loads nothing, runs no script."""
    templates = page_templates(jinja2.PackageLoader("rins_mm", ""))

    @cache
    def card(number: int) -> dict[str, Any]:
        return {
            "name": short(gallery.name(number), 300),
            "label": short(gallery.label(number), 200),
            "picture": thumbnail(gallery.read(number)),
        }

    return templates.get_template("search.html.jinja").render(
        answers=[
            (printable(query), [(match, card(match.number)) for match in matches])
            for query, matches in found.answers.items()
        ],
        remarks=remarks(found, gallery),
        facts=facts,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def thumbnail(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """A small WebP of the pixels, encoded anew, as a data: address."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class Match:
    """One picture in an answer."""

    rank: int
    score: float
    """Cosine of the query and the picture."""
    number: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """The answers of one search."""

    answers: Mapping[str, list[Match]]
    """Matches by query, the best first."""
    bad: Mapping[int, str]
    """Numbers of the pictures that could not be decoded, and why."""


if __name__ == "__main__":
    run_command(main)
