"""The folder of a run: what is written when it begins, and what must agree when it goes on."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data_pipelines.errors import UserError
from data_pipelines.plain_files import read_plain_object, refuse_links
from data_pipelines.tokenizers import Tokenizer, load_tokenizer
from eval.ranks import Ranks
from rins_mm.checkpoint import Checkpoint, complete_steps, newest_checkpoint
from rins_mm.config import TrainConfig, build_tokenizer
from rins_mm.determinism import describe_determinism
from rins_mm.distributed import local_device
from rins_mm.peak import describe_peak
from rins_mm.recorded_config import read_config, write_config

MAY_CHANGE = {
    "run_dir", "max_steps", "micro_batch_size", "checkpoint_every", "keep_checkpoints", "checkpoint_async",
    "eval_every", "log_every", "num_threads", "deterministic", "sharding", "timeout_seconds", "tensorboard", "profile",
    "evaluation.tasks", "evaluation.text_signatures", "evaluation.data", "data.num_workers",
    "data.prefetch_batches", "data.max_bad_fraction", "data.watchdog_seconds", "guard.max_in_a_row",
    "guard.spike_sigmas", "guard.spike_window",
}  # fmt: skip
"""Settings that a resumed run may change without becoming another run."""
_WRITER_AND_MEND = ("a run", "choose another --run-dir")


def open_run_tokenizer(config: TrainConfig) -> Tokenizer:
    """The tokenizer that the run keeps a copy of; the configured one where it has not begun."""
    kept = Path(config.run_dir) / "tokenizer"
    return load_tokenizer(kept) if kept.is_dir() else build_tokenizer(config)


def refuse_existing_run(config: TrainConfig) -> None:
    """Never write a new run over an old one, or through links that lie in its folder."""
    run_dir = Path(config.run_dir)
    refuse_links(run_dir, *_WRITER_AND_MEND)
    if (run_dir / "config.json").exists() or complete_steps(run_dir):
        raise UserError(
            f"{run_dir} already holds a run; add --resume to continue it, or choose another --run-dir"
        )


def resume_run(
    config: TrainConfig, facts: Mapping[str, Any], *, skip_damaged: bool = False
) -> Checkpoint | None:
    """The newest checkpoint of the run that `config` continues; None where it has not got that far."""
    run_dir = Path(config.run_dir)
    refuse_links(run_dir, *_WRITER_AND_MEND)
    if not (run_dir / "config.json").exists():
        if complete_steps(run_dir):
            raise UserError(
                f"{run_dir} has checkpoints but no config.json; put it back, or choose another --run-dir"
            )
        return None
    recorded, wanted = _leaves(read_config(run_dir / "config.json")), _leaves(config)
    differing = [
        f"{name} (recorded {recorded.get(name)!r}, asked for {wanted.get(name)!r})"
        for name in sorted(recorded.keys() | wanted.keys())
        if recorded.get(name) != wanted.get(name) and name not in MAY_CHANGE
    ]
    if differing:
        raise UserError(
            f"{run_dir} is a run with other settings: {'; '.join(differing)}; resume it as it was recorded "
            f"(python -m rins_mm.train {run_dir} --resume) or choose another --run-dir"
        )
    checkpoint = newest_checkpoint(run_dir, skip_damaged=skip_damaged)
    if checkpoint is None:
        return None
    for name, value in facts.items():
        if checkpoint.state.get(name) != value:
            raise UserError(
                f"the {name} of the run {run_dir} has changed since it was trained "
                f"(fingerprint {str(checkpoint.state.get(name))[:12]} then, {str(value)[:12]} now); "
                "put it back as it was, or start another run"
            )
    if checkpoint.step > config.max_steps:
        raise UserError(
            f"{run_dir} has come to step {checkpoint.step} already, past --max-steps {config.max_steps}; "
            "raise it"
        )
    return checkpoint


def begin_run(
    config: TrainConfig, tokenizer: Tokenizer, command_line: list[str], ranks: Ranks
) -> None:
    """Record configuration, command, environment and tokenizer: the folder is enough for every later command."""
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    stamp = now.replace(":", "")
    previous = run_dir / "config.json"
    if previous.exists() and read_config(previous) != config:
        # A resumed run may change some settings; what they were before stays on record.
        shutil.copy2(previous, run_dir / f"config.until-{stamp}.json")
    write_config(config, run_dir / "config.json")
    tokenizer.save(run_dir / "tokenizer")
    # Names of files may be no UTF-8.
    with (run_dir / "command.txt").open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{now}  python -m rins_mm.train {shlex.join(command_line)}\n")
    environment = {
        **describe_environment(),
        "world_size": ranks.world_size,
        **describe_determinism(),
    }
    path = run_dir / "environment.json"
    mend = "remove it, and resume again"
    if path.exists() and not _same_but_peak(read_plain_object(path, mend), environment):
        shutil.copy2(path, run_dir / f"environment.until-{stamp}.json")
    # Measured anew, a peak never comes out the same: it is no change of the environment.
    environment["peak"] = describe_peak(local_device(), config.precision)
    path.write_text(json.dumps(environment, indent=2) + "\n")


def describe_environment() -> dict[str, Any]:
    """Versions, commit and devices: what one needs to know to repeat a run."""
    packages = (
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
        "sentencepiece",
        "safetensors",
        "numpy",
        "pillow",
    )
    return {
        "rins_mm": importlib.metadata.version("rins_mm"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": _git("status", "--porcelain", "--untracked-files=no"),
        "cpus": os.cpu_count(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _same_but_peak(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return {name: value for name, value in recorded.items() if name != "peak"} == found


def _git(*arguments: str) -> str | None:
    """What git says of this source tree; None where this file is not one that git keeps."""
    here = Path(__file__)

    def ask(*words: str) -> str | None:
        command = ["git", "-C", str(here.parent), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed below somebody else's repository, it must not report theirs.
    return ask(*arguments) if ask("ls-files", "--error-unmatch", here.name) is not None else None


def _leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    leaves = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            leaves.update(_leaves(value, f"{prefix}{field.name}."))
        else:
            leaves[prefix + field.name] = value
    return leaves
