"""The cases of gpu.py: a training step, the loss alone, the loader alone."""

import os
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_steps import Setting, StepCase, run_step
from loss_forms import loss_forms
from measuring import cause_of, forget_peak, peak_bytes, take_turns
from train_shards import write_shards

from data_pipelines.loader import DataConfig, open_training_data, train_batches
from data_pipelines.tokenizers import ClipTokenizer

LOADER_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class LossCase:
    """The sigmoid loss alone in all its forms, which take turns."""

    loss_batch_size: int
    compiler: str


@dataclass(frozen=True, kw_only=True)
class LoaderCase:
    """Reading, decoding and resizing JPEGs of twice the towers' size, without a model."""

    num_workers: int


Case = StepCase | LossCase | LoaderCase


def run_case(case: Case, setting: Setting, device: torch.device) -> dict[str, Any]:
    """What a case shows."""
    if isinstance(case, LossCase):
        return run_loss(case, setting, device)
    if isinstance(case, LoaderCase):
        return run_loader(case, setting)
    return run_step(case, setting, device)


def run_loss(case: LossCase, setting: Setting, device: torch.device) -> dict[str, Any]:
    """Seconds of each form, turn by turn, and what each adds to the memory at its peak."""
    runs, peaks, left_out = {}, {}, {}
    for name, form in loss_forms(case.compiler).items():
        try:
            runs[name] = form(case.loss_batch_size, setting.width, device, 0)
            runs[name]()
            # The second run: the first one may have compiled.
            forget_peak(device)
            before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            runs[name]()
        except Exception as error:
            runs.pop(name, None)
            left_out[name] = cause_of(error)
        else:
            peak = peak_bytes(device)
            peaks[name] = None if peak is None else peak - before
    return {
        "seconds_by_turn": take_turns(runs, device, rounds=setting.steps, seconds=30.0),
        "peak_bytes_by_form": peaks,
        "forms_left_out": left_out,
    }


def run_loader(case: LoaderCase, setting: Setting) -> dict[str, Any]:
    """Pictures per second that come out of this project's loader."""
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(
            Path(folder) / "shards", "natural", samples=setting.loader_samples,
            side=2 * setting.image_size, context_length=setting.context_length,
        )  # fmt: skip
        data = DataConfig(shards=tuple(map(str, shards)), num_workers=case.num_workers)
        tokenizer = ClipTokenizer(context_length=setting.context_length)
        # Each worker makes whole batches: two of each start them, and eight of each count.
        batches = train_batches(
            data, open_training_data(data), tokenizer, image_size=setting.image_size,
            batch_size=LOADER_BATCH_SIZE, seed=0, start_step=0, num_steps=10 * case.num_workers,
            rank=0, world_size=1,
        )  # fmt: skip
        with closing(batches):
            for _ in range(2 * case.num_workers):
                next(batches)
            begin = time.perf_counter()
            pictures = sum(int(batch.valid.sum()) for batch in batches)
            seconds = time.perf_counter() - begin
    return {"pictures_per_second": pictures / seconds, "cpus": os.cpu_count()}
