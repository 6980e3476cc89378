"""The certificate as it is run, with ranks in processes of their own."""

import json
from pathlib import Path

from launching import run

from rins_mm.selfcheck import __main__ as selfcheck


def test_two_ranks_and_three_are_right_in_every_way(tmp_path: Path) -> None:
    argv = ["emoji", "--world-sizes", "2", "3", "--json"]
    (outcome,) = run(selfcheck.main, argv, tmp_path / "logs", timeout=300.0)
    assert outcome.code == 0, outcome.output
    found = json.loads(outcome.output[outcome.output.index("{") :])
    assert found["ok"]
    assert {cell["world_size"] for cell in found["cells"]} == {2, 3}
    assert all(max(cell["errors"].values()) < 1e-5 for cell in found["cells"])
