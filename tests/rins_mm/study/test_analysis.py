"""From records to verdicts and a page, on records that are made up."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.shapes import misfit
from rins_mm.study.analysis import analyse
from rins_mm.study.contrasts import paired, paired_at
from rins_mm.study.design import PositiveControl, load_study
from rins_mm.study.jobs import study_jobs
from rins_mm.study.page import study_page
from rins_mm.study.record_shape import RECORD
from rins_mm.study.records import curve, loss_curve, read_record, spending

TOY_STUDY = Path(__file__).parents[2] / "helpers" / "toy_study.py"
METRIC = "text_retrieval_recall@10"


def study(seeds=4):
    """The toy's study with an arm that is its positive control."""
    toy = replace(load_study(str(TOY_STUDY), scale="cpu"), seeds=seeds)
    deep = replace(toy.arms[0], name="deep", control="plain", match="samples", role="control")
    control = PositiveControl(tower="text", arm="deep", control="plain")
    return replace(toy, arms=(*toy.arms, deep), positive_controls=(control,))


def record(arm, seed, recall, *, loss=5.0, flops=1000.0, samples=100.0, depth="AB"):
    """A run whose recall grew linearly with its spending."""

    def spent(share):
        return {"samples": samples * share, "flops": flops * share, "layer_steps": flops * share}

    return {
        "arm": arm,
        "seed": seed,
        "trained_depth": depth,
        "results": [
            {
                "name": "retrieval:emoji-val",
                "dataset": "emoji-val",
                "variant": variant,
                "metrics": {METRIC: recall - 0.1 * (variant != depth)},
                "intervals": {METRIC: [recall - 0.03, recall + 0.03]},
            }
            for variant in dict.fromkeys(["AB", depth])
        ],
        "held_out": {
            "fingerprint": "same",
            "losses": dict.fromkeys(["AB", depth], loss),
        },
        "curve": [
            {**spent(share), "metrics": {f"emoji-val/{depth}/{METRIC}": recall * share}}
            for share in (0.25, 0.5, 0.75, 1.0)
        ],
        "losses": [[samples * share, flops * share, 9 - share] for share in (0.5, 1.0)],
        "steps": 20,
        "spent": spent(1.0),
        "training_seconds": 60.0,
        "parameters": 1000,
        "config": {"optimizer": {"peak_learning_rate": 1e-3}, "max_steps": 20},
        "versions": {"git_commit": "<b>not bold</b>"},
    }


def records(gain=0.1, control_gain=0.1, seeds=4):
    noise = [0.00, 0.01, -0.01, 0.005, 0.0, -0.005]
    found = []
    for seed in range(seeds):
        # What a seed does to all its arms is not in their differences.
        common = 0.4 + 0.05 * seed
        found += [
            record("plain", seed, common),
            record("rins", seed, common + gain + noise[seed], samples=50.0, depth="AAAB"),
            record("deep", seed, common + control_gain - noise[seed], flops=2000.0),
        ]
    return found


def verdict(runs, whole=None):
    (claim,) = analyse(whole or study(), runs, [], [])["claims"]
    return claim["verdict"], claim["reason"]


def test_a_gain_that_every_seed_shows_is_supported():
    assert verdict(records()) == ("supported", "")


def test_a_gain_smaller_than_delta_and_none_at_all_is_not_supported():
    assert verdict(records(gain=-0.05)) == ("not supported", "")


def test_without_its_positive_control_a_tower_is_undecided_whatever_recursion_does():
    found, reason = verdict(records(control_gain=0.0))
    assert found == "undecided" and "positive control of the text tower, deep" in reason


def test_nothing_is_decided_before_all_planned_seeds_are_there():
    found, reason = verdict(records(seeds=3))
    assert found == "undecided" and reason == "3 of the 4 planned seeds are there"


def test_claims_are_decided_together_since_the_last_one_may_change_the_others():
    whole = study()
    drawn = replace(whole.arms[1], name="drawn")
    claims = (whole.claims[0], replace(whole.claims[0], name="Drawn rounds help", arm="drawn"))
    whole = replace(whole, arms=(*whole.arms, drawn), claims=claims)
    more = [{**run, "arm": "drawn"} for run in records() if run["arm"] == "rins"]
    first, second = analyse(whole, [*records(), *more[:3]], [], [])["claims"]
    assert first["verdict"] == second["verdict"] == "undecided"
    assert "'Drawn rounds help' has not all its seeds yet" in first["reason"]
    first, second = analyse(whole, [*records(), *more], [], [])["claims"]
    assert first["verdict"] == second["verdict"] == "supported"


def test_a_positive_control_that_saw_more_samples_shows_nothing():
    runs = [{**run, "spent": dict(run["spent"])} for run in records()]
    for run in runs:
        run["spent"]["samples"] *= 3.0 if run["arm"] == "deep" else 1.0
    assert verdict(records())[0] == "supported" and verdict(runs)[0] == "undecided"


def test_arms_that_spent_unlike_amounts_are_not_judged():
    runs = records()
    runs[4]["spent"]["flops"] *= 1.02
    found, reason = verdict(runs)
    assert found == "undecided" and reason == "what rins and plain spent differs by up to 2.0%"


def test_a_seed_that_only_one_arm_has_is_no_pair():
    runs = [one for one in records() if (one["arm"], one["seed"]) != ("rins", 2)]
    assert list(paired(runs, "rins", "plain", study().endpoints[0])) == [0, 1, 3]


def test_lower_losses_are_better():
    loss = study().endpoints[1]
    runs = [record("plain", 0, 0.5, loss=5.0), record("rins", 0, 0.5, loss=4.5, depth="AAAB")]
    assert paired(runs, "rins", "plain", loss) == {0: pytest.approx(0.5)}


def test_equal_spending_reads_the_longer_run_before_its_end():
    recall = study().endpoints[0]
    runs = [record("plain", 0, 0.4), record("rins", 0, 0.6, samples=50.0, depth="AAAB")]
    # At 50 samples plain was half through: 0.2 by its curve, which is a line.
    differences, unfinished = paired_at(runs, "rins", "plain", recall, "", "samples")
    assert differences == {0: pytest.approx(0.6 - 0.2)} and unfinished == ["plain"]
    differences, unfinished = paired_at(runs, "rins", "plain", recall, "", "flops")
    assert differences == {0: pytest.approx(0.2)} and unfinished == []


def test_nothing_is_read_from_before_the_first_evaluation():
    recall = study().endpoints[0]
    runs = [record("plain", 0, 0.4), record("rins", 0, 0.6, samples=10.0, depth="AAAB")]
    assert paired_at(runs, "rins", "plain", recall, "", "samples") == ({}, [])


def test_runs_on_other_held_out_batches_are_refused():
    runs = records()
    runs[4]["held_out"]["fingerprint"] = "other"
    with pytest.raises(UserError, match="rins-1 were measured on different held-out batches"):
        analyse(study(), runs, [], [])


def test_a_pilot_says_what_the_seeds_can_find():
    pilot = [record("plain", 2000 + n, recall) for n, recall in enumerate((0.40, 0.42, 0.41))]
    measured, bound, *_ = analyse(study(), [], pilot, [])["pilot"]
    # A deviation of 0.01 for one arm is 0.0141 for a difference of two.
    assert measured["of_difference"] == pytest.approx(0.01 * 2**0.5)
    assert bound["detectable"] > 2 * measured["detectable"] > 0.02
    assert measured["seeds_for_delta"] >= 6


def test_the_page_escapes_what_it_shows_and_runs_nothing():
    runs, whole = records(), study()
    results = analyse(whole, runs, [], [])
    page = study_page(whole, results, runs, "python -m rins_mm.study toy")
    assert "&lt;everything&gt;" in page and "&lt;b&gt;not bold" in page
    assert (
        "<everything>" not in page
        and "<script" not in page
        and "http" not in page.replace("http-equiv", "")
    )
    for words in ("Recursion helps: supported", "equal samples", "before the end of", "AAAB"):
        assert words in page
    assert json.dumps(results)


def test_a_page_without_runs_can_be_written():
    whole = study()
    page = study_page(whole, analyse(whole, [], [], []), [], "")
    assert "of its runs have no record yet" in page


def rows():
    return [
        {"step": step, "loss": 9.0 - step / 10, "samples_seen": 32 * step,
         "layer_steps_spent": 4 * step, "flops_spent": 32 * 300.0 * step}
        for step in (5, 10, 15)
    ]  # fmt: skip


def test_curves_are_over_what_was_spent_until_then():
    assert spending(rows()[-1]) == {"samples": 480.0, "flops": 480 * 300.0, "layer_steps": 60.0}
    points = curve([*rows()[:2], {"step": 10, "evaluation": {"x": 0.5}}, rows()[2]])
    assert points == [{"step": 10, **spending(rows()[1]), "metrics": {"x": 0.5}}]
    assert loss_curve(rows())[-1] == [480.0, 480 * 300.0, 7.5]


def test_a_record_of_another_configuration_is_an_error_in_one_line(tmp_path):
    first, second, *_ = study_jobs(study(), tmp_path, {})
    assert read_record(first, tmp_path) is None
    path = first.record_path(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps({"format_version": 1, "config_hash": second.config_hash,
                                "config": {"max_steps": 7}}))  # fmt: skip
    with pytest.raises(UserError, match="record of another configuration") as caught:
        read_record(first, tmp_path)
    assert "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(UserError, match="not what a study writes"):
        read_record(first, tmp_path)


def test_a_record_that_lacks_something_or_has_it_of_another_kind_is_an_error_that_names_it(
    tmp_path,
):
    first = study_jobs(study(), tmp_path, {})[0]
    path = first.record_path(tmp_path)
    path.parent.mkdir()
    whole = {"format_version": 1, "config_hash": first.config_hash, **record("plain", 0, 0.5)}

    def read(**changes):
        path.write_text(json.dumps({**whole, **changes}))
        return read_record(first, tmp_path)

    assert read() == whole
    for name in record("plain", 0, 0.5):
        with pytest.raises(UserError, match=f"not what a study writes: {name}.* is missing or of"):
            read(**{name: None})
    wrong = {
        "held_out.losses.AB": {"held_out": {"fingerprint": "", "losses": {"AB": "5"}}},
        "spent.flops": {"spent": {"samples": 1.0, "flops": 0, "layer_steps": 1.0}},
        "curve.0.metrics": {"curve": [{"samples": 1, "flops": 1, "layer_steps": 1, "metrics": []}]},
        "losses.0": {"losses": [[1, 2]]},
        "results.0.intervals": {"results": [{**whole["results"][0], "intervals": {"x": [1]}}]},
    }
    for place, changes in wrong.items():
        with pytest.raises(UserError, match=f"writes: {re.escape(place)} is missing or of"):
            read(**changes)
    with pytest.raises(UserError, match="more than a number can be"):
        read(steps=10**400)


def test_what_studies_have_recorded_is_of_that_shape(repository):
    found = list(repository.glob("docs/studies/*/*/*.json"))
    assert found
    for path in found:
        assert misfit(json.loads(path.read_text()), RECORD) == "", path
