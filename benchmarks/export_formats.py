"""What does an encoder weigh and cost in each format?  python benchmarks/export_formats.py

Fresh weights, for neither depends on them. Each format at each depth runs in a process of its own, with one
thread, in the consumer's library alone (rins_mm/export/consumers); formats take turns in rounds. Times are
CPU times, which other programs hardly move, of one text query with its tokenizer, and of one prepared picture.
"""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from measuring import RESULTS, machine, write_figures

from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress
from data_pipelines.tokenizers import SentencePieceTokenizer, read_model
from data_pipelines.whole_files import refuse_existing
from rins_mm.config import EMOJI_TOKENIZER
from rins_mm.encoder import SigLIPEncoder
from rins_mm.export import consumers
from rins_mm.export.formats import FORMATS, ExportJob
from rins_mm.models.draws import RecursionConfig
from rins_mm.models.image_tower import ImageTowerConfig
from rins_mm.models.siglip import build_model
from rins_mm.models.text_tower import TextTowerConfig

QUERY = "a small red apple on a wooden table"
WEIGHTS = {".safetensors", ".onnx", ".pt2"}
CHILD = Path(__file__).with_name("export_latency.py")


@dataclass(frozen=True, kw_only=True)
class ExportBenchmark:
    """File sizes and latencies of exported encoders."""

    formats: tuple[str, ...] = ("native", "hf", "sentence_transformers", "onnx", "onnx_int8", "pt2")
    """Those to measure; the first is what the others are compared with."""
    signatures: tuple[str, ...] = ("AB", "AAB", "AAAB")
    """Depths of the text tower."""
    width: int = 384
    """Width of both towers; heads have 64 channels, MLPs four times the width."""
    depth: int = 4
    """Blocks of each tower."""
    image_size: int = 224
    """Side of pictures in pixels, in patches of 16."""
    context_length: int = 64
    """Longest caption in tokens."""
    rounds: int = 3
    """Times that the formats take turns."""
    out: Path = field(default=RESULTS / "export_formats.json")
    """Where the figures go."""
    overwrite: bool = False
    """Replace the figures that are there."""


def main(argv: list[str]) -> None:
    """Measure, write the figures, and print the table."""
    command = tyro.cli(ExportBenchmark, args=argv)
    refuse_existing([command.out], overwrite=command.overwrite)
    if unknown := sorted(set(command.formats) - FORMATS.keys()):
        raise UserError(f"there is no format {unknown[0]!r}; give some of {' '.join(FORMATS)}")
    encoder = fresh_encoder(command)
    unique = sum(weight.numel() * 4 for weight in encoder.model.parameters())
    rows = []
    with TemporaryDirectory() as place:
        folders = {}
        for name in command.formats:
            for signature in command.signatures:
                folders[name, signature] = _write(encoder, name, signature, Path(place))
        timed = _time(folders, command.rounds)
        for (name, signature), folder in folders.items():
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.suffix in WEIGHTS)
            rows.append(
                {"format": name, "signature": signature, "bytes": size, **timed[name, signature]}
            )
    settings = {
        key: getattr(command, key) for key in ("width", "depth", "image_size", "context_length")
    }
    figures = {"settings": settings, "unique_bytes": unique, "rows": rows}
    write_figures(command.out, figures | machine(torch.device("cpu")))
    print(export_table(figures))


def fresh_encoder(command: ExportBenchmark) -> SigLIPEncoder:
    """A recursive text tower beside a ViT of the same width."""
    tokenizer = SentencePieceTokenizer(
        read_model(EMOJI_TOKENIZER),
        canonicalize="lower_no_punctuation",
        context_length=command.context_length,
    )
    heads = command.width // 64
    model = build_model(
        ImageTowerConfig(
            image_size=command.image_size, width=command.width, depth=command.depth, num_heads=heads
        ),
        TextTowerConfig(
            width=command.width,
            depth=command.depth,
            num_heads=heads,
            mlp_width=4 * command.width,
            context_length=command.context_length,
            recursion=RecursionConfig(signature="A^3B"),
        ),
        vocab_size=tokenizer.vocab_size,
        pad_token=tokenizer.pad_token,
        seed=0,
    )
    return SigLIPEncoder(model, tokenizer, name="fresh@0")


def _write(encoder: SigLIPEncoder, name: str, signature: str, place: Path) -> Path:
    from rins_mm.checkpoint import write_manifest

    folder = place / f"{name}-{signature}"
    folder.mkdir()
    FORMATS[name].write(ExportJob(encoder=encoder, text_signature=signature), folder)
    (folder / "parity.json").write_text(json.dumps({"text_signature": signature}))
    write_manifest(folder, {})
    return folder


def _time(folders: dict[tuple[str, str], Path], rounds: int) -> dict[tuple[str, str], Any]:
    """Milliseconds of each format at each depth: the median of the rounds."""
    taken: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in folders}
    turns = [case for _ in range(rounds) for case in folders]
    for case in with_progress(turns, total=len(turns), label="formats"):
        consumer = Path(consumers.__file__).with_name(f"{case[0]}.py")
        command = [sys.executable, "-I", CHILD, consumer, folders[case], QUERY]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            last = (child.stderr.strip().splitlines() or ["no word"])[-1]
            raise UserError(f"{case[0]} at {case[1]} ended with {last}; leave it out of --formats")
        taken[case].append(json.loads(child.stdout.splitlines()[-1]))
    return {
        case: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for case, found in taken.items()
    }


def export_table(figures: dict[str, Any]) -> str:
    """Sizes beside the unique weights, and times beside those of the first format at the same depth."""
    unique, rows = figures["unique_bytes"], figures["rows"]
    base = {row["signature"]: row for row in rows if row["format"] == rows[0]["format"]}
    lines = [
        "| format | text depth | weights, MB | of the unique ones | text query, ms | ratio | picture, ms | ratio |",
        "| --- | --- |" + " ---: |" * 6,
    ]
    for row in rows:
        first = base[row["signature"]]
        cells = [f"{row['bytes'] / 1e6:.1f}", f"{row['bytes'] / unique:.3f}"]
        for key in ("text_ms", "picture_ms"):
            cells += [f"{row[key]:.2f}", f"{row[key] / first[key]:.2f}"]
        lines.append(f"| {row['format']} | {row['signature']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
