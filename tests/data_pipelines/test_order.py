import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.order import EpochOrder, stream_positions

sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)
block_sizes = st.integers(1, 100)
seeds = st.integers(0, 2**63 - 1)
epochs = st.integers(0, 1_000_000)


@given(sizes, seeds, epochs, block_sizes)
def test_every_sample_comes_exactly_once_per_epoch(sizes, seed, epoch, block_size):
    order = EpochOrder(sizes, seed=seed, epoch=epoch, block_size=block_size)
    assert sorted(order[:].tolist()) == list(range(sum(sizes)))


@given(sizes, seeds, epochs, block_sizes, st.data())
def test_any_part_of_an_epoch_is_that_part_of_the_whole(sizes, seed, epoch, block_size, data):
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))
    whole = EpochOrder(sizes, seed=seed, epoch=epoch, block_size=block_size)[:]
    part = EpochOrder(sizes, seed=seed, epoch=epoch, block_size=block_size)[start:stop]
    np.testing.assert_array_equal(part, whole[start:stop])


@given(sizes, seeds, epochs, block_sizes)
def test_a_block_holds_neighbours_of_the_shuffled_shards(sizes, seed, epoch, block_size):
    order = EpochOrder(sizes, seed=seed, epoch=epoch, block_size=block_size)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    blocks = [order[i : i + block_size] for i in range(0, len(order), block_size)]
    # Sorted by when its block comes, each shard is met once, in a run without a gap.
    met = [np.unique(shard_of[block]).tolist() for block in blocks]
    for shard in range(len(sizes)):
        where = [number for number, shards in enumerate(met) if shard in shards]
        assert where == list(range(where[0], where[-1] + 1))
        assert len(where) <= sizes[shard] // block_size + 2


def test_the_order_is_the_same_in_every_year():
    order = EpochOrder([3, 5, 2], seed=7, epoch=2, block_size=4)
    assert order[:].tolist() == [5, 6, 4, 3, 8, 9, 0, 7, 2, 1]


def test_seeds_and_epochs_give_other_orders():
    orders = [
        tuple(EpochOrder([50, 50], seed=seed, epoch=epoch)[:].tolist())
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len(set(orders)) == 9


def test_a_thousand_million_samples_cost_no_more_than_a_block():
    order = EpochOrder([10_000] * 100_000, seed=0, epoch=0)
    begin = time.perf_counter()
    some = order[876_543_210:876_544_210]
    assert len(set(some.tolist())) == 1000
    assert time.perf_counter() - begin < 1


@given(st.integers(1, 50), st.integers(0, 500), st.integers(0, 200))
def test_the_stream_is_one_epoch_after_the_other(num_samples, start, length):
    positions = [
        (epoch, place)
        for epoch, first, last in stream_positions(num_samples, start, start + length)
        for place in range(first, last)
    ]
    assert positions == [divmod(i, num_samples) for i in range(start, start + length)]
