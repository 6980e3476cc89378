"""How well does the demo's recipe learn?  python benchmarks/emoji_seeds.py --seeds 0 1 2

Trains and evaluates the recipe `emoji` once per seed and writes docs/results/emoji.json, from which
`python docs/tables.py` makes the README's table. A run that is there already is continued or reused.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).parents[1]
TASKS = ("zero_shot:emoji-style", "retrieval:emoji-test")


@dataclass(frozen=True, kw_only=True)
class SeedsCommand:
    """Train and evaluate the demo's recipe for several seeds."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one run each."""
    ranks: int = 2
    """Processes per run."""
    recipe: str = "emoji"
    """Recipe to run."""
    out: Path = ROOT / "docs" / "results" / "emoji.json"
    """File to write."""


def run(*words: str) -> None:
    """Run a module of ours, and stop when it fails."""
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True)


def record(run_dir: Path, seed: int) -> dict:
    """What is kept of one finished run."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    evaluation = json.loads((run_dir / "eval.json").read_text())
    return {
        "seed": seed,
        "steps": steps[-1]["step"],
        "samples_seen": steps[-1]["samples_seen"],
        # From the first to the last logged step, so without start-up.
        "training_seconds": steps[-1]["time"] - steps[0]["time"],
        "samples_per_second": statistics.median(row["samples_per_second"] for row in steps),
        "last_loss": steps[-1]["loss"],
        "curve": [[row["samples_seen"], round(row["loss"], 4)] for row in steps],
        "environment": json.loads((run_dir / "environment.json").read_text()),
        "results": [
            {key: result[key] for key in ("name", "variant", "metrics", "chance", "num_pictures")}
            for result in evaluation["results"]
        ],
    }


def main(command: SeedsCommand) -> None:
    """One run after the other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torchrun = ("torch.distributed.run", "--nproc-per-node", str(command.ranks))
    runs = []
    for seed in command.seeds:
        run_dir = ROOT / "runs" / f"{command.recipe}-seed-{seed}"
        flags = ("--run-dir", str(run_dir), "--seed", str(seed), "--resume")
        run(*torchrun, "-m", "rins_mm.train", command.recipe, *flags)
        run("rins_mm.evaluate", str(run_dir), "--tasks", *TASKS, "--overwrite")
        runs.append(record(run_dir, seed))
        command.out.parent.mkdir(parents=True, exist_ok=True)
        line = f"python benchmarks/emoji_seeds.py {shlex.join(sys.argv[1:])}".rstrip()
        written = {"recipe": command.recipe, "command": line, "runs": runs}
        command.out.write_text(json.dumps(written, indent=1) + "\n")
    print(f"wrote {command.out}")


if __name__ == "__main__":
    main(tyro.cli(SeedsCommand))
