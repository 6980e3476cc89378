"""Checkpoints: tensors as safetensors, the rest as JSON, whole or not there.

A checkpoint is a folder `step-00000030` that was written under a temporary name, synced, closed by a
MANIFEST.json with the hash of every file, and then renamed (by checkpoint_writer). Nothing in it is pickled.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_pipelines.errors import UserError
from data_pipelines.plain_files import (
    parse_plain_json,
    read_plain_object,
    read_plain_text,
    require_plain,
)
from rins_mm.distributed import part_like

FORMAT_VERSION = 2
"""Of folders with a manifest. Version 1 is read too: it lacks the manifest's hash of itself, no more."""

MANIFEST = "MANIFEST.json"
SEAL = "manifest_sha256"

REAL_KINDS = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
})  # fmt: skip
"""What tensors may be of: complex numbers would lose a half, and torch cannot copy the smallest kinds."""


class DamagedCheckpoint(UserError):  # noqa: N818  (what it is, not what it is raised as)
    """A checkpoint or export that is not what was written; the line names the file."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk."""

    folder: Path
    step: int
    state: dict[str, Any]
    """What is not a tensor: seed, counts, versions, the fingerprint of data and tokenizer."""
    passed_over: tuple[tuple[Path, str], ...] = ()
    """Newer ones that are damaged, newest first, and what is wrong with each."""

    def model_weights(self, *, averaged: bool = False) -> dict[str, Tensor]:
        """The weights, or their moving average where one was kept and is asked for."""
        average = self.folder / "average.safetensors"
        return read_tensors(
            average if averaged and average.exists() else self.folder / "model.safetensors"
        )


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights (and lasting buffers) of a model by name, each once, on the CPU."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, *, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file; a full disk is an OSError with its number, as for any other file."""
    # safetensors lets nobody but the owner read what it writes; other files follow the umask.
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata=metadata)
        path.chmod(mode)
    except SafetensorError as error:
        if found := re.search(r"os error (\d+)", str(error)):
            number = int(found[1])
            raise OSError(number, os.strerror(number), str(path)) from error
        raise


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of real numbers. Raises UserError where it is missing or is none."""
    try:
        require_plain(path)
        tensors = load_file(path)
    # Sizes past all bounds are the errors of whoever reckons with them.
    except (OSError, SafetensorError, RuntimeError, ValueError, OverflowError) as error:
        raise UserError(f"cannot read the tensors in {path}: {error}; use another copy") from error
    require_real(tensors, path)
    return tensors


def require_real(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Raise UserError for tensors whose kind is none of REAL_KINDS."""
    for name, tensor in tensors.items():
        if tensor.dtype not in REAL_KINDS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"{name[:100]} in {source} is of the kind {kind}, which no weights here have; save it as float32"
            )


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Hash and sync every file of the folder, and write down the hashes, last of all."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        sync(path)
    manifest = {"format_version": FORMAT_VERSION, **facts, "files": files}
    (folder / MANIFEST).write_text(_sealed(manifest))
    sync(folder / MANIFEST)
    sync(folder)


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, closed by the hash of all that stands before."""
    seal = hashlib.sha256(as_json(manifest).encode()).hexdigest()
    return as_json({**manifest, SEAL: seal})


def verify_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files all have their recorded hashes.

    Raises DamagedCheckpoint with the name of the file that has not.
    """
    mend = "use another copy; a run goes on from an older checkpoint with --resume --skip-damaged"
    manifest = _read_manifest(folder, mend)
    for name, facts in manifest["files"].items():
        path = folder / name
        try:
            size = path.stat().st_size
            sha256 = _sha256(path)
        except FileNotFoundError as error:
            raise DamagedCheckpoint(
                f"{path} is missing, though {MANIFEST} lists it; {mend}"
            ) from error
        except OSError as error:
            raise DamagedCheckpoint(f"{path} cannot be read: {error.strerror}; {mend}") from error
        if sha256 != facts["sha256"] or size != facts["bytes"]:
            raise DamagedCheckpoint(
                f"{path} is damaged: its SHA-256 or its size is not the one in {MANIFEST}; {mend}"
            )
    return manifest


def _read_manifest(folder: Path, mend: str) -> dict[str, Any]:
    """A manifest that is what was written, in a form that can be relied on."""
    path = folder / MANIFEST
    try:
        text = read_plain_text(path)
        manifest = parse_plain_json(text)
        version = manifest["format_version"]
        # A name is looked up inside of the folder, wherever it points.
        manifest["files"] = {
            _inside(name): {"bytes": int(facts["bytes"]), "sha256": str(facts["sha256"])}
            for name, facts in manifest["files"].items()
        }
    except (AttributeError, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DamagedCheckpoint(
            f"{folder} is not a complete checkpoint or export: {path}: {error!r}; {mend}"
        ) from error
    if version not in (1, FORMAT_VERSION):
        raise UserError(
            f"{path} has format_version {version!r}; this version of rins_mm reads 1 to {FORMAT_VERSION}: "
            "use the version that wrote it, or a newer one"
        )
    unsealed = {key: value for key, value in parse_plain_json(text).items() if key != SEAL}
    if version > 1 and text != _sealed(unsealed):
        raise DamagedCheckpoint(f"{path} is damaged: it is not what was written; {mend}")
    return manifest


def _inside(name: str) -> str:
    """A path in a manifest, or the last part of one that leads out of the folder.

    Raises ValueError for what can be no file's name.
    """
    if b"\0" in os.fsencode(name):
        raise ValueError("a name holds a zero byte")
    path = PurePosixPath(name)
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def looks_whole(folder: Path) -> bool:
    """Whether the manifest is sound and every file has its size: a check that reads no tensor."""
    try:
        files = _read_manifest(folder, "")["files"]
        return all(
            (folder / name).stat().st_size == facts["bytes"] for name, facts in files.items()
        )
    except (OSError, UserError):
        return False


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def complete_steps(run_dir: Path) -> list[int]:
    """Steps of the checkpoints that were written to their end, oldest first."""
    folders = (run_dir / "checkpoints").glob("step-*")
    return sorted(int(f.name[5:]) for f in folders if re.fullmatch(r"step-\d{8,}", f.name))


def newest_checkpoint(run_dir: Path, *, skip_damaged: bool = False) -> Checkpoint | None:
    """The newest checkpoint of a run, verified; None where there is none yet.

    A damaged one is passed over only when told to. Raises UserError when none is whole.
    """
    passed_over: list[tuple[Path, str]] = []
    for step in reversed(complete_steps(run_dir)):
        folder = checkpoint_folder(run_dir, step)
        try:
            return replace(open_checkpoint(folder), passed_over=tuple(passed_over))
        except DamagedCheckpoint as error:
            if not skip_damaged:
                raise
            passed_over.append((folder, str(error)))
    if passed_over:
        raise UserError(
            f"none of the {len(passed_over)} checkpoints of {run_dir} is whole: {passed_over[0][1]}"
        )
    return None


def open_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint by its folder, verified."""
    step = verify_manifest(folder).get("step")
    if not isinstance(step, int):
        raise UserError(f"{folder} is no checkpoint of a run: its {MANIFEST} names no step")
    return Checkpoint(folder=folder, step=step, state=read_plain_object(folder / "state.json"))


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a model by name. Every name and shape must fit: a UserError says which does not."""
    own = model.state_dict()
    require_fitting(own, tensors, source)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(part_like(parameter, tensors[name]))


def require_fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: Path) -> None:
    """Raise UserError where weights are not those of a model: `own` may be mere shapes."""
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


def as_json(data: Mapping[str, Any]) -> str:
    """The text of a JSON file."""
    return json.dumps(data, indent=2) + "\n"


def sync(path: Path) -> None:
    """Return when a file's contents, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    require_plain(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
