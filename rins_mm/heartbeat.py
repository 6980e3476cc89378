"""What each rank is doing, told to all the others through the store of their group.

One thread speaks to the store; nobody else has to wait when the store, which may live in a rank that
is gone, does not answer. Everything it has learnt lies in plain attributes.
"""

import datetime
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

from eval.ranks import Ranks

SHOWN_KEYS = 3
RANKS_PER_SECOND = 64
"""So many ranks beat once a second; more beat more slowly, as each reads what all have told."""


def connect(ranks: Ranks, timeout_seconds: float) -> dist.Store:
    """An own connection to the store of the group: on the shared one a waiting call keeps others out."""
    # A store of torchrun outlives the ranks: what was told before a restart must not be heard after it.
    token = ranks.all_gather_text(uuid.uuid4().hex)[0]
    store = dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=datetime.timedelta(seconds=timeout_seconds),
    )
    return dist.PrefixStore(f"watch/{token}", store)


def beat_of(timeout_seconds: float, world_size: int) -> float:
    """Seconds between two beats: at least twenty within the timeout."""
    return min(timeout_seconds / 20, max(1.0, world_size / RANKS_PER_SECOND))


@dataclass(frozen=True, kw_only=True)
class Doing:
    """What a rank is doing, and for how long it has."""

    phase: str = "starting"
    step: int = 0
    """Counted from 1; 0 before the first one."""
    seconds: float = 0.0
    keys: tuple[str, ...] = ()
    """The first few samples of the last batch of this rank."""
    num_keys: int = 0

    def __str__(self) -> str:
        text = f"step {self.step}, {self.phase} for {self.seconds:.1f} s"
        if self.keys:
            more = " …" if self.num_keys > len(self.keys) else ""
            text += f", last samples {', '.join(self.keys)}{more} ({self.num_keys})"
        return text


@dataclass(kw_only=True)
class Peer:
    """Another rank, as seen from here."""

    doing: Doing
    count: int = -1
    quiet: float = 0.0
    """Seconds without a new beat, of those in which this process was awake itself."""
    has_left: bool = False


class Heartbeat:
    """The thread that tells and listens. `cause` is why the run must end: the first that any rank gave."""

    def __init__(
        self, ranks: Ranks, store: dist.Store, *, beat: float, doing: Callable[[], Doing]
    ) -> None:
        self.ranks, self.store, self.beat, self.doing = ranks, store, beat, doing
        self.peers = {
            rank: Peer(doing=Doing()) for rank in range(ranks.world_size) if rank != ranks.rank
        }
        self.cause: str | None = None
        self.is_lost = False
        self.rounds = 0
        self._proposed = ""
        self._leaves = False
        self._last_round = time.monotonic()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def propose(self, cause: str, patience: float) -> str:
        """The first cause that any rank has given: this one, if there was none and the store still answers."""
        self._proposed = self.cause or cause
        self._wait_until(lambda: self.cause is not None, patience)
        return self.cause or cause

    def leave(self, patience: float) -> None:
        """Tell the others that this rank will not beat any more; end the thread.

        The first rank leaves last, as the store may end with it: it waits until the others have left or
        have fallen silent.
        """
        told = self.rounds + 2
        self._leaves = True
        self._wait_until(lambda: self.rounds >= told, patience)
        if self.ranks.is_first:
            self._wait_until(
                lambda: all(p.has_left or p.quiet > self.silence for p in self.peers.values()),
                patience,
            )
        self._stop.set()
        self._wake.set()

    @property
    def silence(self) -> float:
        """Seconds without a beat after which a rank that closed its connections must have ended."""
        return max(3 * self.beat, 1.0)

    def silent_for(self, seconds: float) -> list[int]:
        """The ranks that have not left, and have not beaten for so long."""
        peers = self.peers.items()
        return [rank for rank, peer in peers if peer.quiet > seconds and not peer.has_left]

    def _wait_until(self, condition: Callable[[], bool], patience: float) -> None:
        deadline = time.monotonic() + patience
        while not (condition() or self.is_lost) and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._round()
            except RuntimeError:
                # Every failure of a store is one: the process that holds it is gone, or cannot be reached.
                self.is_lost = True
                return
            self.rounds += 1
            self._wake.wait(self.beat)
            self._wake.clear()

    def _round(self) -> None:
        message = {"count": self.rounds, "doing": asdict(self.doing()), "left": self._leaves}
        self.store.set(f"rank {self.ranks.rank}", json.dumps(message))
        if self.cause is None and self._proposed:
            self.cause = self.store.compare_set("cause", "", self._proposed).decode()
        elif self.cause is None and self.store.check(["cause"]):
            self.cause = self.store.get("cause").decode()
        now = time.monotonic()
        # A process that was asleep itself has heard nobody, which is nobody's fault.
        elapsed = min(now - self._last_round, 2 * self.beat)
        self._last_round = now
        # Asking for the message of a rank that has not told anything yet would wait for it.
        known = [
            rank
            for rank, peer in self.peers.items()
            if peer.count >= 0 or self.store.check([f"rank {rank}"])
        ]
        for peer in self.peers.values():
            peer.quiet += elapsed
        for rank, text in zip(known, self._read(known), strict=True):
            self._hear(self.peers[rank], json.loads(text))

    def _read(self, ranks: Sequence[int]) -> list[bytes]:
        return self.store.multi_get([f"rank {rank}" for rank in ranks]) if ranks else []

    @staticmethod
    def _hear(peer: Peer, message: dict[str, Any]) -> None:
        if message["count"] > peer.count:
            peer.quiet = 0.0
        peer.count, peer.has_left = message["count"], message["left"]
        doing = message["doing"]
        peer.doing = Doing(**{**doing, "keys": tuple(doing["keys"])})
