"""--profile: which steps are looked into, and what is said of them."""

import json

import torch

from rins_mm.profiling import NUM_COSTS, WARM_UP_STEPS, StepProfile


def test_the_steps_after_the_warm_up_are_traced_and_their_largest_costs_named(tmp_path):
    said = []
    steps = StepProfile(tmp_path / "profile", 2, torch.device("cpu"), said.append)
    matrix = torch.rand(300, 300)
    for done in range(1, WARM_UP_STEPS + 6):
        for _ in range(5):
            matrix @ matrix
        steps.step_done(done)
    (trace,) = (tmp_path / "profile").iterdir()
    assert trace.name == f"until-step-{WARM_UP_STEPS + 3}.json"
    names = [event.get("name") for event in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("aten::mm") == 2 * 5
    assert 2 < len(said) <= 2 + NUM_COSTS
    (product,) = [line for line in said if line.startswith("aten::mm")]
    assert product.split()[-1] == "5.0"


def test_without_steps_nothing_is_written(tmp_path):
    said = []
    steps = StepProfile(tmp_path / "profile", 0, torch.device("cpu"), said.append)
    for done in range(1, 10):
        steps.step_done(done)
    steps.close()
    assert not said and not list(tmp_path.iterdir())


def test_a_run_that_ends_early_keeps_what_was_traced(tmp_path):
    said = []
    steps = StepProfile(tmp_path / "profile", 100, torch.device("cpu"), said.append)
    for done in range(1, WARM_UP_STEPS + 4):
        torch.ones(3) + 1
        steps.step_done(done)
    steps.close()
    assert len(list((tmp_path / "profile").iterdir())) == 1 and said
