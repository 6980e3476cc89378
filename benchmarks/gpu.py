"""What only a GPU can show, in one command:  python benchmarks/gpu.py

Whole training steps on made-up batches (ViT-B/16 at 224 pixels beside a text tower of size B): plain and
recursive text towers, packed and padded captions, eager and compiled, over batch sizes, beside open_clip's
model, loss and autocast on the same work; the loss alone in all its forms beside the three products of
matrices that it cannot do without; and what the loader gives on this machine. The cases that say most come
first. When the time is over the others are listed as not measured; the same command again measures them,
and adds them to the figures. A case that fails, or does not fit, is named with its cause.
"""

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from gpu_cases import Case, LoaderCase, LossCase, run_case
from gpu_steps import Setting, StepCase
from gpu_tables import NO_TIME, gpu_tables, is_alike, is_settled
from measuring import RESULTS, cause_of, forget_peak, machine, write_figures

from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress
from rins_mm.distributed import local_device
from rins_mm.peak import describe_peak

DEPTHS = (("AB", 0.0), ("A^3B", 0.0), ("A^3B", 0.5))
"""Signature of the text tower, and the chance that a repeated round is skipped."""


@dataclass(frozen=True, kw_only=True)
class GpuBenchmark:
    """Training steps, losses and the loader on one device."""

    batch_sizes: tuple[int, ...] = (512, 256, 1024)
    """Pairs per step; all is measured at the first."""
    split_batch_sizes: tuple[int, ...] = (4096,)
    """Pairs per step in micro-batches of the first batch size."""
    loss_batch_sizes: tuple[int, ...] = (32_768, 4096, 16_384, 65_536)
    """Pairs for the loss alone."""
    image_size: int = 224
    """Side of the pictures."""
    patch_size: int = 16
    """Side of a patch."""
    width: int = 768
    """Width of both towers, a multiple of 64; heads are 64 wide."""
    depth: int = 12
    """Blocks of each tower."""
    context_length: int = 64
    """Tokens of the text tower's context."""
    vocab_size: int = 32_000
    """Rows of the token table."""
    compiler: Literal["off", "inductor", "aot_eager"] = "inductor"
    """Backend of torch.compile for what is measured compiled; off: nothing is."""
    loader_workers: int = 0
    """Processes that make batches; 0: one for each core."""
    loader_samples: int = 1024
    """Pictures that are written for the loader to read."""
    steps: int = 8
    """Steps that count, of each case, after three that do not."""
    seconds: float = 450.0
    """No case is begun that would probably end later than this."""
    out: Path | None = None
    """Where the figures go; None: docs/results/gpu/DEVICE.json."""
    overwrite: bool = False
    """Begin anew, instead of adding to the figures that are there."""


def main(argv: list[str]) -> None:
    """Measure what the time suffices for, print the tables, write the figures."""
    command = tyro.cli(GpuBenchmark, args=argv, description=__doc__)
    if command.width % 64 or command.steps < 1 or not command.batch_sizes:
        raise UserError(
            f"width is {command.width}, steps {command.steps}, batch_sizes {command.batch_sizes}; the "
            "width must be a multiple of 64, a step must count, and a batch size be named"
        )
    begin = time.monotonic()
    device = local_device()
    facts = machine(device)
    slug = re.sub("[^a-z0-9]+", "-", facts["device"].lower())
    out = command.out or RESULTS / "gpu" / f"{slug}.json"
    names = Setting.__dataclass_fields__
    setting = Setting(**{name: getattr(command, name) for name in names})
    settled = [] if command.overwrite else rows_so_far(out, facts, setting)
    figures = {**facts, "peak": describe_peak(device, "bf16"), "setting": asdict(setting)}
    rows: list[dict[str, Any]] = []
    cases = plan(command)
    for case in with_progress(cases, total=len(cases), label="cases"):
        named = name_of(case)
        row = next((row for row in settled if named.items() <= row.items()), None)
        if row is None:
            left = command.seconds - (time.monotonic() - begin)
            row = {**named, **measure(case, setting, device, rows, left)}
        rows.append(row)
        # After each case: an interrupted run keeps what it has measured.
        kept = [row for row in settled if row not in rows]
        write_figures(out, {**figures, "cases": rows + kept})
    print(gpu_tables({**figures, "cases": rows}))
    print(f"\nThe figures are in {out}")


def plan(command: GpuBenchmark) -> list[Case]:
    """All cases, those first that say most; what open_clip does comes with what it is compared to."""
    main_size, *more_sizes = command.batch_sizes
    ours = partial(
        StepCase,
        trainer="rins_mm",
        layout="packed",
        compiler=command.compiler,
        batch_size=main_size,
    )
    theirs = partial(
        StepCase, trainer="open_clip", layout="padded", compiler="off", batch_size=main_size
    )
    deep, drawn = (
        {"signature": signature, "skip_probability": chance} for signature, chance in DEPTHS[1:]
    )
    losses = [
        LossCase(loss_batch_size=size, compiler=command.compiler)
        for size in command.loss_batch_sizes
    ]
    workers = command.loader_workers or os.cpu_count() or 1
    cases: list[Case] = [
        ours(), theirs(), ours(**deep), ours(compiler="off"), *losses[:1], ours(layout="padded"),
        ours(**drawn), theirs(compiler=command.compiler), LoaderCase(num_workers=workers),
    ]  # fmt: skip
    for (signature, chance), layout, compiler in product(
        DEPTHS, ("packed", "padded"), (command.compiler, "off")
    ):
        depth = {"signature": signature, "skip_probability": chance}
        cases.append(ours(**depth, layout=layout, compiler=compiler))
    for size in more_sizes:
        cases += [ours(batch_size=size), theirs(batch_size=size)]
    cases += losses[1:]
    cases += [ours(batch_size=n, micro_batch_size=main_size) for n in command.split_batch_sizes]
    cases += [ours(captions="full"), theirs(captions="full"), ours(captions="full", **deep)]
    # What is listed twice is measured once, where it comes first.
    return list(dict.fromkeys(cases))


def name_of(case: Case) -> dict[str, Any]:
    """What tells a case from all others."""
    kinds = {StepCase: "step", LossCase: "loss", LoaderCase: "loader"}
    return {"kind": kinds[type(case)], **asdict(case)}


def rows_so_far(out: Path, facts: dict[str, Any], setting: Setting) -> list[dict[str, Any]]:
    """What an earlier run has settled. Raises UserError where its figures cannot stand beside new ones."""
    if not out.exists():
        return []
    earlier = json.loads(out.read_text())
    new = {**facts, "setting": asdict(setting)}
    for name in ("device", "versions", "setting"):
        if earlier[name] != new[name]:
            raise UserError(
                f"{out} has figures of another {name} ({earlier[name]}, now {new[name]}); "
                "give --overwrite or another --out"
            )
    return [row for row in earlier["cases"] if is_settled(row)]


def measure(
    case: Case,
    setting: Setting,
    device: torch.device,
    before: Sequence[dict[str, Any]],
    seconds_left: float,
) -> dict[str, Any]:
    """What a case shows, or why it was left out."""
    # A case takes about as long as the last one like it.
    alike = [row for row in before if is_alike(row, name_of(case)) and "case_seconds" in row]
    if seconds_left <= (alike[-1]["case_seconds"] if alike else 0.0):
        return {"left_out": NO_TIME}
    forget_peak(device)
    begin = time.monotonic()
    try:
        shown = run_case(case, setting, device)
    except Exception as error:
        # One case that cannot be measured here must not cost the others.
        shown = {"left_out": cause_of(error)}
        if not is_settled(shown):
            traceback.print_exc(file=sys.stderr)
    return {**shown, "case_seconds": time.monotonic() - begin}


if __name__ == "__main__":
    run_command(main)
