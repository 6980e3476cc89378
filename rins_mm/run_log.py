"""What a run writes down: metrics.jsonl is the truth, the console line and TensorBoard are views of it."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_pipelines.errors import UserError
from data_pipelines.plain_files import (
    count_parts,
    parse_plain_json,
    require_modest_parts,
    require_plain,
)
from data_pipelines.words import printable
from eval.ranks import Ranks

MAX_BYTES = 2 * 2**30
"""Of a metrics.jsonl: some two million rows."""
MAX_LINE_CHARACTERS = 2**24
"""Of one of its rows: bad samples of some 100,000 shards, each named."""
PARTS_OF_A_ROW = 10
"""That a row takes by itself, beside what it holds."""


class RunLog:
    """Writes on rank 0 only; on other ranks every call does nothing."""

    def __init__(
        self, run_dir: Path, ranks: Ranks, *, max_steps: int, first_step: int, tensorboard: bool
    ) -> None:
        self.active = ranks.rank == 0
        self.path = run_dir / "metrics.jsonl"
        self.progress: Progress | None = None
        self.board: Any = None
        if not self.active:
            return
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        keep_rows_before(self.path, first_step)
        if tensorboard:
            # Optional, and slow to import.
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step + 1)
        if sys.stderr.isatty():
            columns = (
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.progress = Progress(*columns, console=self.console, transient=True)
            self.task = self.progress.add_task("training", total=max_steps, completed=first_step)
            self.progress.start()

    def advance(self, steps_done: int) -> None:
        """Move the progress bar."""
        if self.active and self.progress is not None:
            self.progress.update(self.task, completed=steps_done)

    def say(self, message: str) -> None:
        """One line for whoever watches."""
        if self.active:
            self.console.print(printable(message), markup=False)

    def write_plan(self, plan: Mapping[str, Any], in_words: Mapping[str, str]) -> None:
        """Append what the run will spend to metrics.jsonl, and print it."""
        self._write({"step": 0, "plan": plan})
        for name, value in in_words.items():
            self.say(f"{name}: {value}")

    def write_step(self, row: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl, at full precision, and print its line."""
        self._write(row)
        budget = f"budget {row['budget_spent']:.1%}  " if "budget_spent" in row else ""
        self.say(
            f"step {row['step']:>6}  {budget}loss {row['loss']:.4f}  {row['samples_per_second']:.0f} samples/s  "
            f"{row['flops_per_second'] / 1e12:.3g} TFLOP/s  MFU {row['mfu']:.0%}  "
            f"{row['layer_steps']:.1f} layers  wait {row['data_wait_fraction']:.0%}  "
            f"model {row['forward_backward_fraction']:.0%}  exchange {row['exchange_fraction']:.0%}  "
            f"optimizer {row['optimizer_fraction']:.0%}  lr {row['learning_rate']:.2e}  "
            f"grad {row['gradient_norm']:.2f}  scale {row['logit_scale']:.2f}  "
            f"bias {row['logit_bias']:.2f}  text {row['text_calls']}"
        )

    def write_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the outcome of an evaluation to metrics.jsonl, and print it."""
        if not metrics:
            return
        self._write({"step": step, "evaluation": dict(metrics)})
        for name, value in metrics.items():
            self.say(f"step {step:>6}  {name} {value:.4f}")

    def write_bad_samples(self, step: int, counts: Mapping[tuple[str, str], int]) -> None:
        """Append the counts of samples that were left out, by shard and cause, and print their sums."""
        rows = [[shard, cause, count] for (shard, cause), count in sorted(counts.items())]
        self._write({"step": step, "bad_samples": rows})
        causes: Counter[str] = Counter()
        for (_, cause), count in counts.items():
            causes[cause] += count
        for cause, count in causes.most_common():
            self.say(f"step {step:>6}  left out since the start of this launch: {count} x {cause}")

    def _write(self, row: Mapping[str, Any]) -> None:
        if not self.active:
            return
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            numbers = {**row, **row.get("evaluation", {})}
            for name, value in numbers.items():
                if isinstance(value, int | float) and name not in ("step", "time"):
                    self.board.add_scalar(printable(name), value, row["step"])

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.active and self.progress is not None:
            self.progress.stop()
        if self.active and self.board is not None:
            self.board.close()


def keep_rows_before(path: Path, first_step: int) -> None:
    """Drop rows of steps that will be run again, and a last line that was cut off by a kill.

    A row of step s reports what the first s steps did, so a run that starts again after step s keeps it.
    """
    if not path.exists():
        return
    rows = read_rows(path)
    kept = [json.dumps(row) + "\n" for row in rows if row["step"] <= first_step]
    temporary = path.with_suffix(".partial")
    temporary.write_text("".join(kept))
    temporary.replace(path)


def has_evaluation(path: Path, step: int) -> bool:
    """Whether a metrics.jsonl holds the evaluation of a step."""
    rows = read_rows(path) if path.exists() else []
    return any("evaluation" in row for row in rows if row["step"] == step)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that was cut off by a kill is left out."""
    rows: list[dict[str, Any]] = []
    damaged = parts = 0
    try:
        size = require_plain(path, MAX_BYTES)
        with path.open(encoding="utf-8") as file:
            # Of a line without end no more is read than what shows that it is none.
            lines = iter(lambda: file.readline(MAX_LINE_CHARACTERS), "")
            for number, line in enumerate(lines, start=1):
                if damaged or len(line) == MAX_LINE_CHARACTERS:
                    raise UserError(
                        f"{path}, line {damaged or number}, is damaged; mend or remove it"
                    )
                parts += count_parts(line) + PARTS_OF_A_ROW
                # Twice: numbers may be short throughout.
                require_modest_parts(parts, 2 * size)
                row = _row(line)
                damaged = number if row is None else 0
                if row is not None:
                    rows.append(row)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); use another copy") from error
    return rows


def _row(line: str) -> dict[str, Any] | None:
    """The row that a line holds; None for a line that is none."""
    try:
        # A loss may be NaN.
        row = parse_plain_json(line, nan=True)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None
