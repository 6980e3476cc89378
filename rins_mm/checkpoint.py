"""Checkpoints: tensors as safetensors, the rest as JSON, whole or not there.

A checkpoint is a folder `step-00000030` that was written under a temporary name, synced, closed by a
MANIFEST.json with the hash of every file, and then renamed. Nothing in it is pickled.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_pipelines.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    folder: Path
    step: int
    state: dict[str, Any]
    """What is not a tensor: seed, counts, versions, the fingerprint of data and tokenizer."""

    def model_weights(self, *, averaged: bool = False) -> dict[str, Tensor]:
        """The weights, or their moving average where one was kept and is asked for."""
        average = self.folder / "average.safetensors"
        return read_tensors(
            average if averaged and average.exists() else self.folder / "model.safetensors"
        )


def save_checkpoint(
    run_dir: Path,
    *,
    step: int,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write a checkpoint of one rank's (that is, of everybody's) state, then drop all but the newest `keep`."""
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_tensors(weights(model), partial / "model.safetensors")
        if average is not None:
            save_tensors(weights(average), partial / "average.safetensors")
        tensors, numbers = _optimizer_state(optimizer, model)
        save_tensors(tensors, partial / "optimizer.safetensors")
        _write_json(partial / "optimizer.json", numbers)
        _write_json(partial / "state.json", dict(state))
        write_manifest(partial, {"step": step})
        # A run that was resumed from an older checkpoint may meet its own former self here.
        _remove(final)
        os.rename(partial, final)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(final.parent)
    for old in [s for s in complete_steps(run_dir) if s != step][: -(keep - 1) or None]:
        _remove(run_dir / "checkpoints" / f"step-{old:08d}")
    return final


def _remove(folder: Path) -> None:
    """Take a checkpoint away, if it is there; cut off half-way, it no longer bears a checkpoint's name."""
    doomed = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if folder.exists():
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights (and lasting buffers) of a model by name, each once, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; a full disk is an OSError with its number, as for any other file."""
    # safetensors lets nobody but the owner read what it writes; other files follow the umask.
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path)
        path.chmod(mode)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises UserError where it is missing or is none."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the tensors in {path}: {error}; use another copy") from error


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Hash and sync every file of the folder, and write down the hashes, last of all."""
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        _sync(path)
    _write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, **facts, "files": files})
    _sync(folder / MANIFEST)
    _sync(folder)


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files all have their recorded hashes; a UserError names the one that has not."""
    mend = "use another copy, or remove the folder to fall back to an older one"
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        version = manifest["format_version"]
        hashes = {Path(name).name: facts["sha256"] for name, facts in manifest["files"].items()}
    except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not a complete checkpoint or export: {MANIFEST}: {error!r}; {mend}"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{folder} has format_version {version!r}; this version reads {FORMAT_VERSION}"
        )
    for name, sha256 in hashes.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing, though {MANIFEST} lists it; {mend}")
        if _sha256(path) != sha256:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}; {mend}")
    return manifest


def complete_steps(run_dir: Path) -> list[int]:
    """Steps of the checkpoints that were written to their end, oldest first."""
    folders = (run_dir / "checkpoints").glob("step-*")
    return sorted(int(f.name[5:]) for f in folders if re.fullmatch(r"step-\d{8,}", f.name))


def newest_checkpoint(run_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of a run, verified; None where there is none yet."""
    steps = complete_steps(run_dir)
    return open_checkpoint(run_dir / "checkpoints" / f"step-{steps[-1]:08d}") if steps else None


def open_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint by its folder, verified."""
    step = verify_manifest(folder).get("step")
    if not isinstance(step, int):
        raise UserError(f"{folder} is no checkpoint of a run: its {MANIFEST} names no step")
    return Checkpoint(
        folder=folder, step=step, state=json.loads((folder / "state.json").read_text())
    )


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a model by name. Every name and shape must fit: a UserError says which does not."""
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise UserError(
            f"the weights in {source} are of another model: {len(missing)} of its {len(own)} tensors "
            f"are missing ({', '.join(missing[:3])}) and {len(unknown)} are unknown "
            f"({', '.join(unknown[:3])}); use the configuration they were trained with"
        )
    for name, parameter in own.items():
        if parameter.shape != tensors[name].shape:
            raise UserError(
                f"the weights in {source} are of another model: {name} has the shape "
                f"{list(tensors[name].shape)} there and {list(parameter.shape)} here; "
                "use the configuration they were trained with"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def restore_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, checkpoint: Checkpoint
) -> None:
    """Put the optimizer's moments and counts back as they were saved."""
    parameters = dict(model.named_parameters())
    for name, tensor in read_tensors(checkpoint.folder / "optimizer.safetensors").items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters[parameter_name]
        # Moments lie beside their parameters. Step counts do where the update is one kernel; elsewhere
        # they stay on the CPU, where reading them does not wait for the device.
        beside = tensor.dim() > 0 or optimizer.defaults.get("fused") or False
        optimizer.state[parameter][key] = tensor.to(parameter.device) if beside else tensor
    numbers = json.loads((checkpoint.folder / "optimizer.json").read_text())
    for name, number in numbers.items():
        parameter_name, _, key = name.rpartition("/")
        optimizer.state[parameters[parameter_name]][key] = number


def _optimizer_state(
    optimizer: torch.optim.Optimizer, model: nn.Module
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The moments, and what some of timm's optimizers count as plain numbers."""
    tensors, numbers = {}, {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
            elif value is None or isinstance(value, int | float):
                numbers[f"{name}/{key}"] = value
            else:
                raise TypeError(f"optimizer state {key} of {name} is a {type(value)}, not a tensor")
    return tensors, numbers


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
