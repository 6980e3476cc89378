"""What is wrong with single samples: the exception, the counts by cause, and when to stop."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from data_pipelines.errors import UserError

WINDOW_SAMPLES = 10_000
LEAST_SAMPLES = 1_000


class BadSample(Exception):  # noqa: N818 - it is a finding about data and travels as one, not a failure
    """A sample that cannot be used; `cause` says why in a few fixed words, fit for counting."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One bad sample."""

    shard: str
    key: str
    cause: str


@dataclass(kw_only=True, eq=False)
class BadSampleCounts:
    """How many samples of this rank were read, and how many were bad, by shard and by cause."""

    num_samples: int = 0
    by_shard_and_cause: Counter[tuple[str, str]] = field(default_factory=Counter)
    latest: deque[Finding] = field(default_factory=lambda: deque(maxlen=100))
    """The last bad samples, for messages."""
    _window: deque[tuple[int, Sequence[Finding]]] = field(default_factory=deque)

    @property
    def num_bad(self) -> int:
        """All bad samples so far."""
        return self.by_shard_and_cause.total()

    @property
    def by_cause(self) -> dict[str, int]:
        """Bad samples of each cause, most frequent first."""
        counts: Counter[str] = Counter()
        for (_, cause), number in self.by_shard_and_cause.items():
            counts[cause] += number
        return dict(counts.most_common())

    def add(self, num_samples: int, findings: Sequence[Finding]) -> None:
        """Count one batch of `num_samples` read samples, among them the bad ones in `findings`."""
        self.num_samples += num_samples
        self.by_shard_and_cause.update((finding.shard, finding.cause) for finding in findings)
        self.latest.extend(findings)
        self._window.append((num_samples, findings))
        while sum(number for number, _ in self._window) - self._window[0][0] >= WINDOW_SAMPLES:
            self._window.popleft()

    def stop_when_too_many(self, max_bad_fraction: float) -> None:
        """Raise a UserError that names the worst shards when too much of the latest window was bad.

        The window holds at least the last 10,000 samples; nothing is judged before 1,000.
        """
        num_samples = sum(number for number, _ in self._window)
        findings = [finding for _, some in self._window for finding in some]
        if num_samples < LEAST_SAMPLES or len(findings) <= max_bad_fraction * num_samples:
            return
        worst = Counter((finding.shard, finding.cause) for finding in findings).most_common(3)
        named = "; ".join(f"{shard}: {number} x {cause}" for (shard, cause), number in worst)
        raise UserError(
            f"{len(findings)} of the last {num_samples} samples were bad, more than "
            f"max_bad_fraction={max_bad_fraction:g}; worst: {named}; first: {findings[0].key!r}; "
            "mend or leave out these shards, or raise max_bad_fraction"
        )
