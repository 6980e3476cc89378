"""Score a run, a checkpoint or an export, alone or on many ranks:

torchrun --nproc-per-node 2 -m rins_mm.evaluate RUN --tasks zero_shot:emoji-style --text-signatures AB AAB
"""

import datetime
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console

from data_pipelines.errors import UserError, run_command
from eval.ranks import Ranks
from eval.report import results_tables, write_page, write_results
from eval.suite import run_suite
from eval.tasks import TASKS
from rins_mm.config import EvaluationConfig
from rins_mm.distributed import local_device, process_group
from rins_mm.encoder import SigLIPEncoder, load_encoder
from rins_mm.models.recursion import expand, reachable_signatures
from rins_mm.recorded_config import read_config
from rins_mm.run_folder import describe_environment


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure zero-shot classification and retrieval at several depths of the text tower.

    What is not named is taken from the run's own record. No file is replaced without --overwrite.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A run (its newest checkpoint), one checkpoint's folder, or an export."""
    tasks: tuple[str, ...] = ()
    """Task names, such as zero_shot:emoji-style, retrieval:emoji-test, or retrieval:SHARDS for your
    own; none: those that the run recorded."""
    text_signatures: tuple[str, ...] = ()
    """Depths of the text tower, such as AB AAB AAAB; none: those that the run recorded, or else all
    that its training drew."""
    data: Path | None = None
    """Folder of the pictures, for tasks that need one (zero_shot:imagenet)."""
    out: Path | None = None
    """File to write; None: eval.json in the run's folder, eval-STEP.json there for the folder of one
    checkpoint, and eval.json where you are for an export, whose files are sealed."""
    html: Path | None = None
    """Also write the results as a page that needs nothing beside it."""
    overwrite: bool = False
    """Replace these files if they exist."""
    num_threads: int = 1
    """CPU threads per rank."""
    timeout_seconds: float = 600.0
    """A rank that hears nothing from the others for this long gives up."""


def main(argv: list[str]) -> None:
    """Load, run the suite on all ranks, and write and print on the first."""
    command = tyro.cli(EvaluateCommand, args=argv, prog="python -m rins_mm.evaluate")
    # Every rank looks before any of them writes: the suite that follows begins with an exchange.
    out = output_file(command)
    recorded = recorded_evaluation(command.run)
    tasks = command.tasks or recorded.tasks
    torch.set_num_threads(command.num_threads)
    with process_group(command.timeout_seconds) as ranks:
        encoder = load_encoder(command.run, device=str(local_device()))
        if not tasks:
            raise UserError(
                f"{command.run} records no tasks; name some with --tasks, such as {' '.join(TASKS)}"
            )
        data = command.data or (Path(recorded.data) if recorded.data else None)
        results = run_suite(
            encoder.as_dual_encoder(),
            tasks,
            text_signatures(command.text_signatures or recorded.text_signatures, encoder),
            data=data,
            ranks=ranks,
        )
        if ranks.is_first:
            write(command, out, results, provenance(command, argv, encoder, ranks))


def output_file(command: EvaluateCommand) -> Path:
    """Where the results go. Raises UserError for files that exist and may not be replaced."""
    if command.num_threads < 1:
        raise UserError(f"num_threads is {command.num_threads}; it must be at least 1")
    out = command.out
    if out is None and (command.run / "encoder.json").is_file():
        out = Path("eval.json")
    elif out is None and (command.run / "state.json").is_file():
        checkpoint = command.run.resolve()
        step = checkpoint.name.removeprefix("step-").lstrip("0")
        out = checkpoint.parent.parent / f"eval-{step}.json"
    elif out is None:
        out = command.run / "eval.json"
    for path in (out, command.html):
        if path is not None and path.exists() and not command.overwrite:
            raise UserError(
                f"{path} exists already; give --overwrite to replace it, or name another file"
            )
    return out


def recorded_evaluation(run: Path) -> EvaluationConfig:
    """What the run measured while it trained; nothing for an export, which does not say."""
    of_checkpoint = (run / "state.json").is_file()
    record = (run.resolve().parent.parent if of_checkpoint else run) / "config.json"
    if record.is_file() and not (run / "encoder.json").is_file():
        return read_config(record).evaluation
    return EvaluationConfig()


def text_signatures(named: Sequence[str], encoder: SigLIPEncoder) -> list[str]:
    """The depths to measure, each of which the text tower has been seen to have."""
    tower = encoder.model.text_tower
    signatures = list(named) or reachable_signatures(tower.config.recursion)
    for signature in signatures:
        tower.blocks.check(expand(signature))
    return signatures


def provenance(
    command: EvaluateCommand, argv: Sequence[str], encoder: SigLIPEncoder, ranks: Ranks
) -> dict[str, Any]:
    """What one needs to know to repeat the evaluation."""
    return {
        "command": f"python -m rins_mm.evaluate {shlex.join(argv)}",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": encoder.name,
        "model_fingerprint": encoder.fingerprint,
        "trained_signature": encoder.signature,
        "world_size": ranks.world_size,
        "threads": command.num_threads,
        **describe_environment(),
    }


def write(
    command: EvaluateCommand,
    out: Path,
    results: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> None:
    """The results as JSON, as a page where one is asked for, and as a table."""
    write_results(out, results, facts, overwrite=command.overwrite)
    if command.html is not None:
        write_page(command.html, results, facts, overwrite=command.overwrite)
    console = Console(highlight=False)
    console.print(results_tables(results))
    for path in (out, command.html):
        if path is not None:
            console.print(f"wrote {path}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    run_command(main)
