"""Does a run that goes on and on stay as it is, and leave nothing?  make soak MINUTES=30

Starts torchrun with several ranks and loader workers, saves and evaluates often, and looks from outside
every few seconds at what all its processes hold. Then further, short runs are ended in other ways, and
what they leave behind is listed. Ends with exit code 1 when a rule is broken.
"""

import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table
from soak_plot import draw_soak
from soak_rules import judge
from soaked_run import ENDINGS, SoakedRun

from data_pipelines.errors import UserError, run_command
from data_pipelines.whole_files import refuse_existing, write_whole

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
STEPS_BEFORE_AN_END = 15


@dataclass(frozen=True, kw_only=True)
class Soak:
    """Train for a while, and watch what is held."""

    minutes: float = 30.0
    """From the first logged step on."""
    warm_up: float = 0.2
    """Share of that time in which memory may still settle."""
    megabytes_per_minute: float = 1.0
    """The growth that is allowed after that."""
    ranks: int = 2
    workers: int = 2
    """Loader workers of each rank."""
    checkpoint_every: int = 20
    """Steps."""
    eval_every: int = 50
    """Steps."""
    every: float = 10.0
    """Seconds between two looks."""
    one_core: bool = False
    """Keep all of it on one core, for those who work on the others."""
    out: Path = RESULTS / "soak.json"
    """File of the figures."""
    plot: Path = RESULTS / "soak.svg"
    """File of the drawing."""
    overwrite: bool = False
    """Replace both."""


def soak(folder: Path, command: Soak) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict]:
    """Looks at a run, the rows that it has logged, and how it ended when it was asked to."""
    flags = ["--max-steps", "100000000", "--log-every", "1"]
    flags += ["--checkpoint-every", str(command.checkpoint_every)]
    flags += ["--eval-every", str(command.eval_every), "--evaluation.tasks", "retrieval:emoji-val"]
    looks: list[dict[str, Any]] = []
    with SoakedRun(folder, flags, ranks=command.ranks, workers=command.workers) as run:
        run.wait_for_step(1)
        began = told = time.monotonic()
        while (seconds := time.monotonic() - began) < 60 * command.minutes:
            if run.torchrun.poll() is not None:
                raise UserError(f"the run has ended by itself:\n{run.log.read_text()[-3000:]}")
            looks.append({"seconds": round(seconds, 1), **look_at(run)})
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"{seconds / 60:.0f} of {command.minutes:g} minutes", file=sys.stderr)
            time.sleep(command.every)
        rows = run.rows()
        return looks, rows, run.end("SIGTERM to torchrun")


def look_at(run: SoakedRun) -> dict[str, Any]:
    """What all processes of the run hold now, together and of memory each, and the sizes of its files."""
    holdings = run.census()
    kinds = ("own", "all", "resident", "shared")
    return {
        "megabytes": {kind: round(sum(h.megabytes[kind] for h in holdings), 2) for kind in kinds},
        "own_megabytes_of": {h.name: round(h.megabytes["own"], 2) for h in holdings},
        "processes": len(holdings),
        "threads": sum(h.threads for h in holdings),
        "descriptors": sum(len(h.files) for h in holdings),
        "sockets": sum(len(h.sockets) for h in holdings),
        "shared_memory_entries": len(frozenset().union(*(h.shared_memory for h in holdings))),
        "temporary_files": sum(1 for _ in run.temporary.rglob("*")),
        "metrics_bytes": (run.run_dir / "metrics.jsonl").stat().st_size,
        "run_folder_bytes": bytes_below(run.run_dir),
    }


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder, of which some may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def end_in(folder: Path, how: str, command: Soak) -> dict[str, Any]:
    """How a short run ends in this way, and what it leaves."""
    steps = str(2 * STEPS_BEFORE_AN_END) if how == "its last step" else "100000000"
    flags = ["--max-steps", steps, "--log-every", "1", "--checkpoint-every", "10"]
    with SoakedRun(folder, flags, ranks=command.ranks, workers=command.workers) as run:
        run.wait_for_step(STEPS_BEFORE_AN_END)
        return run.end(how)


def in_columns(looks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The looks as one list for each thing that was looked at."""
    first = looks[0]
    return {
        name: in_columns([look[name] for look in looks])
        if isinstance(value, dict)
        else [look.get(name) for look in looks]
        for name, value in first.items()
    }


def compact(results: dict[str, Any]) -> str:
    """As JSON, with each list of numbers in one line."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[\d\s.,null-]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def show(results: dict[str, Any]) -> None:
    """The rules and how they were kept, for people."""
    table = Table("rule", "measured", "bar", "kept", title=f"{results['minutes']:g} minutes")
    for rule in results["rules"]:
        table.add_row(rule["what"], rule["measured"], rule["bar"], "yes" if rule["kept"] else "NO")
    Console(width=140).print(table)


def main(argv: list[str]) -> None:
    """Soak, judge, write figures and drawing, and say what was broken."""
    command = tyro.cli(Soak, args=argv, description=__doc__)
    refuse_existing([command.out, command.plot], overwrite=command.overwrite)
    if command.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    load = os.getloadavg()[0]
    # Not where tests keep theirs: names of sockets in it may have 107 letters at most.
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        looks, rows, ending = soak(Path(name) / "soak", command)
        endings = [ending]
        for number, how in enumerate(kind for kind in ENDINGS if kind != ending["how"]):
            endings.append(end_in(Path(name) / str(number), how, command))
    results = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": load,
        **{
            f.name: v
            for f in fields(command)
            if not isinstance(v := getattr(command, f.name), Path)
        },
        "steps": rows[-1]["step"],
        "evaluations": sum("evaluation" in row for row in rows),
        "checkpoints": rows[-1]["step"] // command.checkpoint_every,
        "endings": endings,
        "looks": in_columns(looks),
    }
    results["rules"] = [asdict(rule) for rule in judge(results)]
    write_whole(command.out, compact(results), overwrite=command.overwrite)
    write_whole(command.plot, draw_soak(results), overwrite=command.overwrite)
    show(results)
    if not all(rule["kept"] for rule in results["rules"]):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
