"""A run that is killed again and again ends as if nothing had happened.

RINS_MM_KILLS=20 kills so often, each time under the real torchrun (`make kill-test`);
RINS_MM_KILL_SEED=… repeats the instants of a failure.
"""

import os
import time
from pathlib import Path

import pytest
from kills import HEADER, PHASES, BrokenRun, phases_to_hit

KILLS = int(os.environ.get("RINS_MM_KILLS", "5"))
BY_TORCHRUN = KILLS if "RINS_MM_KILLS" in os.environ else 2
"""A start of torchrun takes ten seconds, a fork one; so the real thing is killed twice, then forks are."""

SEED = int(os.environ.get("RINS_MM_KILL_SEED", time.strftime("%Y%m%d")))


@pytest.mark.long
@pytest.mark.parametrize("world_size", [2, 3])
def test_kills_at_random_instants_of_each_phase_change_no_sample_no_number_and_no_weight(
    tmp_path: Path, world_size: int
) -> None:
    assert len(PHASES) <= KILLS, f"RINS_MM_KILLS={KILLS} is fewer than the {len(PHASES)} phases"
    print(f"\nto repeat these instants: RINS_MM_KILL_SEED={SEED}\n{HEADER}", flush=True)
    run = BrokenRun(tmp_path, world_size=world_size, kills=KILLS, seed=SEED)
    for number, phase in enumerate(phases_to_hit(KILLS, SEED)):
        run.kill_in(phase, by_torchrun=number < BY_TORCHRUN)
    run.finish(by_torchrun=BY_TORCHRUN == KILLS)

    assert {kill.place.phase for kill in run.kills} >= set(PHASES)
    assert all({"samples", "loss", "gradient_norm"} <= row.keys() for row in run.reference.rows[:1])
    for kill in run.kills:
        assert kill.identical, kill
        assert not kill.lost_too_much, kill
