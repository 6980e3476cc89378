"""Studies are checked before anything runs, and their arms spend what they are matched by."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import UserError
from rins_mm.budget import estimate
from rins_mm.recipes import load_config, recipe_names
from rins_mm.run_plan import plan_run
from rins_mm.study.design import check, load_study, study_names
from rins_mm.study.jobs import chosen_rates, pilot_jobs, study_jobs, tuning_jobs
from rins_mm.study.lengths import cost_of_step, matched
from rins_mm.study.runner import share
from rins_mm.validation import validate

TOY_STUDY = Path(__file__).parents[2] / "helpers" / "toy_study.py"


def toy():
    return load_study(str(TOY_STUDY), scale="cpu")


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_every_study_can_run_at_every_scale(name, scale):
    study = load_study(name, scale=scale)
    for arm in study.arms:
        validate(matched(study, arm), world_size=1)


def test_studies_are_no_recipes():
    assert not set(study_names()) & set(recipe_names())
    with pytest.raises(UserError, match="no recipe"):
        load_config("study_confirmatory")


def test_a_pair_costs_what_the_dry_run_says():
    for arm in load_study("study_confirmatory", scale="cpu").arms[:4]:
        expected = estimate(arm.config, caption_tokens=24.0).flops_per_pair
        step = cost_of_step(arm.config, "flops", 24.0)
        assert step == pytest.approx(arm.config.batch_size * expected)


@pytest.mark.parametrize("match", ["flops", "layer_steps", "samples"])
def test_matched_arms_spend_the_same_within_a_percent(match):
    study = replace(load_study("study_confirmatory", scale="cpu"), match=match)

    plain = study.arms[0].config
    given = plain.max_steps * cost_of_step(plain, match, study.caption_tokens)
    for arm in study.arms[1:4]:
        config = matched(study, arm)
        in_the_mean = config.max_steps * cost_of_step(config, match, study.caption_tokens)
        assert in_the_mean == pytest.approx(given, rel=0.01)
        if match == "samples":
            continue
        assert config.budget.match == match
        assert config.budget.amount == pytest.approx(given)
        # As the run will plan it, with the calls that its seed draws.
        config = replace(config, seed=3)
        plan = plan_run(config, np.array([float(study.caption_tokens)]), world_size=1)
        assert plan.exact.of(match) == pytest.approx(given, rel=0.002)


@pytest.mark.parametrize("name", ["study_confirmatory", "study_vision_rins"])
def test_the_controls_of_the_data_see_as_many_samples_as_plain(name):
    study = load_study(name, scale="cpu")
    controls = [matched(study, arm).max_steps for arm in study.arms if arm.role == "control"]
    assert set(controls) == {study.arms[0].config.max_steps}


def test_each_arm_has_each_seed_and_runs_of_one_seed_come_together():
    jobs = study_jobs(toy(), Path("runs"), {})
    assert [job.name for job in jobs] == ["plain-0", "rins-0", "plain-1", "rins-1"]
    assert {job.config.seed for job in jobs if job.name.endswith("-1")} == {1}
    assert len({job.config.run_dir for job in jobs}) == 4


def test_exploratory_arms_have_fewer_seeds():
    study = load_study("study_text_rins", scale="cpu")
    jobs = study_jobs(study, Path("runs"), {})
    assert sum(job.arm == "text-AAB" for job in jobs) == study.exploratory_seeds
    assert sum(job.arm == "bag-of-words" for job in jobs) == study.control_seeds
    assert sum(job.arm == "text-AAAB" for job in jobs) == study.seeds


def test_a_pilot_has_every_seed_of_plain_and_each_control_once():
    study = load_study("study_confirmatory", scale="cpu")
    jobs = [job.arm for job in pilot_jobs(study, Path("runs"), {})]
    assert jobs.count("AB") == study.pilot_seeds
    assert sorted(set(jobs)) == ["AB", "bag-of-words", "text-deep-samples"]
    assert len(jobs) == study.pilot_seeds + 2


def test_tuning_never_sees_the_test_nor_its_seeds():
    study = load_study("study_confirmatory", scale="cpu")
    seeds = {job.seed for job in study_jobs(study, Path("runs"), {})}
    pilot = pilot_jobs(study, Path("runs"), {})
    assert not seeds & {job.seed for job in pilot}
    for job in tuning_jobs(study, Path("runs")):
        assert job.tasks == () and job.config.evaluation.tasks == ()
        assert "/val/" in job.held_out.shards[0]
        assert job.seed not in seeds


def test_the_rate_with_the_least_loss_on_val_is_chosen_and_missing_ones_are_named():
    study = load_study("study_vision_rins", scale="cpu")
    records = [
        {
            "arm": arm.name,
            "config": {"optimizer": {"peak_learning_rate": rate}},
            "held_out": {"losses": {"AB": abs(rate - 2e-3)}},
        }
        for arm in study.arms
        for rate in study.tuning.learning_rates
    ]
    rates = chosen_rates(study, records)
    assert set(rates.values()) == {2e-3}
    assert study_jobs(study, Path("runs"), rates)[0].config.optimizer.peak_learning_rate == 2e-3
    with pytest.raises(UserError, match=r"AB has no tuning run at the learning rate 0\.001 yet"):
        chosen_rates(study, records[1:])


def test_an_arm_that_is_tuned_as_another_takes_the_rate_that_was_found_for_that_one():
    study = load_study("study_confirmatory", scale="cpu")
    tuned = tuning_jobs(study, Path("runs"))
    assert "bag-of-words" not in {job.arm for job in tuned}
    rate_of = {job: job.config.optimizer.peak_learning_rate for job in tuned}
    records = [
        {
            "arm": job.arm,
            "config": {"optimizer": {"peak_learning_rate": rate}},
            "held_out": {"losses": {"AB": abs(rate - (2e-3 if job.arm == "AB" else 4e-3))}},
        }
        for job, rate in rate_of.items()
    ]
    rates = chosen_rates(study, records)
    assert rates["bag-of-words"] == rates["AB"] == 2e-3
    assert rates["text-deep-samples"] == rates["text-deep"] == 4e-3
    arms = [
        replace(arm, tuned_as="bag-of-words") if arm.name == "AB" else arm for arm in study.arms
    ]
    with pytest.raises(UserError, match="AB is tuned as bag-of-words, which has no search"):
        check(replace(study, arms=tuple(arms)))


def test_an_array_of_jobs_runs_each_job_once():
    jobs = study_jobs(load_study("study_vision_rins", scale="cpu"), Path("runs"), {})
    shares = [job.name for index in range(3) for job in share(jobs, f"{index}/3")]
    assert sorted(shares) == sorted(job.name for job in jobs)
    for wrong in ("3/3", "1", "-1/2", "a/b"):
        with pytest.raises(UserError, match=re.escape(wrong)):
            share(jobs, wrong)


def test_the_hash_tells_what_decides_the_outcome_from_what_does_not():
    job = study_jobs(toy(), Path("runs"), {})[0]
    elsewhere = replace(job, config=replace(job.config, run_dir="x", num_threads=4))
    longer = replace(job, config=replace(job.config, max_steps=21))
    other_batches = replace(job, held_out=replace(job.held_out, num_batches=3))
    assert job.config_hash == elsewhere.config_hash
    assert len({job.config_hash, longer.config_hash, other_batches.config_hash}) == 3


def with_claim(study, **changes):
    return replace(study, claims=(replace(study.claims[0], **changes),))


def with_role(study, role):
    plain, rins = study.arms
    return replace(study, arms=(plain, replace(rins, role=role)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: with_claim(study, delta=0.0), "delta 0.0; it must be positive"),
        (lambda study: with_claim(study, control="plane"), "no arm 'plane'"),
        (lambda study: with_claim(study, tower="image"), "no positive control"),
        (
            lambda study: with_role(study, "exploratory"),
            "role of rins is exploratory, and the claim",
        ),
        (lambda study: with_role(study, "control"), "make it confirmatory"),
        (
            lambda study: replace(
                study, arms=(*study.arms, replace(study.arms[1], name="x", control="rins"))
            ),
            "the control of x, rins, is matched to plain itself",
        ),
        (lambda study: replace(study, seeds=1), "fewer than 2"),
        (lambda study: replace(study, tasks=()), "needs its task"),
        (lambda study: replace(study, arms=(*study.arms, study.arms[0])), "two arms named 'plain'"),
        (lambda study: replace(study, name="a/b"), "cannot be a file's"),
    ],
)
def test_a_study_that_could_not_be_judged_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        check(change(toy()))


def test_an_unknown_study_is_named():
    with pytest.raises(UserError, match="study_confirmatory"):
        load_study("study_nothing", scale="cpu")
