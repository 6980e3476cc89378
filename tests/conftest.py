"""One thread per process, no network, a cache inside the repository."""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RINS_MM_CACHE", str(REPOSITORY / ".cache"))
os.environ["HF_HUB_OFFLINE"] = "1"

from data_pipelines import torchvision_cpu  # noqa: E402, F401  (before any test imports timm)

# isort: split
import pytest  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from hypothesis import settings  # noqa: E402

from eval.ranks import Ranks, current_ranks  # noqa: E402

# Shared cores make single examples slow now and then; that is no defect.
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def run_on_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list]:
    """`run_on_ranks(function, world_size)`: what `function(ranks)` returned on each rank, tensors and plain values."""

    def run(function: Callable[[Ranks], Any], world_size: int) -> list:
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


def _run_one(function: Callable[[Ranks], Any], rank: int, world_size: int, folder: Path) -> None:
    # A pool of threads does not survive the fork.
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    try:
        torch.save(function(current_ranks()), folder / f"result_{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
