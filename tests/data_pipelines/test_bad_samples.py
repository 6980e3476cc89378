import pickle

import pytest

from data_pipelines.bad_samples import BadSample, BadSampleCounts, Finding
from data_pipelines.errors import UserError


def findings(number, shard="a.tar", cause="bad json"):
    return [Finding(shard=shard, key=f"{i}", cause=cause) for i in range(number)]


def test_counts_are_by_shard_and_cause():
    counts = BadSampleCounts()
    counts.add(10, findings(2))
    counts.add(10, findings(1) + findings(3, "b.tar") + findings(1, "b.tar", "no picture"))
    assert (counts.num_samples, counts.num_bad) == (20, 7)
    assert counts.by_cause == {"bad json": 6, "no picture": 1}
    assert counts.by_shard_and_cause[("b.tar", "bad json")] == 3


def test_nothing_is_judged_before_a_thousand_samples():
    counts = BadSampleCounts()
    counts.add(999, findings(999))
    counts.stop_when_too_many(0.01)
    counts.add(1, [])
    with pytest.raises(UserError, match=r"999 of the last 1000 samples were bad"):
        counts.stop_when_too_many(0.01)


def test_a_fraction_that_is_only_reached_is_no_reason_to_stop():
    counts = BadSampleCounts()
    counts.add(1000, findings(10))
    counts.stop_when_too_many(0.01)
    counts.add(0, findings(1))
    with pytest.raises(UserError, match=r"worst: a.tar: 11 x bad json; first: '0'"):
        counts.stop_when_too_many(0.01)


def test_a_long_good_past_does_not_hide_a_bad_present():
    counts = BadSampleCounts()
    for _ in range(1000):
        counts.add(1000, [])
    counts.add(1000, findings(101))
    with pytest.raises(UserError, match="101 of the last 10000 samples"):
        counts.stop_when_too_many(0.01)
    for _ in range(10):
        counts.add(1000, [])
    counts.stop_when_too_many(0.01)
    assert counts.num_bad == 101


def test_a_cause_survives_the_way_between_processes():
    assert pickle.loads(pickle.dumps(BadSample("no picture"))).cause == "no picture"
