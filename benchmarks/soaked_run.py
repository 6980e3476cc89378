"""A real training run that is watched from outside: started by torchrun, ended in one of several ways."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from process_census import (
    MARK,
    SHARED_MEMORY,
    Holding,
    marked,
    sockets_of_this_machine,
    take_census,
)

from data_pipelines.errors import UserError

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "tests" / "helpers" / "toy.py"
"""Two towers of 0.1 million parameters each, beside a table of 3,302 tokens."""
SECONDS_TO_START = 600.0
SECONDS_TO_END = 180.0
LEFT_BY_TORCH = ("torchelastic_", "torchinductor_")
"""Folders in the folder for temporary files that torch makes and leaves, whatever it runs."""

ENDINGS = ("its last step", "SIGTERM to torchrun", "SIGKILL of torchrun", "SIGKILL of a rank")


class SoakedRun:
    """A run of the recipe under torchrun; leaving the block ends whatever is left of it."""

    def __init__(self, folder: Path, flags: Sequence[str], *, ranks: int, workers: int) -> None:
        folder.mkdir(parents=True)
        self.run_dir, self.log = folder / "run", folder / "log.txt"
        self.ranks, self.workers = ranks, workers
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.shared_memory: set[str] = set()
        self.sockets: set[int] = set()
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(ranks), "-m", "rins_mm.train", str(RECIPE)]
        command += ["--run-dir", str(self.run_dir), "--data.num-workers", str(workers), *flags]
        marks = {MARK: self.mark, "TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)}
        with self.log.open("w") as log:
            self.torchrun = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | marks, stdout=log, stderr=log
            )

    def __enter__(self) -> "SoakedRun":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while processes := marked(self.mark):
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
        self.torchrun.wait()

    def census(self) -> list[Holding]:
        """What each of its processes holds; what may be left of that later is remembered."""
        holdings = take_census(self.mark)
        for holding in holdings:
            self.shared_memory |= holding.shared_memory
            self.sockets |= holding.sockets
        return holdings

    def rows(self) -> list[dict[str, Any]]:
        """What the run has logged, without a row that is just being written."""
        path = self.run_dir / "metrics.jsonl"
        whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return [json.loads(line) for line in whole]

    def wait_for_step(self, step: int) -> None:
        """Return when the run has logged this step."""
        self._wait_until(
            lambda: any(row["step"] >= step for row in self.rows()),
            f"the step {step}",
            SECONDS_TO_START,
        )

    def end(self, how: str) -> dict[str, Any]:
        """End the run in one of ENDINGS; how long its processes took, and what they have left."""
        trainers = {holding.name: holding.process for holding in self.census()}
        since = time.monotonic()
        if how == "SIGTERM to torchrun":
            self.torchrun.terminate()
        elif how == "SIGKILL of torchrun":
            self.torchrun.kill()
        elif how == "SIGKILL of a rank":
            os.kill(trainers[f"rank {self.ranks - 1} trainer"], signal.SIGKILL)
        with suppress(UserError):
            self._wait_until(lambda: not marked(self.mark), "its end", SECONDS_TO_END, may_end=True)
        with suppress(subprocess.TimeoutExpired):
            self.torchrun.wait(1.0)
        return {
            "how": how,
            "seconds": round(time.monotonic() - since, 1),
            "exit_code": self.torchrun.poll(),
            "left": self.left(),
        }

    def left(self) -> dict[str, list[str]]:
        """What is still there of the run, by kind, beside its folder."""
        files = sorted(str(p.relative_to(self.temporary)) for p in self.temporary.rglob("*"))
        return {
            "processes": [holding.name for holding in self.census()],
            "shared_memory": sorted(n for n in self.shared_memory if (SHARED_MEMORY / n).exists()),
            "sockets": sorted(map(str, self.sockets & sockets_of_this_machine())),
            "temporary_files": [name for name in files if not name.startswith(LEFT_BY_TORCH)],
            "unfinished_files": sorted(
                str(path.relative_to(self.run_dir))
                for ending in ("partial", "removed", "tmp")
                for path in self.run_dir.rglob(f"*.{ending}")
            ),
        }

    def _wait_until(
        self, condition: Callable[[], bool], what: str, seconds: float, *, may_end: bool = False
    ) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or (self.torchrun.poll() is not None and not may_end):
                said = self.log.read_text()[-2000:]
                raise UserError(f"the run has not come to {what} in {seconds:g} s:\n{said}")
            time.sleep(0.1)
