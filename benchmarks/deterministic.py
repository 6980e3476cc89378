"""What does a deterministic run cost?  python benchmarks/deterministic.py

Two processes, one of them in deterministic mode, train a recipe on one batch and take turns of a few
steps, so that whatever else the machine does falls on both alike. Printed are the median milliseconds
of a step in each, and the median over rounds of their ratio. Where there is a GPU it is the device,
timed by the clock; on a CPU it is CPU time, which other programs hardly move.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
import tyro

from data_pipelines.errors import UserError, run_command
from data_pipelines.loader import open_training_data, train_batches
from data_pipelines.progress import with_progress
from eval.ranks import Ranks
from rins_mm.config import TrainConfig, build_tokenizer, initial_model
from rins_mm.determinism import make_deterministic, set_threads
from rins_mm.distributed import local_device
from rins_mm.learner import Learner
from rins_mm.recipes import load_config
from rins_mm.watch import Watch

WARM_UP_STEPS = 2
"""Steps of each process that do not count: allocators fill, kernels are chosen."""


@dataclass(frozen=True, kw_only=True)
class DeterministicBenchmark:
    """A recipe's step with and without deterministic mode."""

    recipe: str = "emoji"
    """Recipe whose step is measured."""
    rounds: int = 12
    """Times that the two processes take turns."""
    steps: int = 4
    """Steps of a turn."""
    threads: int = 1
    """CPU threads of each process."""


def main(argv: list[str]) -> None:
    """Measure, and print two medians and their ratio."""
    command = tyro.cli(DeterministicBenchmark, args=argv)
    if command.rounds < 1 or command.steps < 1:
        raise UserError(
            f"rounds is {command.rounds} and steps {command.steps}; both must be at least 1"
        )
    config = replace(load_config(command.recipe), num_threads=command.threads)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with ExitStack() as stack:
        sides = {
            deterministic: stack.enter_context(
                trainer_process(replace(config, deterministic=deterministic), command.steps)
            )
            for deterministic in seconds
        }
        turns = range(command.rounds)
        for turn in with_progress(turns, total=command.rounds, label="rounds"):
            # Who comes first changes from round to round.
            for deterministic in (turn % 2 == 0, turn % 2 == 1):
                sides[deterministic].send("go")
                seconds[deterministic].append(sides[deterministic].recv())
    for deterministic, name in ((False, "as usual"), (True, "deterministic")):
        print(f"{name:<14} {1e3 * statistics.median(seconds[deterministic]):8.2f} ms per step")
    ratios = [slow / fast for fast, slow in zip(*seconds.values(), strict=True)]
    print(
        f"{'ratio':<14} {statistics.median(ratios):8.3f}    "
        f"(rounds from {min(ratios):.3f} to {max(ratios):.3f}; {command.recipe}, batch "
        f"{config.batch_size}, {config.precision}, {describe_device()}, {command.threads} threads, "
        f"torch {torch.__version__}, load average {os.getloadavg()[0]:.1f})"
    )


@contextmanager
def trainer_process(config: TrainConfig, steps: int) -> Iterator[Connection]:
    """A fresh process that trains so many steps for each message, and answers with the seconds of one."""
    # Deterministic mode must come before CUDA, and cannot be told apart within one process.
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=take_turns, args=(config, steps, theirs))
    process.start()
    # Held open on our side, a process that has died would never be noticed.
    theirs.close()
    try:
        yield ours
    except EOFError as error:
        raise UserError("a process of the benchmark has died; see its message above") from error
    finally:
        ours.close()
        process.join()


def take_turns(config: TrainConfig, steps: int, connection: Connection) -> None:
    """Train on one batch whenever asked to, until nobody asks any more."""
    set_threads(config.num_threads)
    if config.deterministic:
        make_deterministic()
    with tempfile.TemporaryDirectory() as folder:
        learner, batch = build(replace(config, run_dir=folder))
        clock = time.perf_counter if learner.device.type == "cuda" else time.process_time
        done = 0

        def advance(count: int) -> float:
            """The seconds that it took."""
            nonlocal done
            begin = clock()
            for _ in range(count):
                # The step's number draws the depth: both processes run the same ones.
                learner.train_step(done % config.max_steps, batch)
                done += 1
            if learner.device.type == "cuda":
                torch.cuda.synchronize()
            return clock() - begin

        advance(WARM_UP_STEPS)
        while True:
            try:
                connection.recv()
            except EOFError:
                return
            connection.send(advance(steps) / steps)


def build(config: TrainConfig):
    """A learner of the recipe's model, and the recipe's first batch on its device."""
    tokenizer = build_tokenizer(config)
    dataset = open_training_data(config.data)
    model = initial_model(config, pad_token=tokenizer.pad_token)
    ranks = Ranks()
    learner = Learner(
        config, model, ranks=ranks, device=local_device(), watch=Watch(ranks, 600.0), say=print
    )
    batches = train_batches(
        config.data, dataset, tokenizer, image_size=config.image.image_size,
        batch_size=config.batch_size, seed=config.seed, start_step=0, num_steps=1, rank=0,
        world_size=1,
    )  # fmt: skip
    batch = next(batches).to(learner.device)
    batches.close()
    return learner, batch


def describe_device() -> str:
    """What the steps ran on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


if __name__ == "__main__":
    run_command(main)
