"""Exchanges between processes, alone and with gloo."""

import torch

from eval.ranks import Ranks, current_ranks


def test_one_process_gets_back_what_it_gave():
    ranks = current_ranks()
    assert ranks == Ranks(rank=0, world_size=1)
    assert ranks.is_first
    share = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(ranks.all_gather(share), share[None])
    counts = torch.tensor([3, 4])
    assert ranks.sum_counts(counts).tolist() == [3, 4]
    assert ranks.all_gather_text("grün") == ["grün"]


def test_three_processes_exchange_shares_counts_and_texts_in_the_order_of_ranks(run_on_ranks):
    def exchange(ranks):
        share = torch.full((2, 1), float(ranks.rank))
        counts = torch.tensor([1, ranks.rank])
        return {
            "shares": ranks.all_gather(share).flatten().tolist(),
            "sum": ranks.sum_counts(counts).tolist(),
            "kept": counts.tolist(),
            "texts": ranks.all_gather_text("é" * ranks.rank),
            "largest": ranks.largest(ranks.rank * 10),
        }

    results = run_on_ranks(exchange, 3)
    for rank, result in enumerate(results):
        assert result == {
            "shares": [0, 0, 1, 1, 2, 2],
            "sum": [3, 3],
            "kept": [1, rank],
            "texts": ["", "é", "éé"],
            "largest": 20,
        }
