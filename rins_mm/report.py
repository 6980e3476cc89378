"""One page about a run:  python -m rins_mm.report RUN --out report.html

Training curves from metrics.jsonl, and the tables, depth dials and worst mistakes of eval.json where
there is one.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import torch
import tyro

from data_pipelines.errors import UserError, run_command
from data_pipelines.whole_files import refuse_existing, write_whole
from data_pipelines.words import say
from eval.mistakes import Thumbnail, mistake_thumbnails
from eval.outside_files import named_path
from eval.report import page_templates, page_values, read_results
from eval.task_kinds import Task
from eval.tasks import is_fetched, open_task
from eval.text_depths import TextDepths, short_number
from eval.words import short
from rins_mm.config import TrainConfig
from rins_mm.flops import text_cost
from rins_mm.models.image_tower import ImageTower
from rins_mm.models.signatures import expand
from rins_mm.recorded_config import read_config
from rins_mm.run_log import read_rows

WIDTH, HEIGHT = 460, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 12, 30
MAX_POINTS = 400

CURVES = {
    "loss": "loss",
    "samples_per_second": "samples per second",
    "gradient_norm": "gradient norm before clipping",
    "logit_scale": "scale of the logits",
}
"""The columns of metrics.jsonl that are drawn, and their titles."""
MAX_FILES = 60_000
"""Below a folder whose pictures a page may show; ImageNet's validation set has 51,000."""


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write one self-contained HTML page about a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    out: Path
    """HTML file to write."""
    overwrite: bool = False
    """Replace the file if it exists."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve in the units of its drawing, whose origin is its upper left corner."""

    title: str
    last: str
    path: str
    rows: list[tuple[float, str]]
    columns: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def draw_curve(title: str, points: Sequence[tuple[float, float]]) -> Curve:
    """The curve through (samples seen, value); long runs are thinned to the means of neighbours."""
    group = -(-len(points) // MAX_POINTS)
    groups = [points[start : start + group] for start in range(0, len(points), group)]
    means = [tuple(sum(axis) / len(axis) for axis in zip(*some, strict=True)) for some in groups]
    values = [value for _, value in means]
    low, high = min(values), max(values)
    low = min(0.0, low) if low < 0.5 * high else low
    spread = (high - low) or 1.0
    most = points[-1][0] or 1.0

    def across(samples: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * samples / most, 1)

    def height_of(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / spread), 1)

    return Curve(
        title=title,
        last=f"{values[-1]:.4g}",
        path=" ".join(f"{across(samples)},{height_of(value)}" for samples, value in means),
        rows=[
            (height_of(low + spread * part), f"{low + spread * part:.3g}")
            for part in (0, 0.25, 0.5, 0.75, 1)
        ],
        columns=[(across(most * part), short_number(most * part)) for part in (0.25, 0.5, 0.75)],
    )


def run_values(name: str, config: TrainConfig, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the page shows of the training."""
    steps = [row for row in rows if "loss" in row]
    if not steps:
        raise UserError(f"the run {name} has no rows in metrics.jsonl yet; train it further")
    _require_rows(name, steps)
    depths = Counter(row["text_calls"] for row in steps)
    shares = ", ".join(
        f"{short(calls, 40)} {count / len(steps):.0%}" for calls, count in sorted(depths.items())
    )
    return {
        "name": short(name, 200),
        "summary": (
            f"{steps[-1]['step']:,} of {config.max_steps:,} steps of {config.batch_size:,} pairs · "
            f"text {config.text.recursion.signature} with p_s {config.text.recursion.skip_probability} · "
            f"image {config.image.recursion.signature} · {config.precision} · seed {config.seed}"
        ),
        "curves": [
            draw_curve(title, points)
            for column, title in CURVES.items()
            # Steps that had no finite gradient leave a gap.
            if (points := [_point(row, column) for row in steps if math.isfinite(row[column])])
        ],
        "depths": f"Text depths of the logged steps: {shares}.",
        # Rows of older runs do not say.
        "skipped_steps": max(row.get("skipped_steps", 0) for row in steps),
    }


def _require_rows(name: str, steps: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rows that train has not written: pages are made of what anybody may have put there."""
    # Of some of these older runs do not say.
    older = ("skipped_steps", "caption_tokens")
    for row in steps:
        wrong = [column for column in ("samples_seen", *CURVES) if not _is_number(row.get(column))]
        wrong += [column for column in older if not _is_number(row.get(column, 0))]
        if not isinstance(row.get("text_calls"), str):
            wrong.append("text_calls")
        if wrong:
            raise UserError(
                f"the row of step {row['step']} in metrics.jsonl of the run {name} has no {wrong[0]} that can be "
                "drawn; mend or remove it"
            )


def _is_number(value: Any) -> bool:
    # The gradient of a step may be none, and a whole number longer than any float.
    whole = isinstance(value, int) and abs(value) < 2**63
    return not isinstance(value, bool) and (whole or isinstance(value, float))


def _point(row: Mapping[str, Any], column: str) -> tuple[float, float]:
    return float(row["samples_seen"]), float(row[column])


def depths_of(
    config: TrainConfig, variants: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> TextDepths:
    """What the text tower costs at each of the variants that is a signature of it."""
    # Rows of older runs do not say how long captions were: then they fill the context.
    lengths = [row["caption_tokens"] for row in rows if "caption_tokens" in row]
    text, tokens = config.text, float(config.text.context_length)
    if lengths and text.padding != "siglip":
        tokens = sum(lengths) / len(lengths)
    with torch.device("meta"):
        width = ImageTower(config.image).embedding_width
    cost = text_cost(text, embedding_width=width, length=tokens)
    calls = {"default": expand(text.recursion.signature)}
    for variant in variants:
        with suppress(UserError):
            calls[variant] = expand(variant)
    known = {variant: c for variant, c in calls.items() if set(c) <= cost.per_group.keys()}
    return TextDepths(
        layers={variant: cost.layer_steps(c) for variant, c in known.items()},
        flops={variant: cost.forward(c) for variant, c in known.items()},
        trained=frozenset(variant for variant, c in known.items() if c == calls["default"]),
        caption_tokens=tokens,
    )


def pictures_of(
    results: Sequence[Mapping[str, Any]], data: Path | None
) -> dict[tuple[str, int], Thumbnail]:
    """Small copies of the pictures of the mistakes, where the data is still there and still the same.

    Nothing is fetched from addresses that the results name, and no folder is looked through of more
    than MAX_FILES files and folders: whoever wrote the results may have named the whole disk.
    """
    tasks: dict[str, Task] = {}
    tried: set[str] = set()
    for result in results:
        name = result["name"]
        if name in tried or not result.get("mistakes") or is_fetched(name):
            continue
        tried.add(name)
        try:
            if not _is_soon_read(name, data):
                continue
            task = open_task(name, data)
        # Names that can be no path, and homes of nobody, are the errors of whoever looks for them.
        except (UserError, OSError, RuntimeError, ValueError):
            continue
        # Numbers of other pictures would show what nobody got wrong.
        if task.pictures.fingerprint == result["data_fingerprint"]:
            tasks[name] = task
    return mistake_thumbnails(tasks.values(), results)


def _is_soon_read(name: str, data: Path | None) -> bool:
    """Whether little lies below each folder that a task's name holds, or that its * begin in."""
    # A list of shards has commas.
    for path in re.split("[:,]", name):
        plain = re.split(r"[*?[{]", path, maxsplit=1)[0]
        folder = named_path(plain if plain == path else os.path.dirname(plain), data)
        seen = 0
        # As the tasks do, which follow the links of class folders.
        for _, folders, files in os.walk(folder, followlinks=True):
            seen += len(folders) + len(files)
            if seen > MAX_FILES:
                return False
    return True


def main(argv: list[str]) -> None:
    """Write the page and say where it is."""
    command = tyro.cli(ReportCommand, args=argv, prog="python -m rins_mm.report")
    if not (command.run / "metrics.jsonl").is_file():
        raise UserError(
            f"{command.run} is no run: it has no metrics.jsonl; name a folder that train has written"
        )
    refuse_existing([command.out], overwrite=command.overwrite)
    config = read_config(command.run / "config.json")
    rows = read_rows(command.run / "metrics.jsonl")
    results: list[dict[str, Any]] = []
    provenance: dict[str, Any] = {}
    if (command.run / "eval.json").is_file():
        results, provenance = read_results(command.run / "eval.json")
    data = Path(config.evaluation.data) if config.evaluation.data else None
    template = page_templates(jinja2.PackageLoader("rins_mm", "")).get_template("report.html.jinja")
    page = template.render(
        page_values(
            results,
            provenance,
            pictures_of(results, data),
            depths_of(config, [result["variant"] for result in results], rows),
        ),
        run=run_values(command.run.resolve().name, config, rows),
    )
    write_whole(command.out, page, overwrite=command.overwrite)
    say(f"wrote {command.out}")


if __name__ == "__main__":
    run_command(main)
