"""A way to run a function in several processes that exchange tensors."""

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist


@pytest.fixture(scope="session")
def run_on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list]:
    """`run_on_ranks(function, world_size)`: what `function(rank)` returned on each rank, tensors and plain values."""

    def run(function: Callable[[int], Any], world_size: int) -> list:
        folder = tmp_path_factory.mktemp(f"world_{world_size}")
        # Forked children need no importable test module; spawned ones would.
        context = multiprocessing.get_context("fork")
        processes = [
            context.Process(target=_run_one, args=(function, rank, world_size, folder))
            for rank in range(world_size)
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            for process in processes:
                process.start()
        for process in processes:
            process.join(timeout=60)
            if process.is_alive():
                process.kill()
        assert [process.exitcode for process in processes] == [0] * world_size
        return [
            torch.load(folder / f"result_{rank}.pt", weights_only=True)
            for rank in range(world_size)
        ]

    return run


def _run_one(function: Callable[[int], Any], rank: int, world_size: int, folder: Path) -> None:
    # A pool of threads does not survive the fork.
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    try:
        torch.save(function(rank), folder / f"result_{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
