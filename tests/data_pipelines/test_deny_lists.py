import json
from dataclasses import replace

import pytest

from data_pipelines.deny_lists import contents_of
from data_pipelines.errors import UserError
from data_pipelines.loader import train_batches
from data_pipelines.manifest import open_dataset
from data_pipelines.reader import read_sample
from data_pipelines.samples import sample_name


def names(dataset):
    return [sample_name(dataset, number) for number in range(dataset.num_samples)]


@pytest.fixture
def shards(tmp_path, dataset_in, sample_of):
    """16 samples in shards of 7, 7 and 2."""
    return dataset_in(tmp_path, [sample_of(number) for number in range(16)])


@pytest.fixture
def listed(tmp_path):
    """Writes a deny-list of (shard, key) pairs, or of whole lines."""

    def write(*entries, name="deny.jsonl"):
        lines = [
            json.dumps({"shard": entry[0], "key": entry[1]}) if isinstance(entry, tuple) else entry
            for entry in entries
        ]
        (tmp_path / name).write_text("\n".join(lines))
        return str(tmp_path / name)

    return write


def test_denied_samples_do_not_exist_and_all_others_are_whole(tmp_path, shards, listed):
    denied = [
        ("0.tar", "000"),
        ("0.tar", "006"),
        ("1.tar", "010"),
        ("2.tar", "014"),
        ("2.tar", "015"),
    ]
    deny_list = listed(*denied)
    kept = open_dataset([f"{tmp_path}/*.tar"], [deny_list])
    expected = [name for name in names(shards) if name not in denied]
    assert names(kept) == expected
    assert kept.shard_sizes == (5, 6, 0)
    number_of = {name: number for number, name in enumerate(names(shards))}
    for number, name in enumerate(expected):
        assert read_sample(kept, number) == read_sample(shards, number_of[name])


def test_the_loader_and_the_order_never_meet_a_denied_sample(
    tmp_path, shards, listed, config, tokenizer
):
    kept = open_dataset([f"{tmp_path}/*.tar"], [listed(("1.tar", "009"), ("2.tar", "014"))])
    (batch,) = train_batches(
        replace(config), kept, tokenizer, image_size=8, batch_size=14, seed=1, start_step=0,
        num_steps=1, rank=0, world_size=1,
    )  # fmt: skip
    assert set(batch.sample_keys) == {":".join(name) for name in names(kept)}
    assert batch.valid.all()


def test_the_fingerprint_tells_what_is_denied(tmp_path, shards, listed):
    spec = [f"{tmp_path}/*.tar"]
    one = open_dataset(spec, [listed(("0.tar", "001"))]).fingerprint
    other = open_dataset(spec, [listed(("0.tar", "002"))]).fingerprint
    assert len({one, other, shards.fingerprint}) == 3
    assert open_dataset(spec, [listed(("0.tar", "001"), ("0.tar", "001"))]).fingerprint == one
    assert (
        open_dataset(spec, [listed(("elsewhere.tar", "1"), "")]).fingerprint == shards.fingerprint
    )


def test_two_lists_add_up(tmp_path, shards, listed):
    lists = [listed(("0.tar", "001"), name="a"), listed(("0.tar", "002"), name="b")]
    assert open_dataset([f"{tmp_path}/*.tar"], lists).num_samples == 14


def test_a_list_for_other_contents_of_a_shard_is_refused(tmp_path, shards, listed):
    def line(contents):
        return json.dumps({"shard": "0.tar", "key": "001", "contents": contents})

    right = listed(line(contents_of(shards.shards[0])))
    assert open_dataset([f"{tmp_path}/*.tar"], [right]).num_samples == 15
    for old in (listed(line("0" * 64)), listed(("0.tar", "no such key"))):
        with pytest.raises(UserError, match=r"1 lines of the deny-lists fit no sample, .*'0.tar'"):
            open_dataset([f"{tmp_path}/*.tar"], [old])


@pytest.mark.parametrize(
    "line", ["{", "[]", '"x"', '{"shard": "0.tar"}', '{"shard": 3, "key": "1"}', "[" * 100_000]
)
def test_a_line_that_names_no_sample_is_named(tmp_path, shards, listed, line):
    with pytest.raises(UserError, match=r"line 2 of the deny-list .*deny.jsonl"):
        open_dataset([f"{tmp_path}/*.tar"], [listed(("0.tar", "001"), line)])


def test_a_list_that_is_not_there_or_leaves_nothing_is_refused(tmp_path, shards, listed):
    with pytest.raises(UserError, match=r"the deny-list nowhere.jsonl cannot be read"):
        open_dataset([f"{tmp_path}/*.tar"], ["nowhere.jsonl"])
    everything = listed(("2.tar", "014"), ("2.tar", "015"))
    with pytest.raises(UserError, match="leave no sample"):
        open_dataset([f"{tmp_path}/2.tar"], [everything])


def test_a_line_that_says_two_things_is_refused_by_its_number(tmp_path, shards, listed):
    deny_list = listed("", '{"shard": "0.tar", "key": "000", "key": "001"}')
    with pytest.raises(UserError, match=r"line 2 of the deny-list .*'key' stands there twice"):
        open_dataset([f"{tmp_path}/*.tar"], [deny_list])
