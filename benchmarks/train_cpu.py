"""How fast does this train on CPUs, beside open_clip?  python benchmarks/train_cpu.py --peer-packages DIR

Both trainers, each through its own command, read the same shards and train the same plain towers (AB)
with the same batch, bf16 autocast (open_clip's fastest mode on CPUs), AdamW and one thread per process
(open_clip reads data in one more process, this trainer in a thread, as by default); then ours trains
with the first half of its text tower run three times (AAAB). Runs take turns, and medians over them are
printed, the ratios to open_clip first. benchmarks/open_clip_peer.py says what was changed for open_clip
to run at all; without its packages (benchmarks/open_clip_packages.sh fetches them) only our side runs.
"""

import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
import tyro
from measuring import RESULTS, machine, write_figures
from train_shards import Captions, write_shards
from train_sides import Outcome, Side, Towers, Work, peer_is_missing, run_side

from data_pipelines.errors import UserError, run_command
from data_pipelines.progress import with_progress

FIGURES = ("samples_per_second", "samples_per_cpu_second", "peak_megabytes")
SIDES: tuple[Side, ...] = ("open_clip AB", "rins_mm AB", "rins_mm AAAB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainBenchmark:
    """Samples per second and peak memory of two trainers."""

    peer_packages: Path | None = None
    """Folder that benchmarks/open_clip_packages.sh has filled."""
    captions: tuple[Captions, ...] = ("natural", "full")
    """natural: 5 to 20 tokens; full: as many as the context holds."""
    processes: tuple[int, ...] = (1, 2)
    """Numbers of processes."""
    batch_sizes: tuple[int, ...] = (64,)
    """Pairs per process and step."""
    rounds: int = 3
    """Runs of each side."""
    steps: int = 14
    """Steps of a run."""
    warm_up: int = 4
    """First steps of a run, which do not count."""
    image_size: int = 64
    """Side of the pictures."""
    patch_size: int = 16
    """Side of a patch."""
    image_depth: int = 12
    """Blocks of the image tower."""
    text_depth: int = 6
    """Blocks of the text tower."""
    width: int = 192
    """Width of both towers, a multiple of 64."""
    context_length: int = 64
    """Tokens of the text tower's context."""
    out: Path = RESULTS / "train_cpu.json"
    """Where the figures go; those of other batch sizes, captions and processes stay there."""


def main(argv: list[str]) -> None:
    """Measure every case, print the table, write the figures."""
    command = tyro.cli(TrainBenchmark, args=argv)
    if command.width % 64 or not 0 <= command.warm_up < command.steps or command.rounds < 1:
        raise UserError(
            f"width is {command.width}, warm_up {command.warm_up} of {command.steps} steps, rounds "
            f"{command.rounds}; the width must be a multiple of 64, a step must count, and a round be run"
        )
    missing = peer_is_missing(command.peer_packages)
    sides = SIDES[1:] if missing else SIDES
    if missing:
        print(f"open_clip is left out: {missing}")
    runs = [
        (turn, captions, processes, batch_size, side)
        for batch_size in command.batch_sizes
        for captions in command.captions
        for processes in command.processes
        for turn in range(command.rounds)
        # Who comes first changes from round to round.
        for side in (*sides[turn % len(sides) :], *sides[: turn % len(sides)])
    ]
    outcomes: dict[tuple[Captions, int, int], dict[Side, list[Outcome]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, run in enumerate(with_progress(runs, total=len(runs), label="runs")):
            _, captions, processes, batch_size, side = run
            work = make_work(command, folder, captions, processes, batch_size)
            outcome = run_side(side, work, folder / f"run-{number}", command.peer_packages)
            case = outcomes.setdefault((captions, processes, batch_size), {})
            case.setdefault(side, []).append(outcome)
    figures = [describe_case(command, *case, sides) for case, sides in outcomes.items()]
    keep(figures, command.out)
    print(table(figures))


def make_work(
    command: TrainBenchmark, folder: Path, captions: Captions, processes: int, batch_size: int
) -> Work:
    """What a run has to do; its shards are written when they are first needed."""
    towers = Towers(
        **{field.name: getattr(command, field.name) for field in dataclasses.fields(Towers)}
    )
    shards = folder / captions
    if not shards.exists():
        samples = max(1024, max(command.batch_sizes) * 2)
        write_shards(
            shards, captions, samples=samples, side=2 * command.image_size,
            context_length=command.context_length,
        )  # fmt: skip
    return Work(
        towers=towers,
        shards=tuple(sorted(shards.glob("*.tar"))),
        batch_size=batch_size,
        processes=processes,
        steps=command.steps,
        warm_up=command.warm_up,
    )


def describe_case(
    command: TrainBenchmark,
    captions: Captions,
    processes: int,
    batch_size: int,
    sides: dict[Side, list[Outcome]],
) -> dict[str, Any]:
    """Medians of a case, the runs that they are of, and the ratios to open_clip."""
    measured = {
        side: {name: statistics.median(getattr(run, name) for run in runs) for name in FIGURES}
        | {"runs": [dataclasses.asdict(run) for run in runs]}
        for side, runs in sides.items()
    }
    peer = measured.get("open_clip AB")
    ratios = {
        side: {name: ours[name] / peer[name] for name in FIGURES}
        for side, ours in measured.items()
        if peer and side != "open_clip AB"
    }
    settings = dataclasses.asdict(command)
    towers = {field.name: settings[field.name] for field in dataclasses.fields(Towers)}
    return {
        "captions": captions,
        "processes": processes,
        "batch_size_per_process": batch_size,
        "towers": towers,
        "ratios_to_open_clip": ratios,
        "medians": measured,
        "steps": command.steps,
        "warm_up": command.warm_up,
        **machine(torch.device("cpu")),
    }


def keep(figures: list[dict[str, Any]], path: Path) -> None:
    """Write the cases, in place of earlier figures of the same ones."""

    def name(case: dict[str, Any]) -> str:
        kinds = ("captions", "processes", "batch_size_per_process", "towers")
        return json.dumps([case[kind] for kind in kinds])

    new = {name(case) for case in figures}
    old = json.loads(path.read_text())["cases"] if path.exists() else []
    write_figures(path, {"cases": [case for case in old if name(case) not in new] + figures})


def table(figures: list[dict[str, Any]]) -> str:
    """Ratios first, then what they are of."""
    columns = ("samples/s", "samples per CPU second", "peak memory")
    lines = [
        "| captions | processes x batch | trainer | "
        + " | ".join(f"{name}, times open_clip's" for name in columns)
        + " | samples/s | per CPU second | peak MB |",
        "|---" * 9 + "|",
    ]
    for case in figures:
        for side, medians in case["medians"].items():
            ratios = case["ratios_to_open_clip"].get(side)
            first = [f"**{ratios[name]:.2f}**" if ratios else "" for name in FIGURES]
            words = [
                case["captions"],
                f"{case['processes']} x {case['batch_size_per_process']}",
                side,
                *first,
                f"{medians['samples_per_second']:.1f}",
                f"{medians['samples_per_cpu_second']:.1f}",
                f"{medians['peak_megabytes']:.0f}",
            ]
            lines.append(f"| {' | '.join(words)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
