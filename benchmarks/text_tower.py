"""What does padding cost the text tower?  python benchmarks/text_tower.py

Forward and backward pass of the tower in bf16 on one CPU thread, with captions whose lengths are drawn
anew in each round (log-normal, cut at the context). Three layouts: packed, several captions to a row;
padded to the longest caption of the batch; and padded to the context, as SigLIP's weights want it and
other trainers do it. They take turns, and are timed by CPU time, which other programs hardly move.
Printed are medians over rounds of ratios to the plain tower padded to the context.
"""

import json
import os
import platform
import shlex
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress
from data_pipelines.whole_files import refuse_existing, write_whole
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.packing import pack
from rins_mm.models.signatures import expand
from rins_mm.models.text_tower import TextTower, TextTowerConfig, initialise_text_tower

ROOT = Path(__file__).parents[1]
LAYOUTS = {
    "packed": {"padding": "masked"},
    "longest": {"padding": "masked", "packing": False},
    "context": {"padding": "siglip"},
}
SPREAD = 0.5
"""Standard deviation of the logarithm of a caption's length."""
VOCAB_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class TextTowerBenchmark:
    """The text tower's training step without its optimizer, packed and padded."""

    widths: tuple[int, ...] = (192, 512)
    """Widths of the tower; heads have 64 channels, MLPs four times the width."""
    mean_lengths: tuple[int, ...] = (5, 10, 20)
    """Tokens of a caption, on average before they are cut at the context."""
    signatures: tuple[str, ...] = ("AB", "AAAB")
    """Depths to run; the first one, padded to the context, is what all are compared with."""
    depth: int = 2
    """Blocks."""
    context_length: int = 64
    """Longest caption in tokens."""
    batch_size: int = 64
    """Captions in a batch."""
    rounds: int = 5
    """Times that the layouts take turns, after one that does not count."""
    out: Path = field(default=ROOT / "docs" / "results" / "text_tower.json")
    """Where the figures go."""
    overwrite: bool = False
    """Replace the figures that are there."""


def main(argv: list[str]) -> None:
    """Measure, print a table of ratios, and write the figures."""
    command = tyro.cli(TextTowerBenchmark, args=argv)
    for name in ("batch_size", "rounds"):
        if getattr(command, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(command, name)}; at least 1")
    refuse_existing([command.out], overwrite=command.overwrite)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = [(width, mean) for width in command.widths for mean in command.mean_lengths]
    rows = [
        row
        for case in with_progress(cases, total=len(cases), label="towers")
        for row in measure(command, *case)
    ]
    results = {
        "command": shlex.join(["python", "benchmarks/text_tower.py", *argv]),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "settings": {
            "depth": command.depth, "context_length": command.context_length,
            "batch_size": command.batch_size, "rounds": command.rounds, "precision": "bf16",
        },
        "rows": rows,
    }  # fmt: skip
    write_whole(command.out, json.dumps(results, indent=1) + "\n", overwrite=command.overwrite)
    Console(width=110).print(table(command, rows))


def measure(command: TextTowerBenchmark, width: int, mean: int) -> list[dict[str, object]]:
    """Seconds and ratios of each signature and layout, at one width and one mean length."""
    towers = {layout: build(command, width, LAYOUTS[layout]) for layout in LAYOUTS}
    sides = [(signature, layout) for signature in command.signatures for layout in towers]
    seconds: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
    tokens_seen, slots = [], []
    for turn in range(command.rounds + 1):
        tokens, offsets = captions(command, mean)
        packing = pack(offsets, context_length=command.context_length, width=width)
        tokens_seen.append(len(tokens))
        slots.append(packing.num_rows * packing.row_length)
        # Who comes first changes from round to round.
        for signature, layout in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            begin = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                vectors = towers[layout](tokens, offsets, expand(signature))
            vectors.float().square().sum().backward()
            seconds[signature, layout].append(time.process_time() - begin)
    reference = seconds[command.signatures[0], "context"]
    return [
        {
            "width": width,
            "mean_length": round(sum(tokens_seen) / len(tokens_seen) / command.batch_size, 2),
            "packed_padding": round(sum(slots) / sum(tokens_seen) - 1, 4),
            "signature": signature,
            "layout": layout,
            "milliseconds": round(1e3 * statistics.median(seconds[signature, layout][1:]), 2),
            "times_as_fast": round(
                statistics.median(
                    slow / own
                    for slow, own in zip(reference[1:], seconds[signature, layout][1:], strict=True)
                ),
                3,
            ),
        }
        for signature, layout in sides
    ]


def build(command: TextTowerBenchmark, width: int, layout: dict) -> TextTower:
    """A tower for training."""
    config = TextTowerConfig(
        width=width,
        depth=command.depth,
        num_heads=max(1, width // 64),
        mlp_width=4 * width,
        context_length=command.context_length,
        recursion=RecursionConfig(signature=max(command.signatures, key=len)),
        **layout,
    )
    tower = TextTower(config, vocab_size=VOCAB_SIZE, pad_token=0, embedding_width=width)
    initialise_text_tower(tower, torch.Generator().manual_seed(0))
    return tower.train()


def captions(command: TextTowerBenchmark, mean: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random captions and their offsets."""
    middle = mean * torch.tensor(-(SPREAD**2) / 2).exp()
    lengths = (middle * (SPREAD * torch.randn(command.batch_size)).exp()).round()
    lengths = lengths.clamp(1, command.context_length).long()
    offsets = torch.cat((lengths.new_zeros(1), lengths.cumsum(0))).int()
    return torch.randint(1, VOCAB_SIZE, (int(offsets[-1]),), dtype=torch.int32), offsets


def table(command: TextTowerBenchmark, rows: list[dict]) -> Table:
    """How many times as fast as the plain tower padded to the context."""
    found = Table(
        title=f"times as fast as {command.signatures[0]} padded to {command.context_length}"
    )
    sides = [(signature, layout) for signature in command.signatures for layout in LAYOUTS]
    for name in ("width", "tokens", *(f"{signature} {layout}" for signature, layout in sides)):
        found.add_column(name, justify="right")
    for start in range(0, len(rows), len(sides)):
        part = rows[start : start + len(sides)]
        found.add_row(
            str(part[0]["width"]),
            f"{part[0]['mean_length']:.1f}",
            *(f"{row['times_as_fast']:.2f}" for row in part),
        )
    return found


if __name__ == "__main__":
    run_command(main)
