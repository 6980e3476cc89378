"""Saves beside the training: a copy in memory, written from a thread while the next steps run."""

import os
import re
import shutil
import time
from collections.abc import Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_pipelines.errors import FULL, UNUSABLE, UserError
from rins_mm.checkpoint import (
    Checkpoint,
    as_json,
    checkpoint_folder,
    complete_steps,
    looks_whole,
    save_tensors,
    sync,
    write_manifest,
)
from rins_mm.distributed import whole
from rins_mm.optimizer_state import optimizer_state

MARGIN_BYTES = 16 * 2**20
"""Room beyond the tensors: JSON, the blocks of the file system, the log of the run."""


class CheckpointWriter:
    """Writes the checkpoints of a run, at most one at a time.

    Only the first rank writes. The others call the same methods, to give their parts of sharded tensors.
    """

    def __init__(
        self, run_dir: Path, *, keep: int, asynchronous: bool = True, writes: bool = True
    ) -> None:
        self.run_dir = run_dir
        self.keep = keep
        self.asynchronous = asynchronous
        self.writes = writes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._buffers: dict[str, dict[str, Tensor]] = {}
        self._written: set[int] = set()

    def begin(
        self,
        step: int,
        *,
        model: nn.Module,
        average: nn.Module | None,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
    ) -> float:
        """Copy everything and return; a thread writes the copy. The seconds for which the caller waited.

        Waits for the save before, and raises its error. A step that was saved is not saved again.
        """
        started = time.perf_counter()
        self.finish()
        if step not in self._written:
            tensors, numbers = gather_tensors(model, average, optimizer)
            if not self.writes:
                for tensor in (t for named in tensors.values() for t in named.values()):
                    whole(tensor)
                self._written.add(step)
                return time.perf_counter() - started
            self._require_room(num_bytes(tensors))
            texts = {"optimizer.json": as_json(numbers), "state.json": as_json(state)}
            copies = self._copy(tensors)
            if self.asynchronous:
                self._pending = self._thread.submit(self._write, step, copies, texts)
            else:
                self._write(step, copies, texts)
        return time.perf_counter() - started

    def finish(self) -> None:
        """Wait for the save in flight, if any, and raise its error."""
        if self._pending is not None:
            # An interrupt during this wait leaves it pending: its buffers are not free yet.
            wait([self._pending])
            pending, self._pending = self._pending, None
            pending.result()

    def raise_failure(self) -> None:
        """Raise the error of a save that has failed; does not wait for one in flight."""
        if self._pending is not None and self._pending.done():
            self.finish()

    def check_room(
        self,
        *,
        model: nn.Module,
        average: nn.Module | None,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Refuse to train towards a checkpoint for which there is no room."""
        tensors, _ = gather_tensors(model, average, optimizer)
        need = num_bytes(tensors)
        if not tensors["optimizer.safetensors"]:
            # Before the first step there are no moments yet; most optimizers keep two of each weight.
            need += 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
        self._require_room(need)

    def _require_room(self, need: int) -> None:
        folder = next(
            f for f in (self.run_dir.absolute(), *self.run_dir.absolute().parents) if f.exists()
        )
        free = shutil.disk_usage(folder).free
        if free < need + MARGIN_BYTES:
            raise UserError(
                f"a checkpoint needs {(need + MARGIN_BYTES) / 1e6:,.0f} MB, and the disk of {self.run_dir} has "
                f"{free / 1e6:,.0f} MB free; free some space or lower --keep-checkpoints ({self.keep}), "
                "then run again with --resume"
            )

    def _copy(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """The tensors in memory of our own, which is used again from save to save."""
        copies: dict[str, dict[str, Tensor]] = {}
        for file, named in tensors.items():
            kept, copies[file] = self._buffers.get(file, {}), {}
            for name, tensor in named.items():
                copy = kept.get(name)
                if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
                    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                copies[file][name] = copy.copy_(whole(tensor), non_blocking=True)
        if any(t.is_cuda for named in tensors.values() for t in named.values()):
            torch.cuda.synchronize()
        self._buffers = copies
        return copies

    def _write(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], texts: Mapping[str, str]
    ) -> None:
        try:
            write_checkpoint(self.run_dir, step, tensors, texts)
            self._written.add(step)
            drop_old(self.run_dir, step, keep=self.keep, known_good=self._written)
        except OSError as error:
            if error.errno in FULL or (error.errno in UNUSABLE and error.filename):
                raise
            raise UserError(
                f"the checkpoint of step {step} could not be written below {self.run_dir}: {error}; earlier ones "
                "are as they were: mend the disk, then continue with --resume"
            ) from error


def gather_tensors(
    model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """All tensors of a checkpoint by file and name, where they lie; and the optimizer's plain numbers."""
    moments, numbers = optimizer_state(optimizer, model)
    tensors = {"model.safetensors": {n: t.detach() for n, t in model.state_dict().items()}}
    if average is not None:
        tensors["average.safetensors"] = {n: t.detach() for n, t in average.state_dict().items()}
    tensors["optimizer.safetensors"] = moments
    return tensors, numbers


def num_bytes(tensors: Mapping[str, Mapping[str, Tensor]]) -> int:
    """How many bytes the tensors will take on the disk."""
    return sum(tensor.nbytes for named in tensors.values() for tensor in named.values())


def write_checkpoint(
    run_dir: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    texts: Mapping[str, str],
) -> None:
    """Write a checkpoint under a temporary name, and give it its own when it is whole and on the disk."""
    final = checkpoint_folder(run_dir, step)
    partial = final.with_name(f"{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name, named in tensors.items():
            save_tensors(named, partial / name)
        for name, text in texts.items():
            (partial / name).write_text(text)
        write_manifest(partial, {"step": step})
        # One of this step may be there, of a run that was resumed from an older one.
        replaced = _take_name(final)
        os.rename(partial, final)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync(final.parent)
    sync(run_dir)
    if replaced is not None:
        shutil.rmtree(replaced)


def drop_old(run_dir: Path, step: int, *, keep: int, known_good: Set[int]) -> None:
    """Remove all but the newest `keep` whole checkpoints, never that of `step`.

    One that is not whole neither counts nor goes: it must not push out a good one.
    """
    others = [
        other
        for other in complete_steps(run_dir)
        if other != step and (other in known_good or looks_whole(checkpoint_folder(run_dir, other)))
    ]
    for old in others[: -(keep - 1) or None]:
        removed = _take_name(checkpoint_folder(run_dir, old))
        if removed is not None:
            shutil.rmtree(removed)


def _take_name(folder: Path) -> Path | None:
    """Rename a checkpoint that is to go, if there is one: half removed, it must not bear a checkpoint's name."""
    doomed = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if not folder.exists():
        return None
    os.rename(folder, doomed)
    return doomed


def tidy(run_dir: Path, checkpoint: Checkpoint | None) -> list[str]:
    """Put a run's checkpoints in order before it goes on from one of them; a line for each thing done.

    What killed saves left is removed. Damaged checkpoints that were passed over get another name, so that
    no later command takes one for the newest.
    """
    lines = []
    for folder in sorted((run_dir / "checkpoints").glob("step-*")):
        if re.fullmatch(r"step-\d{8,}\.(partial|removed)", folder.name):
            shutil.rmtree(folder)
            lines.append(f"removed {folder}, which a save that was cut off had left")
    for folder, cause in checkpoint.passed_over if checkpoint else ():
        aside = folder.with_name(f"{folder.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        lines.append(f"passed over {folder}, now {aside.name}: {cause}")
    return lines
