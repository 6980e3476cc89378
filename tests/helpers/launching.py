"""Start ranks of a command as real processes, forked from a parent that has imported everything.

A launch of torchrun costs about ten seconds of imports; a fork of a warm parent costs a tenth of one.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
TOY = str(Path(__file__).with_name("toy.py"))


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["rins_mm.train", "rins_mm.evaluate", "rins_mm.search", "launching"]
    )
    # A test may be elsewhere by now, and the server looks for modules where it is started.
    with contextlib.chdir(REPOSITORY):
        forkserver.ensure_running()
    return context


@dataclass(frozen=True)
class Outcome:
    """How one rank ended, and all that it printed."""

    code: int
    output: str
    seconds: float


class Launch:
    """The ranks of one command."""

    def __init__(
        self, main: Callable[[list[str]], None], argv: Sequence[str], folder: Path, world_size: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f"rank-{rank}.txt" for rank in range(world_size)]
        self.started = time.monotonic()
        port = _free_port()
        self.processes = [
            _server().Process(
                target=_run_rank, args=(main, list(argv), rank, world_size, port, str(log))
            )
            for rank, log in enumerate(self.logs)
        ]
        for process in self.processes:
            process.start()

    def wait(self, timeout: float = 120.0) -> list[Outcome]:
        """The outcomes, when all ranks have ended; a rank that has not by then is killed, and fails the test."""
        deadline = self.started + timeout
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        seconds = time.monotonic() - self.started
        stuck = [process for process in self.processes if process.exitcode is None]
        self.kill()
        assert not stuck, f"still running after {timeout} s:\n{self.output()}"
        return [
            Outcome(process.exitcode, log.read_text(), seconds)
            for process, log in zip(self.processes, self.logs, strict=True)
        ]

    def kill(self) -> None:
        """End all ranks at once, as a power cut would."""
        for process in self.processes:
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.join()

    def running(self) -> bool:
        """Whether any rank has not ended yet."""
        return any(process.exitcode is None for process in self.processes)

    def output(self) -> str:
        """What the ranks have printed so far."""
        return "\n".join(log.read_text() for log in self.logs if log.exists())


def run(
    main: Callable[[list[str]], None],
    argv: Sequence[str],
    folder: Path,
    *,
    world_size: int = 1,
    timeout: float = 120.0,
) -> list[Outcome]:
    """Run a command on so many ranks, to its end."""
    return Launch(main, argv, folder, world_size).wait(timeout)


def run_well(
    main: Callable[[list[str]], None], argv: Sequence[str], folder: Path, *, world_size: int = 1
) -> None:
    """Run a command that must succeed."""
    for outcome in run(main, argv, folder, world_size=world_size):
        assert outcome.code == 0, outcome.output


def _run_rank(
    main: Callable[[list[str]], None],
    argv: list[str],
    rank: int,
    world_size: int,
    port: int,
    log: str,
) -> None:
    # Imported here: the parent of all ranks must have no process group and no threads.
    from data_pipelines.errors import run_command

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if world_size > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    sys.argv = ["command", *argv]
    run_command(main)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
