import threading
import time

import pytest
import torch
import torch.distributed as dist

from eval.ranks import Ranks
from rins_mm.heartbeat import Doing, Heartbeat, beat_of
from rins_mm.watch import Watch, is_failed_exchange, is_good_end, is_out_of_memory, slowest

BEAT = 0.05


def group(store: dist.Store, phases: list[str]) -> list[Heartbeat]:
    """The heartbeats of as many ranks as phases, in one process."""
    return [
        Heartbeat(
            Ranks(rank=rank, world_size=len(phases)),
            store,
            beat=BEAT,
            doing=lambda phase=phase: Doing(phase=phase, step=3),
        )
        for rank, phase in enumerate(phases)
    ]


def wait_for(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def store() -> dist.Store:
    return dist.HashStore()


def test_ranks_hear_what_the_others_do_and_name_the_slowest(store: dist.Store) -> None:
    first, second, third = group(store, ["exchanging features", "saving", "exchanging features"])
    wait_for(lambda: all(p.count > 2 for p in (*first.peers.values(), *third.peers.values())))
    assert first.silent_for(1.0) == []
    for other in (first, third):
        assert slowest(other, 5.0).startswith("rank 1 keeps the others waiting [step 3, saving for")
    for heartbeat in (third, second, first):
        heartbeat.leave(1.0)


def test_a_rank_that_falls_silent_is_found_and_one_that_leaves_is_not(store: dist.Store) -> None:
    first, second, third = group(store, ["computing"] * 3)
    wait_for(lambda: all(peer.count > 2 for peer in first.peers.values()))
    # As if its process were stopped.
    second._stop.set()
    third.leave(1.0)
    wait_for(lambda: first.silent_for(0.5))
    assert first.silent_for(0.5) == [1] and first.peers[2].has_left
    first.leave(1.0)


def test_the_first_cause_is_the_cause_of_all(store: dist.Store) -> None:
    first, second = group(store, ["computing"] * 2)
    told: list[str] = []
    threads = [
        threading.Thread(target=lambda h=h, n=n: told.append(h.propose(f"cause {n}", 5.0)))
        for n, h in enumerate((first, second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 2 and len(set(told)) == 1
    second.leave(1.0)
    first.leave(1.0)


def test_a_mark_keeps_what_it_does_not_name_and_starts_the_clock_anew() -> None:
    watch = Watch(Ranks(), 600.0)
    watch.mark("waiting for data", step=7)
    watch.mark("computing", keys=tuple("abcde"))
    time.sleep(0.02)
    watch.mark("saving")
    doing = watch.doing()
    assert (doing.step, doing.keys, doing.num_keys) == (7, ("a", "b", "c"), 5)
    assert doing.seconds < 0.02
    assert str(doing) == "step 7, saving for 0.0 s, last samples a, b, c … (5)"


def test_out_of_memory_is_told_from_failed_exchanges_and_other_errors() -> None:
    with pytest.raises(RuntimeError) as on_the_cpu:
        torch.empty(2**50, dtype=torch.uint8)
    for error in (on_the_cpu.value, MemoryError(), torch.OutOfMemoryError()):
        assert is_out_of_memory(error) and not is_failed_exchange(error)
    closed = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1")
    for error in (closed, dist.DistBackendError("NCCL error"), dist.DistNetworkError("no")):
        assert is_failed_exchange(error) and not is_out_of_memory(error)
    assert not is_failed_exchange(RuntimeError("shapes do not fit"))


@pytest.mark.parametrize(("code", "good"), [(None, True), (0, True), (75, True), (1, False)])
def test_a_rank_that_was_asked_to_stop_ends_well(code: int | None, good: bool) -> None:
    assert is_good_end(SystemExit(code)) is good


def test_a_single_rank_without_memory_ends_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = Watch(Ranks(), 600.0)
    watch.mark("computing", step=2)
    with pytest.raises(SystemExit) as exit_of_rank, watch:
        raise MemoryError
    assert exit_of_rank.value.code == 1
    line = capsys.readouterr().err
    assert (
        line.startswith("error: rank 0 is out of memory [step 2, computing")
        and "\n" not in line[:-1]
    )


def test_many_ranks_beat_more_slowly_and_twenty_times_within_a_short_timeout() -> None:
    assert beat_of(600.0, 8) == 1.0 and beat_of(600.0, 640) == 10.0 and beat_of(5.0, 2) == 0.25
