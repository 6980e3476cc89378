"""Runs a search in a child process, and goes on in a new one when an input has killed or stopped it."""

import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from limits import HANG_CPU_SECONDS, HANG_SECONDS, cpu_seconds_of
from searching import Board, Report, Search
from target import Files, Target

MAX_DEATHS = 50
"""Of one search; a target that dies more often has been shown to be broken."""
SETTLING_SHARE = 0.5
"""Of the time, in which the search still meets much that is new; memory is judged in what follows."""


def watched(target: Target, *, seconds: float, seed: int, least: int = 0) -> dict[str, Any]:
    """Fuzz one target and say what came of it, as plain values for JSON.

    For so many seconds of a processor, which a busy machine takes longer to give, and for more where
    fewer than `least` inputs have been tried by then.
    """
    board, reports = Board(), []
    deaths: dict[str, tuple[int, Files]] = {}
    begin = time.monotonic()
    # Thousands of small files a second are nothing for a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as name:
        # Others than its own folder are no business of an input, the cache of indexes among them.
        os.environ["RINS_MM_CACHE"] = f"{name}/input/cache"
        for child_seed in range(seed, seed + MAX_DEATHS):
            left = seconds - sum(report["cpu_seconds"] for report in reports)
            tried = sum(report["executions"] for report in reports)
            if left <= 0 and tried >= least:
                break
            ended = _child(target, child_seed, left, least - tried, Path(name), board)
            path = Path(name) / f"report-{child_seed}.json"
            if path.exists():
                reports.append(json.loads(path.read_text()))
            if ended == "finished":
                break
            count, files = deaths.get(ended, (0, board.read()))
            deaths[ended] = count + 1, files
    return _summary(target, seed, time.monotonic() - begin, reports, deaths)


def _child(
    target: Target, seed: int, seconds: float, least: int, folder: Path, board: Board
) -> str:
    """How a child that searches for so long has ended: "finished", or what killed it."""
    board.clear()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Search(target, seed, folder, board).run(seconds, least)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    told = moved = time.monotonic()
    number, cpu = 0, 0.0
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return _ending(status)
        if board.number != number:
            number, moved, cpu = board.number, time.monotonic(), cpu_seconds_of(child)
        worked, waited = cpu_seconds_of(child) - cpu, time.monotonic() - moved
        if number and (worked > HANG_CPU_SECONDS or waited > HANG_SECONDS):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"hang: killed after {worked:.0f} CPU seconds and {waited:.0f} by the clock"
        if time.monotonic() - told > 20:
            told = time.monotonic()
            print(
                f"{target.name}: {_line(folder / f'report-{seed}.json')}",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(0.1)


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"crash: killed by {signal.Signals(os.WTERMSIG(status)).name}"
    code = os.WEXITSTATUS(status)
    return "finished" if code == 0 else f"crash: ended with exit code {code}"


def _line(path: Path) -> str:
    if not path.exists():
        return "begun"
    report = json.loads(path.read_text())
    return (
        f"{report['executions']:,} inputs, {len(report['outcomes'])} outcomes, {report['edges']} steps of code, "
        f"{len(report['findings'])} findings"
    )


def _summary(
    target: Target,
    seed: int,
    seconds: float,
    reports: list[dict[str, Any]],
    deaths: dict[str, tuple[int, Files]],
) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    findings = Report()
    for report in reports:
        outcomes.update(report["outcomes"])
        for kind, entry in report["findings"].items():
            known = findings.findings.setdefault(kind, {**entry, "count": 0})
            known["count"] += entry["count"]
    for kind, (count, files) in deaths.items():
        findings.found(kind, kind, files)
        findings.findings[kind]["count"] = count
    longest = max(reports, key=lambda report: report["executions"], default=vars(Report()))
    return {
        "target": target.name,
        "what": target.what,
        "seed": seed,
        "minutes": round(seconds / 60, 2),
        "cpu_minutes": round(sum(report["cpu_seconds"] for report in reports) / 60, 2),
        "executions": sum(report["executions"] for report in reports),
        "distinct_outcomes": len(outcomes),
        "accepted": sum(n for name, n in outcomes.items() if not name[:1].isupper()),
        "steps_of_code": max((report["edges"] for report in reports), default=0),
        "slowest_cpu_seconds": round(max((r["slowest_seconds"] for r in reports), default=0.0), 3),
        "peak_megabytes_over_rest": round(
            max((r["peak_megabytes"] for r in reports), default=0.0), 1
        ),
        "resident_megabytes_per_minute": memory_slope(longest["memory"]),
        "open_files": longest["open_files"],
        "outcomes": dict(outcomes.most_common()),
        "findings": findings.findings,
        "slowest_input": max(
            reports, key=lambda report: report["slowest_seconds"], default=vars(Report())
        )["slowest_input"],
    }


def memory_slope(samples: list[list[float]]) -> float | None:
    """Megabytes per minute by least squares, once the search has settled; None for less than ten samples."""
    settled = samples[int(len(samples) * SETTLING_SHARE) :]
    if len(settled) < 10:
        return None
    mean_time = sum(minute for minute, _ in settled) / len(settled)
    mean_size = sum(size for _, size in settled) / len(settled)
    covariance = sum((minute - mean_time) * (size - mean_size) for minute, size in settled)
    return round(covariance / sum((minute - mean_time) ** 2 for minute, _ in settled), 3)
