"""Several sources in one stream: exact shares, exact epochs, and nothing that depends on who reads."""

import dataclasses
import itertools
import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.captions import CaptionConfig
from data_pipelines.errors import UserError
from data_pipelines.keys import main as print_keys
from data_pipelines.loader import DataConfig, SourceConfig, open_training_data, train_batches
from data_pipelines.mixture import Mixture, Source
from data_pipelines.shard_writer import write_shard

ROUND = 16
sources_and_sizes = st.lists(
    st.tuples(
        st.builds(
            Source,
            num_shards=st.just(1),
            weight=st.floats(1.0, 3.0),
            epochs=st.integers(0, 3),
        ),
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)


def mixture_of(pairs, seed=0):
    sources, sizes = zip(*pairs, strict=True)
    return Mixture(sources, sizes, seed=seed, round_size=ROUND)


@given(sources_and_sizes, st.integers(0, 2**31), st.integers(0, 300), st.integers(0, 100))
def test_any_part_of_a_mixture_is_that_part_of_the_whole(pairs, seed, start, length):
    mixture = mixture_of(pairs, seed)
    end = min(mixture.length or 400, 400)
    sources, ordinals = mixture[0:end]
    start = min(start, end)
    some_sources, some_ordinals = mixture_of(pairs, seed)[start : min(end, start + length)]
    assert some_sources.tolist() == sources[start : start + length].tolist()
    assert some_ordinals.tolist() == ordinals[start : start + length].tolist()


@given(sources_and_sizes)
def test_the_samples_of_each_source_come_one_after_the_other_up_to_its_end(pairs):
    mixture = mixture_of(pairs)
    limits = [source.epochs * size for source, size in pairs]
    assert mixture.length == (sum(limits) if all(limits) else None)
    sources, ordinals = mixture[0 : mixture.length or 700]
    for number, limit in enumerate(limits):
        mine = ordinals[sources == number].tolist()
        assert mine == list(range(len(mine)))
        assert not limit or len(mine) <= limit
    if mixture.length:
        assert np.bincount(sources, minlength=len(pairs)).tolist() == limits


@given(st.lists(st.floats(1.0, 3.0), min_size=1, max_size=5), st.integers(0, 50))
def test_every_round_holds_each_source_by_its_weight(weights, number):
    mixture = mixture_of([(Source(num_shards=1, weight=weight), 5) for weight in weights])
    sources, _ = mixture[number * ROUND : (number + 1) * ROUND]
    counts = np.bincount(sources, minlength=len(weights))
    exact = ROUND * np.array(weights) / sum(weights)
    assert counts.sum() == ROUND
    assert np.abs(counts - exact).max() < 1


def test_when_a_source_ends_the_others_share_its_places():
    pairs = [
        (Source(num_shards=1, weight=2.0, epochs=1), 20),
        (Source(num_shards=1, weight=1.0), 7),
        (Source(num_shards=1, weight=1.0), 9),
    ]
    sources, _ = mixture_of(pairs)[0:200]
    end = int(np.flatnonzero(sources == 0)[-1]) + 1
    # 20 samples at half of all places, give or take what a round's order does.
    assert 40 - ROUND < end < 40 + ROUND
    after = sources[end : end + 5 * ROUND]
    assert np.bincount(after, minlength=3).tolist() == [0, 5 * ROUND // 2, 5 * ROUND // 2]


def test_the_order_of_a_round_is_not_that_of_the_next():
    pairs = [(Source(num_shards=1), 100), (Source(num_shards=1), 100)]
    rounds = mixture_of(pairs)[0 : 20 * ROUND][0].reshape(20, ROUND)
    assert len({tuple(order) for order in rounds.tolist()}) > 15


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_weight_that_cannot_be_kept_is_refused(weight):
    with pytest.raises(UserError, match=r"weight"):
        Mixture([Source(num_shards=1), Source(num_shards=1, weight=weight)], [5, 5], seed=0)


@pytest.fixture(scope="module")
def config(tmp_path_factory, sample_of):
    """30 samples with labels, 12 with a text beside it, mixed 3 : 1."""
    folder = tmp_path_factory.mktemp("sources")
    for shard in range(3):
        numbers = range(10 * shard, 10 * shard + 10)
        write_shard(folder / f"label-{shard}.tar", [sample_of(number) for number in numbers])
    texts = [sample_of(100 + number, txt=b"a sun") for number in range(12)]
    write_shard(folder / "text.tar", texts)
    return DataConfig(
        mixture=(
            SourceConfig(
                shards=(f"{folder}/label-{{0..2}}.tar",),
                weight=3.0,
                captions=CaptionConfig(kind="label"),
            ),
            SourceConfig(shards=(f"{folder}/text.tar",), captions=CaptionConfig(kind="text")),
        ),
        block_size=8,
    )


@pytest.fixture
def rows(config, tokenizer):
    """(Key, tokens, row seed) of the slots of some steps, put together from all ranks."""

    def read(steps, *, world_size=1, num_workers=0, config=config):
        shares = []
        for rank in range(world_size):
            batches = train_batches(
                replace(config, num_workers=num_workers),
                open_training_data(config),
                tokenizer,
                image_size=8,
                batch_size=12,
                seed=5,
                start_step=steps.start,
                num_steps=len(steps),
                rank=rank,
                world_size=world_size,
            )
            with closing(batches):
                shares.append([list(map(tuple, rows_of(batch))) for batch in batches])
        return [
            list(itertools.chain.from_iterable(zip(*ranks, strict=True)))
            for ranks in zip(*shares, strict=True)
        ]

    return read


def rows_of(batch):
    offsets = batch.offsets.tolist()
    for slot, key in enumerate(batch.sample_keys):
        tokens = batch.tokens[offsets[slot] : offsets[slot + 1]].tolist()
        yield key, tuple(tokens), int(batch.row_seeds[slot])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_mixture_is_the_same_for_any_ranks_workers_and_cuts(rows):
    whole = rows(range(14))
    assert rows(range(14), world_size=3) == whole
    assert rows(range(5), world_size=2) + rows(range(5, 14), num_workers=2) == whole


def test_each_source_has_its_share_its_captions_and_its_own_epochs(rows, tokenizer):
    stream = [row for batch in rows(range(14)) for row in batch]
    from_text = [row for row in stream if row[0].startswith("text.tar")]
    assert 0.1 < len(from_text) / len(stream) < 0.4
    sun = tuple(tokenizer.encode(["a sun"])[0])
    assert {tokens for _, tokens, _ in from_text} == {sun}
    assert all(tokens != sun for key, tokens, _ in stream if key.startswith("label"))
    for name, size in (("text", 12), ("label", 30)):
        keys = [key for key, _, _ in stream if key.startswith(name)]
        for first in range(0, len(keys) - size + 1, size):
            assert len(set(keys[first : first + size])) == size


def test_a_mixture_that_ends_before_the_run_is_refused_at_the_start(rows, config):
    ending = replace(config, mixture=tuple(replace(s, epochs=1) for s in config.mixture))
    assert len({key for batch in rows(range(3), config=ending) for key, _, _ in batch}) == 36
    with pytest.raises(UserError, match=r"end after 42 samples, and 4 steps of 12 need 48"):
        rows(range(4), config=ending)


def test_sources_that_cannot_be_mixed_are_refused(config):
    first, second = config.mixture
    with pytest.raises(UserError, match="keep one of the two"):
        open_training_data(replace(config, shards=("emoji:val",)))
    with pytest.raises(UserError, match="is named twice"):
        open_training_data(replace(config, mixture=(first, second, second)))
    with pytest.raises(UserError, match="no shards were named"):
        open_training_data(DataConfig())


def test_the_fingerprint_knows_weights_and_epochs(config):
    first, second = config.mixture
    configs = [
        config,
        replace(config, mixture=(replace(first, weight=2.0), second)),
        replace(config, mixture=(first, replace(second, epochs=2))),
        DataConfig(shards=(*first.shards, *second.shards)),
    ]
    assert len({open_training_data(one).fingerprint for one in configs}) == 4


def test_the_keys_of_a_run_with_a_mixture_are_printed_from_its_record(
    config, rows, tmp_path, capsys
):
    record = {"batch_size": 12, "seed": 5, "data": dataclasses.asdict(config)}
    (tmp_path / "config.json").write_text(json.dumps(record))
    print_keys(["--run", str(tmp_path), "--from-step", "2", "--steps", "2", "--json"])
    printed = [json.loads(line)["keys"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [[key for key, _, _ in batch] for batch in rows(range(2, 4))]
    with pytest.raises(UserError, match="keep one of the two"):
        print_keys(["emoji:val", "--run", str(tmp_path)])
    with pytest.raises(UserError, match="no configuration of a run"):
        print_keys(["--run", str(tmp_path / "nowhere")])
