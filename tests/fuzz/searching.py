"""The search itself, in a process of its own: change an input, try it, keep it when it reached something new."""

import contextlib
import gc
import io
import json
import marshal
import mmap
import os
import shutil
import struct
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from limits import (
    MAX_MEGABYTES,
    MAX_SECONDS,
    Sentinel,
    limit_address_space,
    open_files,
    peak_megabytes,
    resident_megabytes,
)
from target import Files, Target
from tracing import Tracer

from data_pipelines.errors import UserError

BOARD_BYTES = 32 << 20
HEADER = struct.Struct("<QQ")
MAX_KEPT = 2_000
MAX_MESSAGE = 2_000
"""Characters of a message: one clear line, whatever the input holds."""
TRACED_EVERY = 3
INPUTS_OF_A_FINDING = 3
REPORT_SECONDS = 5.0
MEMORY_SECONDS = 0.5
REPOSITORY = Path(__file__).parents[2]
OWN_CODE = tuple(f"{REPOSITORY}/{room}/" for room in ("data_pipelines", "eval", "rins_mm", "tests"))


class Board:
    """Memory shared with the watching process: which input is being tried."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, BOARD_BYTES)

    def write(self, number: int, files: Files) -> bool:
        """Put up an input; False where it is too large."""
        data = marshal.dumps(files)
        if len(data) > BOARD_BYTES - HEADER.size:
            return False
        self._memory[: HEADER.size] = HEADER.pack(number, len(data))
        self._memory[HEADER.size : HEADER.size + len(data)] = data
        return True

    def read(self) -> Files:
        """The files of the latest input."""
        _, length = HEADER.unpack(self._memory[: HEADER.size])
        return marshal.loads(self._memory[HEADER.size : HEADER.size + length]) if length else {}

    @property
    def number(self) -> int:
        """Which input it is, counted from 1; 0 before the first."""
        return int(HEADER.unpack(self._memory[: HEADER.size])[0])

    def clear(self) -> None:
        """Forget the latest input."""
        self._memory[: HEADER.size] = bytes(HEADER.size)


@dataclass(kw_only=True)
class Report:
    """What came of one search, as it is written down every few seconds."""

    executions: int = 0
    cpu_seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    edges: int = 0
    kept_inputs: int = 0
    slowest_seconds: float = 0.0
    slowest_input: str = ""
    peak_megabytes: float = 0.0
    """Over that at rest."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """Minutes of the processor and megabytes, without those of the inputs that the search itself keeps."""
    open_files: tuple[int, int] = (0, 0)
    """Early in the search, and at its end."""
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By what went wrong and where: how often, what was said, and inputs as marshalled files in hexadecimal."""

    def found(self, kind: str, detail: str, files: Files) -> None:
        """Note a finding, with the first few inputs that show it."""
        entry = self.findings.setdefault(
            kind, {"count": 0, "detail": detail[:MAX_MESSAGE], "inputs": []}
        )
        entry["count"] += 1
        if len(entry["inputs"]) < INPUTS_OF_A_FINDING:
            entry["inputs"].append(marshal.dumps(files).hex())

    def write(self, path: Path) -> None:
        """Write it down, whole."""
        unfinished = path.with_suffix(".partial")
        unfinished.write_text(json.dumps(vars(self)))
        unfinished.replace(path)


class Search:
    """Tries inputs of one target until its processor time is over. A pure function of the seed, but for that."""

    def __init__(self, target: Target, seed: int, folder: Path, board: Board) -> None:
        self.target = target
        self.draws = Random(seed)
        self.report = Report()
        self._folder = folder / "input"
        self._report_path = folder / f"report-{seed}.json"
        self._board = board
        self._tracer = Tracer(target.traced)
        self._kept = target.seeds()
        self._num_seeds = len(self._kept)
        self._kept_contents: dict[int, bytes] = {}
        self._sentinel = Sentinel(self._folder)
        self._peak = self._at_rest = 0.0
        self._files_before = 0

    def run(self, seconds: float, least: int) -> None:
        """Try the seeds, then changes of them: for so long of a processor, and so many inputs at least."""
        emptied(self._folder)
        limit_address_space()
        gc.collect()
        self._at_rest = self._peak = peak_megabytes()
        for files in list(self._kept):
            self._try(files)
        self._files_before = open_files()
        begin = time.process_time()
        reported = remembered = 0.0
        while (passed := time.process_time() - begin) < seconds or self.report.executions < least:
            files = self._next_input()
            if self._try(files) and len(self._kept) < MAX_KEPT:
                self._keep(files)
            if passed - remembered >= MEMORY_SECONDS:
                remembered = passed
                own = sum(map(len, self._kept_contents.values())) / 2**20
                self.report.memory.append((passed / 60, resident_megabytes() - own))
            if passed - reported >= REPORT_SECONDS:
                reported = passed
                self._write()
        self._write()

    def _keep(self, files: Files) -> None:
        """Remember an input. Those that are alike share their contents: each is counted once."""
        self._kept.append(files)
        self._kept_contents |= {id(content): content for content in files.values()}

    def _write(self) -> None:
        self.report.cpu_seconds = time.process_time()
        self.report.edges, self.report.kept_inputs = self._tracer.num_edges, len(self._kept)
        self.report.open_files = (self._files_before, open_files())
        self.report.peak_megabytes = max(self.report.peak_megabytes, self._peak - self._at_rest)
        self.report.write(self._report_path)

    def _next_input(self) -> Files:
        # What was kept last is nearest to what has not been seen.
        recent = self._kept[-8:] if self.draws.random() < 0.3 else self._kept
        return self.target.mutate(
            self.draws.choice(recent), self.draws, self.draws.choice(self._kept)
        )

    def _try(self, files: Files) -> bool:
        """Try one input; whether it reached something new."""
        self.report.executions += 1
        if not self._board.write(self.report.executions, files):
            return False
        known = len(self.report.findings)
        # Being followed makes plain Python several times slower.
        followed = (
            self.report.executions % TRACED_EVERY == 0 or self.report.executions <= self._num_seeds
        )
        outcome, new, seconds = self._timed(files, followed=followed)
        if seconds > self.report.slowest_seconds:
            # A collection of garbage, or a stir of the machine, comes once.
            seconds = min(seconds, *(self._timed(files)[2] for _ in range(2)))
        self.report.outcomes[outcome] += 1
        if seconds > self.report.slowest_seconds:
            self.report.slowest_seconds = seconds
            self.report.slowest_input = marshal.dumps(files).hex()
        if seconds > MAX_SECONDS:
            self.report.found(f"slow: {outcome}", f"{seconds:.1f} CPU seconds", files)
        peak = peak_megabytes()
        if peak - self._peak > MAX_MEGABYTES:
            self.report.found(
                f"memory: {outcome}", f"{peak - self._peak:.0f} MB more than before", files
            )
        self._peak = max(self._peak, peak)
        if self._sentinel.breaches:
            self.report.found(f"breach: {outcome}", "; ".join(self._sentinel.breaches), files)
            self._sentinel.breaches.clear()
        if len(self.report.findings) > known:
            # The next input may end the process.
            self._write()
        return new

    def _timed(self, files: Files, *, followed: bool = False) -> tuple[str, bool, float]:
        """What came of an input, whether it reached something new, and its CPU seconds."""
        begin = time.process_time()
        outcome, new = self._attempt(files, followed=followed)
        seconds = time.process_time() - begin
        emptied(self._folder)
        return outcome, new, seconds

    def _attempt(self, files: Files, *, followed: bool) -> tuple[str, bool]:
        self._sentinel.armed = True
        if followed:
            self._tracer.begin()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                outcome = self.target.attempt(files, self._folder)
        except self.target.documented as error:
            self._sentinel.armed = False
            outcome = f"{type(error).__name__} at {place_of(error)}"
            line = str(error)
            if isinstance(error, UserError) and (len(line) > MAX_MESSAGE or not line.isprintable()):
                self.report.found(
                    f"not one clear line: {outcome}", f"{len(line)} characters: {line!r}", files
                )
        # Whatever else comes through is what is looked for.
        except BaseException as error:
            self._sentinel.armed = False
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            outcome = f"ESCAPED {type(error).__name__} at {place_of(error)}"
            self.report.found(
                outcome, "".join(traceback.format_exception(error))[-MAX_MESSAGE:], files
            )
        finally:
            new = self._tracer.end()
            self._sentinel.armed = False
        return outcome, new


def emptied(folder: Path) -> None:
    """Remove what an input has left, and keep the folder: removing that takes milliseconds on some disks."""
    if not folder.exists():
        folder.mkdir()
    with os.scandir(folder) as entries:
        for entry in entries:
            shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)


def place_of(error: BaseException) -> str:
    """The last line of this project's code that the exception went through."""
    own = last = "nowhere"
    step = error.__traceback__
    while step:
        name = step.tb_frame.f_code.co_filename
        last = f"{os.path.relpath(name, REPOSITORY)}:{step.tb_lineno}"
        if name.startswith(OWN_CODE):
            own = last
        step = step.tb_next
    return last if own == "nowhere" else own
