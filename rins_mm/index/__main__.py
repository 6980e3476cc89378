"""Indexes of pictures:  python -m rins_mm.index build|add|remove|verify|search|duplicates

torchrun --nproc-per-node 2 -m rins_mm.index build RUN --pictures FOLDER --out INDEX
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from data_pipelines.errors import UserError, run_command
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import printable, say
from rins_mm.distributed import process_group
from rins_mm.gallery import open_gallery
from rins_mm.index.answers import answer, as_gallery, depth_in_words
from rins_mm.index.build import Addition, build, known_files, unknown_items
from rins_mm.index.commands import (
    AddCommand,
    BuildCommand,
    DuplicatesCommand,
    RemoveCommand,
    SearchIndexCommand,
    VerifyCommand,
    open_builder,
    open_own_model,
    set_threads,
)
from rins_mm.index.duplicates import near_duplicates
from rins_mm.index.layout import IndexFacts, read_removed, write_removed
from rins_mm.index.opened import open_index
from rins_mm.index.verify import verify, verify_pictures
from rins_mm.index.where import rows_where
from rins_mm.search import matches_table, search_page

Command = (
    Annotated[BuildCommand, tyro.conf.subcommand("build")]
    | Annotated[AddCommand, tyro.conf.subcommand("add")]
    | Annotated[RemoveCommand, tyro.conf.subcommand("remove")]
    | Annotated[VerifyCommand, tyro.conf.subcommand("verify")]
    | Annotated[SearchIndexCommand, tyro.conf.subcommand("search")]
    | Annotated[DuplicatesCommand, tyro.conf.subcommand("duplicates")]
)


def main(argv: list[str]) -> None:
    """Do one of the six things."""
    command: Any = tyro.cli(Command, args=argv, prog="python -m rins_mm.index")
    STEPS[type(command)](command)


def run_build(command: BuildCommand) -> None:
    """Make an index on all ranks."""
    set_threads(command.embedding.num_threads, least=1)
    with process_group(command.embedding.timeout_seconds) as ranks:
        encoder, model = open_builder(
            command.model, command.image_signature, command.text_signature
        )
        gallery = open_gallery(command.pictures)
        addition = Addition(
            encoder=encoder,
            model=model,
            pictures=_lasting(command.pictures),
            gallery=gallery,
            items=range(gallery.num_pictures),
            pictures_per_shard=command.pictures_per_shard,
            batch_size=command.embedding.batch_size,
        )
        facts = build(addition, command.out, ranks, overwrite=command.embedding.overwrite)
        if ranks.is_first:
            _tell(f"wrote {command.out}", facts, gallery.unreadable)
            say(f'try: python -m rins_mm.index search {command.out} --query "a red apple"')


def run_add(command: AddCommand) -> None:
    """Add on all ranks what is not there yet."""
    set_threads(command.embedding.num_threads, least=1)
    with process_group(command.embedding.timeout_seconds) as ranks:
        index = open_index(command.index)
        gallery = open_gallery(command.pictures)
        items = unknown_items(gallery, known_files(index), ranks)
        num_known = gallery.num_pictures - len(items)
        if ranks.is_first and num_known:
            print(f"{num_known:,} pictures are in the index already")
        if items:
            before = index.facts
            addition = Addition(
                encoder=open_own_model(index, command.model),
                model=before.model,
                pictures=_lasting(command.pictures),
                gallery=gallery,
                items=items,
                first_number=before.end_number,
                first_shard=len(before.shards),
                pictures_per_shard=before.pictures_per_shard,
                batch_size=command.embedding.batch_size,
            )
            facts = build(addition, command.index, ranks, overwrite=command.embedding.overwrite)
            if ranks.is_first:
                added = facts.num_rows - before.num_rows
                _tell(f"added {added:,} pictures to {command.index}", facts, gallery.unreadable)


def _lasting(pictures: str) -> str:
    """What the index remembers its source by: a folder is found from anywhere."""
    return str(Path(pictures).resolve()) if os.path.isdir(pictures) else pictures


def _tell(done: str, facts: IndexFacts, unreadable: Any) -> None:
    print(
        f"{done}: {facts.num_rows:,} vectors of {facts.width} numbers in {len(facts.shards):,} shards"
    )
    for cause, count in {**facts.left_out, **unreadable}.items():
        say(f"{count:,} left out: {cause}")


def run_remove(command: RemoveCommand) -> None:
    """Mark pictures as removed."""
    if not (command.numbers or command.where):
        raise UserError('nothing is named; add --numbers 3 4, or --where "label=apple"')
    index = open_index(command.index)
    chosen = {int(index.numbers[index.place(number)]) for number in command.numbers}
    if command.where:
        chosen |= set(index.numbers[rows_where(index, command.where)].tolist())
    write_removed(command.index, [*read_removed(command.index), *chosen])
    left = index.num_pictures - len(chosen)
    say(f"removed {len(chosen):,} pictures from {command.index}; {left:,} are left")


def run_verify(command: VerifyCommand) -> None:
    """Read everything; end with exit code 1 where something is wrong."""
    index = open_index(command.index, pictures=command.pictures)
    wrong = verify(index)
    if command.with_pictures or command.pictures:
        wrong += verify_pictures(index)
    for line in wrong:
        say(line)
    if wrong:
        sys.exit(1)
    say(f"{command.index} is what was written: {index.num_pictures:,} pictures")


def run_search(command: SearchIndexCommand) -> None:
    """Search and print."""
    set_threads(command.num_threads)
    refuse_existing([command.html], overwrite=command.overwrite)
    index = open_index(command.index, pictures=command.pictures)
    found = answer(command, index)
    gallery = as_gallery(index)
    console = Console(highlight=False)
    for query, matches in found.answers.items():
        console.print(matches_table(query, matches, gallery))
        if not matches:
            console.print("no picture meets the conditions")
    if command.html is not None:
        facts = {
            "model": index.facts.model.name,
            "text signature": depth_in_words(command, index),
            "pictures": f"{index.num_pictures:,} pictures in {printable(str(command.index))}",
            "fingerprint": index.facts.model.fingerprint,
        }
        page = search_page(found, gallery, facts)
        write_whole(command.html, page, overwrite=command.overwrite)
        say(f"wrote {command.html}")


def run_duplicates(command: DuplicatesCommand) -> None:
    """Compare all with all and print the groups."""
    set_threads(command.num_threads)
    refuse_existing([command.json], overwrite=command.overwrite)
    index = open_index(command.index)
    found = near_duplicates(index, command.threshold)
    num_alike = sum(map(len, found.groups))
    print(
        f"{num_alike:,} of {index.num_pictures:,} pictures look like another (cosine at least "
        f"{command.threshold:g}), in {len(found.groups):,} groups"
    )
    for group in found.groups[: command.show]:
        print(f"\n{len(group):,} pictures")
        for number in group[:10]:
            say(f"  {number} {index.row(number)['name']}")
        if len(group) > 10:
            print(f"  and {len(group) - 10:,} more")
    if command.json is not None:
        text = json.dumps({"threshold": command.threshold, "groups": found.groups}) + "\n"
        write_whole(command.json, text, overwrite=command.overwrite)
        say(f"wrote {command.json}")


STEPS: dict[type, Callable[[Any], None]] = {
    BuildCommand: run_build,
    AddCommand: run_add,
    RemoveCommand: run_remove,
    VerifyCommand: run_verify,
    SearchIndexCommand: run_search,
    DuplicatesCommand: run_duplicates,
}


if __name__ == "__main__":
    run_command(main)
