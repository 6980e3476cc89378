"""The record of a finished run: a small file without weights, which is all that a study is judged by."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_json
from data_pipelines.shapes import misfit
from data_pipelines.whole_files import write_whole
from eval.suite import run_suite
from rins_mm.distributed import local_device
from rins_mm.encoder import SigLIPEncoder, load_encoder
from rins_mm.models.draws import reachable_signatures
from rins_mm.models.signatures import expand
from rins_mm.run_folder import describe_environment
from rins_mm.run_log import read_rows
from rins_mm.study.design import trained_depth
from rins_mm.study.held_out import held_out_loss
from rins_mm.study.jobs import Job
from rins_mm.study.record_shape import RECORD

FORMAT_VERSION = 1
MOST_CURVE_POINTS = 100
KEPT_OF_RESULTS = ("name", "dataset", "variant", "metrics", "intervals", "chance", "num_pictures",
                   "num_questions", "skipped", "data_fingerprint")  # fmt: skip


def read_record(job: Job, records: Path) -> dict[str, Any] | None:
    """The record of a job; None where it has not run. Raises UserError for one of another configuration."""
    path = job.record_path(records)
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = read_plain_json(path)
        version, found = record["format_version"], record["config_hash"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not what a study writes: {error!r}; remove it") from error
    if version != FORMAT_VERSION or found != job.config_hash:
        raise UserError(
            f"{path} is the record of another configuration ({difference(record, job)}); remove it, "
            "or name another folder with --records"
        )
    if where := misfit(record, RECORD):
        raise UserError(
            f"{path} is not what a study writes: {where} is missing or of another kind; remove it"
        )
    return record


def difference(record: Mapping[str, Any], job: Job) -> str:
    """The first setting in which a record differs from its job, in words."""
    wanted = json.loads(json.dumps(dataclasses.asdict(job.config)))
    recorded = record.get("config")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    for name, value in _leaves(wanted).items():
        if name != "run_dir" and _leaves(recorded).get(name) != value:
            return f"{name} is {_leaves(recorded).get(name)!r} there and {value!r} in the study"
    return "what it was measured on differs"


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves


def write_record(job: Job, records: Path) -> dict[str, Any]:
    """Measure a finished run, and write its record; the record."""
    run = Path(job.config.run_dir)
    encoder = load_encoder(run, device=str(local_device()))
    rows = read_rows(run / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    record = {
        "format_version": FORMAT_VERSION,
        "study": job.study,
        "phase": job.phase,
        "arm": job.arm,
        "seed": job.seed,
        "config_hash": job.config_hash,
        "config": dataclasses.asdict(job.config),
        "trained_depth": trained_depth(job.config),
        **measured(encoder, job),
        "steps": steps[-1]["step"],
        "budget": steps[-1]["budget"],
        "spent": spending(steps[-1]),
        "curve": curve(rows),
        "losses": loss_curve(steps),
        "training_seconds": _seconds(steps),
        "skipped_steps": max(row["skipped_steps"] for row in steps),
        "parameters": sum(p.numel() for p in encoder.model.parameters()),
        "versions": describe_environment(),
    }
    # A metric that is not a number must fail here, not in the reader's hands.
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_whole(job.record_path(records), text, overwrite=False)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def measured(encoder: SigLIPEncoder, job: Job) -> dict[str, Any]:
    """The results of the tasks and the loss on the held-out batches, at each depth of the text tower."""
    depths = [
        *reachable_signatures(job.config.text.recursion),
        *job.config.evaluation.text_signatures,
        trained_depth(job.config),
        *job.dial,
    ]
    depths = list(dict.fromkeys("".join(expand(depth)) for depth in depths))
    data = job.config.evaluation.data
    results = (
        run_suite(
            encoder.as_dual_encoder(),
            list(job.tasks),
            depths,
            data=Path(data) if data else None,
            progress=False,
        )
        if job.tasks
        else []
    )
    held_out = held_out_loss(encoder, job.config, job.held_out, depths)
    return {
        "results": [
            {name: result[name] for name in KEPT_OF_RESULTS if name in result} for result in results
        ],
        "held_out": dataclasses.asdict(held_out),
    }


def spending(row: Mapping[str, Any]) -> dict[str, float]:
    """What the run had spent at this row: samples, FLOPs, and blocks that a pair passed, summed over steps."""
    return {
        "samples": float(row["samples_seen"]),
        "flops": row["flops_spent"],
        "layer_steps": float(row["layer_steps_spent"]),
    }


def _seconds(steps: Sequence[Mapping[str, Any]]) -> float:
    """Time of training, also of a run that was interrupted."""
    seen = [0, *(int(row["samples_seen"]) for row in steps)]
    taken = (after - before for before, after in pairwise(seen))
    return sum(n / row["samples_per_second"] for n, row in zip(taken, steps, strict=True))


def curve(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each evaluation during training with what was spent until then."""
    at_step = {row["step"]: row for row in rows if "loss" in row}
    return [
        {"step": row["step"], **spending(at_step[row["step"]]), "metrics": row["evaluation"]}
        for row in rows
        if "evaluation" in row
    ]


def loss_curve(steps: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """(samples, FLOPs, mean training loss) of stretches of the run."""
    group = -(-len(steps) // MOST_CURVE_POINTS)
    points = []
    for start in range(0, len(steps), group):
        some = steps[start : start + group]
        spent = spending(some[-1])
        loss = sum(row["loss"] for row in some) / len(some)
        points.append([spent["samples"], spent["flops"], loss])
    return points
