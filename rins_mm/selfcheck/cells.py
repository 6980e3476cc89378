"""The ways in which one step is computed, and how far each is from the reference."""

import dataclasses
import itertools
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from data_pipelines.batch import ImageTextBatch
from data_pipelines.errors import UserError
from eval.ranks import Ranks
from rins_mm.config import LossConfig, TrainConfig
from rins_mm.learner import Learner
from rins_mm.models.signatures import expand
from rins_mm.selfcheck.reference import by_part, errors, reference
from rins_mm.selfcheck.setting import NUM_PAIRS, make_model
from rins_mm.watch import Watch

LOSS_FORMS: dict[str, dict[str, Any]] = {
    "dense": {"kind": "sigmoid", "form": "dense"},
    # Tiles far smaller than the batch, which does not come out even.
    "gather": {"kind": "sigmoid", "form": "tiled", "tile_size": 5, "exchange": "gather"},
    "ring": {"kind": "sigmoid", "form": "tiled", "tile_size": 5, "exchange": "ring"},
    "softmax": {"kind": "softmax"},
}
"""Every loss and every form of it, as settings of `loss`; those that it has are checked."""

COMPILE_FORMS: dict[str, dict[str, Any]] = {"off": {}, "aot_eager": {"compile": "aot_eager"}}
"""Ways of compiling, as settings of a run; those that it has are checked."""

PRECISIONS = {"fp64": torch.float64, "fp32": torch.float32}

TOLERANCES = {"fp64": 1e-12, "fp32": 1e-5}
"""Largest relative error of the loss and, norm-wise, of each part's gradients."""

TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way of computing a step."""

    world_size: int
    micro_batch_size: int
    """0: the whole share of a rank at once."""
    loss: str
    compile: str
    precision: str

    def settings(self, config: TrainConfig) -> TrainConfig:
        """The recipe, computed in this way."""
        return dataclasses.replace(
            config,
            micro_batch_size=self.micro_batch_size,
            loss=dataclasses.replace(config.loss, **LOSS_FORMS[self.loss]),
            **COMPILE_FORMS[self.compile],
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A cell and its errors, the largest of any rank, by part."""

    cell: Cell
    errors: dict[str, float]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is off by more than the tolerance."""
        return max(self.errors.values()) <= TOLERANCES[self.cell.precision]


def cells_of(world_sizes: Sequence[int], micro_batch_size: int) -> list[Cell]:
    """Every combination; compiled towers in fp32 alone, which is what they are for."""
    for world_size in world_sizes:
        if world_size < 1 or NUM_PAIRS % world_size:
            raise UserError(
                f"{world_size} ranks have no equal shares of the {NUM_PAIRS} pairs of the check; "
                "choose --world-sizes that divide it, such as 1 2 3"
            )
    if micro_batch_size < 1:
        raise UserError(f"micro_batch_size is {micro_batch_size}; it must be at least 1")
    losses, compilers = _known(LOSS_FORMS, LossConfig), _known(COMPILE_FORMS, TrainConfig)
    axes = itertools.product(world_sizes, (0, micro_batch_size), losses, compilers, PRECISIONS)
    cells = [
        Cell(world_size=ranks, micro_batch_size=size, loss=loss, compile=by, precision=precision)
        for ranks, size, loss, by, precision in axes
    ]
    return [cell for cell in cells if cell.compile == "off" or _is_worth_compiling(cell)]


def _is_worth_compiling(cell: Cell) -> bool:
    """Blocks are compiled, and the tiles of the loss: one form that has both is enough, and saves minutes."""
    return (cell.loss, cell.precision, cell.micro_batch_size) == ("ring", "fp32", 0)


def _known(forms: Mapping[str, Mapping[str, Any]], config: type) -> list[str]:
    names = {field.name for field in dataclasses.fields(config)}
    return [form for form, settings in forms.items() if settings.keys() <= names]


def measure(
    config: TrainConfig,
    batch: ImageTextBatch,
    cells: Sequence[Cell],
    folder: Path,
    say: Callable[[str], None],
) -> list[Measured]:
    """Compute every cell, several ranks in processes of their own; `folder` is for what they exchange."""
    tensors = {name: value for name, value in vars(batch).items() if name != "sample_keys"}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "batch")
    for kind in {LOSS_FORMS[cell.loss]["kind"] for cell in cells}:
        save_file(reference(config, batch, kind), folder / kind)
    measured = []
    for world_size in dict.fromkeys(cell.world_size for cell in cells):
        chosen = [cell for cell in cells if cell.world_size == world_size]
        say(f"{world_size} ranks: {len(chosen)} cells")
        by_rank = _on_ranks(config, chosen, folder, world_size)
        for cell, *found in zip(chosen, *by_rank, strict=True):
            worst = {part: max(one[part] for one in found) for part in found[0]}
            measured.append(Measured(cell=cell, errors=worst))
    return measured


def _on_ranks(
    config: TrainConfig, cells: list[Cell], folder: Path, world_size: int
) -> list[list[dict[str, float]]]:
    """For each rank, the errors of each cell."""
    if world_size == 1:
        return [_errors(config, cells, folder, Ranks())]
    # A server that has imported everything and started no thread, from which ranks are forked.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    processes = [
        context.Process(target=_run_rank, args=(config, cells, folder, rank, world_size))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_SECONDS)
        process.kill()
        process.join()
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise UserError(
            f"the {world_size} ranks of the check ended with the exit codes {codes}; what they "
            "printed above says why, and fewer --world-sizes show whether one rank is well"
        )
    return [json.loads(_result(folder, rank, world_size).read_text()) for rank in range(world_size)]


def _run_rank(
    config: TrainConfig, cells: list[Cell], folder: Path, rank: int, world_size: int
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / f"store-{world_size}"), world_size)
    timeout = timedelta(seconds=TIMEOUT_SECONDS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=timeout)
    try:
        found = _errors(config, cells, folder, Ranks(rank=rank, world_size=world_size))
        _result(folder, rank, world_size).write_text(json.dumps(found))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _result(folder: Path, rank: int, world_size: int) -> Path:
    return folder / f"errors-{rank}-of-{world_size}.json"


def _errors(
    config: TrainConfig, cells: list[Cell], folder: Path, ranks: Ranks
) -> list[dict[str, float]]:
    tensors: dict[str, Any] = load_file(folder / "batch")
    whole = ImageTextBatch(**tensors, sample_keys=("",) * NUM_PAIRS)
    share = whole.take(slice(ranks.rank, None, ranks.world_size))
    found = []
    for cell in cells:
        learner = Learner(
            cell.settings(config),
            make_model(config, PRECISIONS[cell.precision]),
            ranks=ranks,
            device=torch.device("cpu"),
            watch=Watch(ranks, TIMEOUT_SECONDS),
            say=print,
        )
        learner.model.train()
        image, text = config.image.recursion, config.text.recursion
        seen = learner.find_gradients(0, share, expand(image.signature), expand(text.signature))
        learner.gradients.sum_over_ranks(learner.group)
        expected = load_file(folder / LOSS_FORMS[cell.loss]["kind"])
        found.append(errors(by_part(learner.model, seen.loss), expected))
    return found
