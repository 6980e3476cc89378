"""What is written down of a step that was left out: RUN/bad_steps/step-00000012.rank-0.json."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import UserError
from rins_mm.config import TrainConfig
from rins_mm.distributed import whole
from rins_mm.guard import StepGuard

MAX_FILES = 100
"""Descriptions of one rank in one run; a run that goes wrong for long repeats itself."""


def leave_out(
    config: TrainConfig,
    guard: StepGuard,
    facts: Mapping[str, Any],
    *,
    step: int,
    rank: int,
    say: Callable[[str], None],
) -> None:
    """Write down what is known of a step that no rank takes; a UserError after too many in a row."""
    path = write_bad_step(Path(config.run_dir), facts, step=step, rank=rank)
    described = f"see {path}" if path else f"no more of them fits into {config.run_dir}/bad_steps"
    say(f"step {step}: {facts['cause']}; the step is left out; {described}")
    if guard.gives_up:
        raise UserError(
            f"{guard.skipped_in_a_row} steps in a row up to step {step} were left out, the last "
            f"because {facts['cause']} ({described}); take away its samples, or begin a run with a lower "
            f"--optimizer.peak-learning-rate ({config.optimizer.peak_learning_rate}) or --precision fp32; "
            "--resume tries these steps again from the last checkpoint"
        )


def describe_bad_step(
    batch: ImageTextBatch,
    model: nn.Module,
    pixels: Iterable[Tensor],
    image_features: Tensor,
    text_features: Tensor,
) -> dict[str, Any]:
    """This rank's share of the batch, what the towers made of it, and the gradient summed over ranks.

    All as plain values: `non_finite` counts numbers that are none, `parameters_without_finite_gradient`
    counts them by parameter.
    """
    counts: dict[str, int] = {}
    towers: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            gradient = whole(parameter.grad)
            counts[name] = _non_finite(gradient)
            towers.setdefault(name.partition(".")[0], []).append(gradient.norm())
    return {
        "sample_keys": list(batch.sample_keys),
        "valid": batch.valid.tolist(),
        "caption_lengths": batch.offsets.diff().tolist(),
        "pixels": summary(pixels),
        "image_features": summary([image_features]),
        "text_features": summary([text_features]),
        "logit_scale": model.get_parameter("logit_scale").detach().exp().item(),
        "logit_bias": model.get_parameter("logit_bias").item(),
        "gradient_norm_by_part": {
            name: torch.stack(norms).norm().item() for name, norms in towers.items()
        },
        "parameters_without_finite_gradient": {
            name: count for name, count in counts.items() if count
        },
    }


def summary(parts: Iterable[Tensor]) -> dict[str, int | float]:
    """Least, greatest and mean of the finite numbers of all parts, and how many others there are."""
    non_finite, count, total = 0, 0, 0.0
    bounds: list[float] = []
    for part in parts:
        values = part.detach().float()
        finite = values[values.isfinite()]
        non_finite += values.numel() - finite.numel()
        if finite.numel():
            count += finite.numel()
            total += finite.sum(dtype=torch.float64).item()
            bounds += [bound.item() for bound in finite.aminmax()]
    if not count:
        return {"non_finite": non_finite}
    return {"non_finite": non_finite, "min": min(bounds), "max": max(bounds), "mean": total / count}


def write_bad_step(run_dir: Path, facts: Mapping[str, Any], *, step: int, rank: int) -> Path | None:
    """Write a description under a new name, the same step having perhaps gone wrong in an earlier launch.

    None where the run holds as many of this rank as it may, or where it cannot be written: a step left
    out must not cost the run.
    """
    folder = run_dir / "bad_steps"
    try:
        folder.mkdir(exist_ok=True)
        if len(list(folder.glob(f"*.rank-{rank}.*"))) >= MAX_FILES:
            return None
        text = json.dumps(_plain({"step": step, "rank": rank, **facts}), indent=1, allow_nan=False)
        for attempt in range(1, MAX_FILES + 1):
            again = f".{attempt}" if attempt > 1 else ""
            path = folder / f"step-{step:08d}.rank-{rank}{again}.json"
            if not path.exists():
                unfinished = path.with_suffix(".partial")
                unfinished.write_text(text + "\n")
                unfinished.replace(path)
                return path
    except OSError:
        pass
    return None


def _non_finite(values: Tensor) -> int:
    return values.numel() - int(values.isfinite().sum())


def _plain(value: Any) -> Any:
    """JSON knows no number that is none: they become the words nan, inf and -inf."""
    if isinstance(value, Tensor):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
