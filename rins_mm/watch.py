"""A rank that dies, hangs or runs out of memory takes the others down, with one report of whose fault it was.

Each rank marks what it is doing and hears what the others do (`heartbeat`). When an exchange fails, or
another rank has ended or fallen silent, it prints one line and its stacks, and ends with exit code 1,
from a thread if its main thread is stuck.
"""

import faulthandler
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

import torch
import torch.distributed as dist

from data_pipelines.errors import UserError
from data_pipelines.words import printable, tell
from data_pipelines.worker_processes import remove_sockets
from eval.ranks import Ranks
from rins_mm.heartbeat import SHOWN_KEYS, Doing, Heartbeat, beat_of, connect

EXCHANGING = "exchanging"
"""How the phases begin in which a rank waits for the others."""

GOOD_EXITS = (None, 0, 75)
"""Exit codes of a rank that ends as it should: at the end of the run, or asked to stop, after a save."""

EXCHANGE_FAILED = re.compile(
    r"gloo|nccl|connection (closed|reset) by peer|broken pipe|timed out waiting", re.IGNORECASE
)
TIMED_OUT = re.compile(r"timed? ?out", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, in Python, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_failed_exchange(error: BaseException) -> bool:
    """Whether an exchange between ranks broke off, which is some other rank's fault."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(EXCHANGE_FAILED.search(str(error)))


def is_good_end(error: BaseException | None) -> bool:
    """Whether a rank that leaves with this does what it should; who presses Ctrl-C knows why."""
    asked = isinstance(error, SystemExit) and error.code in GOOD_EXITS
    return error is None or asked or isinstance(error, KeyboardInterrupt)


def in_one_line(frame: traceback.FrameSummary) -> str:
    """A place in the code, as faulthandler writes it."""
    return f'  File "{frame.filename}", line {frame.lineno} in {frame.name}\n'


def has_ended(heartbeat: Heartbeat, rank: int) -> str:
    """What is said of a rank whose process is no more."""
    return f"rank {rank} has ended [last heard: {heartbeat.peers[rank].doing}]"


def is_silent(heartbeat: Heartbeat, rank: int) -> str:
    """What is said of a rank that may be there, but tells nothing."""
    peer = heartbeat.peers[rank]
    return f"rank {rank} has not been heard of for {peer.quiet:.1f} s [last heard: {peer.doing}]"


def store_is_gone(heartbeat: Heartbeat) -> str | None:
    """Whose end it is when the store is gone; None where its rank was done."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return "torchrun, which held the ranks together, has ended"
    if heartbeat.ranks.is_first or heartbeat.peers[0].has_left:
        return None
    return has_ended(heartbeat, 0)


def store_does_not_answer(heartbeat: Heartbeat, seconds: float) -> str:
    """What is said when a request to the store just waits."""
    if heartbeat.ranks.is_first:
        return f"the store of the ranks has not answered for {seconds:.1f} s"
    heard = heartbeat.peers[0].doing
    return f"rank 0 has not been heard of for {seconds:.1f} s [last heard: {heard}]"


def slowest(heartbeat: Heartbeat, timeout_seconds: float) -> str:
    """Who keeps the others waiting, when all are there."""
    busy = {
        rank: peer.doing
        for rank, peer in heartbeat.peers.items()
        if not (peer.has_left or peer.doing.phase.startswith(EXCHANGING))
    }
    if not busy:
        return f"an exchange in which all ranks take part has not ended in {timeout_seconds:g} s"
    first = min(busy, key=lambda rank: busy[rank].step)
    return f"rank {first} keeps the others waiting [{busy[first]}]"


class Watch:
    """Around a run: `mark` what this rank does. A single rank has nobody to tell."""

    def __init__(self, ranks: Ranks, timeout_seconds: float) -> None:
        self.ranks = ranks
        self.timeout_seconds = timeout_seconds
        self.grace = min(5.0, timeout_seconds / 5)
        """Seconds that a rank has to tell its own story before that of another rank is told."""
        self.heartbeat: Heartbeat | None = None
        self._marked = (Doing(), time.monotonic())
        # Whoever takes it tells how this rank ends, and never gives it back.
        self._last_word = threading.Lock()

    def mark(self, phase: str, *, step: int | None = None, keys: Sequence[str] = ()) -> None:
        """From now on this rank does this, in this step, with these samples (where not given: as before)."""
        before = self._marked[0]
        doing = replace(before, phase=phase, step=before.step if step is None else step)
        if keys:
            doing = replace(doing, keys=tuple(keys[:SHOWN_KEYS]), num_keys=len(keys))
        self._marked = (doing, time.monotonic())

    def doing(self) -> Doing:
        """What this rank is doing."""
        doing, since = self._marked
        return replace(doing, seconds=time.monotonic() - since)

    def __enter__(self) -> "Watch":
        if self.ranks.world_size > 1:
            beat = beat_of(self.timeout_seconds, self.ranks.world_size)
            store = connect(self.ranks, self.timeout_seconds)
            self.heartbeat = Heartbeat(self.ranks, store, beat=beat, doing=self.doing)
            threading.Thread(
                target=self._guard, args=(self.heartbeat,), name="watch", daemon=True
            ).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The guard thread may be about to end this process: then nothing more is said here.
        self._last_word.acquire()
        if error is None or is_good_end(error):
            self._leave()
            return
        if self.heartbeat and is_failed_exchange(error):
            cause = self._whose_fault(self.heartbeat, timed_out=bool(TIMED_OUT.search(str(error))))
            if cause:
                self._report(self.heartbeat, cause, trace)
        if is_out_of_memory(error):
            line = self._out_of_memory()
            tell(f"error: {line}")
            self._leave(line)
            raise SystemExit(1) from None
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        line = " ".join(said.split())
        self._leave(f"rank {self.ranks.rank} has ended [{self.doing()}]: {line}")

    def _out_of_memory(self) -> str:
        return (
            f"rank {self.ranks.rank} is out of memory [{self.doing()}]; split its share of a batch by "
            f"--micro-batch-size, or take more than {self.ranks.world_size} ranks, or a smaller --batch-size"
        )

    def _leave(self, cause: str = "") -> None:
        """Go, for a cause that is to be told to the others, or in peace."""
        if self.heartbeat is None:
            return
        if cause:
            self.heartbeat.propose(cause, self.grace)
        # The others, for whom the first rank stays, wait for `grace` before they go.
        self.heartbeat.leave(2 * self.grace + self.heartbeat.silence)

    def _report(self, heartbeat: Heartbeat, cause: str, trace: TracebackType | None = None) -> None:
        """Print whose fault it is and where this rank stands; end this process."""
        doing = self.doing()
        cause = heartbeat.propose(cause, self.grace)
        lines = [printable(f"error: {cause}; seen by rank {self.ranks.rank} [{doing}]")]
        if trace is not None:
            # The stack of the main thread has been unwound up to here.
            frames = reversed(traceback.extract_tb(trace))
            lines += [
                f"It waited here (most recent call first):\n{''.join(map(in_one_line, frames))}"
            ]
        print("\n".join(lines), file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        sys.stdout.flush()
        self._leave()
        remove_sockets()
        os._exit(1)

    def _whose_fault(self, heartbeat: Heartbeat, *, timed_out: bool) -> str | None:
        """Why an exchange failed just now; None where no rank is to blame."""
        rounds = heartbeat.rounds
        deadline = time.monotonic() + heartbeat.silence + self.grace
        say = is_silent if timed_out else has_ended
        while time.monotonic() < deadline:
            if heartbeat.cause:
                return heartbeat.cause
            if heartbeat.is_lost:
                return store_is_gone(heartbeat)
            if silent := heartbeat.silent_for(heartbeat.silence):
                return "; ".join(say(heartbeat, rank) for rank in silent)
            time.sleep(heartbeat.beat / 4)
        if heartbeat.rounds == rounds:
            return store_does_not_answer(heartbeat, self.doing().seconds)
        return slowest(heartbeat, self.timeout_seconds) if timed_out else None

    def _guard(self, heartbeat: Heartbeat) -> None:
        """Wait until something is wrong; report it, unless the main thread of this rank does."""
        unanswered, rounds = 0.0, heartbeat.rounds
        while (cause := self._trouble(heartbeat, unanswered)) is None:
            time.sleep(heartbeat.beat)
            if self._last_word.locked() or (heartbeat.is_lost and not store_is_gone(heartbeat)):
                return
            unanswered = 0.0 if heartbeat.rounds > rounds else unanswered + heartbeat.beat
            rounds = heartbeat.rounds
        # This rank may have met the same trouble, and have more to say about it.
        time.sleep(self.grace)
        if self._last_word.acquire(blocking=False):
            self._report(heartbeat, cause)

    def _trouble(self, heartbeat: Heartbeat, unanswered: float) -> str | None:
        """Why the run must end, whatever the main thread does; None where nothing is wrong."""
        doing, limit = self.doing(), self.timeout_seconds
        if heartbeat.cause or heartbeat.is_lost:
            return heartbeat.cause or store_is_gone(heartbeat)
        if silent := heartbeat.silent_for(limit):
            return "; ".join(is_silent(heartbeat, rank) for rank in silent)
        if unanswered >= limit:
            return store_does_not_answer(heartbeat, unanswered)
        # Gloo notices it itself, a little earlier.
        if doing.phase.startswith(EXCHANGING) and doing.seconds > limit + 2 * heartbeat.beat:
            return slowest(heartbeat, limit)
        return None
