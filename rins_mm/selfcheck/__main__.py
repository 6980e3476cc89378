"""Check loss and gradients of a recipe on this machine:  python -m rins_mm.selfcheck emoji

Every way of computing one step (ranks, micro-batches, form of the loss) against one process in fp64. Runs on the CPU.
"""

import dataclasses
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.errors import run_command
from data_pipelines.words import printable
from rins_mm.recipes import load_config
from rins_mm.selfcheck.cells import TOLERANCES, Measured, cells_of, measure
from rins_mm.selfcheck.setting import NUM_PAIRS, open_batch, prepare

TITLES = {
    "loss": "loss",
    "image_tower": "image\ntower",
    "text_tower": "text\ntower",
    "logit_scale": "scale",
    "logit_bias": "bias",
}

MIN_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class SelfcheckCommand:
    """Loss and all gradients of a small batch against one process in fp64; exit code 1 when any is off."""

    recipe: Annotated[str, tyro.conf.Positional]
    """A recipe's name or path, a recorded config.json, or a run folder."""
    full: bool = False
    """Towers of the recipe's size; else they have its form, and are small."""
    world_sizes: tuple[int, ...] = (1, 2, 3)
    """Numbers of ranks to check; processes of this command, on the CPU."""
    micro_batch_size: int = 5
    """Pairs that run at once where the batch is split."""
    json: bool = False
    """Print JSON in place of the table."""


def main(argv: list[str]) -> None:
    """Measure every cell, print them, and end with exit code 1 where one is out of tolerance."""
    command = tyro.cli(
        SelfcheckCommand,
        args=argv,
        prog="python -m rins_mm.selfcheck",
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    config = prepare(load_config(command.recipe), full=command.full)
    cells = cells_of(command.world_sizes, command.micro_batch_size)
    batch, origin = open_batch(config)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(config, batch, cells, Path(folder), Console(stderr=True).print)
    is_ok = all(one.is_ok for one in measured)
    if command.json:
        print(json.dumps(as_json(command, measured, origin), indent=1))
    else:
        size = "the recipe's size" if command.full else "toy size"
        console = Console()
        # Cut off, numbers would say nothing.
        console.width = max(console.width, MIN_WIDTH)
        console.print(table(measured, f"{command.recipe}, {size}, {NUM_PAIRS} pairs, {origin}"))
        bad = sum(not one.is_ok for one in measured)
        print(f"{bad} of {len(measured)} cells are out of tolerance" if bad else "all cells are ok")
    if not is_ok:
        sys.exit(1)


def table(measured: list[Measured], title: str) -> Table:
    """A row for each cell; errors out of tolerance are red."""
    grid = Table(title=Text(printable(title)), box=box.SIMPLE, padding=(0, 1, 0, 0))
    with_compile = len({one.cell.compile for one in measured}) > 1
    for name in ("ranks", "micro-\nbatch", "loss", *["compile"] * with_compile, "precision"):
        grid.add_column(name)
    for title in (*TITLES.values(), "tolerance", "ok"):
        grid.add_column(title, justify="right")
    for one in measured:
        cell, tolerance = one.cell, TOLERANCES[one.cell.precision]
        errors = [
            f"{one.errors[part]:.1e}"
            if one.errors[part] <= tolerance
            else f"[red]{one.errors[part]:.1e}[/]"
            for part in TITLES
        ]
        grid.add_row(
            str(cell.world_size),
            str(cell.micro_batch_size or "off"),
            cell.loss,
            *[cell.compile] * with_compile,
            cell.precision,
            *errors,
            f"{tolerance:.0e}",
            "yes" if one.is_ok else "[red]NO[/]",
        )
    return grid


def as_json(command: SelfcheckCommand, measured: list[Measured], origin: str) -> dict[str, Any]:
    """All that the table says, as plain values."""
    return {
        **dataclasses.asdict(command),
        "data": origin,
        "pairs": NUM_PAIRS,
        "torch": torch.__version__,
        "tolerances": TOLERANCES,
        "ok": all(one.is_ok for one in measured),
        "cells": [
            {**dataclasses.asdict(one.cell), "errors": one.errors, "ok": one.is_ok}
            for one in measured
        ],
    }


if __name__ == "__main__":
    run_command(main)
