"""Start ranks through the real torchrun, which costs ten seconds of imports a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launching import REPOSITORY


class Torchrun:
    """A training command under torchrun, as `launching.Launch` has it without."""

    def __init__(self, argv: Sequence[str], folder: Path, world_size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.world_size = world_size
        self.log = folder / "torchrun.txt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(world_size), "-m", "rins_mm.train", *argv]
        self.started = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)

    def kill(self) -> None:
        """End torchrun and all its ranks at once, as a power cut would; they must all be there."""
        # The ranks have sessions of their own, so no signal to a process group would reach them.
        ranks = _children(self.process.pid)
        assert len(ranks) == self.world_size, f"torchrun has the ranks {ranks}\n{self.output()}"
        self.process.kill()
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)
        self.process.wait()
        while any(map(_runs, ranks)):
            time.sleep(0.01)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def output(self) -> str:
        """What torchrun and the ranks have printed so far."""
        return self.log.read_text()


def _children(process: int) -> list[int]:
    # Not by pgrep: its start takes longer than a step does.
    running = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [number for number in running if _state(number)[1:2] == [str(process)]]


def _runs(process: int) -> bool:
    # Z is dead, and not yet taken note of.
    return _state(process)[:1] not in ([], ["Z"])


def _state(process: int) -> list[str]:
    """State, parent and more of a process; nothing of one that is no more."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
